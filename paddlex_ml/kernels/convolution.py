# SPDX-License-Identifier: Apache-2.0
"""Depthwise and dense convolution for training on the CPU, compiled by numba.

Every function works on a range of channels, takes the images of the batch in order and releases
Python's lock: threads share the channels, and results do not depend on their number.

A convolution sees each plane (one channel of one image) as `stride` x `stride` smaller planes, the
PHASES: phase (a, b) holds rows a, a + stride, ... and columns b, b + stride, ... of the plane with
its padding. All lie in one flat buffer with rows of one pitch, so tap (i, j) of the kernel is a
fixed distance in it, and the convolution is, for ANY stride,

    out[t] = sum over taps of weight[tap] * buffer[t + distance[tap]]

over long runs of t: loops without borders, which the compiler turns into vector code. Results
between the rows are left out when the result is copied. float32 throughout; NaN stays NaN.

The gradient by the input is a convolution of the same kind, whose OUTPUT has phases: each of them
has taps of its own. So one function computes both.

A dense convolution does so for four channels of the output at once, so that each value of the
input that is loaded serves four products; its threads share the images and the channels of the
output. Nothing is copied once for each tap, as it is before a matrix product (im2col).

The code is written for a compiler that takes long: arrays have one dimension and the caller makes
them, positions are unsigned (a signed one may count from the end, which prevents vector code), and
a loop stands in a function once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from paddlex_ml.kernels.compiler import compiled

FLAGS = {"contract", "reassoc", "nsz", "arcp"}  # not nnan and ninf: NaN must be kept
BLOCK = 2048  # floats of a run: the data of one row of taps fits into the first cache
DENSE_BLOCK = 1024  # the same for four channels of the output

NINE = 9  # taps of 3 x 3: their sum is formed at once
ZERO = np.float32(0)
U = np.uint64
STEP, NEXT = U(2), U(1)

_inner: Callable[..., Any] = njit(inline="always")  # becomes part of each function that calls it
_FLAT, _INTS = "float32[::1]", "int64[::1]"
_SOURCE, _TARGET = "UniTuple(int64, 8)", "UniTuple(int64, 7)"


@_inner
def _starts(i, pad, stride, pitch, size):
    """Where in the phases row i of a plane begins: its even columns, and its odd ones."""
    # The stride is 1 or 2: its remainders and quotients are bits.
    row = ((i + pad) & (stride - 1)) * stride * size + ((i + pad) >> (stride - 1)) * pitch
    if stride == 1:
        return row + pad, 0
    return row + (pad & 1) * size + (pad >> 1), row + ((pad + 1) & 1) * size + ((pad + 1) >> 1)


@_inner
def _split(planes, begin, height, width, pad, stride, pitch, size, buffer, margin):
    """Copy a plane into its phases; the padding in `buffer` is zero and stays zero."""
    pairs = U(width >> 1)
    for i in range(height):
        first, second = _starts(i, pad, stride, pitch, size)
        even, odd, row = U(margin + first), U(margin + second), U(begin + i * width)
        if stride == 1:
            for t in range(U(width)):
                buffer[even + t] = planes[row + t]
        else:
            for t in range(pairs):
                buffer[even + t] = planes[row + STEP * t]
                buffer[odd + t] = planes[row + STEP * t + NEXT]
            if width & 1:
                buffer[even + pairs] = planes[row + STEP * pairs]


@_inner
def _join(buffer, begin, pad, stride, pitch, size, height, width, planes, end):
    """Copy the phases from `begin` on into the plane at `end`: the inverse of _split."""
    pairs = U(width >> 1)
    for i in range(height):
        first, second = _starts(i, pad, stride, pitch, size)
        even, odd, row = U(begin + first), U(begin + second), U(end + i * width)
        if stride == 1:
            for t in range(U(width)):
                planes[row + t] = buffer[even + t]
        else:
            for t in range(pairs):
                planes[row + STEP * t] = buffer[even + t]
                planes[row + STEP * t + NEXT] = buffer[odd + t]
            if width & 1:
                planes[row + STEP * pairs] = buffer[even + pairs]


@_inner
def _add_taps(buffer, start, distances, k, number, weight, w, result, o, n):
    """Add `number` taps from k on, 1, 2, 3 or 5, to n values of the output, or put 9 there."""
    x0, w0 = U(start + distances[k]), weight[w]
    if number == 1:
        for t in range(n):
            result[o + t] += w0 * buffer[x0 + t]
        return
    x1, w1 = U(start + distances[k + 1]), weight[w + 1]
    if number == 2:
        for t in range(n):
            result[o + t] += w0 * buffer[x0 + t] + w1 * buffer[x1 + t]
        return
    x2, w2 = U(start + distances[k + 2]), weight[w + 2]
    if number == 3:
        for t in range(n):
            result[o + t] += w0 * buffer[x0 + t] + w1 * buffer[x1 + t] + w2 * buffer[x2 + t]
        return
    x3, w3 = U(start + distances[k + 3]), weight[w + 3]
    x4, w4 = U(start + distances[k + 4]), weight[w + 4]
    if number == 5:
        for t in range(n):
            three = w0 * buffer[x0 + t] + w1 * buffer[x1 + t] + w2 * buffer[x2 + t]
            result[o + t] += three + w3 * buffer[x3 + t] + w4 * buffer[x4 + t]
        return
    x5, w5 = U(start + distances[k + 5]), weight[w + 5]
    x6, w6 = U(start + distances[k + 6]), weight[w + 6]
    x7, w7 = U(start + distances[k + 7]), weight[w + 7]
    x8, w8 = U(start + distances[k + 8]), weight[w + 8]
    for t in range(n):
        three = w0 * buffer[x0 + t] + w1 * buffer[x1 + t] + w2 * buffer[x2 + t]
        six = three + w3 * buffer[x3 + t] + w4 * buffer[x4 + t] + w5 * buffer[x5 + t]
        result[o + t] = six + w6 * buffer[x6 + t] + w7 * buffer[x7 + t] + w8 * buffer[x8 + t]


@compiled(
    f"void({_FLAT}, {_FLAT}, {_INTS}, {_INTS}, {_INTS}, {_SOURCE}, {_TARGET}, {_FLAT},"
    f" int64, int64, {_FLAT}, {_FLAT})",
    fastmath=FLAGS,
)
def depthwise(x, weight, distances, runs, cuts, source, target, out, first, last, buffer, result):
    """Depthwise convolution of x [B, D, H, W] to out [B, D, H', W'], or its gradient by the input.

    weight [D, taps] lies in the order of `distances`. Run r has taps runs[r] to runs[r + 1], which
    are 1, 2, 3 or 5, and phase p of the output the runs cuts[p] to cuts[p + 1], or one run of 9.
    `source` and `target`: `taps.Grid`. `buffer` is zero. The channels first..last.
    """
    height, width, pad, stride, pitch, size, margin, channels = source
    rows, columns, pad_out, stride_out, pitch_out, size_out, count = target
    batch, taps = len(x) // (channels * height * width), len(distances)
    for c in range(first, last):
        for b in range(batch):
            plane = b * channels + c
            begin, end = plane * height * width, plane * rows * columns
            _split(x, begin, height, width, pad, stride, pitch, size, buffer, margin)
            for phase in range(len(cuts) - 1):
                for start in range(0, count, BLOCK):
                    n, o = U(min(BLOCK, count - start)), U(phase * size_out + start)
                    if runs[cuts[phase] + 1] - runs[cuts[phase]] != NINE:
                        for t in range(n):
                            result[o + t] = ZERO
                    for run in range(cuts[phase], cuts[phase + 1]):
                        k = runs[run]
                        number, w = runs[run + 1] - k, c * taps + k
                        _add_taps(buffer, start, distances, k, number, weight, w, result, o, n)
            _join(result, 0, pad_out, stride_out, pitch_out, size_out, rows, columns, out, end)


@compiled(
    f"void({_FLAT}, {_FLAT}, {_INTS}, {_SOURCE}, {_TARGET}, {_FLAT},"
    f" int64, int64, {_FLAT}, {_FLAT})",
    fastmath=FLAGS,
)
def depthwise_weight_gradient(
    x, dout, distances, source, target, dweight, first, last, buffer, factor
):
    """Gradient of the depthwise convolution by its weight, to dweight [D, taps], which is zero.

    `source` and `target` as there, of the convolution itself; the number of taps is a multiple of
    three. `buffer` and `factor` are zero.
    """
    height, width, pad, stride, pitch, size, _, channels = source
    rows, columns, _, _, _, _, count = target
    batch, taps = len(x) // (channels * height * width), len(distances)
    for c in range(first, last):
        for b in range(batch):
            plane = b * channels + c
            for image in range(2):
                if image == 0:
                    planes, into, h, w, p, s = x, buffer, height, width, pad, stride
                else:  # at the pitch of the phases
                    planes, into, h, w, p, s = dout, factor, rows, columns, 0, 1
                _split(planes, plane * h * w, h, w, p, s, pitch, size, into, 0)
            for start in range(0, count, BLOCK):
                n, f = U(min(BLOCK, count - start)), U(start)
                for k in range(0, taps, 3):
                    x0, x1 = U(start + distances[k]), U(start + distances[k + 1])
                    x2, s0, s1, s2 = U(start + distances[k + 2]), ZERO, ZERO, ZERO
                    for t in range(n):
                        d = factor[f + t]
                        s0 += d * buffer[x0 + t]
                        s1 += d * buffer[x1 + t]
                        s2 += d * buffer[x2 + t]
                    dweight[c * taps + k] += s0
                    dweight[c * taps + k + 1] += s1
                    dweight[c * taps + k + 2] += s2


@_inner
def _add_dense(buffer, start, distances, k, number, weight, w, result, o0, row, n):
    """Add `number` taps of an input channel from k on, 1, 2 or 3, to 4 output channels.

    Weights and values of one step of a loop just fit into the 16 vector registers of AVX2.
    """
    taps = len(distances)
    o1, o2, o3 = o0 + U(row), o0 + U(2 * row), o0 + U(3 * row)
    x0 = U(start + distances[k])
    a0, b0, c0, d0 = weight[w], weight[w + taps], weight[w + 2 * taps], weight[w + 3 * taps]
    if number == 1:
        for t in range(n):
            p = buffer[x0 + t]
            result[o0 + t] += a0 * p
            result[o1 + t] += b0 * p
            result[o2 + t] += c0 * p
            result[o3 + t] += d0 * p
        return
    x1, v = U(start + distances[k + 1]), w + 1
    a1, b1, c1, d1 = weight[v], weight[v + taps], weight[v + 2 * taps], weight[v + 3 * taps]
    if number == 2:
        for t in range(n):
            p, q = buffer[x0 + t], buffer[x1 + t]
            result[o0 + t] += a0 * p + a1 * q
            result[o1 + t] += b0 * p + b1 * q
            result[o2 + t] += c0 * p + c1 * q
            result[o3 + t] += d0 * p + d1 * q
        return
    x2, v = U(start + distances[k + 2]), w + 2
    a2, b2, c2, d2 = weight[v], weight[v + taps], weight[v + 2 * taps], weight[v + 3 * taps]
    for t in range(n):
        p, q, r = buffer[x0 + t], buffer[x1 + t], buffer[x2 + t]
        result[o0 + t] += a0 * p + a1 * q + a2 * r
        result[o1 + t] += b0 * p + b1 * q + b2 * r
        result[o2 + t] += c0 * p + c1 * q + c2 * r
        result[o3 + t] += d0 * p + d1 * q + d2 * r


@compiled(
    f"void({_FLAT}, {_FLAT}, {_INTS}, {_INTS}, {_INTS}, {_SOURCE}, {_TARGET}, {_FLAT},"
    f" int64, int64, {_FLAT}, {_FLAT})",
    fastmath=FLAGS,
)
def dense(x, weight, distances, runs, cuts, source, target, out, first, last, buffer, result):
    """Convolution of x [B, I, H, W] to out [B, 4 U, H', W'], or its gradient by the input.

    weight [U, I, 4, taps] lies in the order of `distances`; other arguments as of `depthwise`, with
    runs of 1, 2 or 3 taps. The pairs first..last of an image and four channels of out: b * U + u.
    """
    height, width, pad, stride, pitch, size, margin, channels = source
    rows, columns, pad_out, stride_out, pitch_out, size_out, count = target
    taps = len(distances)
    groups = len(weight) // (channels * 4 * taps)
    length, row = margin + stride * stride * size, stride_out * stride_out * size_out
    image = -1
    for pair in range(first, last):
        b = pair // groups
        u = pair - b * groups
        if b != image:
            image = b
            for i in range(channels):
                begin, m = (b * channels + i) * height * width, i * length + margin
                _split(x, begin, height, width, pad, stride, pitch, size, buffer, m)
        for start in range(0, count, DENSE_BLOCK):
            n = U(min(DENSE_BLOCK, count - start))
            for phase in range(len(cuts) - 1):
                o = U(phase * size_out + start)
                for v in range(4):
                    zero = o + U(v * row)
                    for t in range(n):
                        result[zero + t] = ZERO
                for i in range(channels):
                    for run in range(cuts[phase], cuts[phase + 1]):
                        k = runs[run]
                        number, w = runs[run + 1] - k, (u * channels + i) * 4 * taps + k
                        begin = i * length + start
                        _add_dense(
                            buffer, begin, distances, k, number, weight, w, result, o, row, n
                        )
        for v in range(4):
            m, end = v * row, (4 * pair + v) * rows * columns
            _join(result, m, pad_out, stride_out, pitch_out, size_out, rows, columns, out, end)


@_inner
def _add_dense_products(buffer, x0, x1, x2, factor, d0, row, dweight, w, taps, n):
    """Add to dweight [4, taps] at w the products of 4 rows of gradients and of 3 taps of x."""
    d1, d2, d3 = d0 + U(row), d0 + U(2 * row), d0 + U(3 * row)
    s00, s01, s02, s10, s11, s12 = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
    s20, s21, s22, s30, s31, s32 = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
    for t in range(n):
        p, q, r = buffer[x0 + t], buffer[x1 + t], buffer[x2 + t]
        s00 += factor[d0 + t] * p
        s01 += factor[d0 + t] * q
        s02 += factor[d0 + t] * r
        s10 += factor[d1 + t] * p
        s11 += factor[d1 + t] * q
        s12 += factor[d1 + t] * r
        s20 += factor[d2 + t] * p
        s21 += factor[d2 + t] * q
        s22 += factor[d2 + t] * r
        s30 += factor[d3 + t] * p
        s31 += factor[d3 + t] * q
        s32 += factor[d3 + t] * r
    for v, sums in enumerate(((s00, s01, s02), (s10, s11, s12), (s20, s21, s22), (s30, s31, s32))):
        dweight[w + v * taps] += sums[0]
        dweight[w + v * taps + 1] += sums[1]
        dweight[w + v * taps + 2] += sums[2]


@compiled(
    f"void({_FLAT}, {_FLAT}, {_INTS}, {_SOURCE}, {_TARGET}, {_FLAT},"
    f" int64, int64, {_FLAT}, {_FLAT})",
    fastmath=FLAGS,
)
def dense_weight_gradient(x, dout, distances, source, target, dweight, first, last, buffer, factor):
    """Gradient of the dense convolution by its weight, to dweight [U, I, 4, taps], which is zero.

    The other arguments as of `depthwise_weight_gradient`. The pairs first..last of four channels of
    dout and one of x: u * I + i.
    """
    height, width, pad, stride, pitch, size, _, channels = source
    rows, columns, _, _, _, _, count = target
    batch, taps = len(x) // (channels * height * width), len(distances)
    outputs = len(dout) // (batch * rows * columns)
    begin, end = first // channels, (last - 1) // channels + 1
    length, row = stride * stride * size, count + pitch
    for b in range(batch):
        for plane in range(channels + 4 * (end - begin)):
            if plane < channels:
                planes, into, h, w, p, s = x, buffer, height, width, pad, stride
                number, m = b * channels + plane, plane * length
            else:  # at the pitch of the phases
                planes, into, h, w, p, s = dout, factor, rows, columns, 0, 1
                number = b * outputs + 4 * begin + plane - channels
                m = (plane - channels) * row
            _split(planes, number * h * w, h, w, p, s, pitch, size, into, m)
        for start in range(0, count, BLOCK):
            n = U(min(BLOCK, count - start))
            for pair in range(first, last):
                u = pair // channels
                at, d0 = (pair - u * channels) * length + start, U((u - begin) * 4 * row + start)
                for k in range(0, taps, 3):
                    x0, x1 = U(at + distances[k]), U(at + distances[k + 1])
                    x2, w = U(at + distances[k + 2]), pair * 4 * taps + k
                    _add_dense_products(buffer, x0, x1, x2, factor, d0, row, dweight, w, taps, n)


KERNELS = (dense, depthwise, dense_weight_gradient, depthwise_weight_gradient)
"""Two processes compile them from both ends."""
