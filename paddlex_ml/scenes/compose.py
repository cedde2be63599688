# SPDX-License-Identifier: Apache-2.0
"""A drawn landscape: what is in it, where it stands, from the sky to the foreground.

    draw_scene(rng, size) -> image [size, size, 3] uint8 RGB, and the objects that are seen in it

Only NumPy and OpenCV; the same generator state draws the same pixels. A label means that a person
sees the object plainly: everything is large, and at least the share `VISIBLE` of it is free.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from paddlex_ml.scenes import land, plants, sky, things
from paddlex_ml.scenes.brush import Brush, Image, Light, Mask, Rng


class Kind(NamedTuple):
    """A class of objects."""

    name: str
    group: str
    chance: float
    """To be in an image, before combinations are left out that no image has."""
    height: tuple[float, float]
    """Least and greatest, as a share of the image."""
    wide: float
    """Width, as a share of the height."""
    most: int = 1
    """Objects of this kind in an image."""


KINDS = (
    Kind("leafy tree", "plant", 0.36, (0.32, 0.5), 0.86, 2),
    Kind("cloud", "sky", 0.34, (0.14, 0.22), 2.0, 2),
    Kind("sun", "sky", 0.34, (0.15, 0.25), 1.0),
    Kind("house", "building", 0.30, (0.25, 0.4), 1.4),
    Kind("fir tree", "plant", 0.26, (0.32, 0.54), 0.66, 3),
    Kind("mountain", "land", 0.22, (0.26, 0.42), 2.0),
    Kind("lake", "land", 0.20, (0.15, 0.25), 5.0),
    Kind("sheep", "animal", 0.20, (0.22, 0.32), 1.5, 3),
    Kind("flowers", "plant", 0.19, (0.24, 0.36), 1.7),
    Kind("moon", "sky", 0.22, (0.15, 0.21), 1.0),
    Kind("sailing boat", "vehicle", 0.13, (0.25, 0.38), 0.98),
    Kind("balloon", "vehicle", 0.08, (0.34, 0.46), 0.66),
    Kind("rainbow", "sky", 0.075, (0.36, 0.44), 2.0),
)
_ID = {kind.name: i for i, kind in enumerate(KINDS)}
_BY_HOUR = {"cloud": sky.draw_cloud, "house": things.draw_house, "sun": sky.draw_sun}
_ALIKE = {
    "balloon": sky.draw_balloon,
    "fir tree": plants.draw_fir_tree,
    "flowers": plants.draw_flowers,
    "leafy tree": plants.draw_leafy_tree,
    "moon": sky.draw_moon,
    "mountain": land.draw_mountain,
    "rainbow": sky.draw_rainbow,
    "sailing boat": things.draw_sailing_boat,
    "sheep": things.draw_sheep,
}
VISIBLE = 0.6
"""Share of an object that nothing hides."""
_FINER = 2  # than the image that is written: edges become smooth
_TRIES = 40


class SceneObject(NamedTuple):
    """One object in an image: class id and the pixels [size, size] where it is visible."""

    class_id: int
    visible: npt.NDArray[np.bool_]


class _Place(NamedTuple):
    """Where an object stands: the middle of its foot, its height, all as shares of the image."""

    name: str
    x: float
    y: float
    side: float
    mirrored: bool

    @property
    def box(self) -> tuple[float, float, float, float]:
        half = KINDS[_ID[self.name]].wide * self.side / 2
        return self.x - half, self.y - self.side, self.x + half, self.y


class _Land(NamedTuple):
    hour: str
    horizon: float
    lake: tuple[float, float] | None
    """Upper and lower edge of the water."""


class _Sketch:
    """The image, and which pixels each object still has."""

    def __init__(self, size: int) -> None:
        self.image = np.zeros((size, size, 3), np.uint8)
        self.objects: list[tuple[int, Mask, int]] = []

    def add(self, name: str, mask: Mask) -> None:
        """Put an object before all others."""
        self.hide(mask)
        self.objects.append((_ID[name], mask, int(np.count_nonzero(mask))))

    def hide(self, mask: Mask) -> None:
        """Take pixels from all objects."""
        for _, visible, _ in self.objects:
            visible[mask != 0] = 0


def draw_scene(rng: Rng, size: int) -> tuple[Image, list[SceneObject]]:
    """Draw one image of `size` x `size` pixels, each class present by its own chance."""
    while True:
        wanted = _choose(rng)
        for _ in range(_TRIES):
            around = _choose_land(rng, wanted)
            places = _place(rng, wanted, around)
            if places is None:
                continue
            sketch = _draw(rng, size * _FINER, around, places)
            if all(visible.sum() >= VISIBLE * area for _, visible, area in sketch.objects):
                return _finish(rng, sketch, size)


def _choose(rng: Rng) -> list[str]:
    """Names of what shall be there, two to five kinds; some of them twice."""
    while True:
        names = [kind.name for kind in KINDS if rng.random() < kind.chance]
        if "rainbow" in names and {"sun", "moon"} & {*names}:
            continue
        if "moon" in names and {"sun", "balloon"} & {*names}:
            continue
        if "sailing boat" in names and "lake" not in names:
            names.append("lake")
        if 2 <= len(names) <= 5:
            more = [
                name
                for name in names
                for _ in range(KINDS[_ID[name]].most - 1)
                if rng.random() < 0.35
            ]
            return names + more


def _choose_land(rng: Rng, wanted: list[str]) -> _Land:
    """Hour, horizon and lake that suit what shall be there."""
    if "moon" in wanted:
        hour = "night"
    elif "sun" in wanted:
        hour = str(rng.choice(["noon", "morning", "evening"], p=[0.55, 0.2, 0.25]))
    elif "rainbow" in wanted:
        hour = str(rng.choice(["noon", "overcast"]))
    else:
        hours = ["noon", "morning", "evening", "overcast"]  # a night has a moon
        hour = str(rng.choice(hours, p=[0.4, 0.17, 0.17, 0.26]))
    horizon = rng.uniform(0.46, 0.6)
    if "lake" not in wanted:
        return _Land(hour, horizon, None)
    if rng.random() < 0.4 and not {"flowers", "sheep"} & {*wanted}:
        return _Land(hour, horizon, (rng.uniform(0.7, 0.76), 1.0))
    return _Land(hour, horizon, (horizon + 0.005, horizon + rng.uniform(0.15, 0.21)))


def _place(rng: Rng, wanted: list[str], around: _Land) -> list[_Place] | None:
    """A place for everything; None where a kind has found none."""
    order = ["mountain", "rainbow", "house", "leafy tree", "fir tree", "sailing boat", "flowers"]
    order += ["sheep", "sun", "moon", "balloon", "cloud"]
    places: list[_Place] = []
    for name in sorted((name for name in wanted if name != "lake"), key=order.index):
        for _ in range(30):
            place = _try_place(rng, name, around)
            if place is not None and all(_fit_together(place, other) for other in places):
                places.append(place)
                break
        else:
            if name not in {place.name for place in places}:
                return None
    return places


def _try_place(rng: Rng, name: str, around: _Land) -> _Place | None:
    """A random place where this kind may be; None where it would not fit."""
    kind, horizon = KINDS[_ID[name]], around.horizon
    side = rng.uniform(*kind.height)
    if name == "mountain":
        return _Place(name, rng.uniform(0.2, 0.8), horizon + 0.01, side, rng.random() < 0.5)
    if name == "rainbow":
        return _Place(name, rng.uniform(0.35, 0.65), horizon, side, False)
    top, bottom = around.lake or (horizon, horizon + 0.02)
    if kind.group == "sky" or name == "balloon":
        low, high = side + 0.01, horizon - (0.1 if name != "balloon" else 0.0)
    elif name == "sailing boat":
        low, high = max(top + 0.07, horizon), min(bottom - 0.035, 0.96)
    elif name == "flowers":
        low, high = 0.92, 1.0
    elif around.lake and bottom >= 1:
        low, high = horizon + 0.06, top - 0.005
    else:
        low, high = bottom + 0.06, 0.97
    if low > high:
        return None
    y = rng.uniform(low, high)
    if kind.group != "sky" and name not in ("balloon", "flowers", "sailing boat"):
        side *= 0.82 + 0.24 * (y - horizon) / (1 - horizon)  # nearer is larger
    half = min(0.5, kind.wide * side / 2)
    return _Place(name, rng.uniform(half, 1 - half), y, side, rng.random() < 0.5)


def _fit_together(first: _Place, second: _Place) -> bool:
    """Whether neither of two objects hides much of the other."""
    names = {first.name, second.name}
    if names & {"mountain", "rainbow"}:
        free = {"sun", "moon", "cloud", "balloon"}
        most = 0.18 if names & free else 1.0
    else:
        most = 0.12
    a, b = first.box, second.box
    across = min(a[2], b[2]) - max(a[0], b[0])
    down = min(a[3], b[3]) - max(a[1], b[1])
    if across <= 0 or down <= 0:
        return True
    least = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return across * down <= most * least


def _draw(rng: Rng, size: int, around: _Land, places: list[_Place]) -> _Sketch:
    """From the farthest to the nearest."""
    sketch = _Sketch(size)
    light = sky.draw_sky(sketch.image, rng, around.hour, around.horizon)
    sun = [place for place in places if place.name in ("sun", "moon")]
    if sun:
        light = light._replace(side=-1 if sun[0].x < 0.5 else 1)
    behind = ["sun", "moon", "mountain", "rainbow", "cloud"]
    far = [place for name in behind for place in places if place.name == name]
    near = sorted((each for each in places if each.name not in behind), key=lambda p: p.y)
    for place in far:
        _draw_object(sketch, rng, around, light, place)
    rise = 0.04 if "mountain" in {place.name for place in places} else 0.09
    sketch.hide(land.draw_hills(sketch.image, rng, light, around.horizon, rise))
    sketch.hide(land.draw_meadow(sketch.image, rng, light, around.horizon))
    if rng.random() < 0.3:  # mist over the far ground
        foot = (0.5, 1 - around.horizon - 0.02)
        Brush(sketch.image, light).blend(foot, (1.1, 0.12), light.haze, rng.uniform(0.4, 0.8))
    if around.lake:
        brush = Brush(sketch.image, light)
        land.draw_lake(brush, rng, *around.lake)
        sketch.add("lake", brush.mask)
    for place in near:
        _draw_object(sketch, rng, around, light, place)
    return sketch


def _draw_object(sketch: _Sketch, rng: Rng, around: _Land, light: Light, place: _Place) -> None:
    name, distance = place.name, 0.0
    if name == "mountain":
        distance = rng.uniform(0.05, 0.4)
    brush = Brush(
        sketch.image, light, at=(place.x, place.y), side=place.side, mirrored=place.mirrored,
        distance=distance,
    )  # fmt: skip
    if name in _BY_HOUR:
        _BY_HOUR[name](brush, rng, around.hour)
    else:
        _ALIKE[name](brush, rng)
    sketch.add(name, brush.mask)


def _finish(rng: Rng, sketch: _Sketch, size: int) -> tuple[Image, list[SceneObject]]:
    """The image in its final size, with the noise and exposure of a camera."""
    small = cv2.resize(sketch.image, (size, size), interpolation=cv2.INTER_AREA)
    grain = rng.standard_normal((size, size, 1), np.float32) * rng.uniform(1, 3)
    image = np.clip(small * rng.uniform(0.94, 1.05) + grain, 0, 255).astype(np.uint8)
    objects = [
        SceneObject(i, visible[::_FINER, ::_FINER].astype(np.bool_))
        for i, visible, _ in sketch.objects
    ]
    return image, objects
