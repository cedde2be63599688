# SPDX-License-Identifier: Apache-2.0
"""Drawing of one object: simple forms in its own coordinates, and the pixels that it covers.

The point (u, v) of an object lies at (x + side * u, y - side * v) of the image: v goes up from the
foot of the object. All lengths are shares of the image, so a scene is the same in any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.uint8]
"""[S, S], 1 where an object is."""
Rng = np.random.Generator
Colour = tuple[float, float, float]
"""Red, green, blue, from 0 to 255."""
Points = Sequence[tuple[float, float]] | tuple[float, float] | npt.NDArray[np.float64]

_BITS = 4  # of a pixel: OpenCV draws at 1/16


class Light(NamedTuple):
    """What an hour of the day does to colours."""

    factors: Colour
    """Brightness of red, green and blue."""
    haze: Colour
    """Colour that far things take on: that of the sky at the horizon."""
    side: int
    """Where the light comes from: -1 left, 1 right."""


class Brush:
    """Draws an object into `image` [S, S, 3]; `mask` is what it covers."""

    def __init__(
        self,
        image: Image,
        light: Light,
        *,
        at: tuple[float, float] = (0.0, 1.0),
        side: float = 1.0,
        mirrored: bool = False,
        distance: float = 0.0,
    ) -> None:
        self.image, self.light = image, light
        self.mask = np.zeros(image.shape[:2], np.uint8)
        self._side, self._distance = side * len(image), distance
        self._along = -1 if mirrored else 1
        unit = len(image) << _BITS
        self._scale = np.array([self._along * side * unit, -side * unit])
        self._origin = np.array([at[0] * unit, at[1] * unit])
        self.lit = light.side * self._along
        """Side of the light in the coordinates of the object."""

    def polygon(self, points: Points, colour: Colour, *, glows: bool = False) -> None:
        """Fill a polygon; what glows has its colour at any hour."""
        pixels = self._pixels(points)
        shade = self._seen(colour, glows=glows)
        cv2.fillPoly(self.image, [pixels], shade, cv2.LINE_AA, _BITS)
        cv2.fillPoly(self.mask, [pixels], 1, cv2.LINE_8, _BITS)

    def ellipse(
        self,
        middle: tuple[float, float],
        radii: tuple[float, float],
        colour: Colour,
        *,
        angle: float = 0.0,
        glows: bool = False,
    ) -> None:
        """Fill an ellipse that is turned by `angle` degrees."""
        centre = self._pixels(middle).tolist()
        axes = [max(8, int(self._side * radius * (1 << _BITS))) for radius in radii]
        turn, shade = -angle * self._along, self._seen(colour, glows=glows)
        cv2.ellipse(self.image, centre, axes, turn, 0, 360, shade, -1, cv2.LINE_AA, _BITS)
        cv2.ellipse(self.mask, centre, axes, turn, 0, 360, 1, -1, cv2.LINE_8, _BITS)

    def line(self, points: Points, colour: Colour, width: float, *, glows: bool = False) -> None:
        """Draw a line through the points."""
        pixels, thick = self._pixels(points), max(1, round(self._side * width))
        shade = self._seen(colour, glows=glows)
        cv2.polylines(self.image, [pixels], False, shade, thick, cv2.LINE_AA, _BITS)
        cv2.polylines(self.mask, [pixels], False, 1, thick, cv2.LINE_8, _BITS)

    def shade(self, rng: Rng, *, depth: float = 0.15, grain: float = 0.05) -> None:
        """Make what is drawn look solid: brighter towards the light, and uneven."""
        x, y, width, height = cv2.boundingRect(self.mask)
        if not width or not height:
            return
        ramp = np.linspace(1 - depth, 1 + depth, width, dtype=np.float32)[:: self.light.side]
        rough = noise(rng, (height, width), cells=8) * grain
        part = self.image[y : y + height, x : x + width]
        changed = np.clip(part * (ramp + rough)[..., None], 0, 255).astype(np.uint8)
        here = self.mask[y : y + height, x : x + width].astype(np.bool_)
        part[here] = changed[here]

    def blend(
        self, middle: tuple[float, float], radii: tuple[float, float], colour: Colour, share: float
    ) -> None:
        """Blend a colour into a soft ellipse, as a halo or a shadow: no part of the object."""
        (u, v), size = middle, len(self.image)
        box = self._pixels([(u - radii[0], v + radii[1]), (u + radii[0], v - radii[1])])
        left, right = sorted(int(x) >> _BITS for x in box[:, 0])
        top, bottom = sorted(int(y) >> _BITS for y in box[:, 1])
        rows, columns = (
            slice(min(max(low, 0), size), min(max(high + 1, 0), size))
            for low, high in ((top, bottom), (left, right))
        )
        y, x = np.ogrid[rows, columns]
        wide, high = max(1.0, (right - left) / 2), max(1.0, (bottom - top) / 2)
        x2 = ((x - (left + right) / 2) / wide).astype(np.float32) ** 2
        y2 = ((y - (top + bottom) / 2) / high).astype(np.float32) ** 2
        weight = share * np.maximum(1 - np.sqrt(x2 + y2), 0)[..., None]
        part = self.image[rows, columns]
        part[:] = (part * (1 - weight) + np.array(colour, np.float32) * weight).astype(np.uint8)

    def holds(self, point: tuple[float, float]) -> bool:
        """Whether a point lies in what is drawn."""
        x, y = (v >> _BITS for v in self._pixels(point).tolist())
        size = len(self.image)
        return 0 <= x < size and 0 <= y < size and bool(self.mask[y, x])

    def _pixels(self, points: Points) -> npt.NDArray[np.int32]:
        """Coordinates [K, 2] as OpenCV takes them, in parts of a pixel."""
        local = np.asarray(points, np.float64)
        pixels: npt.NDArray[np.int32] = np.rint(local * self._scale + self._origin).astype(np.int32)
        return pixels

    def _seen(self, colour: Colour, *, glows: bool) -> Colour:
        """The colour in this light, from this distance."""
        if glows:
            return colour
        share = self._distance
        (r, g, b), (red, green, blue), haze = colour, self.light.factors, self.light.haze
        r, g, b = min(255.0, r * red), min(255.0, g * green), min(255.0, b * blue)
        return mix((r, g, b), haze, share) if share else (r, g, b)


def noise(rng: Rng, shape: tuple[int, int], *, cells: int) -> npt.NDArray[np.float32]:
    """Smooth random values around 0, about `cells` bumps along each side."""
    coarse = rng.standard_normal((cells, cells), np.float32)
    return np.asarray(cv2.resize(coarse, shape[::-1]), np.float32)


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """A colour from its hue in degrees, and two numbers from 0 to 1."""
    pixel = np.array([[[hue % 360, saturation, value]]], np.float32)
    red, green, blue = (float(v) * 255 for v in cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0])
    return red, green, blue


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`share` of the second colour, the rest of the first."""
    (r, g, b), (red, green, blue) = first, second
    return r + (red - r) * share, g + (green - g) * share, b + (blue - b) * share


def pick(rng: Rng, colours: Sequence[Colour]) -> Colour:
    """One of the colours, a little lighter or darker."""
    red, green, blue = colours[int(rng.integers(len(colours)))]
    factor = rng.uniform(0.88, 1.08)
    return min(255, red * factor), min(255, green * factor), min(255, blue * factor)
