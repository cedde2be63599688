# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import io
import os
import re
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import paddle
import pytest
from PIL import Image

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference.inputs import Picture, count, walk
from paddlex_ml.storage import fetch_image

ALL = ["a.jpg", "b.png", "c.bmp", "d.JPG", "deep/a.jpg", "e.webp", "f.gif"]


FAILING = ["a.jpg", "b.png", "c.bmp", "d.JPG", "deep", "e.webp", "f.gif"]


def paths(source, skip: Path | None = None) -> list[str]:
    return [str(picture.path) for picture in walk(source, skip=skip)]


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
    [picture] = walk(broken)
    with pytest.raises(PaddlexMLError, match="not an image, but a text file"):
        picture.load()


def test_an_array_is_bgr():
    blue = np.zeros((2, 4, 3), np.uint8)
    blue[:, :, 0] = 255
    [picture] = walk(blue)
    assert (picture.path, picture.name) == (None, "array_0001.png")
    assert picture.load().getpixel((3, 1)) == (0, 0, 255)


def test_transparency_is_dropped_and_grey_becomes_rgb():
    bgra = np.full((2, 2, 4), (10, 20, 30, 0), np.uint8)
    grey = np.full((2, 2), 7, np.uint8)
    colours = [p.load().getpixel((0, 0)) for p in walk([bgra, grey, grey[:, :, None]])]
    assert colours == [(30, 20, 10), (7, 7, 7), (7, 7, 7)]


def test_a_pil_image_is_rgb_and_turned_upright():
    image = Image.new("RGB", (4, 2), (1, 2, 3))
    image.getexif()[0x0112] = 6  # a telephone that was held upright
    [picture] = walk(image)
    assert picture.load().size == (2, 4)
    assert picture.load().getpixel((0, 0)) == (1, 2, 3)


def test_no_two_inputs_share_a_stem(photos: Path):
    (photos / "deep" / "A.png").write_bytes(b"")
    names = [p.name for p in walk([photos / "a.jpg", photos / "deep", photos / "a.jpg"])]
    assert names == ["a.jpg", "A_2.png", "a_3.jpg", "a_4.jpg"]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://example.org/a/photo%201.png?x=2#y", "photo 1.png"),
        ("HTTPS://example.org/", "image"),
        ("http://[::1/x.jpg", "image"),
        ("https://example.org/a%2Fb%00.jpg", "b_.jpg"),
    ],
)
def test_a_url_is_named_by_its_path_and_not_fetched(url, name, monkeypatch):
    monkeypatch.setattr(fetch_image, "fetch", None)
    [picture] = walk(url)
    assert (picture.path, picture.name) == (url, name)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.jpg", r"no such file or folder: nowhere\.jpg\n  where: /"),
        ("file:///etc/hosts", "no such file or folder"),
        ("a\0b", "no such file or folder"),
        ("*.nothing", r"the pattern finds no image: \*\.nothing"),
        ("", "the path is empty"),
        ([], "no image is given"),
        ([[], ()], "no image is given"),
        ({"img": "nowhere.jpg"}, r"no such file or folder: nowhere\.jpg"),
        ("nowhere.txt", r"no such file or folder: nowhere\.txt"),
        ("nowhere/*.jpg", r"the pattern finds no image: nowhere/\*\.jpg"),
        ({"img": "a", "x": 1}, "only the key 'img', it has 'img', 'x'"),
        ({}, "it has none"),
        (None, "NoneType is not an image"),
        ([1], r"int is not an image\n  where: input\[0\]"),
        (["a.jpg", ["b.jpg", 2.5]], r"float is not an image\n  where: input\[1\]\[1\]"),
        ([["a.jpg"], [""]], r"the path is empty\n  where: input\[1\]\[0\]"),
        (np.zeros((4, 4, 3), bool), r"bool \[4, 4, 3\] is not an image"),
        (np.zeros((4, 4, 3), complex), r"complex128 \[4, 4, 3\](.|\n)*cv2\.imread"),
        (np.zeros((3, 8, 8), np.uint8), r"uint8 \[3, 8, 8\](.|\n)*layout=\"CHW\""),
        (np.zeros((5, 8, 8), np.uint8), r"uint8 \[5, 8, 8\](.|\n)*cv2\.imread"),
        (paddle.zeros([3, 8, 8]), r"float32 \[3, 8, 8\](.|\n)*layout=\"CHW\""),
        (paddle.zeros([2, 3, 8, 8]), r"list\(images\)"),
        (np.zeros((0, 4, 3), np.uint8), r"uint8 \[0, 4, 3\] is not an image"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"list\(images\)"),
    ],
)
def test_what_holds_no_image_is_refused_at_once(source, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PaddlexMLError, match=message):
        walk(source)


def test_a_folder_without_images_is_refused(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(PaddlexMLError, match=r"the folder holds no image(.|\n)*\.jpg"):
        walk(tmp_path)


def test_what_a_list_lacks_is_told_when_its_turn_comes(photos: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    gone, empty, none = tmp_path / "gone.jpg", tmp_path / "empty", f"{photos}/*.nothing"
    pictures = list(walk([gone, photos / "a.jpg", {"img": str(empty)}, [none]]))
    assert [p.path for p in pictures] == [str(gone), str(photos / "a.jpg"), str(empty), none]
    assert pictures[1].load().size == (60, 40)
    for picture, message in [
        (pictures[0], f"no such file or folder: {gone}"),
        (pictures[2], f"the folder holds no image: {empty}"),
        (pictures[3], re.escape(f"the pattern finds no image: {none}")),
    ]:
        for _ in range(2):  # each time that it is asked for
            with pytest.raises(PaddlexMLError, match=message):
                picture.load()


def test_an_iterator_is_run_through_as_the_pictures_are_taken(photos: Path):
    taken = []

    def items():
        for item in (photos / "a.jpg", np.zeros((2, 2, 3), np.uint8), 7, [str(photos / "b.png")]):
            taken.append(item)
            yield item

    pictures = walk(items())
    assert len(taken) == 0
    assert next(pictures).path == str(photos / "a.jpg")
    assert len(taken) == 1
    array, wrong, last = pictures
    assert (array.name, array.load().size) == ("array_0002.png", (2, 2))
    with pytest.raises(PaddlexMLError, match=r"int is not an image\n  where: input\[2\]"):
        wrong.load()
    assert last.path == str(photos / "b.png")
    assert len(list(walk(map(str, [photos / "a.jpg", photos])))) == 8


def test_an_iterator_without_items_is_an_error_in_the_end():
    with pytest.raises(PaddlexMLError, match="no image is given"):
        next(walk(iter([])))


def test_the_folder_of_the_results_is_not_walked_into(photos: Path):
    deep = photos / "deep"
    assert paths(photos, skip=deep) == [str(photos / name) for name in ALL if "/" not in name]
    assert paths(f"{photos}/**/*.jpg", skip=deep) == [str(photos / "a.jpg")]
    assert paths(photos, skip=photos / "not there yet") == paths(photos)
    assert paths([deep / "a.jpg"], skip=deep) == [str(deep / "a.jpg")]
    with pytest.raises(PaddlexMLError, match="no such file or folder"):
        walk("a\0b", skip=deep)


@pytest.mark.parametrize(
    "source",
    [
        str,
        "{}/../photos/".format,
        lambda folder: ["a.jpg", [{"img": folder}]],
        "{}/*".format,
        "{}/**/a.*".format,
    ],
)
def test_the_folder_of_the_results_as_input_is_refused(photos: Path, source):
    message = r"would overwrite the images(.|\n)*-o Predict\.save_path"
    with pytest.raises(PaddlexMLError, match=message):
        walk(source(str(photos)), skip=photos)


def test_a_folder_that_fails_is_told_and_the_rest_is_answered(photos: Path, monkeypatch):
    def fail(folder):
        if str(folder).endswith("deep"):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", fail)
    pictures = list(walk(photos))
    assert [p.path for p in pictures] == [str(photos / name) for name in FAILING]
    with pytest.raises(PaddlexMLError, match="the folder cannot be listed: Permission denied"):
        pictures[4].load()
    assert count(photos) == 7
    with pytest.raises(PaddlexMLError, match="the folder cannot be listed: Permission denied"):
        walk(photos / "deep")
    assert count(photos / "deep") == 1


def test_the_count_is_that_of_the_pictures(photos: Path):
    (photos / "list.txt").write_text("a.jpg\n\ngone.jpg\n# no\ndeep\n")
    for source in (
        photos,
        f"{photos}/*.jpg",
        photos / "list.txt",
        [photos, {"img": "gone.jpg"}, ["https://example.org/a.jpg"], np.zeros((2, 2), np.uint8)],
    ):
        assert count(source) == len(list(walk(source)))
    assert count(photos, skip=photos / "deep") == 6
    assert count(iter(["a.jpg"])) == 0


def test_a_text_file_gives_the_images_of_its_lines(photos: Path, monkeypatch):
    content = "\ufeffa.jpg\r\n\n  # a remark\nb.png\t0,1,0\ndeep\n*.webp\nhttps://e.org/x.jpg\n"
    (photos / "list.TXT").write_bytes(content.encode())
    expected = ["a.jpg", "b.png", "deep/a.jpg", "e.webp"]
    whole = [str(photos / name) for name in expected] + ["https://e.org/x.jpg"]
    assert paths(photos / "list.TXT") == whole
    assert paths([photos / "list.TXT", photos / "f.gif"]) == [*whole, str(photos / "f.gif")]
    monkeypatch.chdir(photos)
    assert paths("list.TXT") == [*expected, "https://e.org/x.jpg"]
    absolute = f"{photos}/a.jpg"
    (photos / "deep" / "list.txt").write_text(f"{absolute}\n../b.png")
    assert paths("deep/list.txt") == [absolute, "deep/../b.png"]


def test_a_wrong_line_is_told_by_its_number_and_the_others_are_answered(photos: Path):
    file = photos / "list.txt"
    file.write_bytes(b"a.jpg\ngone.jpg\n\xb0\xa1.jpg\nlist.txt\n")
    pictures = list(walk(file))
    assert pictures[0].load().size == (60, 40)
    for picture, message in [
        (pictures[1], rf"gone\.jpg \({file}:2\)\n  where: {file}:2(.|\n)*the folder of {file}"),
        (pictures[2], rf"where: {file}:3(.|\n)*save the text file as UTF-8"),
        (pictures[3], "not an image"),
    ]:
        with pytest.raises(PaddlexMLError, match=message):
            picture.load()
    assert pictures[1].path == str(photos / "gone.jpg")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"the text file names no image: .*list\.txt"),
        (b"\n# nothing\n", "the text file names no image"),
        ("a.jpg\n".encode("utf-16"), "not a text file in UTF-8"),
    ],
)
def test_a_text_file_without_a_line_is_refused_at_once(photos: Path, content, message):
    (photos / "list.txt").write_bytes(content)
    with pytest.raises(PaddlexMLError, match=message):
        walk(photos / "list.txt")
    [broken, _] = walk([photos / "list.txt", photos / "a.jpg"])
    with pytest.raises(PaddlexMLError, match=message):
        broken.load()


def test_a_text_file_is_read_as_the_pictures_are_taken(photos: Path):
    os.mkfifo(photos / "list.txt")
    reader = os.open(photos / "list.txt", os.O_RDWR)  # keeps the pipe open: no end of file comes
    os.write(reader, b"a.jpg\n" * 3000)
    pictures: Any = walk(photos / "list.txt")
    assert [next(pictures).name for _ in range(2)] == ["a.jpg", "a_2.jpg"]
    os.close(reader)
    pictures.close()


def named(*wishes: str) -> list[str]:
    """The names of pictures in one run that are all in memory."""
    return [picture.name for picture in walk([Picture(None, wish, Mock()) for wish in wishes])]


def test_a_number_tells_the_same_stems_apart_whatever_the_case():
    assert named("a.jpg", "A.png", "a.jpg", "b.jpg") == ["a.jpg", "A_2.png", "a_3.jpg", "b.jpg"]


def test_a_number_that_a_file_already_has_is_skipped():
    assert named("a_2.jpg", "a.jpg", "a.jpg") == ["a_2.jpg", "a.jpg", "a_3.jpg"]


def test_thousands_of_the_same_stem_are_numbered_without_a_gap():
    found = named(*["a.jpg", "b.jpg"] * 2000)
    expected = [f"{stem}_{i}.jpg" for i in range(2, 2001) for stem in "ab"]
    assert found == ["a.jpg", "b.jpg", *expected]


def test_long_names_are_cut_between_characters():
    [name] = named("猫" * 100 + ".jpg")
    assert name == "猫" * 53 + ".jpg"  # 159 bytes of 160


def test_a_name_that_is_not_utf8_stays_as_it_is():
    assert named("caf\udce9.jpg", "caf\udce9.jpg") == ["caf\udce9.jpg", "caf\udce9_2.jpg"]


@pytest.mark.parametrize(
    ("kind", "begin", "fix"),
    [
        ("PNG", "", "base64.b64decode(text)"),
        ("JPEG", "\n", "base64.b64decode(text)"),
        ("JPEG", "data:image/jpeg;base64,", "base64.b64decode(text[23:])"),
    ],
)
def test_an_image_as_base64_text_is_told_in_a_few_words(kind: str, begin: str, fix: str):
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8)
    Image.fromarray(pixels).save(file, kind)
    text = begin + base64.b64encode(file.getvalue()).decode()
    for given in (text, text.encode(), [text], {"img": text}):
        with pytest.raises(PaddlexMLError, match="must be decoded first") as caught:
            next(walk(given)).load()
        assert caught.value.fix == f"give its bytes: {fix}"
        assert len(str(caught.value)) < 400
    decoded = eval(fix, {"base64": base64, "text": text})
    assert next(walk(decoded)).load().size == (99, 99)


@pytest.mark.parametrize("text", ["a/" * 9999 + "x.jpg", "*" * 9999, "[[1, 2], [3, 4]]" * 999])
def test_a_very_long_text_is_shortened_in_the_error(text: str):
    with pytest.raises(PaddlexMLError, match=r"no such file or folder|finds no image") as caught:
        next(walk(text))
    assert len(str(caught.value)) < 1000
