# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from paddlex_ml.formats import yolo
from paddlex_ml.formats.collector import Options

Plant = Callable[..., Path]
BOX = "0.5 0.5 0.2 0.2"


def test_every_object_counts_once_though_two_images_share_its_file(plant: Plant) -> None:
    files = {"classes.txt": "a\n", "labels/1.txt": f"0 {BOX}\n\n0 {BOX}\n", "labels/2.txt": ""}
    account = yolo.read(
        plant(files, *(f"images/{n}" for n in ("1.jpg", "1.png", "2.jpg"))), Options()
    ).account
    assert account.records == {"classes.txt": 0, "labels/1.txt": 2, "labels/2.txt": 0}
    assert (account.with_labels, account.without_labels) == (2, 1)
    assert account.not_annotated == {}  # an empty file says that nothing is there


def test_the_encodings_of_label_files_are_told(plant: Plant) -> None:
    point = "9 9 20 9 20 20 9 20"
    files = {
        "1.txt": f"{point} 苹果 0\n".encode("utf-16"),
        "2.txt": f"{point} 照片 0\n".encode("gb18030"),
    }
    dataset = yolo.read(plant(files, "1.jpg", "2.jpg"), Options())
    assert dataset.label_names == sorted(["照片", "苹果"])
    assert dataset.account.encodings == {"UTF-16": ["1.txt"], "GB18030": ["2.txt"]}


def test_label_files_without_an_image_are_left_out_with_the_reason(plant: Plant) -> None:
    files = {
        "classes.txt": "a\n", "labels/1.txt": f"0 {BOX}", "labels/2.txt": f"0 {BOX}",
        "labels/3.txt": "", "empty.txt": "", "test/4.txt": f"0 {BOX}",
    }  # fmt: skip
    dataset = yolo.read(plant(files, "images/1.jpg"), Options())
    assert dataset.notes == ["2 label files have no image: labels/2.txt, labels/3.txt"]
    assert dataset.account.left_out == {
        "labels/2.txt": "no image has its name",
        "labels/3.txt": "no image has its name",
        "empty.txt": "not read",
        "test/4.txt": "of the test subset",
    }
