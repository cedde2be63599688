# SPDX-License-Identifier: Apache-2.0
"""Pillow's resizing, shearing and smoothing: the same pixels, faster.

Pillow's loops process one channel of one pixel at a time. Here whole rows are blended, which the
compiler turns into vector instructions, and pixels that a shear does not move need no weights.

Every result is verified: versions of Pillow differ in which axis they resize first, and processors
in how they round. The first picture of every size goes through Pillow as well, and where the
results differ, Pillow does all pictures of that size. Without numba it does all of them.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import math
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any, TypeVar, cast

import cv2
import numpy as np
from PIL import Image, ImageFilter

from paddlex_ml.storage import cache

logger = logging.getLogger(__name__)

_F = TypeVar("_F", bound=Callable[..., Any])
_BITS = 22  # of the weights behind the point, as in Pillow
_HALF = 1 << (_BITS - 1)
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13  # of ImageFilter.SMOOTH


def _find_compiler() -> Any:
    """The module numba, or None where it is not installed or does not work."""
    if importlib.util.find_spec("numba") is None:
        return None
    cache.give_to_library("NUMBA_CACHE_DIR", "numba")
    try:
        return importlib.import_module("numba")
    except (ImportError, OSError) as fault:  # for example an unsuitable numpy
        logger.warning("numba does not work here; images are read slower without it: %s", fault)
        return None


_NUMBA = _find_compiler()
_MIN_VALUES = 32  # a picture with fewer values verifies nothing: all variants agree on it

Variant = Callable[[np.ndarray], np.ndarray]
_verified: dict[Hashable, int | None] = {}  # which variant gives Pillow's pixels; None: none


def resize(image: Image.Image, size: int) -> np.ndarray:
    """RGB image -> [S, S, 3] uint8, as `preprocess.standard(size).resize` gives it."""
    variants = (lambda a: _down(_across(a, size), size), lambda a: _across(_down(a, size), size))
    different = 1 if size in image.size else 2  # where one side stays, both are the same
    return _as_pillow(
        ("resize", image.size, size),
        image,
        variants[:different],
        lambda: np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)),
    )


def shear(image: Image.Image, strength: float, axis: int, grey: int) -> Image.Image:
    """Shift each row (`axis` 0) or column (1) by `strength` pixels more than the one before.

    As `Image.transform` does, bicubic; pixels from beyond the edges are `grey`.
    """

    def ours(pixels: np.ndarray) -> np.ndarray:
        turned = cv2.transpose(pixels) if axis else pixels
        sheared = np.full(turned.shape, grey, np.uint8)
        _shear_rows(turned, strength, sheared)
        return cast(np.ndarray, cv2.transpose(sheared)) if axis else sheared

    affine, cubic = Image.Transform.AFFINE, Image.Resampling.BICUBIC
    matrix = (1, 0, 0, strength, 1, 0) if axis else (1, strength, 0, 0, 1, 0)
    pixels = _as_pillow(
        ("shear", image.size, axis, strength),  # each strength rounds in its own way
        image,
        (ours,),
        lambda: np.asarray(
            image.transform(image.size, affine, matrix, resample=cubic, fillcolor=(grey,) * 3)
        ),
    )
    return Image.fromarray(pixels)


def smooth(image: Image.Image) -> Image.Image:
    """`image.filter(ImageFilter.SMOOTH)`: a weighted mean of nine; the border stays as it is."""

    def ours(pixels: np.ndarray) -> np.ndarray:
        # Thirteenths are never half-way between two whole numbers: rounding has one answer.
        smoothed = cv2.filter2D(pixels, -1, _SMOOTH)
        for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
            smoothed[edge] = pixels[edge]
        return cast(np.ndarray, smoothed)

    kind = ("smooth", image.size)
    pixels = _as_pillow(kind, image, (ours,), lambda: np.asarray(image.filter(ImageFilter.SMOOTH)))
    return Image.fromarray(pixels)


def load() -> None:
    """Compile all loops, or load them from the folder where numba keeps them, before any work."""
    if _NUMBA is None:
        return
    pixels, blended = np.zeros((4, 12), np.uint8), np.empty((2, 12), np.uint8)
    _blend_rows(pixels, *_weights(4, 2), blended)
    pixels.setflags(write=False)  # as Pillow's are: another type for numba
    _blend_rows(pixels, *_weights(4, 2), blended)
    _shear_rows(pixels.reshape(4, 4, 3), 0.1, np.empty((4, 4, 3), np.uint8))
    _shear_rows(np.zeros((4, 4, 3), np.uint8), 0.1, np.empty((4, 4, 3), np.uint8))


def _as_pillow(
    kind: Hashable,
    image: Image.Image,
    variants: tuple[Variant, ...],
    by_pillow: Callable[[], np.ndarray],
) -> np.ndarray:
    """Result of the variant that is verified to give Pillow's pixels for pictures of this kind."""
    if _NUMBA is None:
        return by_pillow()
    if kind in _verified:
        number = _verified[kind]
        return by_pillow() if number is None else variants[number](np.asarray(image))
    expected = by_pillow()
    pixels = np.asarray(image)
    if np.count_nonzero(np.bincount(pixels.ravel(), minlength=256)) >= _MIN_VALUES:
        equal = [k for k, v in enumerate(variants) if np.array_equal(v(pixels), expected)]
        if len(equal) < 2:
            _verified[kind] = equal[0] if equal else None
    return expected


def _across(pixels: np.ndarray, width: int) -> np.ndarray:
    """Resize [H, W, 3] to [H, width, 3]: columns are blended as rows of the transposed picture."""
    return cast(np.ndarray, cv2.transpose(_down(cv2.transpose(pixels), width)))


def _down(pixels: np.ndarray, height: int) -> np.ndarray:
    """Resize [H, W, 3] to [height, W, 3]."""
    old, width, channels = pixels.shape
    if old == height:
        return pixels
    blended = np.empty((height, width * channels), np.uint8)
    _blend_rows(pixels.reshape(old, -1), *_weights(old, height), blended)
    return blended.reshape(height, width, channels)


@lru_cache(maxsize=1024)
def _weights(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """First row of every new one [new], and weights of the rows from there on [new, taps].

    In the order of Pillow's own arithmetic: another order rounds differently.
    """
    scale = old / new
    reach = max(scale, 1.0)
    centres = (np.arange(new) + 0.5) * scale
    first = np.maximum((centres - reach + 0.5).astype(np.int64), 0)
    last = np.minimum((centres + reach + 0.5).astype(np.int64), old)
    taps = np.arange(int((last - first).max()))[None]
    distance = np.abs(((taps + first[:, None]) - centres[:, None] + 0.5) * (1.0 / reach))
    share = np.where((distance < 1.0) & (taps < (last - first)[:, None]), 1.0 - distance, 0.0)
    share /= np.add.accumulate(share, axis=1)[:, -1:]
    return first.astype(np.int32), (0.5 + share * (1 << _BITS)).astype(np.int32)


def _compiled(function: _F) -> _F:
    """Compile at the first call, and keep the result for later processes where that is possible."""
    if _NUMBA is None:
        return function
    try:
        return cast(_F, _NUMBA.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # no folder that numba may write to
        return cast(_F, _NUMBA.njit(nogil=True)(function))


@_compiled
def _blend_rows(
    pixels: np.ndarray, first: np.ndarray, weights: np.ndarray, blended: np.ndarray
) -> None:
    taps, width, end = weights.shape[1], pixels.shape[1], pixels.shape[0] - 1
    total = np.empty(width, np.int32)
    for y in range(first.shape[0]):
        total[:] = _HALF
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
                    into[x] = (np.int32(_HALF) + both + rest) >> _BITS
            else:
                for x in range(width):
                    both = np.int32(a[x]) * p + np.int32(b[x]) * q
                    total[x] += both + np.int32(c[x]) * r + np.int32(d[x]) * s
        if taps > 4:
            for x in range(width):
                into[x] = total[x] >> _BITS


@_compiled
def _shear_rows(pixels: np.ndarray, strength: float, sheared: np.ndarray) -> None:
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
