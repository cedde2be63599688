# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from paddlex_ml.data import soft_targets
from paddlex_ml.data.inventory import OWN_VALUES, Inventory, is_annotation

Plant = Callable[..., Path]


def test_images_and_annotations_are_told_apart_and_leftovers_left_out(plant: Plant) -> None:
    texts = {"a/x.TXT": "1", "b.Json": "{}", "README.roboflow.txt": "", "old.json.bak": ""}
    texts["relations.yaml"] = "exclusive: [[a, b]]"
    inventory = Inventory(plant(texts, "a/1.JPG", "2.png", ".hidden/3.png", "train.txt.undone"))
    assert inventory.images == ["2.png", "a/1.JPG"]
    assert inventory.annotations == ["b.Json", "a/x.TXT"]
    assert inventory.find(".txt") == ["a/x.TXT"]
    assert inventory.names("a") == ["1.JPG", "x.TXT"]
    assert inventory.names("none") == []
    assert (inventory.read_head("b.Json"), inventory.read_head("none")) == (b"{}", b"")


def test_a_folder_that_cannot_be_read_is_kept_with_its_reason(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = plant({}, "a/1.jpg", "lost+found/2.jpg")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if "lost" in str(path):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    inventory = Inventory(root)
    assert inventory.images == ["a/1.jpg"]
    assert inventory.unreadable == {"lost+found": "the folder cannot be read: Permission denied"}


def test_output_folders_of_commands_are_not_looked_into(plant: Plant) -> None:
    root = plant(
        {"output/dataset/train.txt": "a.jpg\t1\n", "b/run/train_result.json": "{}"},
        *("a/1.jpg", "output/.check_dataset.lock", "output/check_dataset/demo_img/1.jpg"),
        *("b/2.jpg", "b/run/curves.png"),
    )
    inventory = Inventory(root)
    assert inventory.images == ["a/1.jpg", "b/2.jpg"]
    assert inventory.annotations == []
    assert inventory.outputs == ["b/run", "output"]
    assert inventory.folders[""].folders == ["a", "b"]
    assert Inventory(root / "output").images == ["check_dataset/demo_img/1.jpg"]


@pytest.mark.parametrize(
    ("texts", "ours"),
    [
        ({"label.txt": "0 cat\n", "train.txt": "a.jpg\t0,1\n", "val.txt": "a b.jpg\t1\n"}, 3),
        ({"label.txt": "cat\ndog\n", "train.txt": "a.jpg 0 1\n", "val.txt": "a.jpg\n"}, 0),
        ({"train.txt": "a.jpg\t0,1\r\n"}, 1),
        ({"train.txt": "a.jpg\t3\n"}, 0),
        ({"train.txt": "a.jpg\t-1,0\n", "val.txt": "a.jpg\t1,,0\n"}, 2),
        ({"train.txt": "a.jpg\t@3,17?5\n", "val.txt": "a.jpg\t@\r\n"}, 2),
        ({"train.txt": "a.jpg\t\n", "val.txt": "a.jpg\t-2,0\n"}, 0),
    ],
)
def test_our_own_lists_are_recognised(plant: Plant, texts: dict[str, str], ours: int) -> None:
    assert len(Inventory(plant(texts)).own_lists) == ours


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x/a.csv", True),
        ("LICENSE.txt", False),
        ("license_plates.txt", True),
        ("read me.txt", False),
        ("readmission.csv", True),
        ("a.py", False),
    ],
)
def test_prose_is_no_annotation(name: str, expected: bool) -> None:
    assert is_annotation(name) is expected


@pytest.mark.parametrize(
    "values",
    [
        *("0,1,-1", "1", ",,", "0, ,1 ", "@", "@3,17", "@3?5, 6", "@3!5", "@!", "-1,"),
        *("0.5,1", ".25", "0,1.", "@3:0.7,17", "@3: .5!8", "0,1\t2.5", "@3\t 0.5 ", "1,-1,\t1"),
        *("0,5E-2", "10e-2,1", "5e-02,0", "0,1\t2e3", "0,1\t1E-3", "0,.5e0", "00,1", "@3:5E-02"),
        *("0,-1.0,1", "0,1\t.5"),
    ],
)
def test_values_of_our_own_lines_are_known(values: str) -> None:
    assert re.fullmatch(OWN_VALUES, values)


_SLOW = [",  " * 5000 + "x", "1." * 5000, "0.1, " * 5000 + "x", "@" + ": ." * 5000 + "x"]


@pytest.mark.parametrize(
    "values", ["0,1", "0,0.25", "0,5E-2", "10e-2,1", ".5e0,1.0", "00.5,-1.0", ",1", "@1:5E-01"]
)
@pytest.mark.parametrize("weight", ["", "\t2", "\t2e3", "\t1E-3", "\t.5", "\t2."])
def test_what_is_read_as_soft_values_and_weights_is_known(values: str, weight: str) -> None:
    assert not soft_targets.parse([values], 2, "expected").faults
    assert re.fullmatch(OWN_VALUES, values + weight)


@pytest.mark.parametrize("values", ["0,2", "x", "0,1,x", "@3;4", "-2", "1\t0", *_SLOW])
def test_other_values_are_not_ours_and_take_no_time(values: str) -> None:
    assert not re.fullmatch(OWN_VALUES, values)
