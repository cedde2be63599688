# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats import paddlelabel, registry
from paddlex_ml.formats.collector import Options

Plant = Callable[..., Path]
IMAGES = ["image/a b.jpeg", "image/c.jpeg", "image/d.jpeg", "no_annotation/e.jpeg"]


def several(**more: str) -> dict[str, str]:
    """The export of a project with several classes an image; keys have _ for the dot."""
    files = {
        "labels.txt": "梨\n苹果\n1\n",
        "train_list.txt": "image/a b.jpeg 1 2\n",
        "val_list.txt": "image/c.jpeg 0\n",
        "test_list.txt": "image/d.jpeg 0\n",
    }
    return files | {name.replace("_txt", ".txt"): text for name, text in more.items()}


def test_numbers_are_lines_of_the_names(plant: Plant, labels: Any) -> None:
    dataset = paddlelabel.read(plant(several(), *IMAGES), Options())
    assert dataset.label_names == ["梨", "苹果", "1"]
    assert labels(dataset) == {
        "train": {IMAGES[0]: ["苹果", "1"]},
        "val": {IMAGES[1]: ["梨"]},
    }
    assert dataset.account.left_out == {
        IMAGES[2]: "of the test subset",
        IMAGES[3]: "PaddleLabel has no class for it",
    }
    unused, left_out = dataset.notes
    assert unused.startswith("test_list.txt is not used: test")
    assert left_out.startswith("left out: 1 image of no_annotation/: ")


def test_one_class_an_image_in_folders_of_classes(plant: Plant, labels: Any) -> None:
    files = {"labels.txt": "Cat\nDog\n", "train_list.txt": "Dog/a.jpg 1\nCat/b.jpg 0\n"}
    files |= {"val_list.txt": "", "test_list.txt": ""}
    root = plant(files, "Dog/a.jpg", "Cat/b.jpg")
    expected = {"train": {"Dog/a.jpg": ["Dog"], "Cat/b.jpg": ["Cat"]}}
    assert labels(paddlelabel.read(root, Options())) == expected
    assert labels(registry.read(root, "CSV", Options())) == expected
    assert labels(registry.read(root, registry.AUTO, Options())) == expected


def test_words_are_names(plant: Plant, labels: Any) -> None:
    files = several(train_list_txt="image/a b.jpeg monkey 0\n")
    dataset = paddlelabel.read(plant(files, *IMAGES), Options())
    assert dataset.label_names == ["梨", "苹果", "1", "monkey"]
    assert labels(dataset)["train"] == {IMAGES[0]: ["梨", "monkey"]}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("0 cat\n1 red dog\n2 owl\n", ["cat", "red dog", "owl"]),
        ("cat 0\nred dog 1 #ff0000\nowl 2 255 0 0 // big\n", ["cat", "red dog", "owl"]),
        ("cat 1\ndog 2 yellow\nowl 3\n", ["cat", "dog", "owl"]),
        ("2 owl\n0 cat\n1 dog\n", ["cat", "dog", "owl"]),
        ("cat - #00ff00\ndog -\nowl // comment\n", ["cat", "dog", "owl"]),
        ("type 1\ntype 2\ntype 3\n", ["type 1", "type 2", "type 3"]),
        ("Boeing 737\nglider\nAirbus 320\n", ["Boeing 737", "glider", "Airbus 320"]),
        ("747 a\n737 b\n320 c\n", ["747 a", "737 b", "320 c"]),
    ],
)
def test_numbers_of_the_names_count_where_they_fit(
    plant: Plant, labels: Any, text: str, names: list[str]
) -> None:
    dataset = paddlelabel.read(plant(several(labels_txt=text), *IMAGES), Options())
    assert dataset.label_names == names
    assert labels(dataset)["train"] == {IMAGES[0]: names[1:]}


def test_numbers_that_fit_in_two_ways_are_refused(plant: Plant, refusal: Any, labels: Any) -> None:
    lists = {"train_list_txt": "image/a b.jpeg 1\n", "val_list_txt": "image/c.jpeg 2\n"}
    root = plant(several(labels_txt="cat 1\ndog 2\nowl 3\n", **lists), *IMAGES)
    message = refusal(paddlelabel.read, root)
    assert "may begin with 0 or with 1: 1 of the lists may be 'cat' or 'dog'" in message
    (root / "labels.txt").write_text("cat\ndog\nowl\n")  # as the repair says
    assert labels(paddlelabel.read(root, Options()))["train"] == {IMAGES[0]: ["dog"]}


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"labels_txt": "cat\ndog\n"}, "the number 2 has no name: labels.txt has 2 names, from 0"),
        ({"labels_txt": "cat\ncat\nowl\n"}, "the name 'cat' has the numbers 0 and 1"),
        ({"train_list_txt": "image/a b.jpeg 1,2\n"}, "'1,2' is neither the number of a class nor"),
        ({"train_list_txt": "image/a b.jpeg -1\n"}, "'-1' is neither the number of a class nor"),
        ({"train_list_txt": "image 1\n"}, "the line names no image"),
        ({"train_list_txt": "image/gone.jpg 1\n"}, "image/gone.jpg is not there"),
        ({"train_list_txt": "image/a b.jpeg Annotations/a b.png\n"}, "the line names a mask"),
        ({"train_list_txt": "image/a b.jpeg Annotations/a b.xml\n"}, "src_dataset_type=VOC"),
        ({"train_list_txt": "image/a b.jpeg Annotations/a b.txt\n"}, "src_dataset_type=YOLO"),
        ({"train_list_txt": "", "val_list_txt": ""}, "the source names no image"),
    ],
)
def test_what_is_wrong_is_told(
    plant: Plant, refusal: Any, files: dict[str, str], what: str
) -> None:
    assert what in refusal(paddlelabel.read, plant(several(**files), *IMAGES))


def test_missing_files_are_told(plant: Plant, refusal: Any) -> None:
    root = plant(several(), *IMAGES)
    (root / "labels.txt").unlink()
    assert "labels.txt is not there" in refusal(paddlelabel.read, root)
    assert "there is neither train_list.txt nor val_list.txt" in refusal(
        paddlelabel.read, root / "image"
    )
    message = refusal(paddlelabel.read, root.parent)
    assert f"-o Global.dataset_dir={root}\n" in f"{message}\n"
    assert paddlelabel.recognise(Inventory(root.parent)) == ""
    (root / "labels.txt").touch()
    assert paddlelabel.recognise(Inventory(root.parent)) == "set/test_list.txt and labels.txt"


def test_the_encoding_of_the_files_does_not_matter(plant: Plant) -> None:
    root = plant({n: t.encode("gb18030") for n, t in several().items()}, *IMAGES)
    assert paddlelabel.read(root, Options()).label_names == ["梨", "苹果", "1"]


def test_the_format_is_known_by_its_content(plant: Plant) -> None:
    root = plant(several(), *IMAGES)
    assert paddlelabel.recognise(Inventory(root)) == "test_list.txt and labels.txt"
    for name in ("train", "val", "test"):
        (root / f"{name}_list.txt").write_text("JPEGImages/a.jpg Annotations/a.xml\n")
    assert paddlelabel.recognise(Inventory(root)) == ""
    (root / "labels.txt").unlink()
    assert paddlelabel.recognise(Inventory(root)) == ""
