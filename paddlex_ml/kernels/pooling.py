# SPDX-License-Identifier: Apache-2.0
"""Max pooling for training on the CPU, compiled by numba; see `paddlex_ml.kernels.convolution`.

The output of a window is y = y > x ? y : x over its values in order, as in Paddle, so a NaN goes
on only where no number follows it. Paddle gives the gradient of a window to the first value that
equals the output: `pool` notes which one that is, in a byte.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from paddlex_ml.kernels.compiler import compiled

LOWEST = np.float32(np.finfo(np.float32).min)
NOWHERE = np.uint8(255)  # no value equals the output: all were NaN, or minus infinity
ZERO = np.float32(0)
U = np.uint64
STEP = U(2)

_inner: Callable[..., Any] = njit(inline="always")  # becomes part of each function that calls it
_FLAT, _PLACES, _SIZES = "float32[::1]", "uint8[::1]", "UniTuple(int64, 8)"


@_inner
def _meets(j, pad, stride, width, columns):
    """The columns of the output whose tap of column j lies in the input: first, and after last."""
    before = max(0, (pad - j + stride - 1) // stride)
    return before, max(before, min(columns, (width - 1 - j + pad) // stride + 1))


@compiled(f"void({_FLAT}, {_SIZES}, {_FLAT}, {_PLACES}, int64, int64)")
def pool(x, sizes, out, places, first, last):
    """Max pooling of the planes first..last of x [P, H, W] to out [P, H', W'].

    places [P, H', W']: row * kernel + column, in its window, of the value that gets the gradient.
    `sizes`: H, W, H', W', the kernel, the stride (1 or 2), rows and columns of padding before x.
    """
    height, width, rows, columns, kernel, stride, above, before = sizes
    for number in range(first * rows, last * rows):
        plane = number // rows
        top = (number - plane * rows) * stride - above
        o = U(number * columns)
        for t in range(U(columns)):
            out[o + t] = LOWEST
            places[o + t] = NOWHERE
        for turn in range(2 * kernel * kernel):  # forwards for the values, backwards for the places
            tap = turn if turn < kernel * kernel else 2 * kernel * kernel - 1 - turn
            i = tap // kernel
            j = tap - i * kernel
            if top + i < 0 or top + i >= height:
                continue
            begin, end = _meets(j, before, stride, width, columns)
            n, at = U(end - begin), o + U(begin)
            source = U((plane * height + top + i) * width + begin * stride - before + j)
            k = np.uint8(tap)
            if turn < kernel * kernel:
                if stride == 1:
                    for t in range(n):
                        y, value = out[at + t], x[source + t]
                        out[at + t] = y if y > value else value
                else:
                    for t in range(n):
                        y, value = out[at + t], x[source + STEP * t]
                        out[at + t] = y if y > value else value
            elif stride == 1:
                for t in range(n):
                    known, value = places[at + t], x[source + t]
                    places[at + t] = k if out[at + t] == value else known
            else:
                for t in range(n):
                    known, value = places[at + t], x[source + STEP * t]
                    places[at + t] = k if out[at + t] == value else known


@compiled(f"void({_FLAT}, {_PLACES}, {_SIZES}, int64[::1], {_FLAT}, int64, int64)")
def pool_gradient(dout, places, sizes, offsets, dx, first, last):
    """Fill dx [P, H, W] with the gradient of `pool`; arguments as there.

    offsets[place]: its distance in x from the first value of the window.
    """
    height, width, rows, columns, _, stride, above, before = sizes
    for plane in range(first, last):
        begin = U(plane * height * width)
        for t in range(U(height * width)):
            dx[begin + t] = ZERO
        for row in range(rows):
            start = (plane * height + row * stride - above) * width - before
            o = U((plane * rows + row) * columns)
            for t in range(U(columns)):
                place = places[o + t]
                if place != NOWHERE:
                    dx[U(start + stride * np.int64(t) + offsets[U(place)])] += dout[o + t]


KERNELS = (pool, pool_gradient)
