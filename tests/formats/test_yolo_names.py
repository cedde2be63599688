# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.formats import yolo
from paddlex_ml.formats.collector import Options

Plant = Callable[..., Path]
BOX = "0.5 0.5 0.2 0.2"
FILES = {"train/1.txt": f"1 {BOX}", "valid/2.txt": f"0 {BOX}\n1 {BOX}"}
IMAGES = ["train/1.jpg", "valid/2.jpg"]
FOUND = {"train": {IMAGES[0]: ["dog"]}, "val": {IMAGES[1]: ["cat", "dog"]}}


@pytest.mark.parametrize(
    "names",
    [
        ["classes.txt"],
        ["Classes.TXT"],
        ["labels.txt"],
        ["coco.names"],
        ["train/_darknet.labels", "valid/_darknet.labels"],  # Roboflow, for darknet
        ["train/classes.txt", "valid/classes.txt"],  # labelImg
        ["deep/er/predefined_classes.txt"],
    ],
)
def test_files_of_names_are_found_anywhere(plant: Plant, labels: Any, names: list[str]) -> None:
    root = plant({**FILES, **dict.fromkeys(names, "cat\ndog\n")}, *IMAGES)
    dataset = yolo.read(root, Options())
    assert dataset.label_names == ["cat", "dog"]
    assert labels(dataset) == FOUND
    assert dataset.account.left_out == {}


def test_a_file_that_grew_has_all_names(plant: Plant, labels: Any) -> None:
    files = {**FILES, "train/classes.txt": "cat\n", "valid/classes.txt": "cat\ndog\n"}
    assert labels(yolo.read(plant(files, *IMAGES), Options())) == FOUND


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("train/classes.txt", "valid/classes.txt"),
        ("classes.txt", "obj.names"),
        ("data.yaml", "classes.txt"),
    ],
)
def test_names_in_two_orders_are_refused(
    plant: Plant, refusal: Any, labels: Any, first: str, second: str
) -> None:
    files = {**FILES, first: "cat\ndog\n", second: "dog\ncat\n"}
    if first == "data.yaml":
        files[first] = "names: [cat, dog]\ntrain: train\nval: valid\n"
    root = plant(files, *IMAGES)
    message = refusal(yolo.read, root)
    assert f"class 0 is cat in {first}, but dog in {second}" in message
    assert f"where: {root / second}\n" in message
    (root / second).unlink()
    assert labels(yolo.read(root, Options())) == FOUND


def test_names_of_another_kind_are_told(plant: Plant, labels: Any) -> None:
    files = {
        **FILES,
        "data.yaml": "names: [cat, dog]\ntrain: train\nval: valid\n",
        "train/classes.txt": "dog\nperson\ncat\ntv\n",  # what labelImg begins with
    }
    dataset = yolo.read(plant(files, *IMAGES), Options())
    assert labels(dataset) == FOUND
    assert dataset.notes == [
        "the class names are those of data.yaml; other names are in train/classes.txt"
    ]
    reason = "has other class names than data.yaml"
    assert dataset.account.left_out == {"train/classes.txt": reason}


def test_dota_lines_bring_their_own_names(plant: Plant, labels: Any) -> None:
    point = "2753 2408 2861 2385 2888 2468 2805 2502"
    head = "imagesource:GoogleEarth\ngsd:0.146343590398\n"
    files = {
        "train/labelTxt-v1.0/labelTxt/P0001.txt": f"{head}{point} ship 0\n{point} plane 1\n",
        "train/labelTxt-v1.0/Train_Task2_gt/P0001.txt": f"{point} plane 0\n{point} ship 0\n",
        "val/labelTxt-v1.0/labelTxt/P0002.txt": f"{head}{point} small-vehicle 0\n",
    }
    images = ["train/images/P0001.png", "val/images/P0002.png"]
    dataset = yolo.read(plant(files, *images), Options())
    assert dataset.label_names == ["plane", "ship", "small-vehicle"]
    assert labels(dataset) == {
        "train": {images[0]: ["plane", "ship"]},
        "val": {images[1]: ["small-vehicle"]},
    }
    assert dataset.account.records["train/labelTxt-v1.0/labelTxt/P0001.txt"] == 2


def test_a_name_that_is_not_given_is_refused(plant: Plant, refusal: Any) -> None:
    root = plant({"classes.txt": "Ship\n", "1.txt": "9 9 9 9 9 9 9 9 ship 0\n"}, "1.jpg")
    assert "the class 'ship' is not one of the 1 that are named" in refusal(yolo.read, root)


def test_ids_without_any_names_are_refused(plant: Plant, refusal: Any, labels: Any) -> None:
    root = plant(FILES, *IMAGES)
    message = refusal(yolo.read, root)
    assert "there is neither a data.yaml with `names`, nor classes.txt" in message
    assert "write the names of the classes into classes.txt" in message
    (root / "classes.txt").write_text("cat\ndog\n")
    assert labels(yolo.read(root, Options())) == FOUND
