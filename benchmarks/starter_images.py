# SPDX-License-Identifier: Apache-2.0
"""Drawn images that a backbone learns from: outlines, textures and colours, lit and overlapping.

Each image has a ground and one to five things. Of each pixel it is known what it shows: a texture,
of the ground or of a thing, an outline, and a colour. Used by `starter_weights.py`, which trains
the starter weights.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Map = np.ndarray
"""[S, S], float32, 0 to 1."""


def _fit(values: Map) -> Map:
    low, high = float(values.min()), float(values.max())
    return ((values - low) / (high - low + 1e-6)).astype(np.float32)


def _grid(size: int) -> tuple[Map, Map]:
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    return x, y


def _noise(rng: np.random.Generator, size: int, *, first: int = 2, decay: float = 0.5) -> Map:
    """Noise of several octaves; `first` waves over the image in the widest one."""
    total, height, cells = np.zeros((size, size), np.float32), 1.0, first
    while cells < size:
        coarse = rng.random((cells + 1, cells + 1), np.float32)
        total += height * cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
        height, cells = height * decay, cells * 2
    return _fit(total)


def _turned(rng: np.random.Generator, size: int) -> tuple[Map, Map]:
    x, y = _grid(size)
    angle = rng.uniform(0, np.pi)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return c * x + s * y, c * y - s * x


def _cloud(rng: np.random.Generator, size: int) -> Map:
    return _noise(rng, size, first=int(rng.integers(2, 5)), decay=rng.uniform(0.35, 0.6))


def _gradient(rng: np.random.Generator, size: int) -> Map:
    along, across = _turned(rng, size)
    return _fit(along + rng.uniform(-0.6, 0.6) * across * across)


def _speckle(rng: np.random.Generator, size: int) -> Map:
    fine = rng.random((size, size), np.float32)
    return _fit(cv2.GaussianBlur(fine, (0, 0), rng.uniform(0.4, 1.2)))


def _stripes(rng: np.random.Generator, size: int) -> Map:
    along, _ = _turned(rng, size)
    wave = np.sin(along * rng.uniform(25, 70))
    return np.clip(wave * rng.uniform(1, 6) + 0.5, 0, 1).astype(np.float32)


def _waves(rng: np.random.Generator, size: int) -> Map:
    along, across = _turned(rng, size)
    bend = rng.uniform(0.03, 0.08) * np.sin(across * rng.uniform(10, 25))
    return _fit(np.sin((along + bend) * rng.uniform(30, 70)))


def _marble(rng: np.random.Generator, size: int) -> Map:
    along, _ = _turned(rng, size)
    return _fit(np.sin(along * rng.uniform(8, 20) + rng.uniform(4, 9) * _noise(rng, size)))


def _rings(rng: np.random.Generator, size: int) -> Map:
    x, y = _grid(size)
    a, b = rng.uniform(-0.3, 1.3, 2)
    radius = np.hypot(x - a, (y - b) * rng.uniform(0.5, 1.5))
    return _fit(np.sin(radius * rng.uniform(30, 80) + 2 * _noise(rng, size)))


def _checker(rng: np.random.Generator, size: int) -> Map:
    along, across = _turned(rng, size)
    k = rng.uniform(5, 14)
    return ((np.floor(along * k) + np.floor(across * k)) % 2).astype(np.float32)


def _dots(rng: np.random.Generator, size: int) -> Map:
    along, across = _turned(rng, size)
    k = rng.uniform(6, 14)
    offset = 0.5 * (np.floor(across * k) % 2) if rng.random() < 0.5 else np.float32(0)
    u, v = (along * k + offset) % 1 - 0.5, (across * k) % 1 - 0.5
    return np.clip((rng.uniform(0.2, 0.38) - np.hypot(u, v)) * 8 + 0.5, 0, 1).astype(np.float32)


def _bricks(rng: np.random.Generator, size: int) -> Map:
    x, y = _grid(size)
    k, joint = rng.uniform(6, 14), rng.uniform(0.08, 0.16)
    row = np.floor(y * k)
    u, v = (x * k / 2 + 0.5 * (row % 2)), y * k
    shade = 0.6 + 0.4 * np.sin(np.floor(u) * 12.9 + row * 78.2)
    return np.where((u % 1 < joint / 2) | (v % 1 < joint), 0.0, shade).astype(np.float32)


def _seeds(rng: np.random.Generator, size: int) -> tuple[Map, np.ndarray]:
    """For each pixel the distance to the nearest of some points, and which one that is."""
    empty = np.full((size, size), 255, np.uint8)
    count = int(rng.integers(20, 120))
    empty[rng.integers(0, size, count), rng.integers(0, size, count)] = 0
    labels = cv2.DIST_LABEL_PIXEL
    distance, nearest = cv2.distanceTransformWithLabels(empty, cv2.DIST_L2, 5, labelType=labels)
    return distance, nearest


def _cells(rng: np.random.Generator, size: int) -> Map:
    _, nearest = _seeds(rng, size)
    shades: Map = rng.random(int(nearest.max()) + 1, np.float32)[nearest]
    return shades


def _pebbles(rng: np.random.Generator, size: int) -> Map:
    distance, _ = _seeds(rng, size)
    height: Map = 1 - _fit(distance) ** np.float32(rng.uniform(0.5, 1.2))
    return height


def _net(rng: np.random.Generator, size: int) -> Map:
    _, nearest = _seeds(rng, size)
    edges = cv2.morphologyEx(nearest.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((2, 2)))
    return cv2.GaussianBlur((edges > 0).astype(np.float32), (0, 0), rng.uniform(0.4, 0.9))


def _leaves(rng: np.random.Generator, size: int) -> Map:
    """Discs over each other, few large and many small ones, as in photographs of foliage."""
    image = np.zeros((size, size), np.float32)
    radii = np.minimum(1.5 * (1 + rng.pareto(1.6, 260)), size / 6)
    for radius in np.sort(radii)[::-1]:
        x, y = rng.integers(0, size, 2)
        shape = (max(1, int(radius)), max(1, int(radius * rng.uniform(0.4, 1))))
        at, turn, shade = (int(x), int(y)), float(rng.uniform(0, 180)), float(rng.random())
        cv2.ellipse(image, at, shape, turn, 0, 360, shade, -1, cv2.LINE_8)
    return image


def _grass(rng: np.random.Generator, size: int) -> Map:
    image = np.full((size, size), 0.3, np.float32)
    angle, length, spread = rng.uniform(0, np.pi), rng.uniform(4, 14), rng.uniform(0.1, 0.5)
    starts = rng.integers(0, size, (500, 2))
    turns = angle + rng.normal(0, spread, 500)
    ends = starts + length * np.stack([np.cos(turns), np.sin(turns)], 1)
    for start, end, shade in zip(starts, ends.astype(int), rng.random(500), strict=True):
        cv2.line(image, tuple(map(int, start)), tuple(map(int, end)), float(shade), 1, cv2.LINE_8)
    return image


TEXTURES: dict[str, Callable[[np.random.Generator, int], Map]] = {
    **{"cloud": _cloud, "gradient": _gradient, "speckle": _speckle, "stripes": _stripes},
    **{"waves": _waves, "marble": _marble, "rings": _rings, "checker": _checker},
    **{"dots": _dots, "bricks": _bricks, "cells": _cells, "pebbles": _pebbles},
    **{"net": _net, "leaves": _leaves, "grass": _grass},
}

Outline = np.ndarray
"""[N, 2]: the corners of a polygon within the circle of radius 1."""


def _polar(radius: np.ndarray) -> Outline:
    angle = np.linspace(0, 2 * np.pi, len(radius), endpoint=False)
    points: np.ndarray = np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None]
    points /= np.abs(points).max()
    return points


def _regular(corners: int) -> Outline:
    return _polar(np.ones(corners))


def _star(rng: np.random.Generator) -> Outline:
    radius = np.ones(2 * int(rng.integers(5, 8)))
    radius[1::2] = rng.uniform(0.35, 0.55)
    return _polar(radius)


def _flower(rng: np.random.Generator) -> Outline:
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    return _polar(1 + rng.uniform(0.25, 0.5) * np.cos(int(rng.integers(4, 8)) * angle))


def _gear(rng: np.random.Generator) -> Outline:
    angle = np.linspace(0, 2 * np.pi, 160, endpoint=False)
    return _polar(1 + rng.uniform(0.12, 0.25) * np.sign(np.sin(int(rng.integers(7, 12)) * angle)))


def _blob(rng: np.random.Generator) -> Outline:
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    radius = np.ones(90)
    for k in (2, 3, 4, 5):
        radius += rng.normal(0, 0.35 / k) * np.cos(k * angle + rng.uniform(0, 7))
    return _polar(np.maximum(radius, 0.2))


def _rectangle(rng: np.random.Generator) -> Outline:
    h = rng.uniform(0.25, 0.55)
    return np.array([[-1, -h], [1, -h], [1, h], [-1, h]])


def _ellipse(rng: np.random.Generator) -> Outline:
    return _regular(60) * [1, rng.uniform(0.35, 0.65)]


def _leaf(rng: np.random.Generator) -> Outline:
    t = np.linspace(-1, 1, 40)
    half = rng.uniform(0.3, 0.55) * (1 - t * t)
    return np.concatenate([np.stack([t, half], 1), np.stack([t[::-1], -half[::-1]], 1)])


def _drop(rng: np.random.Generator) -> Outline:
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    return np.stack([-np.cos(t), rng.uniform(0.9, 1.2) * np.sin(t) * np.sin(t / 2) ** 1.5], 1)


def _crescent(rng: np.random.Generator) -> Outline:
    t = np.linspace(-2.2, 2.2, 40)
    outer = np.stack([np.cos(t), np.sin(t)], 1)
    inner = np.stack([np.cos(t) - rng.uniform(0.3, 0.6), 0.95 * np.sin(t)], 1)
    return np.concatenate([outer, inner[::-1]])


def _heart(_: np.random.Generator) -> Outline:
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y], 1) / 17


def _cross(rng: np.random.Generator) -> Outline:
    a = rng.uniform(0.2, 0.4)
    corner = np.array([[a, a], [a, 1], [-a, 1]])
    quarter = np.array([[0, -1], [1, 0]])
    sides = [corner]
    for _ in range(3):
        sides.append(sides[-1] @ quarter.T)
    return np.concatenate(sides)


def _arrow(rng: np.random.Generator) -> Outline:
    a, b, neck = rng.uniform(0.12, 0.28), rng.uniform(0.5, 0.8), rng.uniform(0, 0.4)
    half = np.array([[-1, a], [neck, a], [neck, b], [1, 0]])
    return np.concatenate([half, half[2::-1] * [1, -1]])


def _bolt(rng: np.random.Generator) -> Outline:
    w = rng.uniform(0.15, 0.3)
    top = [[-1, 0.3], [-0.4, -0.5], [0.0, 0.3], [0.5, -0.5], [1, 0.2]]
    return np.array(top + [[x, y + 2 * w] for x, y in top[::-1]]) - [0, w]


OUTLINES: dict[str, Callable[[np.random.Generator], Outline]] = {
    "disc": lambda _: _regular(60),
    "triangle": lambda _: _regular(3),
    "square": lambda _: _regular(4),
    "hexagon": lambda rng: _regular(int(rng.integers(5, 7))),
    **{"star": _star, "flower": _flower, "gear": _gear, "blob": _blob, "rectangle": _rectangle},
    **{"ellipse": _ellipse, "leaf": _leaf, "drop": _drop, "crescent": _crescent, "heart": _heart},
    **{"cross": _cross, "arrow": _arrow, "bolt": _bolt},
    "ring": lambda _: _regular(60),
    "branches": lambda _: _regular(4),
    "letter": lambda _: _regular(4),
}
"""The last three are drawn in other ways: see `_mask`."""

COLOURS = {
    **{"red": (0, 0.85, 0.8), "orange": (25, 0.9, 0.9), "yellow": (52, 0.85, 0.95)},
    **{"green": (115, 0.7, 0.6), "cyan": (180, 0.7, 0.8), "blue": (222, 0.8, 0.8)},
    **{"purple": (280, 0.6, 0.65), "pink": (330, 0.45, 0.95), "brown": (25, 0.6, 0.4)},
    **{"white": (0, 0.03, 0.97), "grey": (0, 0.03, 0.5), "black": (0, 0.1, 0.12)},
}
"""Hue in degrees, saturation and value."""

_TEXTURES, _OUTLINES, _COLOURS = list(TEXTURES), list(OUTLINES), list(COLOURS)
PARTS = (2 * len(_TEXTURES), 1 + len(_OUTLINES), len(_COLOURS))
"""How many textures (of grounds, then of things), outlines (with none) and colours there are."""


def _colour(rng: np.random.Generator, name: str) -> np.ndarray:
    hue, saturation, value = COLOURS[name]
    spread = rng.normal(0, 1, 3) * (6, 0.06, 0.06)
    hsv = np.array([(hue + spread[0]) % 360, saturation + spread[1], value + spread[2]])
    hsv[1:] = np.clip(hsv[1:], 0, 1)
    pixel = hsv.reshape(1, 1, 3).astype(np.float32)
    return np.asarray(cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0])


def _paint(rng: np.random.Generator, pattern: Map, main: np.ndarray) -> np.ndarray:
    """[S, S, 3]: the main colour, and another or darker one where the pattern is low."""
    if rng.random() < 0.6:
        other = main * rng.uniform(0.25, 0.7)
    else:
        other = 0.6 * rng.random(3).astype(np.float32) + 0.4 * main
    share = (pattern ** np.float32(rng.uniform(0.4, 0.9)))[..., None]
    painted: np.ndarray = main * share + other.astype(np.float32) * (1 - share)
    return painted


def _branches(rng: np.random.Generator, image: np.ndarray, at: np.ndarray, radius: float) -> None:
    """A plant: every branch parts into two or three."""
    foot = np.array([at[0], at[1] + radius])
    tips = [(foot, -np.pi / 2 + rng.normal(0, 0.3), radius * 0.7, radius * 0.16)]
    spread, shrink = rng.uniform(0.3, 0.7), rng.uniform(0.6, 0.75)
    while tips:
        start, angle, length, width = tips.pop()
        end = start + length * np.array([np.cos(angle), np.sin(angle)])
        points = (tuple(map(int, start)), tuple(map(int, end)))
        cv2.line(image, *points, 255, max(1, round(width)), cv2.LINE_AA)
        if length > radius * 0.12:
            for turn in (-spread, spread, *([0.0] if rng.random() < 0.4 else [])):
                tips.append((end, angle + turn + rng.normal(0, 0.15), length * shrink, width * 0.6))


def _mask(rng: np.random.Generator, name: str, size: int, radius: float) -> Map:
    """Where a thing is, from 0 to 1."""
    image = np.zeros((size, size), np.uint8)
    at = rng.uniform(0.1, 0.9, 2) * size
    if name == "branches":
        _branches(rng, image, at, radius)
    elif name == "letter":
        letter = "ABDEFGHJKLMNPRSTVXYZ2345789"[int(rng.integers(27))]
        scale, width = radius / 12, max(2, int(radius / 4))
        corner = (int(at[0] - radius * 0.8), int(at[1] + radius * 0.8))
        cv2.putText(image, letter, corner, int(rng.integers(0, 5)), scale, 255, width, cv2.LINE_AA)
    else:
        points = OUTLINES[name](rng) * [1, rng.uniform(0.7, 1.3)]
        angle = rng.uniform(0, 2 * np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        corners = points @ turn.T * radius
        cv2.fillPoly(image, [((corners + at) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        if name == "ring":
            inner = corners * rng.uniform(0.5, 0.75)
            cv2.fillPoly(image, [((inner + at) * 16).astype(np.int32)], 0, cv2.LINE_AA, 4)
    return image.astype(np.float32) / 255


def _place(
    rng: np.random.Generator, image: np.ndarray, size: int
) -> tuple[Map, tuple[int, int, int]]:
    """Draw one thing with its shadow into the image: where it is, and what its pixels show."""
    outline, texture, colour = (
        str(rng.choice(list(names))) for names in (OUTLINES, TEXTURES, COLOURS)
    )
    radius = size * np.exp(rng.uniform(np.log(0.11), np.log(0.38)))
    mask = _mask(rng, outline, size, radius)
    light = rng.uniform(-1, 1, 2)
    if rng.random() < 0.5:
        shift = np.array([[1, 0, -6 * light[0]], [0, 1, -6 * light[1]]], np.float32)
        shadow = cv2.GaussianBlur(cv2.warpAffine(mask, shift, (size, size)), (0, 0), 3)
        image *= 1 - 0.5 * shadow[..., None]
    painted = _paint(rng, TEXTURES[texture](rng, size), _colour(rng, colour))
    x, y = _grid(size)
    slope = light[0] * (x - 0.5) + light[1] * (y - 0.5)
    painted = painted * (1 + rng.uniform(0, 0.9) * slope)[..., None]
    if rng.random() < 0.4:  # round: darker towards its edge
        depth = cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
        painted *= (0.45 + 0.55 * np.minimum(depth / (radius * 0.5), 1))[..., None]
    image += mask[..., None] * (painted - image)
    numbers = (_TEXTURES.index(texture), _OUTLINES.index(outline), _COLOURS.index(colour))
    return mask, (len(_TEXTURES) + numbers[0], 1 + numbers[1], numbers[2])


def draw(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """An RGB image, uint8 [size, size, 3], and what each pixel shows, uint8 [size, size, 3].

    The last are numbers below those of PARTS: texture (of the ground, then of things), outline (0
    for the ground) and colour.
    """
    ground, colour = (str(rng.choice(list(names))) for names in (TEXTURES, COLOURS))
    main = _colour(rng, colour)
    image = _paint(rng, TEXTURES[ground](rng, size), main)
    parts = np.zeros((size, size, 3), np.uint8)
    parts[...] = (_TEXTURES.index(ground), 0, _COLOURS.index(colour))
    for _ in range(int(rng.integers(1, 6))):  # the last one lies on top
        mask, numbers = _place(rng, image, size)
        parts[mask > 0.5] = numbers
    x, y = _grid(size)
    a, b = rng.uniform(-0.35, 0.35, 2)
    image *= (1 + a * (x - 0.5) + b * (y - 0.5))[..., None] * rng.uniform(0.75, 1.15)
    if rng.random() < 0.5:  # most photographs are less colourful
        grey = image.mean(2, keepdims=True)
        image = grey + rng.uniform(0.3, 1) * (image - grey)
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.0))
    image += rng.normal(0, rng.uniform(0, 0.03), image.shape).astype(np.float32)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8), parts
