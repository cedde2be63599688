# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats import azure, registry
from paddlex_ml.formats.collector import Options

Plant = Callable[..., Path]
STORE = "azureml://subscriptions/s/resourcegroups/g/workspaces/w/datastores/d/paths"
A = f'{{"image_url": "{STORE}/set/a.jpg", "label": ["cat", "dog"], "label_confidence": [1, 1]}}\n'
B = '{"image_url": "AmlDatastore://set/b.jpg", "image_details": {"width": "9px"}, "label": "dog"}\n'
BOXES = """{"image_url": "AmlDatastore://set/a.jpg", "label": [{"label": "cat", "topX": 0.1,
 "isCrowd": 0}, {"label": "dog", "polygon": [[0.1]]}, {"label": "cat", "topX": 0.5}]}"""


def test_annotations_of_training_and_validation_make_both_lists(plant: Plant, labels: Any) -> None:
    files = {"train_annotations.jsonl": A, "validation_annotations.jsonl": B}
    dataset = azure.read(plant(files, "images/a.jpg", "images/b.jpg"), Options())
    assert labels(dataset) == {
        "train": {"images/a.jpg": ["cat", "dog"]},
        "val": {"images/b.jpg": ["dog"]},
    }
    assert len(dataset.account.guesses) == 2


def test_boxes_are_labels_of_the_image(plant: Plant, labels: Any) -> None:
    root = plant({"x.jsonl": BOXES.replace("\n", "") + "\n" + B}, "a.jpg", "b.jpg")
    assert labels(azure.read(root, Options())) == {
        "train": {"a.jpg": ["cat", "dog"], "b.jpg": ["dog"]}
    }


def test_the_longest_end_of_the_address_decides(plant: Plant, labels: Any, refusal: Any) -> None:
    root = plant({"x.jsonl": A}, "deep/set/a.jpg", "other/a.jpg")
    assert labels(azure.read(root, Options())) == {"train": {"deep/set/a.jpg": ["cat", "dog"]}}
    root = plant({}, "more/set/a.jpg")
    assert "may be deep/set/a.jpg or more/set/a.jpg" in refusal(azure.read, root)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"image_url": 3, "label": []}', "a value has the wrong type"),
        ('{"image_url": "b.jpg", "label": null}', "there is no value for the labels (null)"),
        ('{"image_url": "b.jpg"}', "a value has the wrong type: Object missing required field"),
        ('{"image_url": "b.jpg", "label": ["x"}', "the JSON is damaged"),
        ("[1]", "the line is not a JSON object"),
        ('{"image_url": "gone.jpg", "label": []}', "gone.jpg is not there"),
    ],
)
def test_a_wrong_line_is_named(plant: Plant, refusal: Any, line: str, what: str) -> None:
    message = refusal(azure.read, plant({"x.jsonl": A + line}, "a.jpg", "b.jpg"))
    assert what in message
    assert "x.jsonl:2" in message


def test_files_without_the_keys_of_azure_are_not_read(plant: Plant, refusal: Any) -> None:
    root = plant({"x.jsonl": '{"image": "a.jpg", "labels": []}'}, "a.jpg")
    assert azure.recognise(Inventory(root)) == ""
    assert "there is no .jsonl file with image_url and label" in refusal(azure.read, root)


def test_json_lines_of_azure_are_recognised(plant: Plant) -> None:
    root = plant({"train.jsonl": A}, "a.jpg")
    assert [found.format.name for found in registry.recognise(root)] == ["Azure"]
    dataset = registry.read(root, "JSONL", Options())
    assert dataset.notes[0] == "this JSONL is of the kind Azure: train.jsonl"
