# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from paddlex_ml import systems
from paddlex_ml.data.walk import StemIndex, is_image, list_folder, resolve_inside, walk
from paddlex_ml.errors import PaddlexMLError

Plant = Callable[..., Path]


def test_folders_come_sorted_and_without_hidden_entries(plant: Plant) -> None:
    root = plant({}, "b/2.jpg", "b/10.jpg", "a/c/x", "a/.ipynb/x", "__MACOSX/b/2.jpg", ".DS_Store")
    assert [(folder.path, folder.files, folder.hidden) for folder in walk(root)] == [
        ("", [], 2),
        ("a", [], 1),
        ("a/c", ["x"], 0),
        ("b", ["10.jpg", "2.jpg"], 0),
    ]


def test_links_to_folders_are_followed_but_not_in_circles(plant: Plant) -> None:
    root = plant({}, "a/b/x.jpg", "real/y.jpg")
    (root / "a/b/up").symlink_to(root / "a")
    (root / "a/link").symlink_to(root / "real")
    (root / "a/nowhere.jpg").symlink_to(root / "none.jpg")
    paths = [f"{folder.path}/{name}" for folder in walk(root, "a") for name in folder.files]
    assert paths == ["a/nowhere.jpg", "a/b/x.jpg", "a/link/y.jpg"]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PaddlexMLError, match="the folder cannot be read: No such file"):
        list_folder(tmp_path, "none")
    with pytest.raises(PaddlexMLError, match="none"):
        list(walk(tmp_path, "none"))


def test_images_are_found_without_their_ending(plant: Plant) -> None:
    stems = StemIndex(plant({}, "a/1.txt", "b/1.JPG", "b/1.png", "c/1.gif", "a/x.y.png"))
    assert stems.find_name("1", ["a", "none", "b", "c"]) == "1.JPG"
    assert stems.find_name("1", ["c", "b"]) == "1.gif"
    assert stems.find_name("x.y", ["a"]) == "x.y.png"
    assert stems.find_name("x", ["a"]) is None


def test_the_ending_makes_the_image_in_upper_case_too() -> None:
    assert [is_image(name) for name in ("a.JPG", "a.b.webp", "a.txt", "jpg", ".jpg")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_a_path_on_another_drive_lies_outside(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = plant({}, "a/1.jpg")
    assert resolve_inside(root, str(root / "a" / "1.jpg")) == "a/1.jpg"
    assert resolve_inside(root, "1.jpg", "a") == "a/1.jpg"
    monkeypatch.setattr(systems, "IS_WINDOWS", True)
    monkeypatch.setattr(systems, "relative", lambda *_: None)
    assert resolve_inside(root, r"D:\sets\1.jpg", "a") is None
    assert resolve_inside(root, "D:1.jpg", "a") is None
    assert resolve_inside(root, "1.jpg", "a") == "a/1.jpg"
