# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats import yolo
from paddlex_ml.formats.collector import Options
from paddlex_ml.formats.yolo_labels import LabelFiles, find_subset

Plant = Callable[..., Path]
BOX = "0.5 0.5 0.2 0.2"
NAMES = {"classes.txt": "cat\ndog\n"}


def read_one(plant: Plant, labels: Any, files: dict[str, str], *images: str) -> dict[str, Any]:
    """The labels of a data set with one list; every image is cat, dog, cat, ... by its number."""
    dataset = yolo.read(plant({**NAMES, **files}, *images), Options())
    found: dict[str, Any] = labels(dataset)
    return {"notes": dataset.notes, **found}


@pytest.mark.parametrize(
    ("image", "file"),
    [
        ("images/a.jpg", "Labels/a.txt"),
        ("Images/a.jpg", "labels/a.txt"),
        ("IMAGES/A.JPG", "LABELS/a.TXT"),
        ("images/a.jpg", "labels/A.Txt"),
        ("images/a.jpg", "labels/a.jpg.txt"),
        ("images/a.jpg", "labels/A.JPG.TXT"),
        ("a.jpg", "a.TXT"),
        ("a.jpg", "a.jpg.txt"),
        ("a.jpg", "labels/a.txt"),
        ("JPEGImages/a.jpg", "Annotations/a.txt"),
        ("images/a.jpg", "annotations/a.txt"),
        ("images/a.jpg", "annos/a.txt"),
        ("images/a.jpg", "labelTxt/a.txt"),
        ("images/a.jpg", "labels_obb/a.txt"),
        ("images/a.jpg", "labelTxt-v1.0/labelTxt/a.txt"),
        ("图片/a.jpg", "标注/a.txt"),
        ("train/a.jpg", "train_labels/a.txt"),
        ("train/a.jpg", "labels/train/a.txt"),
        ("train/a.jpg", "labels/a.txt"),
        ("train_images/a.jpg", "trainLabels/a.txt"),
        ("images/train/a.jpg", "train/labels/a.txt"),
        ("images/a.jpg", "labels/train/a.txt"),
        ("my_set/img/a.jpg", "my_set/txt/a.txt"),
        ("photos/a.jpg", "obj_train_data/a.txt"),
        ("images/a.jpg", "labels/0a1b2c3d-a.txt"),  # Label Studio renames what is uploaded
        ("images/a.b.jpg", "Annotations/a.b.txt"),
        ("images/" + unicodedata.normalize("NFD", "café.jpg"), "labels/café.txt"),
    ],
)
def test_labels_elsewhere_are_found_and_told(
    plant: Plant, labels: Any, image: str, file: str
) -> None:
    found = read_one(plant, labels, {file: f"1 {BOX}\n"}, image)
    assert found["train"] == {image: ["dog"]}
    folder = file.rpartition("/")[0]
    place = f"{folder}/" if folder else "the data set folder"
    assert found["notes"] == [f"the labels of 1 image are read from {place}: {image} = {file}"]


def test_folders_of_the_same_words_belong_together(plant: Plant, labels: Any) -> None:
    files = {
        "train_labels/1.txt": f"0 {BOX}", "val_labels/1.txt": f"1 {BOX}",
        "train_labels/cam2/1.txt": f"1 {BOX}", "val_labels/cam2/1.txt": "",
    }  # fmt: skip
    images = ["train/1.jpg", "train/cam2/1.jpg", "valid/1.jpg", "valid/cam2/1.jpg"]
    found = read_one(plant, labels, files, *images)
    assert found["train"] == {"train/1.jpg": ["cat"], "train/cam2/1.jpg": ["dog"]}
    assert found["val"] == {"valid/1.jpg": ["dog"], "valid/cam2/1.jpg": []}


def test_labels_of_another_subset_are_never_taken(plant: Plant, refusal: Any) -> None:
    files = {**NAMES, "labels/val/1.txt": f"0 {BOX}", "labels/val/2.txt": f"0 {BOX}"}
    message = refusal(yolo.read, plant(files, "images/train/1.jpg", "images/train/2.jpg"))
    assert "2 of 2 images have no label file (images/train/1.jpg, images/train/2.jpg)" in message
    assert "2 label files have no image (labels/val/1.txt, labels/val/2.txt)" in message
    assert "put the labels of images/a.jpg into labels/a.txt" in message


def test_an_unlabelled_image_gets_no_labels_of_another_place(plant: Plant, labels: Any) -> None:
    files = {
        "labels/1.txt": f"0 {BOX}", "labels/2.txt": f"0 {BOX}",
        "runs/detect/exp/labels/3.txt": f"1 {BOX}", "labels_old/3.txt": f"1 {BOX}",
    }  # fmt: skip
    found = read_one(plant, labels, files, "images/1.jpg", "images/2.jpg", "images/3.jpg")
    assert found["train"]["images/3.jpg"] == []
    assert found["notes"] == [
        "1 image has no label file, so no label: images/3.jpg",
        "2 label files have no image: labels_old/3.txt, runs/detect/exp/labels/3.txt",
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("labels/a.txt", "images/a.txt"),
        ("labels/a.txt", "Annotations/a.txt"),
        ("labels/a.txt", "labels/a.jpg.txt"),
        ("labels/a.txt", "labels/A.txt"),
        ("Annotations/a.txt", "labelTxt/a.txt"),
    ],
)
def test_two_files_that_differ_are_refused(
    plant: Plant, refusal: Any, labels: Any, first: str, second: str
) -> None:
    root = plant({**NAMES, first: f"0 {BOX}", second: f"1 {BOX}"}, "images/a.jpg")
    message = refusal(yolo.read, root)
    assert f"{first} and {second} may be its labels, and they differ" in message or (
        f"{second} and {first} may be its labels, and they differ" in message
    )
    assert f"where: {root / 'images/a.jpg'}\n" in message
    (root / second).write_text(f"0 {BOX}\n0 {BOX}\n")
    assert labels(yolo.read(root, Options())) == {"train": {"images/a.jpg": ["cat"]}}
    (root / second).unlink()
    assert labels(yolo.read(root, Options())) == {"train": {"images/a.jpg": ["cat"]}}


def test_one_file_for_images_in_two_folders_is_refused(plant: Plant, refusal: Any) -> None:
    root = plant({**NAMES, "labels/1.txt": f"0 {BOX}"}, "camA/1.jpg", "camB/1.jpg")
    message = refusal(yolo.read, root)
    assert "labels/1.txt may be the labels of camA/1.jpg, camB/1.jpg" in message


def test_one_file_for_two_endings_is_told(plant: Plant, labels: Any) -> None:
    for file in ("labels/1.txt", "Labels/1.TXT"):
        found = read_one(plant, labels, {file: f"0 {BOX}"}, "images/1.jpg", "images/1.png")
        assert found["train"] == {"images/1.jpg": ["cat"], "images/1.png": ["cat"]}
    note = "1 label file is that of several images each: labels/1.txt of images/1.jpg, images/"
    assert any(line.startswith(note) for line in found["notes"])


def test_full_names_tell_two_endings_apart(plant: Plant, labels: Any) -> None:
    files = {"labels/1.jpg.txt": f"0 {BOX}", "labels/1.png.txt": f"1 {BOX}"}
    found = read_one(plant, labels, files, "images/1.jpg", "images/1.png")
    assert found["train"] == {"images/1.jpg": ["cat"], "images/1.png": ["dog"]}


def test_text_files_that_have_other_things_stay_unread(plant: Plant) -> None:
    root = plant({"notes.txt": "call Bob", "a.txt": f"0 {BOX}"}, "a.jpg")
    labels = LabelFiles(Inventory(root), set())
    labels.match(["a.jpg"])
    assert labels.list_unused() == ["notes.txt"]
    (root / "classes.txt").write_text("cat\n")
    account = yolo.read(root, Options()).account
    assert account.left_out == {"notes.txt": "not read"}


@pytest.mark.parametrize(
    ("path", "subset"),
    [
        ("train/a.jpg", "train"),
        ("x/val2017/a.jpg", "val"),
        ("obj_train_data/a.jpg", "train"),
        ("Valid_Images/a.jpg", "val"),
        ("imagesTest/a.jpg", "test"),
        ("JPEGImages_train/a.jpg", "train"),
        ("train_station/a.jpg", ""),
        ("trainer/a.jpg", ""),
        ("images/train.jpg", ""),
    ],
)
def test_folders_name_subsets(path: str, subset: str) -> None:
    assert find_subset(path) == subset
