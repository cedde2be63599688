# SPDX-License-Identifier: Apache-2.0
"""Depthwise and dense convolution for training on the CPU, compiled by numba.

`compiler.load` compiles KERNELS for some seconds, unless an earlier process has stored the code in
numba's cache. Every function works on a range of channels, takes the images of the batch in order
and releases Python's lock: threads share the channels, and results do not depend on their number.

A depthwise convolution sees each plane (one channel of one image) as `stride` x `stride` smaller
planes, the PHASES: phase (a, b) holds rows a, a + stride, ... and columns b, b + stride, ... of the
plane with its padding. All lie in one flat buffer with rows of one pitch, so tap (i, j) of the
kernel is a fixed distance in it, and the convolution is, for ANY stride,

    out[t] = sum over taps of weight[tap] * buffer[t + distance[tap]]

over long runs of t: loops without borders, which the compiler turns into vector code. Results
between the rows are left out when the result is copied. float32 throughout; NaN stays NaN.

A dense convolution does so for four channels of the output at once, so that each value of the
input that is loaded serves four products; its threads share the images and the channels of the
output. Nothing is copied once for each tap, as it is before a matrix product (im2col).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from paddlex_ml.kernels.batch_norm import norm, norm_gradients
from paddlex_ml.kernels.compiler import compiled

FLAGS = {"contract", "reassoc", "nsz", "arcp"}  # not nnan and ninf: NaN must be kept
BLOCK = 2048  # floats of a run: the data of one row of taps fits into the first cache
DENSE_BLOCK = 1024  # the same for four channels of the output

ZERO = np.float32(0)
STEP, NEXT = np.uint64(2), np.uint64(1)

# Functions below that are called by others become part of each of them. As functions of their own
# they would be in every one of these, each time translated anew; a process that compiles would run
# another of these versions than one that loads, with other last digits.
_inner: Callable[..., Any] = njit(fastmath=FLAGS, nogil=True, forceinline=True)
_PLANES = "float32[:,:,:,::1]"


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
def _add_dense(x, distances, weight, out, n):
    """Add 1, 2 or 3 taps of one input channel to 4 output channels.

    Weights and values of one step of the loop just fit into the 16 vector registers of AVX2.
    """
    taps = len(distances)
    x0 = x[distances[0] : distances[0] + n]
    x1 = x[distances[min(1, taps - 1)] :][:n]
    x2 = x[distances[taps - 1] :][:n]
    o0, o1, o2, o3 = out[0, :n], out[1, :n], out[2, :n], out[3, :n]
    a0, b0, c0, d0 = weight[0, 0], weight[1, 0], weight[2, 0], weight[3, 0]
    k = min(1, taps - 1)
    a1, b1, c1, d1 = weight[0, k], weight[1, k], weight[2, k], weight[3, k]
    k = taps - 1
    a2, b2, c2, d2 = weight[0, k], weight[1, k], weight[2, k], weight[3, k]
    if taps == 3:
        for t in range(n):
            o0[t] += a0 * x0[t] + a1 * x1[t] + a2 * x2[t]
            o1[t] += b0 * x0[t] + b1 * x1[t] + b2 * x2[t]
            o2[t] += c0 * x0[t] + c1 * x1[t] + c2 * x2[t]
            o3[t] += d0 * x0[t] + d1 * x1[t] + d2 * x2[t]
    elif taps == 2:
        for t in range(n):
            o0[t] += a0 * x0[t] + a1 * x1[t]
            o1[t] += b0 * x0[t] + b1 * x1[t]
            o2[t] += c0 * x0[t] + c1 * x1[t]
            o3[t] += d0 * x0[t] + d1 * x1[t]
    else:
        for t in range(n):
            o0[t] += a0 * x0[t]
            o1[t] += b0 * x0[t]
            o2[t] += c0 * x0[t]
            o3[t] += d0 * x0[t]


@compiled(
    f"void({_PLANES}, {_PLANES}, int64[::1], int64[::1], int64[::1], {_PLANES}, int64[::1],"
    " int64, int64)",
    fastmath=FLAGS,
)
def dense(x, weight, distances, cuts, source, out, target, first, last):
    """Convolution of x [B, I, H, W] to out [B, 4 U, H', W'], or its gradient by the input.

    weight [U, I, 4, taps] lies in the order of `distances`, where the taps of phase p of the output
    are cuts[p] to cuts[p + 1]. `source` and `target`: padding, stride, pitch, length of a phase of
    x and of out, and what lies before the first phase of x, or how many values of a phase of out
    are wanted. The pairs first..last of an image and four channels of out: b * U + u.
    """
    pad, stride, pitch, size, margin = source
    pad_out, stride_out, pitch_out, size_out, count = target
    groups, channels = weight.shape[:2]
    buffer = np.zeros((channels, margin + stride * stride * size), np.float32)
    result = np.empty((4, stride_out * stride_out * size_out), np.float32)
    part = np.empty((4, DENSE_BLOCK), np.float32)
    image = -1
    for pair in range(first, last):
        b, u = pair // groups, pair % groups
        if b != image:
            image = b
            for i in range(channels):
                _split(x[b, i], pad, stride, pitch, size, buffer[i, margin:])
        for start in range(0, count, DENSE_BLOCK):
            n = min(DENSE_BLOCK, count - start)
            for phase in range(len(cuts) - 1):
                part[:] = ZERO
                for i in range(channels):
                    k, end = cuts[phase], cuts[phase + 1]
                    while k < end:
                        taps = 2 if end - k == 4 else min(3, end - k)
                        _add_dense(
                            buffer[i, start:], distances[k : k + taps], weight[u, i, :, k:], part, n
                        )
                        k += taps
                begin = phase * size_out + start
                for v in range(4):
                    result[v, begin : begin + n] = part[v, :n]
        for v in range(4):
            _join(result[v], pad_out, stride_out, pitch_out, size_out, out[b, 4 * u + v])


@_inner
def _add_dense_products(x, distances, d0, d1, d2, d3, sums, n):
    """Add to sums [4, taps] the scalar products of four gradients and of 1 to 3 taps of x."""
    taps = len(distances)
    x0 = x[distances[0] : distances[0] + n]
    x1 = x[distances[min(1, taps - 1)] :][:n]
    x2 = x[distances[taps - 1] :][:n]
    s00, s01, s02, s10, s11, s12 = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
    s20, s21, s22, s30, s31, s32 = ZERO, ZERO, ZERO, ZERO, ZERO, ZERO
    for t in range(n):
        s00 += d0[t] * x0[t]
        s01 += d0[t] * x1[t]
        s02 += d0[t] * x2[t]
        s10 += d1[t] * x0[t]
        s11 += d1[t] * x1[t]
        s12 += d1[t] * x2[t]
        s20 += d2[t] * x0[t]
        s21 += d2[t] * x1[t]
        s22 += d2[t] * x2[t]
        s30 += d3[t] * x0[t]
        s31 += d3[t] * x1[t]
        s32 += d3[t] * x2[t]
    firsts, seconds, thirds = (s00, s10, s20, s30), (s01, s11, s21, s31), (s02, s12, s22, s32)
    for v in range(4):
        sums[v, 0] += firsts[v]
        if taps > 1:
            sums[v, 1] += seconds[v]
        if taps > 2:
            sums[v, 2] += thirds[v]


@compiled(
    f"void({_PLANES}, {_PLANES}, int64[::1], int64[::1], int64, {_PLANES}, int64, int64)",
    fastmath=FLAGS,
)
def dense_weight_gradient(x, dout, distances, source, count, dweight, first, last):
    """Gradient of the convolution by its weight, to dweight [U, I, 4, taps]; settings as there.

    `count` values of an output belong to it. The pairs first..last of four channels of dout and one
    of x: u * I + i.
    """
    pad, stride, pitch, size, _ = source
    channels = x.shape[1]
    begin, end = first // channels, (last - 1) // channels + 1
    buffer = np.zeros((channels, stride * stride * size), np.float32)
    factors = np.zeros((end - begin, 4, count + pitch), np.float32)
    for pair in range(first, last):
        dweight[pair // channels, pair % channels] = ZERO
    for b in range(x.shape[0]):
        for i in range(channels):
            _split(x[b, i], pad, stride, pitch, size, buffer[i])
        for u in range(begin, end):
            for v in range(4):
                _split(dout[b, 4 * u + v], 0, 1, pitch, size, factors[u - begin, v])
        for start in range(0, count, BLOCK):
            n = min(BLOCK, count - start)
            for pair in range(first, last):
                u, i = pair // channels, pair % channels
                for k in range(0, len(distances), 3):
                    _add_dense_products(
                        buffer[i, start:],
                        distances[k : k + 3],
                        factors[u - begin, 0, start:],
                        factors[u - begin, 1, start:],
                        factors[u - begin, 2, start:],
                        factors[u - begin, 3, start:],
                        dweight[u, i, :, k:],
                        n,
                    )


KERNELS = (depthwise_gradients, depthwise, norm, norm_gradients, dense_weight_gradient, dense)
"""Two processes compile them from both ends: those that take longest come first."""
