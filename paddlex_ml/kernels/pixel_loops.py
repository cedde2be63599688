# SPDX-License-Identifier: Apache-2.0
"""Loops over the pixels of pictures for `pillow`, compiled by numba.

`compiler.load` compiles KERNELS for some seconds, unless an earlier process has stored the code in
numba's cache.
"""

from __future__ import annotations

import math

import numpy as np
from numba import float64, int32, types, uint8, void

from paddlex_ml.kernels.compiler import compiled

BITS = 22  # of the weights behind the point, as in Pillow
HALF = 1 << (BITS - 1)
# Arrays of Pillow are read-only, those of OpenCV are not: a loop that asks for less takes both.
_IMAGE = types.Array(uint8, 2, "C", readonly=True)
_PICTURE = types.Array(uint8, 3, "C", readonly=True)


@compiled(void(_IMAGE, int32[::1], int32[:, ::1], uint8[:, ::1]))
def blend_rows(
    pixels: np.ndarray, first: np.ndarray, weights: np.ndarray, blended: np.ndarray
) -> None:
    """Row y [width] of `blended` is the weighted sum of the rows of `pixels` from first[y] on."""
    taps, width, end = weights.shape[1], pixels.shape[1], pixels.shape[0] - 1
    total = np.empty(width, np.int32)
    for y in range(first.shape[0]):
        total[:] = HALF
        into = blended[y]
        for tap in range(0, taps, 4):  # four at a time: fewer transfers to and from memory
            row = first[y] + tap
            a, b = pixels[min(row, end)], pixels[min(row + 1, end)]
            c, d = pixels[min(row + 2, end)], pixels[min(row + 3, end)]
            p = weights[y, tap]
            q = weights[y, tap + 1] if tap + 1 < taps else np.int32(0)
            r = weights[y, tap + 2] if tap + 2 < taps else np.int32(0)
            s = weights[y, tap + 3] if tap + 3 < taps else np.int32(0)
            if taps <= 4:
                for x in range(width):
                    both = np.int32(a[x]) * p + np.int32(b[x]) * q
                    rest = np.int32(c[x]) * r + np.int32(d[x]) * s
                    into[x] = (np.int32(HALF) + both + rest) >> BITS
            else:
                for x in range(width):
                    both = np.int32(a[x]) * p + np.int32(b[x]) * q
                    total[x] += both + np.int32(c[x]) * r + np.int32(d[x]) * s
        if taps > 4:
            for x in range(width):
                into[x] = total[x] >> BITS


@compiled(void(_PICTURE, float64, uint8[:, :, ::1]))
def shear_rows(pixels: np.ndarray, strength: float, sheared: np.ndarray) -> None:
    """Pixel (y, x) is the cubic through four neighbours of position x + strength * y of its row."""
    height, width, channels = pixels.shape
    padded = np.empty((width + 4) * channels, np.float64)  # two columns more on both sides
    shares = np.empty(width * channels, np.float64)
    for y in range(height):
        begin, end, column = 0, 0, 0
        for x in range(width):
            position = (x + 0.5) + strength * (y + 0.5)
            if not 0.0 <= position < width:
                continue
            left = math.floor(position - 0.5)
            if end == 0:
                begin, column = x, left - x
            elif left != x + column:  # rounding has crossed a whole number
                sheared[0, 0, 0] ^= 1  # no longer equal to Pillow's: `_as_pillow` detects it
                return
            end = x + 1
            for k in range(channels):
                shares[x * channels + k] = position - 0.5 - left
        row, into = pixels[y].reshape(-1), sheared[y].reshape(-1)
        middle = padded[2 * channels : 2 * channels + row.size]
        for j in range(row.size):
            middle[j] = row[j]
        for k in range(channels):
            padded[k] = padded[channels + k] = row[k]
            padded[k - channels] = padded[k - 2 * channels] = row[k - channels]
        first = (begin + column + 1) * channels
        # separate slices: an index that may be negative prevents vector code
        count = (end - begin) * channels
        one = padded[first : first + count]
        two = padded[first + channels : first + channels + count]
        three = padded[first + 2 * channels : first + 2 * channels + count]
        four = padded[first + 3 * channels : first + 3 * channels + count]
        part = into[begin * channels : begin * channels + count]
        share = shares[begin * channels : begin * channels + count]
        for j in range(part.size):
            v1, v2, v3, v4 = one[j], two[j], three[j], four[j]
            p2 = -v1 + v3
            p3 = 2 * (v1 - v2) + v3 - v4
            p4 = -v1 + v2 - v3 + v4
            value = v2 + share[j] * (p2 + share[j] * (p3 + share[j] * p4))
            value = value if value > 0.0 else 0.0
            part[j] = np.uint8(np.int32(value if value < 255.0 else 255.0))


KERNELS = (blend_rows, shear_rows)
