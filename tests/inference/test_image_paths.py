# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import glob
import inspect
import io
import os
import random
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from paddlex_ml.inference.image_paths import LeftOut, find, split


def found(root, *arguments, **keywords) -> list[str]:
    """The files with the name of an image."""
    everything = find(str(root), *arguments, **keywords)
    return [each.path for each in everything if each.has_image_name]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree in which names of files and folders begin alike."""
    root = tmp_path / "tree"
    rng = random.Random(0)
    names = ["a", "a-b", "a.b", "ab", "B", "a b", "é", ".hidden", "x[1]"]
    for _ in range(150):
        folder = root.joinpath(*rng.choices(names, k=rng.randrange(4)))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{rng.choice(names)}{rng.choice(['.jpg', '.JPG', '.png', '.txt', ''])}x").touch()
        place = folder / f"{rng.choice(names)}{rng.choice(['.jpg', '.JPG', '.png', '.txt'])}"
        if not place.is_dir():
            place.touch()
    return root


def test_images_come_in_the_order_of_their_sorted_paths(tree: Path):
    expected = sorted(
        os.path.join(place, name)
        for place, _, names in os.walk(tree)
        for name in names
        if name.lower().endswith((".jpg", ".png")) and "/." not in f"{place}/{name}"
    )
    assert len(expected) > 40
    assert found(tree) == expected


@pytest.mark.parametrize(
    "pattern",
    [
        "*.jpg", "**/*.jpg", "**", "a*/*", "*/*.png", "**/a/*", "**/a/**/b*", "*/**/a*/*.JPG",
        "**/**/a*.png", "a/*/*.jpg", "[ab]*/?.jpg", "**/.hidden/*.jpg", ".h*/*", "**/[!a]*.png",
    ],
)  # fmt: skip
def test_a_pattern_finds_what_glob_finds_and_each_once(tree: Path, pattern):
    whole = f"{glob.escape(str(tree))}/{pattern}"
    expected = {
        os.path.normpath(path)
        for path in glob.glob(whole, recursive=True)
        if path.lower().endswith((".jpg", ".png")) and os.path.isfile(path)
    }
    root, parts = split(f"{tree}/{pattern}")
    assert found(root, parts) == sorted(expected)


def test_a_pattern_is_split_before_its_first_wildcard():
    assert split("a/b/*.jpg") == ("a/b", ["*.jpg"])
    assert split("/a*/b/../[c]/d.jpg") == ("/", ["a*", "[c]", "d.jpg"])
    assert split("*.jpg") == ("", ["*.jpg"])


def test_other_files_are_known_by_their_first_bytes(tmp_path: Path):
    jpeg = io.BytesIO()
    Image.new("RGB", (40, 30)).save(jpeg, "JPEG")
    contents = {
        "a.JPG_large": jpeg.getvalue(),
        "b": jpeg.getvalue(),
        "c.mp4": b"\0\0\0\x18ftypmp42",
        "d.ppm2": b"P6 1 1 255 \xff\x00\x80",
        "e.nef": b"II*\0\x10\0\0\0CR",
        "f.dat": b"\x07\x08\x09",
        "g.pdf": b"%PDF-1.7",
        "h": b"",
        "i.svg": b"<svg xmlns='http://www.w3.org/2000/svg'>",
        "LICENSE": b"Copyright",
        "notes.txt": b"a note",
        "a.xml": jpeg.getvalue(),
        "a.jpg.bak": jpeg.getvalue(),
        "Thumbs.db": b"\xd0\xcf\x11\xe0",
        ".hidden.jpg": jpeg.getvalue(),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "x.jpg").symlink_to("b")
    (tmp_path / "folder").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    left_out = LeftOut()
    kinds = {
        os.path.basename(path): (has_image_name, kind and kind.what)
        for path, _, has_image_name, kind in find(str(tmp_path), left_out=left_out)
    }
    assert kinds == {
        "a.JPG_large": (False, None),
        "b": (False, None),
        "c.mp4": (False, "not an image, but a video"),
        "d.ppm2": (False, None),
        "e.nef": (False, "not an image, but a RAW photograph"),
        "f.dat": (False, "not an image, or a format that is not known"),
        "g.pdf": (False, "not an image, but a PDF document"),
        "h": (False, "an empty file (0 bytes)"),
        "i.svg": (False, "not an image, but an SVG drawing"),
        "x.jpg": (True, None),
    }
    assert left_out == LeftOut(
        Counter({"": 1, ".txt": 1, ".xml": 1, ".bak": 1, ".db": 1}),
        1,
        [str(tmp_path / "folder")],
        1,
        1,
    )


def test_a_pattern_leaves_out_nothing_that_it_does_not_name(tmp_path: Path):
    for name in ("a.jpg", "b.mp4", "c.txt", ".d.jpg"):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypmp42")
    left_out = LeftOut()
    paths = [each.path for each in find(str(tmp_path), ["*.[jm]*"], left_out=left_out)]
    assert paths == [str(tmp_path / "a.jpg"), str(tmp_path / "b.mp4")]
    assert left_out == LeftOut()


@pytest.mark.parametrize(("there", "kinds"), [(True, [None, None]), (False, ["HEIC", None])])
def test_formats_that_need_a_package_are_looked_into(tmp_path: Path, monkeypatch, there, kinds):
    """Phones write JPEG under .heic, too."""
    monkeypatch.setitem(sys.modules, "pillow_heif", io if there else None)
    (tmp_path / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    Image.new("RGB", (40, 30)).save(tmp_path / "b.heic", "JPEG")
    found = [kind and kind.what for *_, kind in find(str(tmp_path))]
    assert found == [kind and f"a picture in {kind}, which needs a package" for kind in kinds]


def test_circles_of_links_are_not_walked(tmp_path: Path):
    (tmp_path / "a.jpg").touch()
    for name in ("here", "there", "again"):
        (tmp_path / name).symlink_to(tmp_path)
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "nowhere.jpg").symlink_to("nothing.jpg")
    expected = [str(tmp_path / name) for name in ("a.jpg", "nowhere.jpg", "self.jpg")]
    assert found(tmp_path) == expected
    assert found(tmp_path, ["**", "*"]) == expected
    assert found(tmp_path, ["*", "a.jpg"]) == [
        str(tmp_path / name / "a.jpg") for name in ("again", "here", "there")
    ]
    assert found(tmp_path / "here") == [f"{tmp_path}/here/{Path(p).name}" for p in expected]


def test_a_pipe_is_no_image(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert found(tmp_path) == []


def test_deep_folders_need_no_deep_recursion(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    deep = "/".join(["d"] * 200)
    Path(deep).mkdir(parents=True)
    Path(deep, "a.jpg").touch()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 60)
    try:
        assert found("d") == [f"{deep}/a.jpg"]
    finally:
        sys.setrecursionlimit(limit)


def test_a_name_that_is_not_utf8_survives(tmp_path: Path):
    (tmp_path / "caf\udce9.jpg").touch()
    [path] = found(tmp_path)
    assert os.path.exists(path)


def test_only_the_names_of_one_folder_are_held(tmp_path: Path):
    for folder in range(20):
        (tmp_path / str(folder)).mkdir()
        for i in range(500):
            (tmp_path / str(folder) / f"{i}.jpg").touch()
    images = find(str(tmp_path))
    next(images)
    tracemalloc.start()
    try:
        assert sum(1 for _ in images) == 9999
        assert tracemalloc.get_traced_memory()[1] < 200_000  # 500 names: 30 kB; all: 1 MB
    finally:
        tracemalloc.stop()
