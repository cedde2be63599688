# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolution and batch norm for training on the CPU, compiled by numba.

Importing this file compiles for some seconds, unless an earlier process has stored the code in
numba's cache. Every function works on a range of channels, takes the images of the batch in order
and releases Python's lock: threads share the channels, and results do not depend on their number.

A depthwise convolution sees each plane (one channel of one image) as `stride` x `stride` smaller
planes, the PHASES: phase (a, b) holds rows a, a + stride, ... and columns b, b + stride, ... of the
plane with its padding. All lie in one flat buffer with rows of one pitch, so tap (i, j) of the
kernel is a fixed distance in it, and the convolution is, for ANY stride,

    out[t] = sum over taps of weight[tap] * buffer[t + distance[tap]]

over long runs of t: loops without borders, which the compiler turns into vector code. Results
between the rows are left out when the result is copied. float32 throughout; NaN stays NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from paddlex_ml.kernels.compiler import compiled

FLAGS = {"contract", "reassoc", "nsz", "arcp"}  # not nnan and ninf: NaN must be kept
BLOCK = 2048  # floats of a run: the data of one row of taps fits into the first cache

ZERO, ONE, TWO = np.float32(0), np.float32(1), np.float32(2)
THREE, SIX, SIXTH, HALF = np.float32(3), np.float32(6), np.float32(1 / 6), np.float32(0.5)
STEP, NEXT = np.uint64(2), np.uint64(1)
RELU, HARDSWISH = 1, 2  # as in `layers.ACTIVATIONS`; 0 is none

# Functions below that are called by others become part of each of them. As functions of their own
# they would be in every one of these, each time translated anew; a process that compiles would run
# another of these versions than one that loads, with other last digits.
_inner: Callable[..., Any] = njit(fastmath=FLAGS, nogil=True, forceinline=True)
_PLANES = "float32[:,:,:,::1]"
_MAPS = "float32[:,:,::1]"
_ROW = "float32[::1]"


@_inner
def _add_taps(source, distances, weights, out, n):
    """Add the taps of one row of the kernel, of which there are 1, 2, 3 or 5."""
    taps = len(distances)
    if taps == 4 or taps > 5:
        raise ValueError("a kernel of another size")
    x0 = source[distances[0] : distances[0] + n]
    x1 = source[distances[min(1, taps - 1)] :][:n]
    x2 = source[distances[min(2, taps - 1)] :][:n]
    w0, w1, w2 = weights[0], weights[min(1, taps - 1)], weights[min(2, taps - 1)]
    if taps == 1:
        for t in range(n):
            out[t] += w0 * x0[t]
    elif taps == 2:
        for t in range(n):
            out[t] += w0 * x0[t] + w1 * x1[t]
    elif taps == 3:
        for t in range(n):
            out[t] += w0 * x0[t] + w1 * x1[t] + w2 * x2[t]
    else:
        x3, x4 = source[distances[3] :][:n], source[distances[4] :][:n]
        w3, w4 = weights[3], weights[4]
        for t in range(n):
            out[t] += w0 * x0[t] + w1 * x1[t] + w2 * x2[t] + w3 * x3[t] + w4 * x4[t]


@_inner
def _add_products(source, distances, factor, sums, n):
    """Add to each of `sums` the scalar product of `factor` and `source` at its distance."""
    for k in range(0, len(distances) - 2, 3):
        x0 = source[distances[k] : distances[k] + n]
        x1 = source[distances[k + 1] : distances[k + 1] + n]
        x2 = source[distances[k + 2] : distances[k + 2] + n]
        s0, s1, s2 = ZERO, ZERO, ZERO
        for t in range(n):
            f = factor[t]
            s0 += f * x0[t]
            s1 += f * x1[t]
            s2 += f * x2[t]
        sums[k] += s0
        sums[k + 1] += s1
        sums[k + 2] += s2
    for k in range(len(distances) // 3 * 3, len(distances)):
        x0 = source[distances[k] : distances[k] + n]
        s0 = ZERO
        for t in range(n):
            s0 += factor[t] * x0[t]
        sums[k] += s0


@_inner
def _distances(kernel, stride, pitch, size):
    """Distance of tap (i, j) in the buffer of phases, each `size` long."""
    distances = np.empty((kernel, kernel), np.int64)
    for i in range(kernel):
        for j in range(kernel):
            phase = (i % stride) * stride + j % stride
            distances[i, j] = phase * size + (i // stride) * pitch + j // stride
    return distances


@_inner
def _starts(i, pad, stride, pitch, size):
    """Where in the phases row i of a plane begins: its even columns, and its odd ones."""
    row = ((i + pad) % stride) * stride * size + (i + pad) // stride * pitch
    if stride == 1:
        return np.uint64(row + pad), np.uint64(0)
    even, odd = row + pad % 2 * size + pad // 2, row + (pad + 1) % 2 * size + (pad + 1) // 2
    return np.uint64(even), np.uint64(odd)


# Unsigned indices below: a signed one may count from the end, and that test prevents vector code.
@_inner
def _split(plane, pad, stride, pitch, size, buffer):
    """Copy a plane into its phases; the padding in `buffer` is zero and stays zero."""
    height, width = plane.shape
    pairs = np.uint64(width // 2)
    for i in range(height):
        even, odd = _starts(i, pad, stride, pitch, size)
        if stride == 1:
            for t in range(np.uint64(width)):
                buffer[even + t] = plane[i, t]
        else:
            for t in range(pairs):
                buffer[even + t] = plane[i, STEP * t]
                buffer[odd + t] = plane[i, STEP * t + NEXT]
            if width % 2:
                buffer[even + pairs] = plane[i, width - 1]


@_inner
def _join(buffer, pad, stride, pitch, size, plane):
    """Copy the phases back into a plane: the inverse of _split."""
    height, width = plane.shape
    pairs = np.uint64(width // 2)
    for i in range(height):
        even, odd = _starts(i, pad, stride, pitch, size)
        if stride == 1:
            for t in range(np.uint64(width)):
                plane[i, t] = buffer[even + t]
        else:
            for t in range(pairs):
                plane[i, STEP * t] = buffer[even + t]
                plane[i, STEP * t + NEXT] = buffer[odd + t]
            if width % 2:
                plane[i, width - 1] = buffer[even + pairs]


@_inner
def _geometry(height, width, kernel, stride):
    """Pitch of the phases' rows and length of a phase, with room after it for runs over its end."""
    pad = (kernel - 1) // 2
    pitch = (width + 2 * pad + stride - 1) // stride
    rows = (height + 2 * pad + stride - 1) // stride
    return pitch, rows * pitch + kernel


@_inner
def _spread_back(spread, margin, weight, stride, pitch, size, result):
    """Gradient of every phase: for each of its taps, the outputs that the tap belongs to."""
    kernel = weight.shape[0]
    for a in range(stride):
        for b in range(stride):
            taps = (kernel - b + stride - 1) // stride
            weights, back = np.empty(taps, np.float32), np.empty(taps, np.int64)
            phase = result[(a * stride + b) * size :][:size]
            for start in range(0, size, BLOCK):
                n = min(BLOCK, size - start)
                part = phase[start : start + n]
                part.fill(ZERO)
                for i in range(a, kernel, stride):
                    for k in range(taps):
                        weights[k] = weight[i, b + k * stride]
                        back[k] = margin + start - (i // stride) * pitch - k
                    _add_taps(spread, back, weights, part, n)


@compiled(f"void({_PLANES}, {_PLANES}, int64, {_PLANES}, int64, int64)", fastmath=FLAGS)
def depthwise(x, weight, stride, out, first, last):
    """Convolve channels first..last of x [B, D, H, W] with weight [D, 1, K, K], padding K // 2."""
    kernel = weight.shape[2]
    rows, columns = out.shape[2:]
    pitch, size = _geometry(x.shape[2], x.shape[3], kernel, stride)
    distances = _distances(kernel, stride, pitch, size)
    buffer = np.zeros(stride * stride * size, np.float32)
    result = np.empty(rows * pitch, np.float32)
    count = (rows - 1) * pitch + columns
    for c in range(first, last):
        for b in range(x.shape[0]):
            _split(x[b, c], kernel // 2, stride, pitch, size, buffer)
            for start in range(0, count, BLOCK):
                n = min(BLOCK, count - start)
                part = result[start : start + n]
                part.fill(ZERO)
                for i in range(kernel):
                    _add_taps(buffer[start:], distances[i], weight[c, 0, i], part, n)
            _join(result, 0, 1, pitch, size, out[b, c])


@compiled(
    f"void({_PLANES}, {_PLANES}, {_PLANES}, int64, boolean, {_PLANES}, {_PLANES}, int64, int64)",
    fastmath=FLAGS,
)
def depthwise_gradients(x, weight, dout, stride, wants_dx, dx, dweight, first, last):
    """Gradients of `depthwise`: dweight always, dx [B, D, H, W] where it is wanted."""
    kernel = weight.shape[2]
    rows, columns = dout.shape[2:]
    pitch, size = _geometry(x.shape[2], x.shape[3], kernel, stride)
    distances = _distances(kernel, stride, pitch, size)
    buffer = np.zeros(stride * stride * size, np.float32)
    result = np.empty_like(buffer)
    margin = (kernel // stride) * pitch + kernel
    spread = np.zeros(margin + size, np.float32)  # dout at the pitch of the phases
    factor = spread[margin:]
    count = (rows - 1) * pitch + columns
    sums = np.empty((kernel, kernel), np.float32)
    for c in range(first, last):
        sums[:] = ZERO
        for b in range(x.shape[0]):
            _split(x[b, c], kernel // 2, stride, pitch, size, buffer)
            _split(dout[b, c], 0, 1, pitch, size, factor)
            for start in range(0, count, BLOCK):
                n = min(BLOCK, count - start)
                for i in range(kernel):
                    _add_products(buffer[start:], distances[i], factor[start:], sums[i], n)
            if wants_dx:
                _spread_back(spread, margin, weight[c, 0], stride, pitch, size, result)
                _join(result, kernel // 2, stride, pitch, size, dx[b, c])
        dweight[c, 0] = sums


@_inner
def _apply(x, scale, shift, activation, out):
    """Activation of scale * x + shift."""
    if activation == HARDSWISH:
        for t in range(len(x)):
            z = scale * x[t] + shift
            out[t] = z * min(max(z + THREE, ZERO), SIX) * SIXTH
    elif activation == RELU:
        for t in range(len(x)):
            z = scale * x[t] + shift
            out[t] = ZERO if z <= ZERO else z
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
    """Sums of the gradient before the activation, alone and times (x - mean)."""
    s0, s1 = ZERO, ZERO
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
    else:
        for t in range(len(x)):
            s0 += dout[t]
            s1 += dout[t] * (x[t] - mean)
    return s0, s1


@_inner
def _gradient(x, dout, scale, shift, slant, level, activation, dx):
    """Gradient of the plane: scale times that before the activation, plus a line in x."""
    if activation == HARDSWISH:
        for t in range(len(x)):
            d = dout[t] * _slope(scale * x[t] + shift, HARDSWISH)
            dx[t] = scale * d + (slant * x[t] + level)
    elif activation == RELU:
        for t in range(len(x)):
            d = dout[t] * _slope(scale * x[t] + shift, RELU)
            dx[t] = scale * d + (slant * x[t] + level)
    else:
        for t in range(len(x)):
            dx[t] = scale * dout[t] + (slant * x[t] + level)


@compiled(
    f"void({_MAPS}, {_ROW}, {_ROW}, float64, int64, {_MAPS}, {_ROW}, {_ROW}, int64, int64)",
    fastmath=FLAGS,
)
def norm(x, weight, bias, epsilon, activation, out, mean, variance, first, last):
    """Batch norm of x [B, D, HW] with its own statistics, which are returned; activation."""
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
            _apply(x[b, c], scale, shift, activation, out[b, c])


@compiled(
    f"void({_MAPS}, {_MAPS}, {_ROW}, {_ROW}, {_ROW}, {_ROW}, float64, int64,"
    f" {_MAPS}, {_ROW}, {_ROW}, int64, int64)",
    fastmath=FLAGS,
)
def norm_gradients(
    x, dout, weight, bias, mean, variance, epsilon, activation, dx, dweight, dbias, first, last
):
    """Gradients of `norm`."""
    batch, _, size = x.shape
    for c in range(first, last):
        inverse = 1 / math.sqrt(variance[c] + epsilon)
        scale = np.float32(weight[c] * inverse)
        shift = np.float32(bias[c] - scale * mean[c])
        total, moment = 0.0, 0.0
        for b in range(batch):
            s0, s1 = _sums(x[b, c], dout[b, c], scale, shift, mean[c], activation)
            total += s0
            moment += s1
        dbias[c], dweight[c] = total, moment * inverse
        steepness = -scale * inverse * inverse * moment / (batch * size)
        slant = np.float32(steepness)
        level = np.float32(-scale * total / (batch * size) - steepness * mean[c])
        for b in range(batch):
            _gradient(x[b, c], dout[b, c], scale, shift, slant, level, activation, dx[b, c])
