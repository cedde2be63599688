# SPDX-License-Identifier: Apache-2.0
"""The land below the sky: hills, meadow, mountain, lake."""

from __future__ import annotations

import cv2
import numpy as np

from paddlex_ml.scenes.brush import Brush, Colour, Image, Light, Mask, Rng, mix, noise, pick

_MEADOWS: tuple[Colour, ...] = (
    *((104, 164, 62), (126, 178, 74), (84, 146, 66), (150, 182, 84)),
    *((176, 172, 88), (158, 154, 82)),
)
_ROCKS: tuple[Colour, ...] = ((128, 126, 138), (116, 118, 126), (138, 124, 122))
_WATERS: tuple[Colour, ...] = ((50, 128, 204), (44, 114, 194), (66, 150, 212))


def draw_hills(image: Image, rng: Rng, light: Light, horizon: float, rise: float) -> Mask:
    """Round green hills behind the meadow, at most about `rise` high, paler the farther."""
    x = np.linspace(0, 1, 40)
    colour = pick(rng, _MEADOWS[:4])
    covered = np.zeros(image.shape[:2], np.uint8)
    for layer in range(count := int(rng.integers(1, 4))):
        brush = Brush(image, light, distance=0.5 - 0.16 * layer)
        height = rng.uniform(0.02, rise) * (count - layer) / count
        phases, speeds = rng.uniform(0, 2 * np.pi, 2), rng.uniform(2, 7, 2)
        wave = np.sin(speeds[0] * x + phases[0]) + 0.5 * np.sin(2 * speeds[1] * x + phases[1])
        ridge = 1 - horizon + height * (0.7 + 0.45 * wave)
        points = np.stack([x, ridge], axis=1)
        foot = 1 - horizon - 0.05
        brush.polygon([*points.tolist(), (1, foot), (0, foot)], mix(colour, (60, 100, 70), 0.3))
        covered |= brush.mask
    return covered


def draw_meadow(image: Image, rng: Rng, light: Light, horizon: float) -> Mask:
    """Grass from the horizon to the lower edge, paler and finer at the horizon."""
    size = len(image)
    colour = pick(rng, _MEADOWS)
    x = np.linspace(0, 1, 24)
    bend = horizon + 0.012 * np.sin(x * rng.uniform(2, 6) + rng.uniform(0, 6))
    below = np.zeros((size, size), np.uint8)
    edge = np.stack([x * size, bend * size], axis=1)
    outline = np.concatenate([edge, [[size, size], [0, size]]])
    cv2.fillPoly(below, [outline.astype(np.int32)], 1)
    start = int((horizon - 0.013) * size)
    shape = (size - start) // 2, size // 2  # as fine as the image that is written
    near = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None, None]
    tint = np.array(light.factors, np.float32) * np.array(colour, np.float32)
    far = 0.78 * tint + 0.22 * np.array(light.haze, np.float32)
    rough = noise(rng, shape, cells=int(rng.integers(5, 9)))[..., None] * 7
    fine = rng.standard_normal((*shape, 1), np.float32) * (3 + 6 * near)
    for _ in range(int(rng.integers(0, 4))):  # rolling ground, paths of the mower
        down, across = np.ogrid[0 : 1 : shape[0] * 1j, 0 : 6.3 : shape[1] * 1j]
        speed, phase = rng.uniform(0.3, 1), rng.uniform(0, 6)
        bend = rng.uniform(0.1, 0.9) + 0.12 * np.sin(speed * across + phase)
        rough += (down > bend)[..., None] * np.float32(rng.uniform(-11, 11))
    field = far + (tint * 0.92 - far) * near + (rough + fine) * np.float32(light.factors[1])
    grass = cv2.resize(np.clip(field, 0, 255).astype(np.uint8), (size, size - start))
    cv2.copyTo(grass, below[start:], image[start:])
    brush = Brush(image, light)
    for _ in range(26):  # blades of grass
        depth = rng.uniform(0.1, 1)
        v, u = (1 - depth) * (1 - horizon), rng.uniform(0, 1)
        high = 0.012 + 0.028 * depth
        blade = mix(colour, (40, 80, 30), rng.uniform(0.15, 0.5))
        tips = [(u - 0.4 * high, v + high), (u, v), (u + 0.3 * high, v + 0.9 * high)]
        brush.line(tips, blade, 0.005)
    return below


def draw_mountain(brush: Brush, rng: Rng) -> None:
    """One to three rocky peaks with snow; from -1 to 1, the highest 1 high."""
    rock = pick(rng, _ROCKS)
    count = int(rng.integers(1, 4))
    tops = np.sort(rng.uniform(-0.55, 0.55, count)) if count > 1 else rng.uniform(-0.2, 0.2, 1)
    heights = rng.uniform(0.65, 0.9, count)
    heights[int(rng.integers(count))] = 1.0
    for top, height in sorted(zip(tops, heights, strict=True), key=lambda peak: peak[1]):
        reach = height * rng.uniform(0.72, 0.95)
        left, right = max(-1.0, top - reach), min(1.0, top + reach)
        dark, light = mix(rock, (30, 30, 50), 0.3), mix(rock, (255, 240, 220), 0.15)
        slopes = (light, dark) if brush.lit < 0 else (dark, light)
        middle = _jagged(rng, (top, height), (top + rng.uniform(-0.1, 0.1), 0), 6, 0.05)
        west = _jagged(rng, (left, 0), (top, height), 7, 0.03)
        east = _jagged(rng, (top, height), (right, 0), 7, 0.03)
        brush.polygon([*west, *middle[1:]], slopes[0])
        brush.polygon([*middle[::-1], *east[1:]], slopes[1])
        _draw_snow(brush, rng, west, east, middle, bright=0 if brush.lit < 0 else 1)
    brush.shade(rng, depth=0.03, grain=0.05)


def _draw_snow(
    brush: Brush,
    rng: Rng,
    west: list[tuple[float, float]],
    east: list[tuple[float, float]],
    middle: list[tuple[float, float]],
    *,
    bright: int,
) -> None:
    """White caps along the upper slopes, with a ragged lower edge."""
    whites = [(210.0, 220.0, 238.0), (210.0, 220.0, 238.0)]
    whites[bright] = (250.0, 250.0, 252.0)
    line = west[-1][1] * rng.uniform(0.5, 0.66)
    ridge = [point for point in middle if point[1] >= line - 0.12]
    for slope, white in ((west[::-1], whites[0]), (east, whites[1])):
        side = [point for point in slope if point[1] >= line]
        (u, v), (end_u, end_v) = side[-1], ridge[-1]
        steps = np.linspace(0, 1, 6)[1:-1]
        ragged = [
            (u + (end_u - u) * t, v + (end_v - v) * t + (0.07 if k % 2 else -0.07))
            for k, t in enumerate(steps)
        ]
        brush.polygon([*side, *ragged, *ridge[::-1]], white)


def draw_lake(brush: Brush, rng: Rng, top: float, bottom: float) -> None:
    """Water from `top` to `bottom`, shares of the image from above, with ripples and a shore."""
    size, light = len(brush.image), brush.light
    water = mix(pick(rng, _WATERS), light.haze, 0.04)
    x = np.linspace(0, 1, 32)
    bend = 0.012 * np.sin(x * rng.uniform(4, 9) + rng.uniform(0, 6))
    edges = [(float(u), 1 - top + 0.3 * float(b)) for u, b in zip(x, bend, strict=True)]
    shore = [(float(u), 1 - bottom + float(b)) for u, b in zip(x, bend, strict=True)]
    is_far = bottom < 1
    if is_far:
        brush.line(shore, (206, 188, 140), 0.03)
    else:
        brush.line(edges, (206, 188, 140), 0.022)
        shore = [(1.0, -0.05), (0.0, -0.05)][::-1]
    brush.mask[:] = 0  # the sand is no water
    brush.polygon([*edges, *shore[::-1]], water)
    low, high = int(top * size), min(size, int(bottom * size) + 4)
    for _ in range(int(rng.integers(22, 38))):
        y = rng.uniform(low, high) / size
        depth = (y - top) / (bottom - top)
        wide, u = (0.03 + 0.09 * depth) * rng.uniform(0.6, 1.3), rng.uniform(-0.05, 1)
        ripple = mix(water, (255, 255, 255) if rng.random() < 0.65 else (10, 40, 90), 0.3)
        v = 1 - y
        if brush.holds((u, v)) and brush.holds((u + wide, v)):
            brush.ellipse((u + wide / 2, v), (wide / 2, 0.003 + 0.004 * depth), ripple)


def _jagged(
    rng: Rng, start: tuple[float, float], end: tuple[float, float], steps: int, rough: float
) -> list[tuple[float, float]]:
    """An uneven line between two points."""
    share = np.linspace(0, 1, steps)[:, None]
    line = np.array(start) + share * (np.array(end) - np.array(start))
    line[1:-1] += rng.uniform(-rough, rough, (steps - 2, 2))
    return [(float(u), float(v)) for u, v in line]
