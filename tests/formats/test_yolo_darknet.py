# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data import annotation
from paddlex_ml.formats import rewrite, yolo
from paddlex_ml.formats.collector import Options

Plant = Callable[..., Path]
BOX = "0.087500 0.109375 0.125000 0.156250"
DATA = (
    "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt # lists\nnames = data/obj.names\n"
)
# As CVAT writes them: the paths of the lists begin with data/, the archive does not.
FILES = {
    "obj.data": DATA + "backup = backup/\n",
    "obj.names": "cat\ndog\n",
    "train.txt": "data/obj_train_data/1.jpg\ndata/obj_train_data/2.jpg\n",
    "valid.txt": "data/obj_valid_data/1.jpg\n",
    "obj_train_data/1.txt": f"0 {BOX}\n1 {BOX}\n",
    "obj_train_data/2.txt": "",
    "obj_valid_data/1.txt": f"1 {BOX}\n",
}
IMAGES = ["obj_train_data/1.jpg", "obj_train_data/2.jpg", "obj_valid_data/1.jpg"]
FOUND = {"train": {IMAGES[0]: ["cat", "dog"], IMAGES[1]: []}, "val": {IMAGES[2]: ["dog"]}}


def test_the_lists_of_obj_data_divide_the_images(plant: Plant, labels: Any) -> None:
    dataset = yolo.read(plant(FILES, *IMAGES), Options())
    assert dataset.label_names == ["cat", "dog"]
    assert labels(dataset) == FOUND
    assert dataset.notes == [
        "obj.data:2: data/train.txt is not there: train.txt is taken for it",
        "obj.data:3: data/valid.txt is not there: valid.txt is taken for it",
    ]
    assert [guess.path for guess in dataset.account.guesses] == IMAGES
    assert dataset.account.left_out == {}


def test_a_second_conversion_reads_the_lists_of_the_first(plant: Plant, labels: Any) -> None:
    root = plant({**FILES, "obj.data": DATA.replace("valid.txt", "val.txt")}, *IMAGES)
    (root / "valid.txt").rename(root / "val.txt")
    rewrite.convert(root, "YOLO", Options())
    assert annotation.read(root).label_names == ["cat", "dog"]
    assert labels(yolo.read(root, Options())) == FOUND


@pytest.mark.parametrize(
    "change",
    [
        {"obj.data": DATA.replace("data/", "")},
        {"obj.data": DATA.replace("data/", "C:\\darknet\\build\\data\\")},
        {"obj.data": DATA.replace("valid =", "val=").replace("data/train.txt", "data/Train.TXT")},
        {"obj.data": "names = elsewhere/OBJ.names\n"},
        {"obj.data": None},
        {"obj.data": None, "train.txt": "/home/me/set/obj_train_data/1.JPG\n"
         "D:\\set\\obj_train_data\\2.jpg\n"},
        {"obj.data": None, "train.txt": None, "valid.txt": None},
    ],
    ids=["plain", "Windows", "capitals", "names alone", "no obj.data", "other paths", "no lists"],
)  # fmt: skip
def test_other_spellings_mean_the_same(
    plant: Plant, labels: Any, change: dict[str, str | None]
) -> None:
    files = {path: text for path, text in {**FILES, **change}.items() if text is not None}
    assert labels(yolo.read(plant(files, *IMAGES), Options())) == FOUND


def test_a_list_that_is_not_there_is_refused(plant: Plant, refusal: Any, labels: Any) -> None:
    files = {**FILES, "obj.data": DATA.replace("valid.txt", "no.txt")}
    root = plant(files, *IMAGES)
    message = refusal(yolo.read, root)
    assert "data/no.txt is neither a folder nor a .txt list of the data set" in message
    assert f"where: {root / 'obj.data'}:3\n" in message
    assert "or remove it where there is none" in message
    (root / "obj.data").write_text(files["obj.data"].replace("valid = ", "# "))
    assert labels(yolo.read(root, Options())) == {"train": FOUND["train"]}


def test_several_data_files_are_refused(plant: Plant, refusal: Any) -> None:
    root = plant({**FILES, "obj.data": "", "a.data": DATA, "b.data": DATA}, *IMAGES)
    assert "2 files may say where the images are: a.data, b.data" in refusal(yolo.read, root)
