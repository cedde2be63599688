# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats import registry, vott
from paddlex_ml.formats.collector import Options

Plant = Callable[..., Path]
BOXES = (
    '"image","xmin","ymin","xmax","ymax","label"\n'
    '"a.jpg",10.5,5,20,7,"red car"\n"a.jpg",1,2,3,4,"person"\n"b.jpg",11,12,21,32,"person"\n'
)
FOLDER = "vott-csv-export"


def project(*names: str) -> str:
    assets = {
        f"id{i}": {
            "asset": {"format": "jpg", "id": f"id{i}", "name": name, "path": f"file:/c/{name}"},
            "regions": [{"id": "r", "type": "RECTANGLE", "tags": ["person"], "boundingBox": {}}]
            if i
            else [],
            "version": "2.2.0",
        }
        for i, name in enumerate(names)
    }
    tags = [{"name": "person", "color": "#5db300"}, {"name": "car", "color": "#e81123"}]
    return json.dumps({"name": "x", "securityToken": "t", "tags": tags, "assets": assets})


def test_boxes_are_labels_of_their_images(plant: Plant, labels: Any) -> None:
    root = plant({f"{FOLDER}/test-export.csv": BOXES}, f"{FOLDER}/a.jpg", f"{FOLDER}/b.jpg")
    why = f"{FOLDER}/test-export.csv, an export of VoTT"
    assert vott.recognise(Inventory(root)) == why
    dataset = vott.read(root, Options())
    assert dataset.label_names == ["person", "red car"]
    expected = {f"{FOLDER}/a.jpg": ["person", "red car"], f"{FOLDER}/b.jpg": ["person"]}
    assert labels(dataset) == {"train": expected}


@pytest.mark.parametrize("source", ["CSV", "VoTT", "auto"])
def test_the_format_may_be_called_csv(plant: Plant, source: str) -> None:
    root = plant({"x-export.csv": BOXES}, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    dataset = registry.read(root, source, Options())
    assert dataset.label_names == ["person", "red car"]
    assert dataset.account.not_named == 2


def test_the_json_counts_before_the_table_and_has_empty_images(plant: Plant, labels: Any) -> None:
    files = {"x-export.json": project("c.jpg", "a.jpg"), "x-export.csv": BOXES}
    root = plant(files, "a.jpg", "b.jpg", "c.jpg")
    dataset = registry.read(root, "auto", Options())
    assert dataset.label_names == ["person", "car"]
    assert labels(dataset) == {"train": {"c.jpg": [], "a.jpg": ["person"]}}
    assert dataset.account.left_out["x-export.csv"] == "the same project as x-export.json"


def test_exports_in_folders_divide(plant: Plant, labels: Any) -> None:
    files = {f"{name}/x-export.csv": BOXES for name in ("train", "val", "test")}
    images = [f"{name}/{image}.jpg" for name in ("train", "val", "test") for image in "ab"]
    dataset = vott.read(plant(files, *images), Options())
    assert {name: list(rows) for name, rows in labels(dataset).items()} == {
        "train": ["train/a.jpg", "train/b.jpg"],
        "val": ["val/a.jpg", "val/b.jpg"],
    }


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"x-export.csv": BOXES.replace("b.jpg", "")}, "x-export.csv:4"),
        ({"x-export.csv": BOXES.replace("b.jpg", "gone.jpg")}, "gone.jpg is not there"),
        ({"x-export.json": '{"assets": {"a": {"asset": 1}}, "tags": []}'}, "not an export of VoTT"),
        ({"x.csv": "a,b\n1,2\n"}, "there is no export of VoTT"),
    ],
)
def test_damage_is_refused(plant: Plant, refusal: Any, files: dict[str, str], what: str) -> None:
    assert what in refusal(vott.read, plant(files, "a.jpg"))
