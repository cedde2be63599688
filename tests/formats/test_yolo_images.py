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
# PaddleLabel
PADDLE = {
    "classes.txt": "梨\n苹果\n",
    "train_list.txt": "JPEGImages/2.jpeg Annotations/2.txt\nJPEGImages/4.jpeg Annotations/4.txt\n",
    "val_list.txt": "JPEGImages/3.jpeg Annotations/3.txt\n",
    "test_list.txt": "JPEGImages/1.jpeg Annotations/1.txt\n",
    "Annotations/1.txt": f"1 {BOX}\n",
    "Annotations/2.txt": f"0 {BOX}\n0 {BOX}\n",
    "Annotations/3.txt": f"1 {BOX}\n",
}
PADDLE_IMAGES = [f"JPEGImages/{number}.jpeg" for number in range(1, 5)]
PADDLE_FOUND = {
    "train": {"JPEGImages/2.jpeg": ["梨"], "JPEGImages/4.jpeg": []},
    "val": {"JPEGImages/3.jpeg": ["苹果"]},
}
SPLIT = {
    "train/labels/1.txt": f"0 {BOX}",
    "valid/labels/2.txt": f"0 {BOX}",
    "test/labels/3.txt": f"0 {BOX}",
}
SPLIT_IMAGES = ["train/images/1.jpg", "valid/images/2.jpg", "test/images/3.jpg"]
SPLIT_FOUND = {"train": {SPLIT_IMAGES[0]: ["a"]}, "val": {SPLIT_IMAGES[1]: ["a"]}}


def test_the_lists_of_paddlelabel_divide_the_images(plant: Plant, labels: Any) -> None:
    dataset = yolo.read(plant(PADDLE, *PADDLE_IMAGES), Options())
    assert labels(dataset) == PADDLE_FOUND
    assert dataset.account.left_out == {
        "JPEGImages/1.jpeg": "of the test subset",
        "Annotations/1.txt": "of the test subset",
    }
    assert [*dataset.account.not_annotated] == ["JPEGImages/4.jpeg"]


@pytest.mark.parametrize(
    "change",
    [
        {"train_list.txt": "JPEGImages\\2.jpeg Annotations\\2.txt\r\nJPEGImages\\4.jpeg x.txt\r\n"},
        {"train_list.txt": "image/2.JPG\timage/2.txt\n./JPEGImages/4.jpeg\n"},
        {"train_list.txt": None, "Train.txt": "2.jpeg\n4.jpeg\n", "val_list.txt": None,
         "Validation.txt": "D:\\x\\3.jpeg\n"},
        {"val_list.txt": "\ufeffJPEGImages/3.jpeg Annotations/3.txt\n"},
    ],
)  # fmt: skip
def test_lists_in_other_spellings_mean_the_same(
    plant: Plant, labels: Any, change: dict[str, str | None]
) -> None:
    files = {path: text for path, text in {**PADDLE, **change}.items() if text is not None}
    assert labels(yolo.read(plant(files, *PADDLE_IMAGES), Options())) == PADDLE_FOUND


def test_a_list_may_name_label_files_of_other_names(plant: Plant, labels: Any) -> None:
    files = {
        "classes.txt": "a\nb\n",
        "train.txt": "p/1.jpg q/x1.txt\np/2.jpg q/x2.txt\n",
        "q/x1.txt": f"1 {BOX}",
        "q/x2.txt": f"0 {BOX}",
    }
    dataset = yolo.read(plant(files, "p/1.jpg", "p/2.jpg"), Options())
    assert labels(dataset) == {"train": {"p/1.jpg": ["b"], "p/2.jpg": ["a"]}}
    assert dataset.account.left_out == {}


@pytest.mark.parametrize(
    "text",
    [
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n",
        "train: /content/set/train/images\nval: /content/set/valid/images\n",
        "train: C:\\Users\\me\\set\\train\\images\nval: C:\\Users\\me\\set\\valid\\images\n",
        "path: /home/me/set\ntrain: Train/Images\nvalid: Valid/images\n",
        "path: ./\ntrain: train.txt\nval: val.txt\ntest: test/images\n",
        "Train: train\nvalidation: valid\n",
        "",
    ],
)
def test_paths_of_another_computer_are_found(plant: Plant, labels: Any, text: str) -> None:
    files = {"data.yaml": f"{text}names: [a]\n", **SPLIT}
    if "train.txt" in text:  # CVAT begins the paths with data/
        files |= {"train.txt": "data/train/images/1.jpg\n", "val.txt": "/x/valid/images/2.jpg\n"}
    dataset = yolo.read(plant(files, *SPLIT_IMAGES), Options())
    assert labels(dataset) == SPLIT_FOUND
    assert dataset.account.left_out[SPLIT_IMAGES[2]] == "of the test subset"
    assert dataset.account.left_out["test/labels/3.txt"] == "of the test subset"


def test_a_guessed_folder_is_told(plant: Plant) -> None:
    text = "train: /content/set/train/images\nval: valid/images\nnames: [a]\n"
    notes = yolo.read(plant({"data.yaml": text, **SPLIT}, *SPLIT_IMAGES), Options()).notes
    assert notes == [
        "data.yaml:1: /content/set/train/images is not there: train/images is taken for it"
    ]


def test_a_folder_of_another_subset_is_never_taken(plant: Plant, refusal: Any, labels: Any) -> None:
    text = "train: ../train/images\nval: ../valid/images\nnames: [a]\n"
    root = plant({"data.yaml": text, "train/labels/1.txt": f"0 {BOX}"}, SPLIT_IMAGES[0])
    message = refusal(yolo.read, root)
    assert "../valid/images is neither a folder nor a .txt list of the data set" in message
    assert "or remove it where there is none" in message
    (root / "data.yaml").write_text(text.replace("val: ../valid/images\n", ""))
    assert labels(yolo.read(root, Options())) == {"train": SPLIT_FOUND["train"]}


def test_two_folders_that_end_alike_are_refused(plant: Plant, refusal: Any) -> None:
    files = {"data.yaml": "train: /x/photos\nnames: [a]\n"}
    root = plant(files, "b/photos/1.jpg", "a/photos/2.jpg")
    assert "/x/photos may be a/photos or b/photos" in refusal(yolo.read, root)


@pytest.mark.parametrize("folder", ["", "config", "deep/er"])
@pytest.mark.parametrize("prefix", ["", "../", "../../"])
def test_the_yaml_file_may_lie_in_a_folder(
    plant: Plant, labels: Any, folder: str, prefix: str
) -> None:
    text = f"train: {prefix}train/images\nval: {prefix}valid/images\nnames: [a]\n"
    files = {f"{folder}/data.yaml".lstrip("/"): text, **SPLIT}
    assert labels(yolo.read(plant(files, *SPLIT_IMAGES), Options())) == SPLIT_FOUND


def test_a_data_set_in_a_folder_is_read_from_above(plant: Plant, labels: Any) -> None:
    files = {f"set/{path}": text for path, text in SPLIT.items()}
    files["set/data.yaml"] = "train: train/images\nval: valid/images\nnames: [a]\n"
    dataset = yolo.read(plant(files, *(f"set/{image}" for image in SPLIT_IMAGES)), Options())
    assert labels(dataset)["val"] == {f"set/{SPLIT_IMAGES[1]}": ["a"]}


def test_folders_such_as_train_images_divide(plant: Plant, labels: Any) -> None:
    files = {
        "classes.txt": "a",
        "train_labels/1.txt": f"0 {BOX}",
        "val_labels/1.txt": f"0 {BOX}",
    }
    images = ["train_images/1.jpg", "val_images/1.jpg", "test_images/1.jpg"]
    dataset = yolo.read(plant(files, *images), Options())
    assert labels(dataset) == {"train": {images[0]: ["a"]}, "val": {images[1]: ["a"]}}
    assert dataset.account.left_out == {images[2]: "of the test subset"}


def test_images_with_labels_outside_of_images_are_taken_too(plant: Plant, labels: Any) -> None:
    files = {"classes.txt": "a", "labels/1.txt": f"0 {BOX}", "more/2.txt": f"0 {BOX}"}
    dataset = yolo.read(plant(files, "images/1.jpg", "more/2.jpg", "logo.png"), Options())
    assert labels(dataset) == {"train": {"images/1.jpg": ["a"], "more/2.jpg": ["a"]}}
    assert dataset.account.left_out == {"logo.png": "no annotation names it"}


def test_labelled_images_in_no_list_are_told(plant: Plant) -> None:
    files = {"data.yaml": "train: images/train\nnames: [a]\n",
             "labels/train/1.txt": f"0 {BOX}", "labels/more/2.txt": f"0 {BOX}"}  # fmt: skip
    dataset = yolo.read(plant(files, "images/train/1.jpg", "images/more/2.jpg"), Options())
    assert dataset.notes == ["1 image with labels is in no list: images/more/2.jpg"]
    assert dataset.account.left_out["labels/more/2.txt"] == "of an image in no list"
