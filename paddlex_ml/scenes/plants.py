# SPDX-License-Identifier: Apache-2.0
"""Plants: leafy trees, fir trees, flowers. All stand at (0, 0) and are 1 high."""

from __future__ import annotations

import math

import numpy as np

from paddlex_ml.scenes.brush import Brush, Colour, Rng, hsv, mix, pick

_CROWNS: tuple[Colour, ...] = (
    *((74, 142, 52), (94, 160, 58), (58, 122, 56), (118, 168, 62)),
    *((214, 130, 44), (206, 92, 48), (222, 176, 60)),  # autumn
)
_BARKS: tuple[Colour, ...] = ((104, 74, 48), (122, 90, 60), (86, 64, 46))


def draw_leafy_tree(brush: Brush, rng: Rng) -> None:
    """A brown trunk below a round crown of leaves."""
    crown, bark = pick(rng, _CROWNS), pick(rng, _BARKS)
    width, height = rng.uniform(0.32, 0.4), rng.uniform(0.28, 0.34)
    middle = 1 - height
    brush.blend((0.1 * -brush.lit, 0.01), (0.42, 0.07), (10, 20, 10), 0.6)
    brush.polygon(
        [(-0.07, 0), (-0.04, 0.2), (-0.05, middle), (0.05, middle), (0.04, 0.2), (0.075, 0)], bark
    )
    for u, v in ((-0.16, middle), (0.17, middle + 0.02)):
        brush.line([(0, 0.26), (u, v)], bark, 0.04)
    puffs = [(0.0, middle, width * 0.8, height * 0.85)]
    count = int(rng.integers(7, 10))
    for k in range(count):
        angle = 2 * math.pi * (k + rng.uniform(-0.3, 0.3)) / count
        radius = rng.uniform(0.13, 0.17)
        u, v = (width - radius) * math.cos(angle), (height - radius) * math.sin(angle)
        puffs.append((u * 1.05, middle + v, radius, radius))
    dark = mix(crown, (20, 40, 30), 0.32)
    for u, v, wide, high in puffs:
        brush.ellipse((u, v), (wide, high), dark)
    for u, v, wide, high in puffs:
        spot = (u + 0.03 * brush.lit, v + 0.035)
        brush.ellipse(spot, (wide * 0.86, high * 0.84), crown)
    for _ in range(44):  # leaves
        angle, far = rng.uniform(0, 2 * math.pi), math.sqrt(rng.uniform(0, 0.88))
        u, v = far * width * math.cos(angle), far * height * math.sin(angle)
        towards_light = 0.5 + 0.5 * (v / height + brush.lit * u / width) / 1.5
        light = mix(crown, (250, 250, 150), 0.3)
        leaf = light if rng.random() < towards_light else mix(crown, (20, 50, 30), 0.4)
        brush.ellipse((u, middle + v), (0.034, 0.022), leaf, angle=rng.uniform(-60, 60))
    brush.shade(rng, depth=0.12, grain=0.03)


def draw_fir_tree(brush: Brush, rng: Rng) -> None:
    """A pointed conifer: ragged tiers of dark needles, the lowest the widest."""
    needles = pick(rng, [(34, 86, 58), (28, 76, 66), (46, 96, 56), (30, 70, 48)])
    brush.blend((0.08 * -brush.lit, 0.01), (0.34, 0.06), (10, 20, 10), 0.6)
    brush.polygon([(-0.045, 0), (-0.035, 0.2), (0.035, 0.2), (0.045, 0)], pick(rng, _BARKS))
    tiers, wide = int(rng.integers(4, 6)), rng.uniform(0.25, 0.32)
    for k in range(tiers):
        low, high = 0.11 + 0.78 * k / tiers, 0.11 + 0.78 * k / tiers + 1.75 * 0.78 / tiers
        high, half = min(1.0, high), wide * (1 - 0.8 * k / tiers)
        across = np.linspace(-half, half, 9)
        teeth = low + 0.03 * (np.arange(9) % 2) + 0.07 * (1 - np.abs(across) / half)
        teeth[[0, -1]] = low + 0.02
        edge = list(zip(across.tolist(), teeth.tolist(), strict=True))
        brush.polygon([(0, high), *edge], mix(needles, (8, 24, 30), 0.42))
        upper = [(a * 0.96, b + 0.035) for a, b in edge]
        brush.polygon([(0, high), *upper], needles)
        bright = [(a, b) for a, b in upper if a * brush.lit >= -0.1 * half]
        bright.sort(key=lambda point: point[0])
        brush.polygon([(0, high), *bright], mix(needles, (170, 210, 130), 0.24))
    for _ in range(22):  # twigs
        height = rng.uniform(0.2, 0.8)
        side = rng.uniform(-1, 1) * wide * 0.75 * (0.95 - height)
        twig = [(side, height), (side * 1.25, height - 0.035)]
        brush.line(twig, mix(needles, (10, 30, 30), 0.4), 0.012)
    brush.shade(rng, depth=0.1, grain=0.04)


def draw_flowers(brush: Brush, rng: Rng) -> None:
    """A bunch of large flowers of one kind: daisies, poppies, tulips or cornflowers."""
    kind = ("daisy", "poppy", "tulip", "cornflower")[int(rng.integers(4))]
    petals = {
        "daisy": (250, 250, 246), "poppy": (222, 44, 36), "cornflower": (84, 96, 226),
        "tulip": hsv(rng.choice([50, 325, 290, 350]), 0.72, 0.98),
    }[kind]  # fmt: skip
    count = int(rng.integers(4, 7))
    places = np.linspace(-0.62, 0.62, count) + rng.uniform(-0.06, 0.06, count)
    heights = 0.46 + 0.34 * (np.arange(count) % 2) + rng.uniform(-0.06, 0.08, count)
    green = pick(rng, [(62, 130, 50), (52, 112, 54)])
    brush.blend((0, 0.03), (0.8, 0.12), (10, 20, 10), 0.5)
    heads = list(zip(places.tolist(), heights.tolist(), strict=True))
    for u, v in heads:
        foot = u * 0.72
        brush.line([(foot, 0), ((foot + u) / 2 + 0.02, v / 2), (u, v)], green, 0.05)
        for side in (-1, 1):
            leaf = [(foot, 0.02), (foot + side * 0.08, 0.2), (foot + side * 0.15, 0.32),
                    (foot + side * 0.04, 0.16)]  # fmt: skip
            brush.polygon(leaf, mix(green, (20, 60, 20), 0.25 if side > 0 else 0))
    for u, v in heads:
        _draw_head(brush, kind, (u, v), petals)
    brush.shade(rng, depth=0.04, grain=0.015)


def _draw_head(brush: Brush, kind: str, middle: tuple[float, float], colour: Colour) -> None:
    """One flower, about 0.36 wide."""
    u, v = middle
    shade = mix(colour, (40, 10, 40), 0.28)
    if kind == "tulip":
        brush.ellipse((u, v), (0.12, 0.15), shade)
        for side in (-1, 1):
            cup = [(u, v - 0.15), (u + side * 0.13, v - 0.05), (u + side * 0.13, v + 0.19),
                   (u + side * 0.03, v + 0.06)]  # fmt: skip
            brush.polygon(cup, colour)
        brush.ellipse((u, v - 0.02), (0.07, 0.13), mix(colour, (255, 255, 255), 0.2))
        return
    count, length, width = {
        "daisy": (10, 0.105, 0.036),
        "poppy": (5, 0.085, 0.085),
        "cornflower": (9, 0.1, 0.045),
    }[kind]
    for k in range(count):
        angle = 2 * math.pi * k / count + u * 9
        spot = (u + 0.09 * math.cos(angle), v + 0.09 * math.sin(angle))
        petal = colour if k % 2 == 0 else mix(colour, shade, 0.4)
        brush.ellipse(spot, (length, width), petal, angle=math.degrees(angle))
    eye = {"daisy": (250, 196, 40), "poppy": (40, 24, 28), "cornflower": (54, 40, 130)}[kind]
    brush.ellipse(middle, (0.062, 0.062), eye)
