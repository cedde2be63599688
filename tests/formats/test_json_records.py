# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats import jsonl, registry
from paddlex_ml.formats.collector import Options
from paddlex_ml.formats.json_records import decode_first

Plant = Callable[..., Path]


def test_only_the_keys_of_a_very_long_first_line_are_known(plant: Plant) -> None:
    long = '{"data_row": {"id": "' + "x" * 2**16 + '"}, "projects": {}}'
    inventory = Inventory(plant({"a.json": long, "b.json": "{\n}", "c.json": '{"x": [1]}\n{'}))
    assert decode_first(inventory, "a.json") == {"data_row": None}
    assert decode_first(inventory, "b.json") == {}
    assert decode_first(inventory, "c.json") == {"x": [1]}


@pytest.mark.parametrize(("indent", "name"), [(2, "x.jsonl"), (None, "x.jsonl"), (2, "x.json")])
@pytest.mark.parametrize("as_list", [True, False])
def test_objects_may_be_a_list_or_take_several_lines(
    plant: Plant, labels: Any, indent: int | None, name: str, as_list: bool
) -> None:
    rows = [{"path": "a.jpg", "labels": ["x"]}, {"path": "b.jpg", "labels": []}]
    text = "\n".join(json.dumps(row, indent=indent) for row in rows)
    root = plant({name: json.dumps(rows, indent=indent) if as_list else text}, "a.jpg", "b.jpg")
    dataset = registry.read(root, "auto", Options())
    assert labels(dataset) == {"train": {"a.jpg": ["x"], "b.jpg": []}}
    assert dataset.account.records == {name: 2}


@pytest.mark.parametrize(
    "text", ['[{"path": "a.jpg", "labels": ["x"]}, {', '{\n"path": "a.jpg",\n']
)
def test_a_damaged_list_is_refused(plant: Plant, refusal: Any, text: str) -> None:
    assert "the JSON is damaged" in refusal(jsonl.read, plant({"x.jsonl": text}, "a.jpg"))


def test_numbers_that_are_not_json_are_read(plant: Plant, labels: Any) -> None:
    text = '{"path": "a.jpg", "labels": ["x"], "score": NaN, "low": -Infinity}'
    dataset = jsonl.read(plant({"x.jsonl": text}, "a.jpg"), Options())
    assert labels(dataset) == {"train": {"a.jpg": ["x"]}}


def test_a_fault_names_the_line_where_its_object_begins(plant: Plant, refusal: Any) -> None:
    rows = [{"path": "a.jpg", "labels": ["x"]}, {"path": 3, "labels": []}]
    text = "\n".join(json.dumps(row, indent=1) for row in rows)
    assert "x.jsonl:7" in refusal(jsonl.read, plant({"x.jsonl": text}, "a.jpg"))
