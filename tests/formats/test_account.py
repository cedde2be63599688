# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import msgspec

from paddlex_ml.artifacts.check_result import ConversionAccount
from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats.account import Account, GuessedImage

Plant = Callable[..., Path]


def make(plant: Plant) -> tuple[Account, Inventory]:
    texts = {"a.csv": "", "test/b.csv": "", "notes.xml": "", "label.txt": "0 cat\n"}
    root = plant(texts, "1.jpg", "2.jpg", "3.jpg", "test/4.jpg")
    account = Account()
    account.use("a.csv", 5)
    account.drop("a.csv", "of unknown images", "row 3", 2)
    account.guesses.append(GuessedImage("x/1.jpg", "1.jpg", "in another folder", "a.csv:2"))
    account.note_encoding("a.csv", "GB18030")
    account.merged_names["cat"] = ["Cat"]
    account.names_left_out["objects"] = "the root of the export"
    inventory = Inventory(root)
    account.class_names = ["cat"]
    account.close(inventory, {"1.jpg": True, "2.jpg": False})
    return account, inventory


def test_everything_is_counted_and_what_is_left_out_has_its_reason(plant: Plant) -> None:
    account, _ = make(plant)
    assert account.left_out == {
        "label.txt": "a list to be written",
        "notes.xml": "not read",
        "test/b.csv": "of the test subset",
        "3.jpg": "no annotation names it",
        "test/4.jpg": "of the test subset",
    }
    assert account.format_lines() == [
        "annotation files: 4 seen, 1 used; records: 5 read, 2 dropped",
        "images: 4 seen, 1 with labels, 1 without, 1 not named by an annotation",
        "1 file is read as GB18030: a.csv",
        "2 records dropped, of unknown images: row 3",
        "1 image was found in another folder: x/1.jpg = 1.jpg",
        "the class 'cat' is also spelt 'Cat'",
        "the class 'objects' is left out: the root of the export",
    ]
    rows = list(csv.reader(account.format_csv().splitlines()))
    assert rows[0] == ["file", "what", "why"]
    assert ["notes.xml", "left out", "not read"] in rows
    assert ["1.jpg", "found in another folder", "a.csv:2 names x/1.jpg"] in rows


def test_the_result_file_has_the_same_counts(plant: Plant) -> None:
    described = msgspec.convert(make(plant)[0].describe(), ConversionAccount)
    assert (described.annotation_files.seen, described.annotation_files.used) == (4, 1)
    assert described.records.dropped == {"of unknown images": 2}
    assert (described.images.seen, described.images.not_named) == (4, 1)
    assert described.classes.merged == {"cat": ["Cat"]}
    assert described.left_out["of the test subset"] == 2
    assert described.guesses == [["x/1.jpg", "1.jpg", "in another folder", "a.csv:2"]]


def test_a_name_that_is_no_text_can_be_written(plant: Plant) -> None:
    account = Account()
    account.left_out["\udcff.txt"] = "not read"
    assert "\\udcff.txt,left out" in account.format_csv()
