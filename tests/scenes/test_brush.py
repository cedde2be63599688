# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from paddlex_ml.scenes import brush
from paddlex_ml.scenes.brush import Brush, Light

DAY = Light((1.0, 1.0, 1.0), (200.0, 200.0, 200.0), 1)
SQUARE = [(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)]


def blank(size: int = 64) -> brush.Image:
    return np.zeros((size, size, 3), np.uint8)


@pytest.mark.parametrize(("mirrored", "left"), [(False, 32), (True, 16)])
def test_an_object_stands_on_its_foot_and_may_be_mirrored(mirrored: bool, left: int) -> None:
    pen = Brush(blank(), DAY, at=(0.5, 0.75), side=0.5, mirrored=mirrored)
    pen.polygon(SQUARE, (250, 0, 0))
    rows, columns = np.nonzero(pen.mask)
    assert (rows.min(), rows.max()) == (16, 48)
    assert (columns.min(), columns.max()) == (left, left + 16)
    assert pen.image[30, left + 8].tolist() == [250, 0, 0]
    assert pen.holds((0.25, 0.5))
    assert not pen.holds((-0.25, 0.5))
    assert not pen.holds((9.0, 0.5))


def test_light_and_distance_change_colours_but_not_what_glows() -> None:
    dim = DAY._replace(factors=(0.5, 0.5, 1.5))
    pen = Brush(blank(), dim)
    pen.polygon(SQUARE, (200, 100, 250))
    assert pen.image[32, 10].tolist() == [100, 50, 255]
    pen.polygon(SQUARE, (200, 100, 250), glows=True)
    assert pen.image[32, 10].tolist() == [200, 100, 250]
    far = Brush(blank(), DAY, distance=0.25)
    far.ellipse((0.5, 0.5), (0.3, 0.3), (100, 100, 100))
    assert far.image[32, 32].tolist() == [125, 125, 125]


def test_halos_and_shadows_are_no_part_of_an_object() -> None:
    pen = Brush(blank(), DAY)
    pen.blend((0.5, 0.5), (0.25, 0.25), (255, 255, 255), 0.8)
    assert not pen.mask.any()
    assert pen.image[32, 32].min() > 190
    assert not pen.image[:, :15].any()
    pen.blend((0.0, 1.0), (0.5, 0.5), (255, 0, 0), 0.8)  # over the edge of the image
    assert pen.image[0, 0].tolist() == [204, 0, 0]
    before = pen.image.copy()
    for middle in ((-3.0, 0.5), (3.0, 0.5), (0.5, -3.0), (0.5, 3.0)):
        pen.blend(middle, (0.5, 0.5), (255, 0, 0), 0.8)
    assert np.array_equal(pen.image, before)


def test_shading_is_brighter_towards_the_light_and_keeps_to_the_object() -> None:
    pen = Brush(blank(), DAY)
    pen.ellipse((0.5, 0.5), (0.3, 0.3), (120, 120, 120))
    around = pen.image[pen.mask == 0].copy()
    pen.shade(np.random.default_rng(0), depth=0.2, grain=0.0)
    assert pen.image[32, 15:17].mean() < 110 < 130 < pen.image[32, 48:50].mean()
    assert np.array_equal(pen.image[pen.mask == 0], around)
    Brush(blank(), DAY).shade(np.random.default_rng(0))  # nothing is drawn: nothing happens


def test_colours_are_mixed_and_varied() -> None:
    assert brush.mix((0, 100, 200), (100, 100, 0), 0.25) == (25, 100, 150)
    assert brush.hsv(120, 1, 1) == pytest.approx((0, 255, 0))
    red, green, blue = brush.pick(np.random.default_rng(0), [(100, 200, 250)])
    assert green == pytest.approx(2 * red)
    assert 220 <= blue <= 255
