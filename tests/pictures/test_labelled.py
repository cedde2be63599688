# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont, features

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.pictures import labelled
from paddlex_ml.pictures.labelled import colour_of, draw_labels

MANY = [f"label number {i}" for i in range(40)]


def photo(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def colours(picture: Image.Image | np.ndarray) -> set[tuple[int, ...]]:
    codes = np.unique(np.asarray(picture).reshape(-1, 3) @ np.array([1 << 16, 1 << 8, 1]))
    return {(code >> 16, code >> 8 & 255, code & 255) for code in codes.tolist()}


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
    small, large = draw_labels(photo(400, 30), ["cat"]), draw_labels(photo(1600, 120), ["cat"])
    assert (large.height - 120) > 2 * (small.height - 30)


# 1 x 60,000 was drawn as 792 million pixels.
@pytest.mark.parametrize("count", [0, 1, 400])
@pytest.mark.parametrize(
    "size",
    [(1, 60_000), (60_000, 1), (4000, 3000), (3000, 4000), (64, 64), (1, 1), (1600, 1600)],
    ids=str,
)
@pytest.mark.parametrize("limit", [640, 1600])
def test_no_side_is_longer_than_the_limit(size: tuple[int, int], count: int, limit: int) -> None:
    names = [f"class {i}" for i in range(count)]
    drawn = draw_labels(Image.new("RGB", size, "red"), names, longest_side=limit)
    assert max(drawn.size) <= limit
    rows = np.flatnonzero((np.asarray(drawn) == (255, 0, 0)).all(axis=2).any(axis=1))
    if size[1] > 1 and max(size) > 1:
        whole = size[1] * min(1, limit / max(size))
        assert len(rows) >= 0.6 * whole - 1  # however many labels there are
    below = np.asarray(drawn)[rows.max() + 1 :]
    assert len(colours(below)) > 10  # chips with text


def test_labels_without_room_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda _, __, text, **___: texts.append(text))
    draw_labels(Image.new("RGB", (4000, 3000)), [f"class {i} 0.98" for i in range(700)])
    assert texts[:-1] == [f"class {i} 0.98" for i in range(len(texts) - 1)]
    assert texts[-1] == f"and {700 - (len(texts) - 1)} more"
    assert len(texts) > 200


def test_names_are_measured_once_for_all_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []
    usual = ImageFont.FreeTypeFont.getlength

    def count(font: ImageFont.FreeTypeFont, text: str) -> float:
        measured.append(text)
        return usual(font, text)

    monkeypatch.setattr(ImageFont.FreeTypeFont, "getlength", count)
    names = [f"kind {i}" for i in range(400)]
    for number in range(2):
        measured.clear()
        draw_labels(photo(1200, 800), [f"{name} 0.{number}7" for name in names], names)
    assert len(measured) < 10


def test_a_reduced_image_keeps_its_shape_and_its_pixels_their_places() -> None:
    image = Image.new("RGB", (4000, 3000), "white")
    image.paste((0, 0, 255), (0, 0, 2000, 1500))
    drawn = draw_labels(image, ["cat"])
    blue = np.argwhere((np.asarray(drawn) == (0, 0, 255)).all(axis=2)).max(axis=0)
    assert blue.tolist() == pytest.approx([600, 800], abs=4)


def test_a_limit_without_room_for_text_is_refused() -> None:
    with pytest.raises(PaddlexMLError, match="give 640 or more"):
        draw_labels(photo(400, 300), ["cat"], longest_side=639)


def test_an_image_without_labels_says_so_in_grey() -> None:
    drawn = draw_labels(photo(400, 300), [])
    assert (110, 110, 110) in colours(drawn.crop((0, 300, 400, drawn.height)))


def test_the_colour_follows_the_key_not_the_score() -> None:
    strip = draw_labels(photo(400, 300), ["cat 0.98"], keys=["cat"]).crop((0, 300, 400, 330))
    assert colour_of("cat") in colours(strip)
    assert colour_of("cat 0.98") not in colours(strip)


def test_a_very_long_name_is_cut_to_the_width_of_the_picture() -> None:
    assert draw_labels(photo(320, 320), ["w" * 500]).width == 320
    assert draw_labels(photo(1000, 320), ["猫" * 100_000]).width == 1000


def test_of_a_long_label_the_score_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda _, __, text, **___: texts.append(text))
    name = "a name that no narrow picture has room for"
    draw_labels(photo(320, 320), [f"{name} 0.98", name], keys=[name, name])
    draw_labels(photo(1200, 320), [f"{name} 0.98"], keys=[name])
    assert texts[0].startswith("a name that no narrow")
    assert texts[0].endswith("... 0.98")
    assert texts[1].endswith("...")
    assert texts[2] == f"{name} 0.98"


def test_each_label_has_the_font_of_its_writing_and_none_has_boxes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = {}

    def note(_: object, __: object, text: str, font: ImageFont.FreeTypeFont, **___: object) -> None:
        drawn[text] = Path(str(font.path)).name

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", note)
    monkeypatch.setattr(features, "check", lambda _: True)
    names = ["猫", "قطة", "dog 🦖", "\U0001e900"]
    draw_labels(photo(900, 320), [f"{name} 0.98" for name in names], keys=names)
    assert list(drawn) == ["猫 0.98", "قطة 0.98", "dog [t-rex] 0.98", "[Adlam 1e900] 0.98"]
    assert len(set(drawn.values())) > 1
    monkeypatch.setattr(features, "check", lambda _: False)  # Pillow without raqm
    draw_labels(photo(900, 320), ["قطة 0.98"], keys=["قطة"])
    assert list(drawn)[-1] == "[Arabic 0642 0637 0629] 0.98"


SIZES = [(64, 64), (640, 480), (480, 640), (1080, 1920), (8000, 1500), (64, 8000), (8000, 64)]


@pytest.mark.parametrize("count", [0, 1, 3, 30, 80])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_on_a_screen_that_shows_it_whole_text_is_ten_pixels_high(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], count: int
) -> None:
    heights = []

    def note(path: str, pixels: int) -> ImageFont.FreeTypeFont:
        heights.append(pixels)
        return usual(path, pixels)

    usual = labelled._open_font
    monkeypatch.setattr(labelled, "_open_font", note)
    names = [f"{'红色圆形' if i % 3 else 'traffic light'} {i}" for i in range(count)]
    drawn = draw_labels(Image.new("RGB", size), [f"{name} 0.98" for name in names], keys=names)
    shown = min(1.0, 1920 / drawn.width, 1080 / drawn.height)
    assert heights[0] * shown >= 10
    assert heights[0] <= 0.027 * max(drawn.size) or set(heights) == {16}


def test_a_thousand_labels_make_text_smaller_before_the_picture_grows_out_of_bounds() -> None:
    names = [f"class {i} 0.98" for i in range(1000)]
    drawn = draw_labels(Image.new("RGB", (2000, 1500)), names, longest_side=10_000)
    assert 2000 <= drawn.width < 3000
    assert 3000 < drawn.height < 1500 + 2 * 2000 + 1
    small = draw_labels(Image.new("RGB", (64, 64)), names, longest_side=10_000)
    assert small.height < 2.6 * small.width


@pytest.mark.parametrize("count", [0, 1, 7, 30])
@pytest.mark.parametrize("size", [(64, 64), (640, 480), (64, 2000), (2000, 64)], ids=str)
def test_nothing_is_cut_off_by_an_edge(size: tuple[int, int], count: int) -> None:
    names = [f"{'Ågjpqy红色圆形' * (1 + i % 2 * 9)} {i}" for i in range(count)]
    drawn = np.asarray(draw_labels(Image.new("RGB", size, "red"), names))
    below = max(np.flatnonzero((drawn == (255, 0, 0)).all(axis=2).any(axis=1)))
    strip = drawn[below + 1 :]
    paper = (strip == (250, 250, 250)).all(axis=2)
    assert paper[:9].all()
    assert paper[-9:].all()
    assert paper[:, :9].all()
    assert paper[:, -9:].all()
    white = (strip == (255, 255, 255)).all(axis=2)
    rows = np.flatnonzero(~paper.all(axis=1))  # of chips
    starts = rows[np.flatnonzero(np.diff(rows, prepend=-9) > 1)]
    assert not white[starts].any()  # no letter reaches the edge of its chip
    assert not white[starts + 1].any()
    assert white.any()


def test_the_image_that_is_given_stays_as_it_is() -> None:
    image = photo(400, 300)
    before = image.tobytes()
    draw_labels(image, ["cat"])
    assert image.tobytes() == before
    assert draw_labels(image.convert("L"), ["cat"]).mode == "RGB"


def test_drawing_needs_no_copy_of_a_large_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("copied")

    image = Image.new("RGB", (1600, 1200))
    monkeypatch.setattr(image, "convert", fail)
    monkeypatch.setattr(image, "copy", fail)
    monkeypatch.setattr(image, "resize", fail)
    assert draw_labels(image, ["cat"]).size[0] == 1600


def test_fonts_are_read_with_the_first_picture_that_is_drawn() -> None:
    code = (
        "import sys, paddlex_ml.inference.result as r; "
        "print(sorted({'fontTools', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


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
