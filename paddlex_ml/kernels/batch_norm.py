# SPDX-License-Identifier: Apache-2.0
"""Batch norm with its activation for training on the CPU, compiled by numba.

`paddlex_ml.kernels.convolution` says how its kernels share the work, and how they are written.
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
U = np.uint64

_inner: Callable[..., Any] = njit(inline="always")  # becomes part of each function that calls it
_FLAT = "float32[::1]"


@_inner
def _apply(x, begin, n, scale, shift, activation, gain, offset, out):
    """Activation of scale * x + shift; after ReLU, times gain plus offset."""
    if activation == HARDSWISH:
        for t in range(n):
            z = scale * x[begin + t] + shift
            out[begin + t] = z * min(max(z + THREE, ZERO), SIX) * SIXTH
    elif activation == RELU:
        for t in range(n):
            z = scale * x[begin + t] + shift
            out[begin + t] = gain * (ZERO if z <= ZERO else z) + offset
    else:
        for t in range(n):
            out[begin + t] = scale * x[begin + t] + shift


@_inner
def _hardswish_slope(z):
    """Derivative of hardswish, and NaN at NaN."""
    inside = TWO * SIXTH * z + HALF
    return ZERO if z <= -THREE else (ONE if z >= THREE else inside)


@_inner
def _sums(x, dout, begin, n, scale, shift, mean, activation):
    """Sums of the gradient before the activation, alone and times (x - mean), and after it."""
    s0, s1, s2 = ZERO, ZERO, ZERO
    if activation == HARDSWISH:
        for t in range(n):
            value = x[begin + t]
            d = dout[begin + t] * _hardswish_slope(scale * value + shift)
            s0 += d
            s1 += d * (value - mean)
    elif activation == RELU:
        for t in range(n):
            value, after = x[begin + t], dout[begin + t]
            d = after * (ZERO if scale * value + shift <= ZERO else ONE)
            s0 += d
            s1 += d * (value - mean)
            s2 += after
    else:
        for t in range(n):
            s0 += dout[begin + t]
            s1 += dout[begin + t] * (x[begin + t] - mean)
    return s0, s1, s2


@_inner
def _gradient(x, dout, begin, n, scale, shift, steep, slant, level, activation, dx):
    """Gradient of the plane: steep times that before the activation, plus a line in x."""
    if activation == HARDSWISH:
        for t in range(n):
            value = x[begin + t]
            d = dout[begin + t] * _hardswish_slope(scale * value + shift)
            dx[begin + t] = steep * d + (slant * value + level)
    elif activation == RELU:
        for t in range(n):
            value = x[begin + t]
            d = dout[begin + t] * (ZERO if scale * value + shift <= ZERO else ONE)
            dx[begin + t] = steep * d + (slant * value + level)
    else:
        for t in range(n):
            dx[begin + t] = steep * dout[begin + t] + (slant * x[begin + t] + level)


@compiled(
    f"void({_FLAT}, {_FLAT}, {_FLAT}, float64, int64, {_FLAT}, {_FLAT}, {_FLAT}, {_FLAT}, int64,"
    " int64, int64)",
    fastmath=FLAGS,
)
def norm(x, weight, bias, epsilon, activation, affine, out, mean, variance, batch, first, last):
    """Batch norm of x [B, D, HW] with its own statistics, which are returned; activation.

    A ReLU is followed by affine[0] times its output plus affine[1].
    """
    channels = len(mean)
    size = len(x) // (batch * channels)
    n = U(size)
    for c in range(first, last):
        centre, squares = 0.0, 0.0  # of the images so far (Chan et al. 1979)
        for b in range(batch):
            begin, total = U((b * channels + c) * size), ZERO
            for t in range(n):
                total += x[begin + t]
            middle, spread, left = total / np.float32(size), ZERO, ZERO
            for t in range(n):
                distance = x[begin + t] - middle
                spread += distance * distance
                left += distance
            rounding = left / size  # of the middle, which counts where it is far above the spread
            step = middle + rounding - centre
            centre += step / (b + 1)
            squares += spread - left * rounding + step * step * (size * b / (b + 1))
        mean[c], variance[c] = centre, squares / (batch * size)
        scale = np.float32(weight[c] / math.sqrt(squares / (batch * size) + epsilon))
        shift = np.float32(bias[c] - scale * centre)
        for b in range(batch):
            begin = U((b * channels + c) * size)
            _apply(x, begin, n, scale, shift, activation, affine[0], affine[1], out)


@compiled(
    f"void({_FLAT}, {_FLAT}, {_FLAT}, {_FLAT}, {_FLAT}, {_FLAT}, float64, int64, {_FLAT},"
    f" {_FLAT}, {_FLAT}, {_FLAT}, {_FLAT}, int64, int64, int64)",
    fastmath=FLAGS,
)
def norm_gradients(
    x, dout, weight, bias, mean, variance, epsilon, activation, affine,
    dx, dweight, dbias, daffine, batch, first, last,
):  # fmt: skip
    """Gradients of `norm`; daffine [2, D] is to be added up over the channels."""
    channels = len(mean)
    size = len(x) // (batch * channels)
    n = U(size)
    for c in range(first, last):
        inverse = 1 / math.sqrt(variance[c] + epsilon)
        scale = np.float32(weight[c] * inverse)
        shift = np.float32(bias[c] - scale * mean[c])
        total, moment, after = 0.0, 0.0, 0.0
        for b in range(batch):
            begin = U((b * channels + c) * size)
            s0, s1, s2 = _sums(x, dout, begin, n, scale, shift, mean[c], activation)
            total += s0
            moment += s1
            after += s2
        # A ReLU's output is its input times its slope.
        daffine[c] = weight[c] * inverse * moment + bias[c] * total
        daffine[channels + c] = after
        total, moment = affine[0] * total, affine[0] * moment
        dbias[c], dweight[c] = total, moment * inverse
        steepness = -scale * inverse * inverse * moment / (batch * size)
        slant = np.float32(steepness)
        level = np.float32(-scale * total / (batch * size) - steepness * mean[c])
        for b in range(batch):
            steep, begin = affine[0] * scale, U((b * channels + c) * size)
            _gradient(x, dout, begin, n, scale, shift, steep, slant, level, activation, dx)


KERNELS = (norm, norm_gradients)
