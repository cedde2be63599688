# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from paddlex_ml.pictures import heatmap
from paddlex_ml.pictures.heatmap import Label


def peak(rows: int, columns: int, at: tuple[int, int], share: float = 0.9) -> np.ndarray:
    """A map with `share` in one cell and the rest spread evenly over the others."""
    shares = np.full((rows, columns), (1 - share) / (rows * columns - 1), np.float32)
    shares[at] = share
    return shares


def even(rows: int = 4, columns: int = 4) -> np.ndarray:
    return np.full((rows, columns), 1 / (rows * columns), np.float32)


def brightness(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L"), np.float32)


@pytest.fixture
def photo() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3)).astype(np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("at", [(0, 0), (0, 3), (2, 1), (3, 3)])
def test_the_brightest_pixel_is_in_the_cell_with_the_most_attention(at: tuple[int, int]):
    grey = Image.new("RGB", (400, 400), (90, 90, 90))
    drawn = brightness(heatmap._overlay(grey, peak(4, 4, at)))
    y, x = np.unravel_index(drawn.argmax(), drawn.shape)
    assert (y // 100, x // 100) == at


def test_more_attention_is_never_darker():
    colours = heatmap._colours() @ [0.299, 0.587, 0.114]
    assert (np.diff(colours) > -1).all()  # whole numbers aside
    assert colours[-1] - colours[0] > 200


def test_a_map_of_equal_shares_is_not_shown_as_bright():
    grey = Image.new("RGB", (400, 400), (90, 90, 90))
    flat = brightness(heatmap._overlay(grey, even()))
    assert flat.max() == flat.min()
    assert flat.max() < brightness(heatmap._overlay(grey, peak(4, 4, (1, 1)))).max() - 50
    assert heatmap.top_of_scale(even()) == 2
    assert heatmap.top_of_scale(peak(4, 4, (1, 1), 0.75)) == 12


@pytest.mark.parametrize("count", [0, 1, 5, 11, 12, 80])
def test_a_sheet_has_the_photograph_and_a_tile_for_each_of_eleven_labels(photo, count, monkeypatch):
    arranged = []
    arrange = heatmap._arrange

    def record(tiles, notes, fonts):
        arranged.append((tiles, notes))
        return arrange(tiles, notes, fonts)

    monkeypatch.setattr(heatmap, "_arrange", record)
    heatmap.draw_heatmaps(photo, [Label(f"class {i}", 0.9, even()) for i in range(count)])
    ((tiles, notes),) = arranged
    assert len(tiles) == 1 + min(count, 11)
    assert len({tile.size for tile in tiles}) == 1
    left_out = [note for note in notes if "left out" in note]
    assert left_out == (
        [f"Labels with lower scores that are left out: {count - 11}."] if count > 11 else []
    )
    assert any("no label was predicted" in note for note in notes) is (count == 0)


def test_a_map_that_classes_share_has_a_note():
    labels = [Label("cat", 0.5, even())]
    assert any("4 classes each share one map" in note for note in heatmap._notes(labels, 4))
    assert not any("share one map" in note for note in heatmap._notes(labels, 1))


@pytest.mark.parametrize(
    ("share", "expected"), [(0.12, True), (0.13, False)]
)  # of 16: 1.92x, 2.08x
def test_maps_that_are_nearly_even_have_a_note(share: float, expected: bool):
    labels = [Label("cat", 0.5, even()), Label("dog", 0.5, peak(4, 4, (0, 0), share))]
    assert any("these maps mean little" in note for note in heatmap._notes(labels, 1)) is expected


@pytest.mark.parametrize("size", [(1, 1), (9, 7), (400, 300), (6000, 4000), (8000, 3), (3, 8000)])
@pytest.mark.parametrize("count", [1, 11])
def test_photographs_of_every_shape_and_size_give_a_sheet_that_a_screen_takes(size, count):
    names = ["cat", "狗", "a name that is far too long for the width of a single picture" * 3]
    labels = [Label(names[i % 3], 0.5, peak(5, 5, (i % 5, 0))) for i in range(count)]
    sheet = heatmap.draw_heatmaps(Image.new("RGB", size, (200, 30, 30)), labels)
    assert sheet.mode == "RGB"
    assert max(sheet.size) <= 1600
    assert sheet.width * sheet.height < 700_000 * (count + 1)  # pixels


@pytest.mark.parametrize("size", [(400, 300), (60_000, 1), (1, 60_000), (3000, 4000)])
@pytest.mark.parametrize("limit", [640, 1000, 5000])
def test_no_side_of_a_sheet_is_longer_than_the_limit(size, limit):
    labels = [Label(f"class {i}", 0.5, peak(5, 5, (i % 5, 0))) for i in range(11)]
    sheet = heatmap.draw_heatmaps(Image.new("RGB", size), labels, longest_side=limit)
    assert limit / 2 < max(sheet.size) <= limit or limit == 5000


def test_tiles_without_room_are_left_out_and_counted(photo, monkeypatch):
    texts = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda _, __, text, **___: texts.append(text))
    labels = [Label(f"class {i}", 0.5, even()) for i in range(11)]
    heatmap.draw_heatmaps(photo, labels, longest_side=640)
    shown = [text for text in texts if text.startswith("class")]
    assert shown == [f"class {i} 0.50" for i in range(len(shown))]
    assert 3 <= len(shown) < 11
    assert f"left out: {11 - len(shown)}." in " ".join(texts)


def test_tiles_and_text_do_not_overlap(photo, monkeypatch):
    """What is pasted and written keeps inside the sheet, and two tiles share no pixel."""
    pasted = []
    paste = Image.Image.paste

    def note(self, image, box=None, mask=None):
        pasted.append((self.size, (*box, box[0] + image.width, box[1] + image.height)))
        return paste(self, image, box, mask)

    monkeypatch.setattr(Image.Image, "paste", note)
    sheet = heatmap.draw_heatmaps(photo, [Label(f"class {i}", 0.5, even()) for i in range(7)])
    on_sheet = [box for size, box in pasted if size == sheet.size]
    assert len(on_sheet) == 8
    for size, (left, top, right, bottom) in pasted:
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]
    for i, a in enumerate(on_sheet):
        for b in on_sheet[i + 1 :]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_the_same_maps_give_the_same_sheet_and_leave_the_image_alone(photo):
    before = photo.tobytes()
    labels = [Label("cat", 0.98, peak(14, 14, (3, 4)))]
    assert (
        heatmap.draw_heatmaps(photo, labels).tobytes()
        == heatmap.draw_heatmaps(photo, labels).tobytes()
    )
    assert photo.tobytes() == before
    moved = [Label("cat", 0.98, peak(14, 14, (4, 4)))]
    assert (
        heatmap.draw_heatmaps(photo, moved).tobytes()
        != heatmap.draw_heatmaps(photo, labels).tobytes()
    )


def test_the_photograph_is_beside_its_maps_in_its_own_colours():
    photo = Image.new("RGB", (400, 400), (10, 200, 30))
    sheet = heatmap.draw_heatmaps(photo, [Label("cat", 0.5, even())])
    assert sheet.getpixel((200, 200)) == (10, 200, 30)


def test_images_of_other_modes_are_drawn():
    for mode in ("L", "RGBA", "P"):
        assert (
            heatmap.draw_heatmaps(Image.new(mode, (40, 30)), [Label("a", 0.5, even())]).mode
            == "RGB"
        )
