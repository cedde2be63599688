# SPDX-License-Identifier: Apache-2.0
"""Loops over the weights of a model after a step's gradients, compiled by numba.

`compiler.load` compiles KERNELS in a second, unless an earlier process has stored the code in
numba's cache. Every number is computed by itself, so results are the same bits for any number of
threads.
"""

from __future__ import annotations

import numpy as np

from paddlex_ml.kernels.compiler import compiled

_FLAT = "float32[::1]"


@compiled(
    f"void({_FLAT}, {_FLAT}, {_FLAT}, {_FLAT}, {_FLAT}, int64, int64)",
    fastmath={"contract"},
)
def adamw(weights, gradient, moment1, moment2, factors, first, last):
    """One update of AdamW (Loshchilov 2019, arXiv:1711.05101), in place.

    factors: beta1, 1 - beta1, beta2, 1 - beta2, what the decay leaves of a weight, the rate and
    epsilon, both corrected for the moments' start at zero.
    """
    beta1, rest1, beta2, rest2, kept, rate, epsilon = factors
    w, g = weights[first:last], gradient[first:last]  # indices from 0 on: vector code
    m, v = moment1[first:last], moment2[first:last]
    for k in range(len(w)):
        mean = beta1 * m[k] + rest1 * g[k]
        square = beta2 * v[k] + rest2 * g[k] * g[k]
        m[k], v[k] = mean, square
        w[k] = kept * w[k] - rate * (mean / (np.sqrt(square) + epsilon))


@compiled(f"void({_FLAT}, {_FLAT}, float32, int64, int64)")
def average(averages, values, share, first, last):
    """Move each average by `share` of the way to its value, in place."""
    old, new = averages[first:last], values[first:last]
    for k in range(len(old)):
        old[k] += share * (new[k] - old[k])


KERNELS = (adamw, average)
