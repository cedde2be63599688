# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from paddlex_ml.pictures.labelled import colour_of, draw_labels

MANY = [f"label number {i}" for i in range(40)]


def photo(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def colours(picture: Image.Image) -> set[tuple[int, ...]]:
    return {tuple(int(c) for c in pixel) for pixel in np.asarray(picture).reshape(-1, 3)}


def test_the_image_stays_whole_above_the_labels() -> None:
    image = photo(500, 400)
    drawn = draw_labels(image, ["cat", "红色圆形"])
    assert drawn.width == 500
    assert np.array_equal(np.asarray(drawn)[:400], np.asarray(image))
    assert {colour_of("cat"), colour_of("红色圆形")} <= colours(
        drawn.crop((0, 400, 500, drawn.height))
    )


def test_many_labels_take_as_many_rows_as_they_need() -> None:
    few = draw_labels(photo(500, 400), MANY[:2])
    many = draw_labels(photo(500, 400), MANY)
    assert many.width == 500
    assert many.height - 400 > 5 * (few.height - 400)
    strip = colours(many.crop((0, 400, 500, many.height)))
    assert {colour_of(label) for label in MANY} <= strip


@pytest.mark.parametrize(
    ("size", "expected"),
    [((32, 32), (320, 320)), ((96, 96), (384, 384)), ((20, 400), (320, 400)), ((1, 1), (320, 320))],
)
def test_tiny_and_narrow_images_get_room_for_text(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    drawn = draw_labels(photo(*size), ["cat"])
    assert drawn.width == expected[0]
    assert drawn.height > expected[1]


def test_text_grows_with_large_images() -> None:
    small, large = draw_labels(photo(400, 30), ["cat"]), draw_labels(photo(4000, 300), ["cat"])
    assert (large.height - 300) > 5 * (small.height - 30)


def test_an_image_without_labels_says_so_in_grey() -> None:
    drawn = draw_labels(photo(400, 300), [])
    assert (110, 110, 110) in colours(drawn.crop((0, 300, 400, drawn.height)))


def test_the_colour_follows_the_key_not_the_score() -> None:
    strip = draw_labels(photo(400, 300), ["cat 0.98"], keys=["cat"]).crop((0, 300, 400, 330))
    assert colour_of("cat") in colours(strip)
    assert colour_of("cat 0.98") not in colours(strip)


def test_a_very_long_name_is_cut_and_widens_the_picture_only_so_far() -> None:
    drawn = draw_labels(photo(320, 320), ["w" * 500])
    assert 320 < drawn.width < 1000


def test_colours_differ_between_classes_and_carry_white_text() -> None:
    found = {colour_of(f"class {i}") for i in range(80)}
    assert len(found) >= 78
    for red, green, blue in found:  # WCAG 2 contrast with white
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
            for c in (red / 255, green / 255, blue / 255)
        ]
        luminance = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
        assert 1.05 / (luminance + 0.05) >= 4.5
