# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import download
from paddlex_ml.inference.inputs import expand

ALL = ["a.jpg", "b.png", "c.bmp", "d.JPG", "deep/a.jpg", "e.webp", "f.gif"]


def paths(source) -> list[str]:
    return [str(picture.path) for picture in expand(source)]


def test_a_path_stays_as_the_user_wrote_it(photos: Path, monkeypatch):
    monkeypatch.chdir(photos)
    assert paths("a.jpg") == ["a.jpg"]
    assert paths(Path("./deep") / "a.jpg") == [str(Path("deep/a.jpg"))]


def test_a_folder_gives_its_images_at_any_depth_sorted(photos: Path):
    assert paths(photos) == [str(photos / name) for name in ALL]
    assert paths(f"{photos}{os.sep}") == [str(photos / name) for name in ALL]


def test_a_pattern_gives_the_images_that_match(photos: Path):
    assert paths(f"{photos}/*.jpg") == [str(photos / "a.jpg")]
    assert paths(f"{photos}/**/a.jpg") == [str(photos / "a.jpg"), str(photos / "deep/a.jpg")]
    assert len(paths(f"{photos}/*")) == 6


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(photos: Path):
    strange = photos / "a[1].jpg"
    (photos / "a.jpg").rename(strange)
    assert paths(strange) == [str(strange)]


def test_lists_and_mappings_nest(photos: Path):
    a, b = str(photos / "a.jpg"), str(photos / "b.png")
    assert paths([a, {"img": b}, [{"img": [a, (b,)]}]]) == [a, b, a, b]


def test_nothing_is_read_before_it_is_wanted(tmp_path: Path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    [picture] = expand(broken)
    with pytest.raises(PaddlexMLError, match="not an image, or a format"):
        picture.load()


def test_an_array_is_bgr():
    blue = np.zeros((2, 4, 3), np.uint8)
    blue[:, :, 0] = 255
    [picture] = expand(blue)
    assert (picture.path, picture.name) == (None, "array_0001.png")
    assert picture.load().getpixel((3, 1)) == (0, 0, 255)


def test_transparency_is_dropped_and_grey_becomes_rgb():
    bgra = np.full((2, 2, 4), (10, 20, 30, 0), np.uint8)
    grey = np.full((2, 2), 7, np.uint8)
    colours = [p.load().getpixel((0, 0)) for p in expand([bgra, grey, grey[:, :, None]])]
    assert colours == [(30, 20, 10), (7, 7, 7), (7, 7, 7)]


def test_a_pil_image_is_rgb_and_turned_upright():
    image = Image.new("RGB", (4, 2), (1, 2, 3))
    image.getexif()[0x0112] = 6  # a telephone that was held upright
    [picture] = expand(image)
    assert picture.load().size == (2, 4)
    assert picture.load().getpixel((0, 0)) == (1, 2, 3)


def test_a_pil_image_of_16_bits_is_refused():
    [picture] = expand(Image.new("I;16", (2, 2)))
    with pytest.raises(PaddlexMLError, match=r"mode I;16(.|\n)*give the path of the file"):
        picture.load()


def test_no_two_inputs_share_a_stem(photos: Path):
    (photos / "deep" / "A.png").write_bytes(b"")
    names = [p.name for p in expand([photos / "a.jpg", photos / "deep", photos / "a.jpg"])]
    assert names == ["a.jpg", "A_2.png", "a_3.jpg", "a_4.jpg"]


def test_a_number_that_a_file_already_has_is_skipped(photos: Path):
    (photos / "a.jpg").rename(photos / "a_2.jpg")
    names = [p.name for p in expand([photos / "a_2.jpg", photos / "deep", photos / "deep"])]
    assert names == ["a_2.jpg", "a.jpg", "a_3.jpg"]


def test_long_names_are_cut_to_what_file_systems_take():
    [picture] = expand("https://example.org/" + "%E7%8C%AB" * 100 + ".jpg?size=1")
    assert len(picture.name.encode()) <= 170
    assert picture.name.startswith("猫猫")
    assert picture.name.endswith(".jpg")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://example.org/a/photo%201.png?x=2#y", "photo 1.png"),
        ("HTTPS://example.org/", "image"),
        ("https://example.org/a%2Fb%00.jpg", "b_.jpg"),
    ],
)
def test_a_url_is_named_by_its_path_and_not_fetched(url, name, monkeypatch):
    monkeypatch.setattr(download, "fetch", None)
    [picture] = expand(url)
    assert (picture.path, picture.name) == (url, name)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.jpg", r"no such file or folder: nowhere\.jpg\n  where: /"),
        ("file:///etc/hosts", "no such file or folder"),
        ("*.nothing", r"the pattern finds no image: \*\.nothing"),
        ("", "the path is empty"),
        ([], "no image is given"),
        ([["nowhere.jpg"]], "no such file"),
        ({"img": "a", "x": 1}, "the key 'img' alone, it has 'img', 'x'"),
        ({}, "it has none"),
        (None, "NoneType is not an image"),
        ([1], r"int is not an image\n  where: input\[0\]"),
        ([{"img": b"abc"}], r"bytes is not an image\n  where: input\[0\]\['img'\]"),
        (np.zeros((4, 4, 3), np.float32), r"float32 \[4, 4, 3\] is not an image"),
        (np.zeros((3, 8, 8), np.uint8), r"uint8 \[3, 8, 8\](.|\n)*cv2\.imread"),
        (np.zeros((0, 4, 3), np.uint8), r"uint8 \[0, 4, 3\] is not an image"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"list\(images\)"),
    ],
)
def test_what_holds_no_image_is_refused_at_once(source, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PaddlexMLError, match=message):
        expand(source)


def test_a_folder_without_images_is_refused(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(PaddlexMLError, match=r"the folder holds no image(.|\n)*\.jpg"):
        expand(tmp_path)
