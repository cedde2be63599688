# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import jsonl
from paddlex_ml.formats.collector import Collector, Options
from paddlex_ml.formats.records import (
    choose_tables,
    find_subset,
    is_one_hot,
)

Plant = Callable[..., Path]


@pytest.mark.parametrize(
    ("path", "subset"),
    [
        ("train.jsonl", "train"), ("Val_List.txt", "val"), ("train/metadata.jsonl", "train"),
        ("data/validation-00000-of-1.parquet", "val"), ("train-0001/a.json", "train"),
        ("x/test.txt", "test"), ("train_val.txt", ""), ("trainval.txt", ""), ("training.txt", ""),
        ("list.txt", ""), ("test/train.txt", "test"), ("trains.txt", ""),
    ],
)  # fmt: skip
def test_the_subset_is_a_word_of_the_path(path: str, subset: str) -> None:
    assert find_subset(path) == subset


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["train.x", "val.x", "test.x", "all.x"], ["train.x", "val.x"]),
        (["a.x"], ["a.x"]),
        (["a-1.x", "a-2.x"], ["a-1.x", "a-2.x"]),
        (["cat/meta.x", "dog/meta.x"], ["cat/meta.x", "dog/meta.x"]),
        (["val.x"], ["val.x"]),
        (["train-1.x", "train-2.x", "valid-1.x"], ["train-1.x", "train-2.x", "valid-1.x"]),
    ],
)
def test_files_are_chosen_by_their_names(plant: Plant, files: list[str], chosen: list[str]) -> None:
    collector = Collector(plant({}), Options())
    assert [table.path for table in choose_tables(collector, files, "x file")] == chosen
    assert {*collector.account.left_out} == {*files} - {*chosen}


@pytest.mark.parametrize(
    ("files", "what"),
    [
        (["a.x", "b.x"], "it is not clear which to read: a.x, b.x"),
        (["train.x", "b.x"], "it is not clear which to read"),
        (["train.x", "train_old.x", "val.x"], "it is not clear which to read"),
        (["test.x"], "there is no x file in the data set but for test"),
        ([], "there is no x file in the data set"),
    ],
)
def test_files_that_may_be_the_wrong_ones_are_refused(
    plant: Plant, files: list[str], what: str
) -> None:
    with pytest.raises(PaddlexMLError, match=what):
        choose_tables(Collector(plant({}), Options()), files, "x file")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[0, 1, 1], [0, 0, 0]], True), ([[-1, 1], [1, 1]], True), ([[0], [1]], False),
        ([[0, 1], [1, 0]], None), ([[0, 1], [1]], False), ([[0, 2], [1, 1]], False), ([], False),
        ([[], []], False), ([[0, 1, -1], [1, 1, 0]], True), ([[0, 1, 0], []], None),
        ([[0, 1], []], False), ([[0, -1], [1]], False),
    ],
)  # fmt: skip
def test_values_for_each_class_are_told_from_ids(
    rows: list[list[int]], expected: bool | None
) -> None:
    assert is_one_hot(rows) is expected


def test_files_of_single_images_are_no_tables_where_there_are_many(plant: Plant) -> None:
    many = {f"{i}.json": "{}" for i in range(201)}
    inventory = Inventory(plant({**many, "all.json": "{}"}, *(f"{i}.jpg" for i in range(201))))
    assert inventory.find_tables(".json") == ["all.json"]
    few = Inventory(plant({"deep/a.jsonl": "", "deep/b.jsonl": ""}, "a.jpg"))
    assert few.find_tables(".jsonl") == ["deep/a.jsonl", "deep/b.jsonl"]


@pytest.mark.parametrize("there", [["00001"], ["00000"], ["00000", "00001"]])
def test_missing_parts_are_named(plant: Plant, refusal: Any, there: list[str]) -> None:
    line = '{"path": "a.jpg", "labels": ["x"]}'
    root = plant({f"train-{part}-of-00002.jsonl": line for part in there}, "a.jpg")
    if len(there) == 2:
        assert jsonl.read(root, Options()).label_names == ["x"]
        return
    message = refusal(jsonl.read, root)
    assert "1 of 2 parts is missing: train-0000" in message
    (root / f"train-{there[0]}-of-00002.jsonl").rename(root / "train.jsonl")
    assert jsonl.read(root, Options()).label_names == ["x"]


def test_missing_parts_are_not_counted_one_by_one(plant: Plant, refusal: Any) -> None:
    line = '{"path": "a.jpg", "labels": ["x"]}'
    message = refusal(jsonl.read, plant({"train-1-of-999999999.jsonl": line}, "a.jpg"))
    assert "999,999,998 of 999,999,999 parts are missing: train-000000000-of-999999999" in message
    assert "and 999,999,993 more" in message
