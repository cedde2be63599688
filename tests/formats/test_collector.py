# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data import annotation
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats.collector import (
    Collector,
    ImageFinder,
    ImageProblem,
    Options,
    check_class_name,
    order_names,
)

FOLDERS = ("images", "")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set with images of many spellings, and a folder beside it."""
    root = tmp_path / "my set"
    for name in ["images/a.jpg", "images/b c 猫.JPG", "images/deep/er/d.png", "e.jpg", "e f/g.jpg"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "x.jpg").touch()
    return root


def find(root: Path, name: str, folders: tuple[str, ...] = FOLDERS) -> str | ImageProblem:
    return ImageFinder(root).find(name, folders)


def problem(root: Path, name: str, folders: tuple[str, ...] = FOLDERS) -> ImageProblem:
    absent = find(root, name, folders)
    assert isinstance(absent, ImageProblem)
    return absent


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a.jpg", "images/a.jpg"),
        ("b c 猫.JPG", "images/b c 猫.JPG"),
        ("e.jpg", "e.jpg"),
        ("images/a.jpg", "images/a.jpg"),
        ("e f/g.jpg", "e f/g.jpg"),
        ("deep/er/d.png", "images/deep/er/d.png"),
        ("./a.jpg", "images/a.jpg"),
        ("deep/../a.jpg", "images/a.jpg"),
        ("../e.jpg", "e.jpg"),
        ("deep//er/./d.png", "images/deep/er/d.png"),
        ("deep\\er\\d.png", "images/deep/er/d.png"),
        (".\\images\\a.jpg", "images/a.jpg"),
        ("..\\e.jpg", "e.jpg"),
        ("deep\\er/d.png", "images/deep/er/d.png"),
    ],
)
def test_a_name_becomes_the_path_that_will_stand_in_the_list(
    root: Path, name: str, path: str
) -> None:
    assert find(root, name) == path


def test_folders_are_asked_in_their_order(root: Path) -> None:
    (root / "a.jpg").touch()
    assert find(root, "a.jpg", ("images", "")) == "images/a.jpg"
    assert find(root, "a.jpg", ("", "images")) == "a.jpg"
    assert find(root, "a.jpg", ("none", "images")) == "images/a.jpg"


@pytest.mark.parametrize("folder", ["images", "images/", "./images", "e f/../images", "images//."])
def test_a_folder_may_be_spelt_in_any_way(root: Path, folder: str) -> None:
    assert find(root, "a.jpg", (folder,)) == "images/a.jpg"
    assert find(root, "deep/er/d.png", (folder,)) == "images/deep/er/d.png"


@pytest.mark.parametrize("folder", ["../beside", "..", "/"])
def test_a_folder_outside_the_data_set_is_not_looked_into(root: Path, folder: str) -> None:
    (root.parent / "x.jpg").touch()
    assert problem(root, "x.jpg", (folder,)).kind == "path outside the data set"
    assert find(root, "a.jpg", (folder, "images")) == "images/a.jpg"


@pytest.mark.parametrize(
    "name",
    [
        "../../beside/x.jpg",
        "..\\..\\beside\\x.jpg",
        "/etc/hosts",
        "C:\\photos\\a.jpg",
        "D:/photos/a.jpg",
        "../../my set/../beside/x.jpg",
    ],
)
def test_a_path_that_leads_outside_is_no_missing_image(root: Path, name: str) -> None:
    absent = problem(root, name)
    assert absent.kind == "path outside the data set"
    assert absent.text == f"{name} lies outside the data set"
    assert "move the image into the data set" in absent.fix


def test_an_absolute_path_inside_becomes_relative(root: Path) -> None:
    assert find(root, f"{root}/images/a.jpg") == "images/a.jpg"
    assert find(root, f"{root}/images/../e.jpg") == "e.jpg"
    assert problem(root, f"{root.parent}/beside/x.jpg").kind == "path outside the data set"
    assert problem(root, f"{root} 2/x.jpg").kind == "path outside the data set"
    assert problem(root, f"{root}/images/no.jpg").kind == "image missing"


def test_a_relative_root_is_understood(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    assert find(Path("my set"), "a.jpg") == "images/a.jpg"
    assert find(Path("my set"), f"{root}/images/a.jpg") == "images/a.jpg"


def test_a_symlinked_root_may_be_named_by_both_of_its_paths(root: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    assert find(link, "a.jpg") == "images/a.jpg"
    assert find(link, f"{link}/images/a.jpg") == "images/a.jpg"
    assert find(link, f"{root}/images/a.jpg") == "images/a.jpg"


def test_symlinks_count_as_what_they_lead_to_and_keep_their_name(root: Path) -> None:
    (root / "images" / "link.jpg").symlink_to(root.parent / "beside" / "x.jpg")
    (root / "elsewhere").symlink_to(root.parent / "beside")
    (root / "images" / "dead.jpg").symlink_to(root / "none.jpg")
    assert find(root, "link.jpg") == "images/link.jpg"
    assert find(root, "x.jpg", ("elsewhere",)) == "elsewhere/x.jpg"
    assert problem(root, "dead.jpg").kind == "image missing"


def test_a_folder_is_no_image(root: Path) -> None:
    assert problem(root, "deep").kind == "image missing"
    assert problem(root, "images/").kind == "image missing"


def test_a_file_may_have_a_backslash_in_its_name(root: Path) -> None:
    if os.name == "nt":
        pytest.skip("Windows allows no backslash in a name")
    (root / "images" / "x\\y.jpg").touch()
    assert find(root, "x\\y.jpg") == "images/x\\y.jpg"
    (root / "images" / "deep" / "d\\er\\d.png").touch()
    assert find(root, "deep/d\\er\\d.png") == "images/deep/d\\er\\d.png"


@pytest.mark.parametrize(
    ("name", "text", "other"),
    [
        ("A.jpg", "A.jpg is not there, images/a.jpg is", "a.jpg"),
        ("b c 猫.jpg", "b c 猫.jpg is not there, images/b c 猫.JPG is", "b c 猫.JPG"),
        ("E.JPG", "E.JPG is not there, e.jpg is", "e.jpg"),
        ("deep/er/D.png", "deep/er/D.png is not there, images/deep/er/d.png is", "d.png"),
    ],
)
def test_another_case_is_hinted_at(root: Path, name: str, text: str, other: str) -> None:
    absent = problem(root, name)
    assert absent.kind == "image missing"
    assert absent.text == text
    assert absent.fix == f"rename the file, or write {other}: upper and lower case count"


def test_a_missing_image_tells_where_was_looked(root: Path) -> None:
    absent = problem(root, "no.jpg")
    assert absent.text == "no.jpg is not there (looked in images/, the data set folder)"
    assert "-o CheckDataset.convert.skip_missing=true" in absent.fix


@pytest.mark.parametrize("name", ["", "\0", "a.jpg\0", "images/\0/a.jpg"])
def test_what_can_be_no_name_is_told_so(root: Path, name: str) -> None:
    absent = problem(root, name)
    assert absent.kind == "image name"
    assert absent.text == f"{name!r} cannot be the name of an image"


@pytest.mark.parametrize("name", ["\ud800.jpg", "\ud800/a.jpg", "a" * 5000, "a/" * 3000, ".", ".."])
def test_a_name_that_no_file_system_has_is_missing(root: Path, name: str) -> None:
    assert problem(root, name, ("images",)).kind == "image missing"


def test_a_folder_is_listed_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[Path] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: (listed.append(folder), scandir(folder))[1])
    finder = ImageFinder(root)
    for name in ["a.jpg", "images/a.jpg", "no.jpg", "NO.jpg", "e.jpg"] * 3:
        finder.find(name, FOLDERS)
    assert sorted(listed) == [root, root / "images", root / "images" / "images"]


# Collector


def collect(root: Path, *images: str, **options: Any) -> Collector:
    collector = Collector(root, Options(**options))
    for number, image in enumerate(images, 1):
        collector.add("train", image, FOLDERS, ["cat"], f"list.csv:{number}")
    return collector


def test_images_become_lists_with_targets_in_the_order_of_the_names(root: Path) -> None:
    collector = Collector(root, Options())
    collector.add("train", "a.jpg", FOLDERS, [7, 3], "1")
    collector.add("train", "e.jpg", FOLDERS, [], "2")
    collector.add("val", "b c 猫.JPG", FOLDERS, [5], "3")
    result = collector.finish(["cat", "owl", "dog"], [3, 5, 7], [root / "x.json"])
    assert result.label_names == ["cat", "owl", "dog"]
    assert result.lists["train"].paths == ["images/a.jpg", "e.jpg"]
    assert result.lists["train"].targets.tolist() == [[1, 0, 1], [0, 0, 0]]
    assert result.lists["val"].targets.tolist() == [[0, 1, 0]]
    assert result.lists["val"].root == root
    assert result.retire == [root / "x.json"]


def test_an_image_that_comes_again_keeps_all_its_labels(root: Path) -> None:
    collector = collect(root, "a.jpg")
    collector.add("train", "./images/a.jpg", FOLDERS, ["dog"], "list.csv:2")
    result = collector.finish(["cat", "dog"])
    assert result.lists["train"].paths == ["images/a.jpg"]
    assert result.lists["train"].targets.tolist() == [[1, 1]]
    assert result.notes == ["1 images are named more than once: their labels were merged"]


def test_an_image_may_stand_in_both_lists(root: Path) -> None:
    collector = collect(root, "a.jpg")
    collector.add("val", "a.jpg", FOLDERS, [], "list.csv:2")
    result = collector.finish(["cat"])
    assert result.lists["train"].paths == result.lists["val"].paths
    assert result.notes == []


def test_missing_images_are_faults_with_their_places(root: Path) -> None:
    with pytest.raises(PaddlexMLError) as caught:
        collect(root, "x.jpg", "a.jpg", "y.jpg").finish(["cat"])
    message = str(caught.value)
    assert "image missing: 2\n    list.csv:1: x.jpg is not there" in message
    assert "list.csv:3: y.jpg is not there" in message


def test_missing_images_are_left_out_when_asked_and_told(root: Path) -> None:
    names = [f"{i}.jpg" for i in range(7)]
    result = collect(root, *names, "a.jpg", skip_missing=True).finish(["cat"])
    assert result.lists["train"].paths == ["images/a.jpg"]
    text = "7 images are not there, left out: 0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg and 2 more"
    assert result.notes == [text]


@pytest.mark.parametrize("name", ["../../beside/x.jpg", "", "\0"])
def test_only_missing_images_can_be_left_out(root: Path, name: str) -> None:
    with pytest.raises(PaddlexMLError, match=r"list\.csv:1"):
        collect(root, name, "a.jpg", skip_missing=True).finish(["cat"])


@pytest.mark.parametrize("name", ["a\tb.jpg", "a\nb.jpg", os.fsdecode(b"\xff.jpg")])
def test_names_that_cannot_stand_in_a_list_are_refused(root: Path, name: str) -> None:
    (root / "images" / name).touch()
    with pytest.raises(PaddlexMLError, match="rename the image file"):
        collect(root, name).finish(["cat"])


def test_a_source_without_an_image_or_a_class_is_refused(root: Path) -> None:
    with pytest.raises(PaddlexMLError, match="the source names no image that is there"):
        collect(root).finish(["cat"])
    with pytest.raises(PaddlexMLError, match="the source names no class"):
        collect(root, "a.jpg").finish([])


def test_a_list_that_was_opened_is_there_without_images(root: Path) -> None:
    collector = collect(root, "a.jpg")
    collector.open_list("val")
    result = collector.finish(["cat", "dog"])
    assert result.lists["val"].targets.shape == (0, 2)


def test_many_missing_images_take_no_quadratic_time(root: Path) -> None:
    for i in range(2_000):
        (root / "images" / f"{i}.png").touch()
    collector = collect(root, *(f"{i}.jpg" for i in range(2_000)))
    assert len(collector.faults) == 2_000
    assert list(collector._finder._lower) == ["images", ""]  # one table for each folder, not image


def test_what_is_found_can_be_written_and_read(root: Path) -> None:
    names = ["a.jpg", "b c 猫.JPG", "deep\\er\\d.png", "../e.jpg", f"{root}/e f/g.jpg"]
    result = collect(root, *names).finish(["cat"])
    annotation.write_labels(root / "label.txt", result.label_names)
    annotation.write_list(root / "train.txt", *_columns(result.lists["train"]))
    dataset = annotation.read(root, lists=("train",))
    assert dataset.train.paths == result.lists["train"].paths
    assert len(dataset.train) == 5


def _columns(images: annotation.ImageList) -> tuple[list[str], annotation.Targets]:
    return images.paths, images.targets


# Order of the classes


def test_classes_without_order_are_alphabetical(root: Path) -> None:
    assert order_names(root, ["owl", "cat"]) == (["cat", "owl"], [])


def test_a_class_file_gives_the_order_and_names_unused_classes(root: Path) -> None:
    (root / "classes.txt").write_bytes("\ufeffowl\r\n yak \r\n\r\ncat\r\n".encode())
    assert order_names(root, ["cat", "owl"]) == (["owl", "yak", "cat"], [])


def test_a_class_file_must_name_every_class_once(root: Path) -> None:
    (root / "classes.txt").write_text("owl\ncat\nowl\n", encoding="utf-8")
    faults = order_names(root, ["cat", "dog"])[1]
    assert [(fault.where, fault.text) for fault in faults] == [
        ("classes.txt:3", "the class 'owl' is in line 1 already"),
        ("classes.txt", "the class 'dog' is used but not named"),
    ]


def test_a_class_name_must_be_one_line_of_text() -> None:
    assert check_class_name("traffic light", "x") is None
    assert check_class_name("a\nb", "x") is not None
    fault = check_class_name("", "classes.txt:3")
    assert fault is not None
    assert (fault.where, fault.text) == ("classes.txt:3", "the class name '' is empty")


def test_a_list_that_lost_all_its_images_is_none(tmp_path):
    (tmp_path / "a.jpg").touch()
    collector = Collector(tmp_path, Options(skip_missing=True))
    collector.add("train", "gone.jpg", [""], ["cat"], "train.csv:2")
    collector.add("val", "a.jpg", [""], ["cat"], "val.csv:2")
    found = collector.finish(["cat"])
    assert {name: images.paths for name, images in found.lists.items()} == {"train": ["a.jpg"]}
