# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddlex_ml.data import annotation
from paddlex_ml.data.image_finder import ImageFinder
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats.collector import (
    Collector,
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
    assert result.notes == ["1 image is named more than once: their labels were merged"]


def test_an_image_may_stand_in_both_lists(root: Path) -> None:
    collector = collect(root, "a.jpg")
    collector.add("val", "a.jpg", FOLDERS, ["cat"], "list.csv:2")
    result = collector.finish(["cat"])
    assert result.lists["train"].paths == result.lists["val"].paths
    assert result.notes == []


def test_missing_images_are_faults_with_their_places(root: Path) -> None:
    with pytest.raises(PaddlexMLError) as caught:
        collect(root, "x.jpg", "a.jpg", "y.jpg").finish(["cat"])
    message = str(caught.value)
    assert "image missing: 2\n    list.csv:1: x.jpg is not there" in message
    assert "list.csv:3: y.jpg is not there" in message


def test_a_slip_in_the_name_of_an_image_is_answered_with_the_name_that_is_there(root: Path) -> None:
    (root / "images" / "DSC_0130.jpg").touch()
    with pytest.raises(PaddlexMLError) as caught:
        collect(root, "DCS_0130.jpg", "DCS_0131.jpg", "DCS_0130", "a.jpg").finish(["cat"])
    message = str(caught.value)
    assert message.count("; is images/DSC_0130.jpg meant?") == 2
    assert "DCS_0131.jpg is not there (looked in images/, the data set folder)\n" in message


def test_slips_are_sought_for_no_more_images_than_are_shown(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sought: list[str] = []
    monkeypatch.setattr(ImageFinder, "find_alike", lambda _, name: sought.append(name))
    with pytest.raises(PaddlexMLError):
        collect(root, *(f"{i}.jpg" for i in range(30))).finish(["cat"])
    assert len(sought) == 20


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


def test_what_is_found_can_be_written_and_read(root: Path) -> None:
    names = ["a.jpg", "b c 猫.JPG", "deep\\er\\d.png", "../e.jpg", f"{root}/e f/g.jpg"]
    result = collect(root, *names).finish(["cat"])
    annotation.write_labels(root / "label.txt", result.label_names)
    annotation.write_list(root / "train.txt", *_columns(result.lists["train"]))
    dataset = annotation.read(root, lists=("train",))
    assert dataset.train.paths == result.lists["train"].paths
    assert len(dataset.train) == 5


def _columns(images: annotation.ImageList) -> tuple[list[str], np.ndarray]:
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


def test_images_found_by_a_guess_are_counted_and_told(root: Path) -> None:
    result = collect(root, "A.jpg", "x/e.jpg", "f/g.jpg").finish(["cat"])
    assert result.lists["train"].paths == ["images/a.jpg", "e.jpg", "e f/g.jpg"]
    assert [(guess.name, guess.path) for guess in result.account.guesses] == [
        ("A.jpg", "images/a.jpg"),
        ("x/e.jpg", "e.jpg"),
        ("f/g.jpg", "e f/g.jpg"),
    ]
    lines = result.account.format_lines()
    assert "1 image was found with other capitals: A.jpg = images/a.jpg" in lines
    assert "2 images were found in another folder: x/e.jpg = e.jpg, f/g.jpg = e f/g.jpg" in lines


@pytest.mark.parametrize("names", [("a.jpg", "x/a.jpg"), ("x/a.jpg", "a.jpg"), ("x/a", "y/a")])
def test_a_file_is_not_taken_for_two_names(root: Path, names: tuple[str, str]) -> None:
    with pytest.raises(PaddlexMLError, match=r"is not there; images/a\.jpg belongs to"):
        collect(root, *names).finish(["cat"])


@pytest.mark.parametrize(
    ("names", "left", "missing"),
    [
        ("a.jpg x/a.jpg e.jpg", {"images/a.jpg": [1, 0, 0], "e.jpg": [0, 0, 1]}, "x/a.jpg"),
        ("x/a.jpg a.jpg e.jpg", {"images/a.jpg": [0, 1, 0], "e.jpg": [0, 0, 1]}, "x/a.jpg"),
        ("x/a y/a e.jpg", {"e.jpg": [0, 0, 1]}, "y/a, x/a"),
        ("x/a y/a z/a e.jpg", {"e.jpg": [0, 0, 0, 1]}, "y/a, x/a, z/a"),
        ("x/a y/a x/a e.jpg", {"e.jpg": [0, 0, 0, 1]}, "y/a, x/a, x/a"),
        ("x/a y/a a.jpg x/a e.jpg", {"images/a.jpg": [0, 0, 1, 0, 0], "e.jpg": [0, 0, 0, 0, 1]},
         "y/a, x/a, x/a"),
    ],
)  # fmt: skip
def test_the_repair_of_two_names_leaves_out_what_may_be_another_image(
    root: Path, names: str, left: dict[str, list[int]], missing: str
) -> None:
    collector = Collector(root, Options(skip_missing=True))
    for number, name in enumerate(names.split()):
        collector.add("train", name, ["images", ""], [number], f"x:{number}")
    result = collector.finish(list(map(str, range(number + 1))), range(number + 1))
    images = result.lists["train"]
    assert dict(zip(images.paths, images.targets.tolist(), strict=True)) == left
    count = len(missing.split())
    verb = "image is" if count == 1 else "images are"
    assert result.notes == [f"{count} {verb} not there, left out: {missing}"]
    assert result.account.guesses == []


@pytest.mark.parametrize(
    "names",
    [
        ["Cat", "cat"],
        ["caf\u00e9", "cafe\u0301"],
        ["cat", "c\u200bat"],
        ["red cat", "red\u00a0cat"],
        ["red  cat", "red cat"],
    ],
)
def test_spellings_of_one_name_are_refused_merged_or_kept(root: Path, names: list[str]) -> None:
    def finish(**options: Any) -> Any:
        collector = Collector(root, Options(**options))
        collector.add("train", "a.jpg", FOLDERS, [names[1]], "1")
        collector.add("train", "e.jpg", FOLDERS, names, "2")
        return collector.finish(names)

    with pytest.raises(PaddlexMLError, match="differ only in capitals") as caught:
        finish()
    assert "-o CheckDataset.convert.merge_names=true" in caught.value.fix
    merged = finish(merge_names=True)
    assert merged.label_names == [names[1]]  # the more frequent one
    assert merged.lists["train"].targets.tolist() == [[1], [1]]
    assert merged.account.merged_names == {names[1]: [names[0]]}
    kept = finish(merge_names=False)
    assert kept.label_names == names
    assert kept.lists["train"].targets.tolist() == [[0, 1], [1, 1]]


def test_a_list_without_any_label_is_refused(root: Path) -> None:
    collector = Collector(root, Options())
    collector.add("train", "a.jpg", FOLDERS, ["cat"], "1")
    collector.add("val", "e.jpg", FOLDERS, [], "2")
    with pytest.raises(PaddlexMLError, match="the only image of val has no label"):
        collector.finish(["cat"])


def test_files_that_may_be_annotations_are_not_passed_over(root: Path) -> None:
    (root / "notes.txt").write_text("a.jpg cat")
    (root / "README.txt").write_text("not read by anybody")
    with pytest.raises(PaddlexMLError, match="1 file that may be annotations is not read") as why:
        collect(root, "a.jpg").finish(["cat"])
    assert "4 of 5 images have no annotation" in why.value.what
    account = collect(root, "a.jpg", "e.jpg", "d.png").finish(["cat"]).account
    assert account.left_out == {
        "notes.txt": "not read",
        "images/b c 猫.JPG": "no annotation names it",
        "e f/g.jpg": "no annotation names it",
    }
    assert (account.images_seen, account.with_labels, account.not_named) == (5, 3, 2)
    assert "notes.txt,left out,not read\n" in account.format_csv()


def test_records_that_are_all_dropped_for_one_reason_are_refused(root: Path) -> None:
    collector = collect(root, "a.jpg")
    collector.account.use("x.json", 2)
    collector.account.drop("x.json", "of unknown images", "id 7")
    assert "1 record dropped, of unknown images: id 7" in (
        collector.finish(["cat"]).account.format_lines()
    )
    collector.account.drop("x.json", "of unknown images", "id 8")
    with pytest.raises(PaddlexMLError, match=r"all 2 records of x\.json would be dropped"):
        collector.finish(["cat"])


def test_classes_are_renamed_and_merged(root: Path) -> None:
    def finish(**rename: str) -> Any:
        collector = Collector(root, Options(rename=rename))
        collector.add("train", "a.jpg", FOLDERS, ["cat"], "1")
        collector.add("train", "e.jpg", FOLDERS, ["Car"], "2", unknown=["cat"])
        collector.add("train", "b c 猫.JPG", FOLDERS, [], "3", unknown=["kitten"])
        return collector.finish(["cat", "kitten", "Car"])

    result = finish(kitten="cat", Car="car")
    assert result.label_names == ["cat", "car"]
    assert result.lists["train"].targets.tolist() == [[1, 0], [-1, 1], [-1, 0]]
    assert result.notes == ["'cat' and 'kitten' are one class: 'cat'", "'Car' becomes: 'car'"]
    assert result.account.unknown == 2
    assert "labels: 2 of 6 are unknown: neither 1 nor 0" in result.account.format_lines()
    with pytest.raises(PaddlexMLError, match=r"no class has the name 'kittn'") as caught:
        finish(kittn="cat")
    assert "'kitten'" in caught.value.fix
    with pytest.raises(PaddlexMLError, match="line end"):
        finish(kitten="two\nlines")


def test_a_merged_class_is_absent_where_all_its_classes_are(root: Path) -> None:
    def finish(**options: Any) -> list[list[int]]:
        collector = Collector(root, Options(**options))
        collector.add("train", "a.jpg", FOLDERS, ["dog"], "1", absent=["cat"])
        collector.add("train", "e.jpg", FOLDERS, ["dog"], "2", absent=["cat", "Cat", "lion"])
        collector.add("train", "b c 猫.JPG", FOLDERS, ["dog", "Cat"], "3", absent=["cat"])
        result = collector.finish(["dog", "cat", "Cat"])
        values: list[list[int]] = result.lists["train"].targets.tolist()
        return values

    assert finish(rename={"Cat": "cat"}) == [[1, -1], [1, 0], [1, 1]]
    assert finish(merge_names=True) == [[1, 0], [1, 0], [1, 1]]  # two spellings of one name


def test_most_classes_may_be_unknown(root: Path) -> None:
    names = [f"class {i}" for i in range(1200)]
    for count in (900, 1200):
        collector = Collector(root, Options())
        collector.add("train", "a.jpg", FOLDERS, [names[1]], "1", absent=names[2:4])
        values = collector.finish(names[:count]).lists["train"].targets
        assert values[0, :5].tolist() == [-1, 1, 0, 0, -1]
        assert (values < 0).sum() == count - 3
