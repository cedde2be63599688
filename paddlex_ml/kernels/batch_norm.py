# SPDX-License-Identifier: Apache-2.0
"""Batch norm with its activation for training on the CPU, compiled by numba.

`paddlex_ml.kernels.convolution` imports this file and says how its kernels share the work.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from paddlex_ml.kernels.compiler import compiled

FLAGS = {"contract", "reassoc", "nsz", "arcp"}  # not nnan and ninf: NaN must be kept

ZERO, ONE, TWO = np.float32(0), np.float32(1), np.float32(2)
THREE, SIX, SIXTH, HALF = np.float32(3), np.float32(6), np.float32(1 / 6), np.float32(0.5)
RELU, HARDSWISH = 1, 2  # as in `layers.ACTIVATIONS`; 0 is none

# A part of each function that calls it: see there.
_inner: Callable[..., Any] = njit(fastmath=FLAGS, nogil=True, forceinline=True)
_MAPS = "float32[:,:,::1]"
_ROW = "float32[::1]"


@_inner
def _apply(x, scale, shift, activation, gain, offset, out):
    """Activation of scale * x + shift; after ReLU, times gain plus offset."""
    if activation == HARDSWISH:
        for t in range(len(x)):
            z = scale * x[t] + shift
            out[t] = z * min(max(z + THREE, ZERO), SIX) * SIXTH
    elif activation == RELU:
        for t in range(len(x)):
            z = scale * x[t] + shift
            out[t] = gain * (ZERO if z <= ZERO else z) + offset
    else:
        for t in range(len(x)):
            out[t] = scale * x[t] + shift


@_inner
def _slope(z, activation):
    """Derivative of the activation, and NaN at NaN."""
    if activation == HARDSWISH:
        inside = TWO * SIXTH * z + HALF
        return ZERO if z <= -THREE else (ONE if z >= THREE else inside)
    return ZERO if z <= ZERO else ONE


@_inner
def _sums(x, dout, scale, shift, mean, activation):
    """Sums of the gradient before the activation, alone and times (x - mean), and after it."""
    s0, s1, s2 = ZERO, ZERO, ZERO
    if activation == HARDSWISH:
        for t in range(len(x)):
            d = dout[t] * _slope(scale * x[t] + shift, HARDSWISH)
            s0 += d
            s1 += d * (x[t] - mean)
    elif activation == RELU:
        for t in range(len(x)):
            d = dout[t] * _slope(scale * x[t] + shift, RELU)
            s0 += d
            s1 += d * (x[t] - mean)
            s2 += dout[t]
    else:
        for t in range(len(x)):
            s0 += dout[t]
            s1 += dout[t] * (x[t] - mean)
    return s0, s1, s2


@_inner
def _gradient(x, dout, scale, shift, steep, slant, level, activation, dx):
    """Gradient of the plane: steep times that before the activation, plus a line in x."""
    if activation == HARDSWISH:
        for t in range(len(x)):
            d = dout[t] * _slope(scale * x[t] + shift, HARDSWISH)
            dx[t] = steep * d + (slant * x[t] + level)
    elif activation == RELU:
        for t in range(len(x)):
            d = dout[t] * _slope(scale * x[t] + shift, RELU)
            dx[t] = steep * d + (slant * x[t] + level)
    else:
        for t in range(len(x)):
            dx[t] = steep * dout[t] + (slant * x[t] + level)


@compiled(
    f"void({_MAPS}, {_ROW}, {_ROW}, float64, int64, {_ROW}, {_MAPS}, {_ROW}, {_ROW}, int64, int64)",
    fastmath=FLAGS,
)
def norm(x, weight, bias, epsilon, activation, affine, out, mean, variance, first, last):
    """Batch norm of x [B, D, HW] with its own statistics, which are returned; activation.

    A ReLU is followed by affine[0] times its output plus affine[1].
    """
    batch, _, size = x.shape
    for c in range(first, last):
        centre, squares = 0.0, 0.0  # of the images so far (Chan et al. 1979)
        for b in range(batch):
            plane, total = x[b, c], ZERO
            for t in range(size):
                total += plane[t]
            middle, spread = total / np.float32(size), ZERO
            for t in range(size):
                spread += (plane[t] - middle) * (plane[t] - middle)
            step = middle - centre
            centre += step / (b + 1)
            squares += spread + step * step * (size * b / (b + 1))
        mean[c], variance[c] = centre, squares / (batch * size)
        scale = np.float32(weight[c] / math.sqrt(squares / (batch * size) + epsilon))
        shift = np.float32(bias[c] - scale * centre)
        for b in range(batch):
            _apply(x[b, c], scale, shift, activation, affine[0], affine[1], out[b, c])


@compiled(
    f"void({_MAPS}, {_MAPS}, {_ROW}, {_ROW}, {_ROW}, {_ROW}, float64, int64, {_ROW},"
    f" {_MAPS}, {_ROW}, {_ROW}, float32[:,::1], int64, int64)",
    fastmath=FLAGS,
)
def norm_gradients(
    x, dout, weight, bias, mean, variance, epsilon, activation, affine,
    dx, dweight, dbias, daffine, first, last,
):  # fmt: skip
    """Gradients of `norm`; daffine [2, D] is to be added up over the channels."""
    batch, _, size = x.shape
    for c in range(first, last):
        inverse = 1 / math.sqrt(variance[c] + epsilon)
        scale = np.float32(weight[c] * inverse)
        shift = np.float32(bias[c] - scale * mean[c])
        total, moment, after = 0.0, 0.0, 0.0
        for b in range(batch):
            s0, s1, s2 = _sums(x[b, c], dout[b, c], scale, shift, mean[c], activation)
            total += s0
            moment += s1
            after += s2
        # A ReLU's output is its input times its slope.
        daffine[0, c], daffine[1, c] = weight[c] * inverse * moment + bias[c] * total, after
        total, moment = affine[0] * total, affine[0] * moment
        dbias[c], dweight[c] = total, moment * inverse
        steepness = -scale * inverse * inverse * moment / (batch * size)
        slant = np.float32(steepness)
        level = np.float32(-scale * total / (batch * size) - steepness * mean[c])
        for b in range(batch):
            steep = affine[0] * scale
            _gradient(x[b, c], dout[b, c], scale, shift, steep, slant, level, activation, dx[b, c])
