# SPDX-License-Identifier: Apache-2.0
"""Pillow's resizing, shearing and smoothing: the same pixels, faster.

Pillow's loops process one channel of one pixel at a time. Here whole rows are blended, which the
compiler turns into vector instructions, and pixels that a shear does not move need no weights.

Every result is verified: versions of Pillow differ in which axis they resize first, and processors
in how they round. The first picture of every size goes through Pillow as well, and where the
results differ, Pillow does all pictures of that size. Without numba it does all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cache, lru_cache
from types import ModuleType
from typing import cast

import cv2
import numpy as np
from PIL import Image, ImageFilter

from paddlex_ml.kernels import compiler

_BITS = 22  # of the weights behind the point, as in Pillow
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13  # of ImageFilter.SMOOTH
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
        _loop("shear_rows")(turned, strength, sheared)
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


@cache
def loops() -> ModuleType | None:
    """The compiled loops; None without numba. The first call compiles or loads them."""
    return compiler.load("paddlex_ml.kernels.pixel_loops")


def _as_pillow(
    kind: Hashable,
    image: Image.Image,
    variants: tuple[Variant, ...],
    by_pillow: Callable[[], np.ndarray],
) -> np.ndarray:
    """Result of the variant that is verified to give Pillow's pixels for pictures of this kind."""
    if loops() is None:
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
    _loop("blend_rows")(pixels.reshape(old, -1), *_weights(old, height), blended)
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


def _loop(name: str) -> Callable[..., None]:
    """The compiled loop of this name; `_as_pillow` calls none without numba."""
    found: Callable[..., None] = getattr(loops(), name)
    return found
