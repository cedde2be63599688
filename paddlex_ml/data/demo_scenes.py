# SPDX-License-Identifier: Apache-2.0
"""Drawing of the demo images: ten kinds of objects on varied backgrounds, partly hidden.

    draw_scene(rng, size) -> image [size, size, 3] uint8 RGB, and the objects that are visible in it

Only NumPy and OpenCV; the same generator state draws the same pixels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Rng = np.random.Generator
Colour = tuple[int, int, int]


class Kind(NamedTuple):
    """A class of objects: outline, fill, range of hue in degrees, chance to be in an image."""

    name: str
    outline: str
    fill: str
    hue: tuple[int, int]
    chance: float


# Some differ by colour, some by texture, some by shape alone; the last ones are rare on purpose.
KINDS = (
    Kind("red disc", "disc", "plain", (350, 370), 0.42),
    Kind("blue square", "square", "plain", (210, 235), 0.34),
    Kind("green triangle", "triangle", "plain", (105, 140), 0.28),
    Kind("striped patch", "square", "stripes", (0, 360), 0.23),
    Kind("yellow star", "star", "plain", (50, 60), 0.19),
    Kind("checkerboard", "square", "checks", (0, 360), 0.15),
    Kind("purple ring", "ring", "plain", (275, 295), 0.12),
    Kind("dotted disc", "disc", "dots", (0, 360), 0.10),
    Kind("digit", "digit", "white", (0, 0), 0.08),
    Kind("orange cross", "cross", "plain", (20, 32), 0.06),
)

_VISIBLE = 0.4  # share of an object that must be visible: with less, it could not be labelled
_TRIES = 50


class SceneObject(NamedTuple):
    """One object in an image: class id and the pixels [size, size] where it is visible."""

    class_id: int
    visible: Mask


def draw_scene(rng: Rng, size: int) -> tuple[Image, list[SceneObject]]:
    """Draw one image of `size` x `size` pixels, each class present by its own chance."""
    wanted = [i for i, kind in enumerate(KINDS) for _ in range(rng.random() < kind.chance)]
    wanted += [i for i in wanted if rng.random() < 0.15]  # now and then two of a kind
    for _ in range(_TRIES):
        image, objects, shares = _try_scene(rng, size, rng.permutation(wanted))
        if all(share >= _VISIBLE for share in shares):
            # Smooth the jagged edges and add the noise and exposure of a camera.
            smooth = cv2.GaussianBlur(image, (3, 3), 0.6).astype(np.float32)
            noise = rng.normal(0, rng.uniform(2, 8), image.shape)
            noisy = smooth * rng.uniform(0.92, 1.04) + noise
            return np.clip(noisy, 0, 255).astype(np.uint8), objects
    return draw_scene(rng, size)  # too much for one image: choose again


def _try_scene(
    rng: Rng, size: int, wanted: npt.NDArray[np.int_]
) -> tuple[Image, list[SceneObject], list[float]]:
    """Draw objects over each other and grey ones between them; with the visible share of each."""
    image = _draw_background(rng, size)
    ids = [-1] * int(rng.integers(0, 3)) + [int(i) for i in wanted]
    masks: list[tuple[int, Mask, int]] = []
    for class_id in rng.permutation(ids).astype(int):
        mask = _draw_object(rng, image, class_id)
        masks = [(i, visible & ~mask, area) for i, visible, area in masks]
        masks.append((int(class_id), mask, int(mask.sum())))
    labelled = [each for each in masks if each[0] >= 0]
    objects = [SceneObject(i, visible) for i, visible, _ in labelled]
    return image, objects, [float(visible.sum() / area) for _, visible, area in labelled]


def _draw_object(rng: Rng, image: Image, class_id: int) -> Mask:
    """Draw one object into `image` anywhere, fully inside; -1 is a grey object without a label."""
    size = len(image)
    side = int(size * rng.uniform(0.42, 0.62))
    x, y = (int(v) for v in rng.integers(0, size - side + 1, 2))
    if class_id < 0:
        outlines = ("disc", "square", "triangle", "star", "ring", "cross")
        outline = outlines[rng.integers(len(outlines))]
        level = int(rng.integers(60, 200))
        paint = _plain((level, level, level), side)
    else:
        kind = KINDS[class_id]
        outline, paint = kind.outline, _paint(rng, kind, side)
    stencil = _stencil(rng, outline, side)
    image[y : y + side, x : x + side][stencil] = paint[stencil]
    mask = np.zeros((size, size), np.bool_)
    mask[y : y + side, x : x + side] = stencil
    return mask


# Outlines


def _stencil(rng: Rng, outline: str, side: int) -> Mask:
    """Pixels [side, side] of an outline, turned by a random angle."""
    canvas = np.zeros((side, side), np.uint8)
    middle, radius = (side // 2, side // 2), side // 2 - 1
    if outline == "disc":
        cv2.circle(canvas, middle, radius, 1, -1)
    elif outline == "ring":
        width = max(2, side // 6)
        cv2.circle(canvas, middle, radius - width // 2, 1, width)
    elif outline == "digit":
        text, font, width = str(rng.integers(10)), cv2.FONT_HERSHEY_SIMPLEX, max(3, side // 8)
        (wide, high), _ = cv2.getTextSize(text, font, 1, width)
        scale = 0.8 * side / max(wide, high)
        corner = (int((side - wide * scale) / 2), int((side + high * scale) / 2))
        cv2.putText(canvas, text, corner, font, scale, 1, width)
    else:
        angle = rng.uniform(0, 2 * math.pi)
        c, s = math.cos(angle), math.sin(angle)
        corners = _corners(outline) @ np.array([[c, -s], [s, c]]).T * radius + side / 2
        cv2.fillPoly(canvas, [corners.round().astype(np.int32)], 1)
    return canvas.astype(np.bool_)


def _corners(outline: str) -> npt.NDArray[np.float64]:
    """Corners [K, 2] within the unit circle."""
    if outline == "cross":
        arm = 0.32
        quarter = np.array([[arm, -0.94], [arm, -arm], [0.94, -arm]])
        turns = [np.array([[c, -s], [s, c]]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
        return np.concatenate([quarter @ turn.T for turn in turns])
    count = {"square": 4, "triangle": 3, "star": 10}[outline]
    radii = np.where(np.arange(count) % 2, 0.42, 1.0) if outline == "star" else np.ones(count)
    angles = 2 * math.pi * np.arange(count) / count
    return np.stack([radii * np.sin(angles), -radii * np.cos(angles)], axis=1)


# Fills and backgrounds


def _paint(rng: Rng, kind: Kind, side: int) -> Image:
    """Fill [side, side, 3] of an object."""
    if kind.fill == "white":
        return _plain((245, 245, 245), side)
    colour = _hsv(rng.uniform(*kind.hue) % 360, rng.uniform(0.75, 1), rng.uniform(0.75, 1))
    if kind.fill == "plain":
        return _plain(colour, side)
    y, x = np.mgrid[:side, :side]
    period = max(4, side // 5)
    if kind.fill == "stripes":
        angle = rng.uniform(0, math.pi)
        along = (x * math.cos(angle) + y * math.sin(angle)) % period < period / 2
    elif kind.fill == "checks":
        along = (x // (period // 2) + y // (period // 2)) % 2 == 0
    else:
        along = np.hypot(x % period - period / 2, y % period - period / 2) < period * 0.3
    dark, light = _plain((25, 25, 25), side), _plain((240, 240, 240), side)
    ground = _plain(colour, side) if kind.fill == "dots" else light
    return np.where(along[..., None], dark if kind.fill != "dots" else light, ground)


def _draw_background(rng: Rng, size: int) -> Image:
    """A soft gradient between two muted colours, with clouds of brightness over it."""
    ends = [_hsv(rng.uniform(0, 360), rng.uniform(0, 0.15), rng.uniform(0.4, 0.6)) for _ in "ab"]
    y, x = np.mgrid[:size, :size] / size
    angle = rng.uniform(0, 2 * math.pi)
    share = np.clip((x - 0.5) * math.cos(angle) + (y - 0.5) * math.sin(angle) + 0.5, 0, 1)
    first, second = (np.array(colour, np.float64) for colour in ends)
    image: npt.NDArray[np.float64] = first + share[..., None] * (second - first)
    coarse = int(rng.integers(3, 12))
    clouds = rng.normal(0, 8, (coarse, coarse)).astype(np.float32)
    image += cv2.resize(clouds, (size, size), interpolation=cv2.INTER_CUBIC)[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


def _plain(colour: Colour, side: int) -> Image:
    return np.full((side, side, 3), colour, np.uint8)


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    pixel = np.array([[[hue, saturation, value]]], np.float32)
    red, green, blue = (round(float(v) * 255) for v in cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0])
    return red, green, blue
