# SPDX-License-Identifier: Apache-2.0
"""Transforms of a 3 x 3 convolution by Winograd's algorithm F(2 x 2, 3 x 3), compiled by numba.

Lavin and Gray 2016 (arXiv:1509.09308). A map is cut into tiles of 2 x 2 outputs, each of which
needs 4 x 4 inputs. Inputs and weight are transformed to 4 x 4 numbers, so the convolution of each
of these 16 places is a product of matrices, which Paddle computes, and takes 16 multiplications for
four outputs where the sum over the taps takes 36. All factors are 0, 1, 1/2 and their negatives:

    out = A^T [(G w G^T) * (B^T x B)] A,     dweight = G^T [(A dout A^T) * (B^T x B)] G

Arrays are float32: maps [C, H, W] of one image, and [16, C, P] for the P tiles of its rows of tiles
from `top` to `bottom`. A kernel works on the channels of `first` to `last`: results are the same
bits for any number of threads. NaN stays NaN. `room` has space for the rows of a tile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from paddlex_ml.kernels.compiler import compiled

FLAGS = {"contract", "reassoc", "nsz", "arcp"}  # not nnan and ninf: NaN must be kept
ZERO = np.float32(0)

_inner: Callable[..., Any] = njit(inline="always")  # becomes part of each function that calls it
_MAPS, _ROOM = "float32[:,:,::1]", "float32[::1]"
_TYPES = f"void({_MAPS}, {_MAPS}, int64, int64, int64, int64, {_ROOM})"


@_inner
def _part_columns(maps, c, y, before, even, odd):
    """Columns 2k - before and 2k + 1 - before of row y; zeros beyond the borders."""
    height, width = maps.shape[1:]
    count = len(even)
    for k in range(count):
        even[k] = ZERO
        odd[k] = ZERO
    if 0 <= y < height:
        row = maps[c, y]
        for k in range(before, (width + 1 + before) // 2):
            even[k] = row[2 * k - before]
        for k in range((width + before) // 2):
            odd[k] = row[2 * k + 1 - before]


@compiled(_TYPES, fastmath=FLAGS)
def tile_inputs(x, tiles, top, bottom, first, last, room):
    """B^T x B of the tiles of 4 x 4 inputs, which overlap by two."""
    count = (x.shape[2] + 1) // 2
    rows = room[: 8 * (count + 1)].reshape(4, 2, count + 1)
    for c in range(first, last):
        for r in range(top, bottom):
            for i in range(4):
                _part_columns(x, c, 2 * r + i - 1, 1, rows[i, 0], rows[i, 1])
            for half in range(2):
                a, b, d, e = rows[0, half], rows[1, half], rows[2, half], rows[3, half]
                for k in range(count + 1):
                    a[k] -= d[k]
                    e[k] = b[k] - e[k]
                    b[k], d[k] = b[k] + d[k], d[k] - b[k]
            start = (r - top) * count
            for i in range(4):
                even, odd = rows[i, 0], rows[i, 1]
                for k in range(count):
                    p, q, s, t = even[k], odd[k], even[k + 1], odd[k + 1]
                    tiles[4 * i, c, start + k] = p - s
                    tiles[4 * i + 1, c, start + k] = q + s
                    tiles[4 * i + 2, c, start + k] = s - q
                    tiles[4 * i + 3, c, start + k] = q - t


@compiled(_TYPES, fastmath=FLAGS)
def join_outputs(out, tiles, top, bottom, first, last, room):
    """A^T m A of each tile, into the map."""
    height, width = out.shape[1:]
    count = (width + 1) // 2
    for c in range(first, last):
        for r in range(top, bottom):
            start = (r - top) * count
            for half in range(min(2, height - 2 * r)):
                sign = np.float32(1 - 2 * half)
                one = tiles[4 * half : 4 * half + 4, c]
                two = tiles[4 * half + 4 : 4 * half + 8, c]
                three = tiles[4 * half + 8 : 4 * half + 12, c]
                for k in range(count):
                    n = start + k
                    p = one[0, n] + sign * two[0, n] + sign * three[0, n]
                    q = one[1, n] + sign * two[1, n] + sign * three[1, n]
                    s = one[2, n] + sign * two[2, n] + sign * three[2, n]
                    t = one[3, n] + sign * two[3, n] + sign * three[3, n]
                    room[2 * k] = p + q + s
                    room[2 * k + 1] = q - s - t
                row = out[c, 2 * r + half]
                for k in range(width):
                    row[k] = room[k]


@compiled(_TYPES, fastmath=FLAGS)
def tile_gradients(dout, tiles, top, bottom, first, last, room):
    """A dout A^T of the tiles of 2 x 2 outputs."""
    count = (dout.shape[2] + 1) // 2
    rows = room[: 8 * count].reshape(4, 2, count)
    for c in range(first, last):
        for r in range(top, bottom):
            for i in range(2):
                _part_columns(dout, c, 2 * r + i, 0, rows[3 * i, 0], rows[3 * i, 1])
            for half in range(2):
                a, b, d, e = rows[0, half], rows[1, half], rows[2, half], rows[3, half]
                for k in range(count):
                    b[k] = a[k] + e[k]
                    d[k] = a[k] - e[k]
                    e[k] = -e[k]
            start = (r - top) * count
            for i in range(4):
                even, odd = rows[i, 0], rows[i, 1]
                for k in range(count):
                    tiles[4 * i, c, start + k] = even[k]
                    tiles[4 * i + 1, c, start + k] = even[k] + odd[k]
                    tiles[4 * i + 2, c, start + k] = even[k] - odd[k]
                    tiles[4 * i + 3, c, start + k] = -odd[k]


KERNELS = (tile_inputs, join_outputs, tile_gradients)
