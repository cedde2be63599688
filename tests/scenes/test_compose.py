# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import pytest

from paddlex_ml.scenes import brush, compose, land, plants, sky, things

SIZE = 96
NAMES = [kind.name for kind in compose.KINDS]
Scene = tuple[brush.Image, list[compose.SceneObject]]


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = np.random.default_rng(5)
    return [compose.draw_scene(rng, SIZE) for _ in range(300)]


def names(scene: Scene) -> list[str]:
    return [NAMES[thing.class_id] for thing in scene[1]]


def test_the_same_generator_draws_the_same_pixels() -> None:
    first, again, other = (compose.draw_scene(np.random.default_rng(k), 64) for k in (1, 1, 2))
    assert np.array_equal(first[0], again[0])
    assert names(first) == names(again)
    assert not np.array_equal(first[0], other[0])


def test_two_to_five_kinds_are_in_an_image_and_some_kinds_are_rare(scenes: list[Scene]) -> None:
    kinds = [set(names(scene)) for scene in scenes]
    assert {len(found) for found in kinds} == {2, 3, 4, 5}
    rates = {name: sum(name in found for found in kinds) / len(kinds) for name in NAMES}
    assert len(rates) == 13
    assert all(0.02 < rates[name] < 0.09 for name in ("balloon", "rainbow"))
    assert max(rates.values()) < 0.5
    assert min(rate for name, rate in rates.items() if name not in ("balloon", "rainbow")) > 0.08


def test_what_cannot_be_together_is_not(scenes: list[Scene]) -> None:
    for scene in scenes:
        found = Counter(names(scene))
        assert not {"sun", "moon"} <= found.keys()
        assert not ("rainbow" in found and {"sun", "moon"} & found.keys())
        assert "lake" in found or "sailing boat" not in found
        assert all(count <= compose.KINDS[NAMES.index(name)].most for name, count in found.items())
        if "moon" in found:
            assert scene[0][: SIZE // 3].mean() < 110


def test_every_label_is_plainly_visible(scenes: list[Scene]) -> None:
    """Large enough for an eye, and of other colours than what is around it."""
    near, wide = np.ones((3, 3), np.uint8), np.ones((7, 7), np.uint8)
    for image, objects in scenes:
        lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float64)
        for thing in objects:
            seen = thing.visible.astype(np.uint8)
            assert seen.mean() > 0.006
            assert min(np.ptp(axis) + 1 for axis in np.nonzero(seen)) >= 0.07 * SIZE
            around = (cv2.dilate(seen, wide) - cv2.dilate(seen, near)).astype(np.bool_)
            distance = np.abs(lab[thing.visible] - np.median(lab[around], axis=0)).sum(axis=1)
            assert distance.mean() > 18, NAMES[thing.class_id]


def test_no_kind_is_tied_to_a_side(scenes: list[Scene]) -> None:
    halves = np.zeros((len(NAMES), 2))
    for _, objects in scenes:
        for thing in objects:
            halves[thing.class_id] += thing.visible.reshape(SIZE, 2, SIZE // 2).sum(axis=(0, 2))
    shares = halves[:, 0] / halves.sum(axis=1)
    assert shares.min() > 0.3
    assert shares.max() < 0.7


def test_a_nearer_object_takes_the_pixels_of_a_farther_one(scenes: list[Scene]) -> None:
    for _, objects in scenes:
        assert sum(thing.visible.astype(int) for thing in objects).max() == 1


@pytest.mark.parametrize("name", [*compose._ALIKE, *compose._BY_HOUR])
def test_the_pixels_of_an_object_are_those_that_it_changes(name: str) -> None:
    """Halos and shadows apart, which are pale."""
    light = brush.Light((1.0, 1.0, 1.0), (200.0, 210.0, 220.0), 1)
    for seed in range(6):
        image = np.full((128, 128, 3), (90, 0, 160), np.uint8)
        pen = brush.Brush(image, light, at=(0.5, 0.8), side=0.45, mirrored=seed % 2 == 0)
        rng = np.random.default_rng(seed)
        if name in compose._BY_HOUR:
            compose._BY_HOUR[name](pen, rng, ("noon", "evening", "night")[seed % 3])
        else:
            compose._ALIKE[name](pen, rng)
        changed = np.abs(image.astype(int) - (90, 0, 160)).max(axis=2) > 130
        assert pen.mask.mean() > 0.02
        assert changed[cv2.dilate(pen.mask, np.ones((3, 3), np.uint8)) == 0].mean() < 0.01
        differs = (image != (90, 0, 160)).any(axis=2)
        assert differs[pen.mask == 1].mean() > 0.98
        down, across = np.nonzero(pen.mask)
        kind = compose.KINDS[NAMES.index(name)]
        assert np.ptp(down) < 1.15 * 0.45 * 128
        assert np.ptp(across) < 1.1 * kind.wide * 0.45 * 128


@pytest.mark.parametrize("hour", sky.HOURS)
def test_a_sky_and_its_land_have_nothing_but_themselves(hour: str) -> None:
    """Neither clouds nor stones: a slow change of colours, with grain."""
    rng = np.random.default_rng(0)
    image = np.zeros((128, 128, 3), np.uint8)
    light = sky.draw_sky(image, rng, hour, 0.5)
    if hour != "night":  # it has stars
        smooth = cv2.GaussianBlur(image, (9, 9), 0).astype(int)
        assert np.abs(image[:60].astype(int) - smooth[:60]).max() < 25
    hills = land.draw_hills(image, rng, light, 0.5, 0.09)
    meadow = land.draw_meadow(image, rng, light, 0.5)
    assert hills[:40].sum() == 0
    assert meadow[68:].all()
    assert not meadow[:60].any()


def test_every_kind_is_drawn_by_something() -> None:
    assert {*compose._ALIKE, *compose._BY_HOUR, "lake"} == {*NAMES}
    assert {plants.draw_flowers, things.draw_sheep} <= {*compose._ALIKE.values()}


@pytest.mark.parametrize("size", [32, 300])
def test_other_sizes_show_the_same_kind_of_scene(size: int) -> None:
    rng = np.random.default_rng(2)
    for _ in range(6):
        image, objects = compose.draw_scene(rng, size)
        assert image.shape == (size, size, 3)
        assert all(thing.visible.mean() > 0.005 for thing in objects)
