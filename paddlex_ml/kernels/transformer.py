# SPDX-License-Identifier: Apache-2.0
"""Loops of a transformer's training on the CPU, compiled by numba; matrix products are Paddle's.

`compiler.load` compiles KERNELS for some seconds, unless an earlier process has stored the code in
numba's cache. Arrays are float32 and [N, D]: N rows, one for a token, or for a token and a head. A
kernel works on the rows of `first` to `last`, or on so many blocks of BLOCK rows where it adds up
over rows: each block has sums of its own, which the caller adds up. So results are the same bits
for any number of threads. NaN stays NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from paddlex_ml.kernels.compiler import compiled

FLAGS = {"contract", "reassoc", "nsz", "arcp"}  # not nnan and ninf: NaN must be kept
BLOCK = 32  # rows of a block

_ROW, _ROWS, _SUMS = "float32[::1]", "float32[:,::1]", "float32[:,:,::1]"

f = np.float32
ZERO, HALF, ONE, LOWEST = f(0), f(0.5), f(1), f(-87)
# A sum of the first number and a small one is rounded to an integer, in the last bits of the sum.
ROUND, TWO_TO_THE_ZERO, MANTISSA = f(1.5 * 2**23), np.int32(0x3F800000), np.int32(23)
# Bits of floats, those of negative ones turned but for the sign, have the order of the floats.
LEAST, SIGN, REST = np.int32(-(2**31)), np.int32(31), np.int32(2**31 - 1)
LOG2_E, LN2_HIGH, LN2_LOW = f(1.4426950408889634), f(0.693359375), f(-2.1219444005e-4)
# Interpolates exp at Chebyshev's nodes of +-0.3466: relative error 2.6e-9 before rounding.
E2, E3, E4, E5, E6 = (
    f(0.5),
    f(0.166664154140411),
    f(0.041666352770387),
    f(0.008375134774679),
    f(0.001394111894076),
)
# Abramowitz and Stegun 1964, 7.1.26: the error function to 1.5e-7.
T, T1, T2, T3, T4, T5 = (
    f(0.3275911),
    f(0.254829592 / 2),
    f(-0.284496736 / 2),
    f(1.421413741 / 2),
    f(-1.453152027 / 2),
    f(1.061405429 / 2),
)
SQRT_HALF, DENSITY = f(0.7071067811865476), f(0.3989422804014327)

# Parts of each function that calls them, though compiled by themselves: by `inline="always"` they
# would have "reassoc" of their callers, and `_exp` rounds. Python's own division would look for
# zeros, one number after the other.
_inner: Callable[..., Any] = njit(
    fastmath={"contract"}, nogil=True, forceinline=True, error_model="numpy"
)


@_inner
def _exp(x):
    """Exponential function of x <= 0; at least 1e-38."""
    x = LOWEST if x < LOWEST else x
    shifted = np.float32(x * LOG2_E + ROUND)
    n = shifted - ROUND
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    bits = np.int32((shifted.view(np.int32) << MANTISSA) + TWO_TO_THE_ZERO)
    power = bits.view(np.float32)
    tail = E2 + r * (E3 + r * (E4 + r * (E5 + r * E6)))
    return power * (ONE + (r + r * r * tail))


@_inner
def _gauss(x):
    """Share of a standard normal distribution below x, and exp(-x^2 / 2)."""
    distance = abs(x) * SQRT_HALF
    bell = _exp(-distance * distance)
    t = ONE / (ONE + T * distance)
    outside = bell * (t * (T1 + t * (T2 + t * (T3 + t * (T4 + t * T5)))))
    return (outside if x < ZERO else ONE - outside), bell


@compiled(f"void({_ROWS}, {_ROW}, {_ROW}, float64, {_ROWS}, {_ROWS}, int64, int64)", fastmath=FLAGS)
def norm_rows(x, weight, bias, epsilon, out, statistics, first, last):
    """LayerNorm of each row; statistics [N, 2] get its mean and 1 / its standard deviation."""
    width = x.shape[1]
    for n in range(first, last):
        row, result, total, spread = x[n], out[n], ZERO, ZERO
        for k in range(width):
            total += row[k]
        mean = total / f(width)
        for k in range(width):
            spread += (row[k] - mean) * (row[k] - mean)
        inverse = f(1 / np.sqrt(spread / width + epsilon))
        for k in range(width):
            result[k] = (row[k] - mean) * inverse * weight[k] + bias[k]
        statistics[n, 0], statistics[n, 1] = mean, inverse


@compiled(
    f"void({_ROWS}, {_ROWS}, {_ROW}, {_ROWS}, {_ROWS}, {_SUMS}, int64, int64)", fastmath=FLAGS
)
def norm_rows_gradients(x, dout, weight, statistics, dx, sums, first, last):
    """Gradient of `norm_rows` by x; sums [blocks, 2, D] are those by weight and bias."""
    height, width = x.shape
    for block in range(first, last):
        by_weight, by_bias = sums[block, 0], sums[block, 1]
        by_weight[:] = ZERO
        by_bias[:] = ZERO
        for n in range(block * BLOCK, min(height, (block + 1) * BLOCK)):
            row, given, result = x[n], dout[n], dx[n]
            mean, inverse = statistics[n, 0], statistics[n, 1]
            total, moment = ZERO, ZERO
            for k in range(width):
                normal = (row[k] - mean) * inverse
                slope = given[k] * weight[k]
                total += slope
                moment += slope * normal
                by_weight[k] += given[k] * normal
                by_bias[k] += given[k]
            total, moment = total / f(width), moment / f(width)
            for k in range(width):
                normal = (row[k] - mean) * inverse
                result[k] = inverse * (given[k] * weight[k] - total - normal * moment)


@compiled(f"void({_ROWS}, {_ROW}, {_ROWS}, int64, int64)", fastmath=FLAGS)
def gelu(x, bias, out, first, last):
    """Exact GELU of x + bias."""
    for n in range(first, last):
        row, result = x[n], out[n]
        for k in range(len(row)):
            z = row[k] + bias[k]
            share, _ = _gauss(z)
            result[k] = z * share


@compiled(f"void({_ROWS}, {_ROW}, {_ROWS}, {_ROWS}, {_SUMS}, int64, int64)", fastmath=FLAGS)
def gelu_gradients(x, bias, dout, dx, sums, first, last):
    """Gradient of `gelu` by x; sums [blocks, 1, D] are those by bias."""
    height, width = x.shape
    for block in range(first, last):
        by_bias = sums[block, 0]
        by_bias[:] = ZERO
        for n in range(block * BLOCK, min(height, (block + 1) * BLOCK)):
            row, given, result = x[n], dout[n], dx[n]
            for k in range(width):
                z = row[k] + bias[k]
                share, bell = _gauss(z)
                slope = given[k] * (share + z * bell * DENSITY)
                result[k] = slope
                by_bias[k] += slope


@compiled(f"void({_ROWS}, {_ROW}, int64, int64)", fastmath=FLAGS)
def relu(x, bias, first, last):
    """ReLU of x + bias, in place."""
    for n in range(first, last):
        row = x[n]
        for k in range(len(row)):
            z = row[k] + bias[k]
            row[k] = ZERO if z <= ZERO else z


@compiled(f"void({_ROWS}, {_ROWS}, {_ROWS}, {_SUMS}, int64, int64)", fastmath=FLAGS)
def relu_gradients(out, dout, dx, sums, first, last):
    """Gradient of `relu` by x; sums [blocks, 1, D] are those by bias."""
    for block in range(first, last):
        by_bias = sums[block, 0]
        by_bias[:] = ZERO
        for n in range(block * BLOCK, min(len(out), (block + 1) * BLOCK)):
            row, given, result = out[n], dout[n], dx[n]
            for k in range(len(row)):
                slope = ZERO if row[k] <= ZERO else given[k]
                result[k] = slope
                by_bias[k] += slope


@compiled(f"void({_ROWS}, {_SUMS}, int64, int64)", fastmath=FLAGS)
def column_sums(x, sums, first, last):
    """Sums [blocks, 1, D] over the rows."""
    for block in range(first, last):
        total = sums[block, 0]
        total[:] = ZERO
        for n in range(block * BLOCK, min(len(x), (block + 1) * BLOCK)):
            row = x[n]
            for k in range(len(row)):
                total[k] += row[k]


@compiled(f"void({_ROWS}, {_ROW}, {_ROWS}, int64, int64)", fastmath=FLAGS)
def add_rows(x, bias, other, first, last):
    """Add bias and other to x, in place."""
    for n in range(first, last):
        row, added = x[n], other[n]
        for k in range(len(row)):
            row[k] += bias[k] + added[k]


@compiled(f"void({_ROWS}, {_ROW}, int64, float32, {_SUMS}, int64, int64)", fastmath=FLAGS)
def split_heads(x, bias, offset, scale, out, first, last):
    """Columns of x [B * T, D] from `offset` on, as scaled rows of heads [B * heads, T, width]."""
    _, count, width = out.shape
    heads = len(bias) // width
    for head in range(first, last):
        column = head % heads * width
        added = bias[column : column + width]
        for n in range(count):
            row = x[head // heads * count + n, offset + column :]
            result = out[head, n]
            for k in range(width):
                result[k] = (row[k] + added[k]) * scale


@compiled(f"void({_SUMS}, {_ROWS}, int64, int64, float32, int64, int64)", fastmath=FLAGS)
def merge_heads(x, out, heads, offset, scale, first, last):
    """The way back: scaled rows of heads [B * heads, T, width] into columns of out [B * T, D]."""
    _, count, width = x.shape
    for head in range(first, last):
        for n in range(count):
            result = out[head // heads * count + n, offset + head % heads * width :]
            row = x[head, n]
            for k in range(width):
                result[k] = row[k] * scale


@compiled(f"void({_ROWS}, int64, int64)", fastmath=FLAGS)
def softmax_rows(x, first, last):
    """Softmax of each row, in place."""
    every = x.view(np.int32)
    for n in range(first, last):
        row, bits, total, most = x[n], every[n], ZERO, LEAST
        for k in range(len(row)):  # as integers: a maximum that knows NaN takes one at a time
            ranked = np.int32(bits[k] ^ ((bits[k] >> SIGN) & REST))
            most = ranked if ranked > most else most
        highest = np.int32(most ^ ((most >> SIGN) & REST)).view(np.float32)
        for k in range(len(row)):
            row[k] = _exp(row[k] - highest)
            total += row[k]
        share = ONE / total
        for k in range(len(row)):
            row[k] *= share


@compiled(f"void({_ROWS}, {_ROWS}, int64, int64)", fastmath=FLAGS)
def softmax_rows_gradient(shares, dx, first, last):
    """Gradient of `softmax_rows`, in place of that by its output; shares are its output."""
    for n in range(first, last):
        row, result, total = shares[n], dx[n], ZERO
        for k in range(len(row)):
            total += row[k] * result[k]
        for k in range(len(row)):
            result[k] = row[k] * (result[k] - total)


KERNELS = (
    norm_rows_gradients, gelu_gradients, norm_rows, softmax_rows, gelu, split_heads, merge_heads,
    relu_gradients, column_sums, softmax_rows_gradient, relu, add_rows,
)  # fmt: skip
