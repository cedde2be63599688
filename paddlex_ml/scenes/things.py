# SPDX-License-Identifier: Apache-2.0
"""What people bring into a landscape: houses, sheep, sailing boats. They stand at (0, 0)."""

from __future__ import annotations

import math

import numpy as np

from paddlex_ml.scenes.brush import Brush, Colour, Rng, mix, pick

_WALLS: tuple[Colour, ...] = (
    *((242, 232, 208), (248, 246, 240), (240, 210, 160), (226, 178, 160), (206, 216, 226)),
)
_ROOFS: tuple[Colour, ...] = ((176, 60, 44), (150, 74, 52), (196, 84, 50), (94, 84, 92))
_HULLS: tuple[Colour, ...] = ((136, 82, 46), (180, 48, 40), (40, 62, 110), (236, 234, 228))
_SAILS: tuple[Colour, ...] = ((250, 248, 240), (250, 248, 240), (244, 226, 190), (226, 84, 60))


def draw_house(brush: Brush, rng: Rng, hour: str) -> None:
    """A gable, a long side with its roof, door, windows, chimney; 1 high, 1.3 wide."""
    is_dark = hour == "night"
    wall, roof = pick(rng, _WALLS), pick(rng, _ROOFS)
    glass = (255.0, 220.0, 110.0) if is_dark else pick(rng, [(92, 120, 150), (70, 90, 116)])
    gable, long = wall, mix(wall, (60, 50, 70), 0.22)
    left, corner, right, eaves, ridge = -0.6, -0.05, 0.62, 0.46, 0.88
    top = (left + corner) / 2
    brush.blend((0.05, 0.01), (0.85, 0.08), (10, 20, 10), 0.6)
    if rng.random() < 0.75:
        u = rng.uniform(0.1, 0.36)
        brush.polygon([(u, 0.7), (u, 1.0), (u + 0.11, 1.0), (u + 0.11, 0.7)], (150, 84, 66))
        brush.polygon([(u - 0.015, 0.96), (u - 0.015, 1.0), (u + 0.125, 1.0), (u + 0.125, 0.96)],
                      (110, 62, 52))  # fmt: skip
    brush.polygon([(corner, 0), (corner, eaves), (right, eaves), (right, 0)], long)
    brush.polygon([(left, 0), (left, eaves), (top, ridge), (corner, eaves), (corner, 0)], gable)
    slope = [(top, ridge + 0.03), (right - 0.12, ridge + 0.03), (right + 0.06, eaves - 0.04),
             (corner + 0.03, eaves - 0.04)]  # fmt: skip
    brush.polygon(slope, roof)
    for k in range(1, 5):  # rows of tiles
        t = k / 5
        start = (top + (corner + 0.03 - top) * t, ridge + 0.03 - (ridge + 0.07 - eaves) * t)
        end = (right - 0.12 + 0.18 * t, start[1])
        brush.line([start, end], mix(roof, (30, 10, 20), 0.35), 0.014)
    edge = mix(roof, (40, 20, 20), 0.25)
    brush.line([(left - 0.05, eaves - 0.05), (top, ridge + 0.02), (corner + 0.03, eaves - 0.05)],
               edge, 0.06)  # fmt: skip
    door = pick(rng, [(112, 70, 44), (60, 96, 72), (60, 80, 120)])
    brush.polygon([(top - 0.08, 0), (top - 0.08, 0.28), (top + 0.08, 0.28), (top + 0.08, 0)], door)
    places = [(top, 0.5)] + [(u, 0.2) for u in (0.12, 0.42)]
    for u, v in places:
        w, h = 0.075, 0.09
        box = [(u - w, v - h), (u - w, v + h), (u + w, v + h), (u + w, v - h)]
        frame = [(a + (0.02 if a > u else -0.02), b + (0.02 if b > v else -0.02)) for a, b in box]
        brush.polygon(frame, (250, 248, 240))
        brush.polygon(box, glass, glows=is_dark)
        brush.line([(u, v - h), (u, v + h)], (250, 248, 240), 0.014)
        brush.line([(u - w, v), (u + w, v)], (250, 248, 240), 0.014)
    if not is_dark:
        brush.shade(rng, depth=0.06, grain=0.02)


def draw_sheep(brush: Brush, rng: Rng) -> None:
    """A body of white wool on four legs, a dark head; 1 high, 1.4 wide, looks to the left."""
    wool = pick(rng, [(248, 244, 234), (238, 230, 214), (252, 250, 246)])
    skin = pick(rng, [(52, 46, 46), (74, 62, 56), (40, 38, 42)])
    brush.blend((0.05, 0.02), (0.75, 0.1), (10, 20, 10), 0.6)
    for u in (-0.28, -0.12, 0.26, 0.42):
        brush.line([(u, 0.4), (u + rng.uniform(-0.04, 0.04), 0.03)], skin, 0.09)
    shade = mix(wool, (90, 90, 110), 0.35)
    puffs = []
    for k in range(11):
        angle = 2 * math.pi * k / 11
        puffs.append((0.07 + 0.4 * math.cos(angle), 0.56 + 0.2 * math.sin(angle)))
    brush.ellipse((0.07, 0.54), (0.46, 0.27), shade)
    for u, v in puffs:
        brush.ellipse((u, v), (0.17, 0.16), shade)
    brush.ellipse((0.07, 0.6), (0.44, 0.24), wool)
    for u, v in puffs:
        brush.ellipse((u, v + 0.05), (0.13, 0.12), wool)
    for _ in range(9):  # locks
        u, v = 0.07 + rng.uniform(-0.36, 0.36), 0.58 + rng.uniform(-0.16, 0.2)
        ring = np.linspace(0.2, 4.4, 8)
        lock = np.stack([u + 0.06 * np.cos(ring), v + 0.05 * np.sin(ring)], axis=1)
        brush.line(lock, mix(wool, (110, 105, 110), 0.4), 0.022)
    down = rng.uniform(-0.22, 0.04)
    head = (-0.5, 0.66 + down)
    brush.ellipse((head[0] + 0.15, head[1] + 0.08), (0.06, 0.11), skin, angle=-50)
    brush.ellipse((head[0] - 0.02, head[1] - 0.04), (0.13, 0.2), skin, angle=-28)
    brush.ellipse((head[0] + 0.04, head[1] + 0.15), (0.13, 0.1), wool)
    brush.ellipse((head[0] - 0.03, head[1] + 0.02), (0.034, 0.034), (250, 250, 250))
    brush.shade(rng, depth=0.06, grain=0.02)


def draw_sailing_boat(brush: Brush, rng: Rng) -> None:
    """A hull with mast, mainsail and jib; 1 high, 0.9 wide. Its mirror image is on the water."""
    hull, sail = pick(rng, _HULLS), pick(rng, _SAILS)
    jib = pick(rng, _SAILS) if rng.random() < 0.4 else sail
    brush.blend((0, -0.01), (0.55, 0.16), mix(hull, (10, 30, 60), 0.6), 0.8)
    brush.blend((0, -0.1), (0.3, 0.14), sail, 0.35)
    brush.line([(-0.02, 0.1), (-0.02, 0.98)], (96, 66, 42), 0.03)
    main = [(0.01, 0.94), (0.12, 0.62), (0.42, 0.24), (0.01, 0.24)]
    fore = [(-0.05, 0.86), (-0.2, 0.52), (-0.42, 0.24), (-0.05, 0.26)]
    brush.polygon(main, sail)
    brush.polygon(fore, mix(jib, (90, 80, 110), 0.14))
    for t in (0.3, 0.55, 0.78):  # seams
        v = 0.94 - 0.7 * t
        brush.line([(0.01, v), (0.01 + 0.4 * t**1.2, v)], mix(sail, (60, 60, 90), 0.25), 0.014)
    if rng.random() < 0.35:
        stripe = pick(rng, [(206, 50, 44), (40, 90, 170)])
        brush.polygon([(0.01, 0.52), (0.19, 0.52), (0.3, 0.38), (0.01, 0.38)], stripe)
    brush.polygon([(-0.5, 0.2), (-0.36, 0.02), (0.32, 0.02), (0.46, 0.2)], hull)
    brush.polygon([(-0.5, 0.2), (-0.465, 0.155), (0.425, 0.155), (0.46, 0.2)],
                  mix(hull, (255, 255, 255), 0.55))  # fmt: skip
    brush.line([(-0.37, 0.02), (0.33, 0.02)], mix(hull, (0, 0, 20), 0.5), 0.03)
    brush.shade(rng, depth=0.05, grain=0.02)
