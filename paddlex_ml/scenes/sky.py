# SPDX-License-Identifier: Apache-2.0
"""The sky at five hours of the day, and what is in it: sun, moon, cloud, rainbow, balloon."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from paddlex_ml.scenes.brush import Brush, Colour, Image, Light, Rng, mix, noise, pick


class Hour(NamedTuple):
    """Colours of the sky above and at the horizon, and of the light below it."""

    above: Colour
    horizon: Colour
    light: Colour


HOURS = {
    "noon": Hour((62, 130, 215), (186, 220, 244), (1.0, 1.0, 0.98)),
    "morning": Hour((112, 160, 214), (250, 220, 204), (1.0, 0.95, 0.9)),
    "evening": Hour((88, 84, 150), (250, 166, 104), (1.0, 0.84, 0.72)),
    "overcast": Hour((120, 134, 152), (178, 186, 194), (0.86, 0.88, 0.9)),
    "night": Hour((14, 22, 62), (58, 78, 138), (0.74, 0.8, 0.96)),
}
_RAINBOW = (
    *((228, 60, 60), (246, 148, 44), (250, 226, 70), (92, 196, 90)),
    *((70, 140, 232), (134, 86, 200)),
)
_BRIGHT = (
    *((214, 48, 44), (240, 190, 40), (46, 110, 196), (64, 158, 84)),
    *((236, 120, 36), (150, 70, 160), (30, 150, 160)),
)


def draw_sky(image: Image, rng: Rng, hour: str, horizon: float) -> Light:
    """Fill the image with the sky of an hour; the light that it gives."""
    size = len(image)
    above, low, factors = HOURS[hour]
    above, low = pick(rng, [above]), pick(rng, [low])
    half = size // 2  # as fine as the image that is written
    share = np.clip(np.linspace(0, 1 / horizon, half), 0, 1)[:, None, None] ** rng.uniform(0.7, 1.4)
    column = (np.array(above) + share * (np.array(low) - np.array(above))).astype(np.float32)
    soft = column + noise(rng, (half, half), cells=4)[..., None] * 3
    image[:] = cv2.resize(np.clip(soft, 0, 255).astype(np.uint8), (size, size))
    if hour == "night":
        for _ in range(int(rng.integers(15, 45))):
            x, y = rng.uniform(0, 1), rng.uniform(0, horizon)
            spot = (int(x * size * 16), int(y * size * 16))
            cv2.circle(image, spot, int(rng.uniform(6, 14) * size / 256), (230, 230, 250), -1,
                       cv2.LINE_AA, 4)  # fmt: skip
    bright = rng.uniform(0.92, 1.05)
    red, green, blue = (factor * bright for factor in factors)
    return Light((red, green, blue), low, int(rng.choice([-1, 1])))


def draw_sun(brush: Brush, rng: Rng, hour: str) -> None:
    """A disc with a halo; half of them with rays, as in picture-books."""
    colour = (255.0, 226.0, 84.0) if hour != "evening" else (255.0, 212.0, 112.0)
    colour = mix(colour, (255, 200, 40), rng.uniform(0, 0.5))
    brush.blend((0, 0.5), (1.0, 1.0), mix(colour, (255, 255, 255), 0.3), 0.8)
    if rng.random() < 0.5:
        count, turn = int(rng.integers(9, 15)), rng.uniform(0, 1)
        for k in range(count):
            angle, half = 2 * math.pi * (k + turn) / count, 0.1
            ray = [(0.5, 0.0), (0.37, -half), (0.37, half)]
            spike = [(r * math.cos(angle + d), 0.5 + r * math.sin(angle + d)) for r, d in ray]
            brush.polygon(spike, mix(colour, (255, 150, 20), 0.35), glows=True)
        radius = 0.33
    else:
        radius = 0.45
    brush.ellipse((0, 0.5), (radius, radius), mix(colour, (255, 160, 20), 0.3), glows=True)
    brush.ellipse((0, 0.5), (radius * 0.9, radius * 0.9), colour, glows=True)


def draw_moon(brush: Brush, rng: Rng) -> None:
    """A crescent, or the full moon with its seas."""
    colour = pick(rng, [(250, 244, 208), (244, 244, 232), (255, 234, 170)])
    brush.blend((0, 0.5), (0.9, 0.9), (170, 180, 220), 0.6)
    if rng.random() < 0.6:
        angles = np.linspace(-0.55 * math.pi, 0.55 * math.pi, 24)
        outer = np.stack([np.cos(angles), np.sin(angles)], axis=1) * 0.5
        end, bend = outer[-1], rng.uniform(0.05, 0.2)
        rise = np.linspace(1, -1, 24)
        inner = np.stack([end[0] + bend * (1 - rise**2) * 1.6, end[1] * rise], axis=1)
        both = np.concatenate([outer, inner]) - (0.15, 0)
        turn = rng.uniform(-0.5, 0.5)
        c, s = math.cos(turn), math.sin(turn)
        brush.polygon(both @ np.array([[c, s], [-s, c]]) + (0, 0.5), colour, glows=True)
        return
    brush.ellipse((0, 0.5), (0.45, 0.45), colour, glows=True)
    for _ in range(5):
        angle, far = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.28)
        spot = (far * math.cos(angle), 0.5 + far * math.sin(angle))
        radius = rng.uniform(0.05, 0.12)
        brush.ellipse(spot, (radius, radius), mix(colour, (150, 150, 160), 0.28), glows=True)


def draw_cloud(brush: Brush, rng: Rng, hour: str) -> None:
    """Round puffs on a flat base, white above and grey below; 2 wide."""
    tint = {"evening": (255, 214, 190), "morning": (255, 240, 232)}.get(hour, (252, 252, 252))
    if hour == "night":
        tint = (112, 120, 154)
    shade = mix(tint, (90, 105, 140), 0.38)
    count = int(rng.integers(4, 7))
    across = np.linspace(-0.62, 0.62, count) + rng.uniform(-0.06, 0.06, count)
    puffs = []
    for u in across:
        radius = (0.44 - 0.26 * abs(u)) * rng.uniform(0.85, 1.15)
        puffs.append((float(u), 0.14 + radius * 0.95, float(radius)))
    brush.ellipse((0, 0.2), (0.82, 0.19), shade, glows=True)
    for u, v, radius in puffs:
        brush.ellipse((u, v - 0.04), (radius, radius), shade, glows=True)
    for u, v, radius in puffs:
        middle = (u + 0.03 * brush.lit, v + 0.05)
        brush.ellipse(middle, (radius * 0.9, radius * 0.84), mix(tint, shade, 0.3), glows=True)
    for u, v, radius in puffs:
        middle = (u + 0.08 * brush.lit * radius, v + 0.22 * radius)
        brush.ellipse(middle, (radius * 0.74, radius * 0.68), tint, glows=True)
    brush.shade(rng, depth=0.03, grain=0.015)


def draw_rainbow(brush: Brush, rng: Rng) -> None:
    """Six arcs from the horizon to the horizon; the sky shines through."""
    below, width = brush.image.copy(), rng.uniform(0.04, 0.055)
    angles = np.linspace(0, math.pi, 60)
    arc = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for k, colour in enumerate(_RAINBOW):
        outer, inner = 1 - k * width, 1 - (k + 1) * width
        band = np.concatenate([arc * outer, arc[::-1] * inner])
        brush.polygon(band, colour, glows=True)
    share = rng.uniform(0.68, 0.85)
    brush.image[:] = cv2.addWeighted(brush.image, share, below, 1 - share, 0)


def draw_balloon(brush: Brush, rng: Rng) -> None:
    """A hot-air balloon: striped envelope, ropes, basket; higher than wide."""
    first, second = pick(rng, _BRIGHT), (244, 240, 230)
    height = np.linspace(0, 1, 24)
    # From the mouth to the top: a cone below, a sphere above.
    profile = np.where(
        height < 0.42,
        0.07 + (0.31 - 0.07) * np.sin(np.clip(height / 0.42, 0, 1) * math.pi / 2),
        0.31 * np.sqrt(np.clip(1 - ((height - 0.42) / 0.58) ** 2, 0, 1)),
    )
    v = 0.27 + height * 0.7
    for rope in (-0.055, 0.055):
        brush.line([(rope, 0.28), (rope * 0.8, 0.13)], (70, 60, 50), 0.012)
    gores = 7
    for k in range(gores):
        left, right = (math.sin(math.pi * (j / gores - 0.5)) for j in (k, k + 1))
        edge = np.concatenate([
            np.stack([profile * left, v], axis=1), np.stack([profile * right, v], axis=1)[::-1]
        ])  # fmt: skip
        brush.polygon(edge, (first, second)[k % 2])
    brush.polygon([(-0.06, 0.14), (0.06, 0.14), (0.05, 0.02), (-0.05, 0.02)], (134, 92, 52))
    brush.line([(-0.065, 0.135), (0.065, 0.135)], (90, 60, 34), 0.02)
    brush.shade(rng, depth=0.22, grain=0.02)
