# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats import mmpretrain
from paddlex_ml.formats.collector import Options, SourceDataset

Plant = Callable[..., Path]
Labels = Callable[[SourceDataset], dict[str, dict[str, list[str]]]]
CLASSES = ["zebra", "cat", "dog"]
IMAGES = ["a.jpg", "b.jpg", "c.jpg"]


def describe(*labels: Any, classes: Any = CLASSES, **fields: Any) -> str:
    """A file of the images a.jpg, b.jpg, ..., and the label of each."""
    entries = [
        {"img_path": path, "gt_label": label, "height": 4}
        for path, label in zip(IMAGES, labels, strict=False)
    ]
    meta = {"dataset_type": "multi_label", "task_name": "x", "classes": classes}
    return json.dumps({"metainfo": meta, "data_list": entries, **fields})


def read(root: Path, **options: Any) -> SourceDataset:
    return mmpretrain.read(root, Options(**options))


def test_numbers_are_those_of_the_classes(plant: Plant, labels: Labels) -> None:
    root = plant({"train.json": describe([0, 2], [], 1)}, *(f"images/{name}" for name in IMAGES))
    assert mmpretrain.recognise(Inventory(root)) == "train.json"
    dataset = read(root)
    assert dataset.label_names == CLASSES
    assert labels(dataset) == {
        "train": {"images/a.jpg": ["zebra", "dog"], "images/b.jpg": [], "images/c.jpg": ["cat"]}
    }
    assert dataset.account.records == {"train.json": 3}


@pytest.mark.parametrize("number", [2, 2.0, "2", "dog", [2], ["2"], [2.0]])
def test_numbers_compare_by_value(plant: Plant, labels: Labels, number: Any) -> None:
    root = plant({"x.json": describe(number)}, "a.jpg")
    assert labels(read(root)) == {"train": {"a.jpg": ["dog"]}}


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (3, "gt_label has 3, which is no number of the 3 classes"),
        (-1, "gt_label has -1, which is no number"),
        (0.5, "gt_label has 0.5, which is no number"),
        (True, "gt_label has True, which is no number"),
        (["fish"], "gt_label has 'fish', which is no number"),
        ([[0]], "gt_label has [0], which is no number"),
        ([2, 2], "gt_label has a class twice: [2, 2]"),
        ([0, 0, 1], "gt_label has 0 or 1 for each class, not numbers of classes: [0, 0, 1]"),
        ({"gender": 0}, "gt_label has the labels of several tasks: gender"),
    ],
)
def test_other_labels_are_refused_with_their_place(
    plant: Plant, refusal: Callable[..., str], label: Any, message: str
) -> None:
    text = refusal(mmpretrain.read, plant({"x.json": describe([0], label)}, *IMAGES))
    assert message in text
    assert "x.json: data_list[1]" in text
    assert '"gt_label": [0, 2]' in text


def test_files_divide_and_test_is_not_used(plant: Plant, labels: Labels) -> None:
    files = {
        "annotation/train.json": describe([0]),
        "annotation/val.json": describe([1]),
        "annotation/test.json": describe([1]),
    }
    dataset = read(plant(files, "train/a.jpg", "val/a.jpg", "test/a.jpg"))
    assert labels(dataset) == {
        "train": {"train/a.jpg": ["zebra"]},
        "val": {"val/a.jpg": ["cat"]},
    }
    assert "annotation/test.json is not used" in dataset.notes[0]


def test_classes_in_another_order_are_merged_by_name(plant: Plant, labels: Labels) -> None:
    files = {"train.json": describe([0]), "val.json": describe([0], classes=["dog", "owl"])}
    dataset = read(plant(files, "train/a.jpg", "val/a.jpg"))
    assert dataset.label_names == ["zebra", "cat", "dog", "owl"]
    assert labels(dataset)["val"] == {"val/a.jpg": ["dog"]}
    assert dataset.notes == [
        "the classes of both files differ (cat, owl, zebra): they were merged by name"
    ]


@pytest.mark.parametrize("meta", [{}, {"classes": "names.txt"}, {"CLASSES": CLASSES}])
def test_classes_may_be_in_a_file(plant: Plant, labels: Labels, meta: Any) -> None:
    names = "\n".join(CLASSES)
    files = {"ann/x.json": describe(1, metainfo=meta), "ann/names.txt": names, "classes.txt": names}
    assert labels(read(plant(files, "a.jpg"))) == {"train": {"a.jpg": ["cat"]}}


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({}, "the file names no classes"),
        ({"classes": {"0": "cat"}}, "it is not a list of names"),
        ({"classes": [1, 2]}, "it is not a list of names"),
        ({"classes": ["cat", "cat"]}, "the class 'cat' is there twice"),
        ({"classes": ["cat", " "]}, "the class name '' is empty"),
        ({"tasks": ["gender"]}, "the labels are those of several tasks"),
    ],
)
def test_classes_that_cannot_be_used_are_refused(
    plant: Plant, refusal: Callable[..., str], meta: Any, message: str
) -> None:
    root = plant({"x.json": describe(0, metainfo=meta)}, "a.jpg")
    assert message in refusal(mmpretrain.read, root)


def test_entries_without_a_label_are_left_out_and_counted(
    plant: Plant, labels: Labels, refusal: Callable[..., str]
) -> None:
    content = json.loads(describe([0], None, [1]))
    root = plant({"x.json": json.dumps(content)}, *IMAGES)
    dataset = read(root)
    assert labels(dataset) == {"train": {"a.jpg": ["zebra"], "c.jpg": ["cat"]}}
    assert dataset.account.dropped == {"without gt_label": 1}
    content["data_list"] = [{"img_path": "a.jpg"}]
    (root / "x.json").write_text(json.dumps(content))
    message = refusal(mmpretrain.read, root)
    assert "the only entry has no `gt_label`" in message


def test_the_list_may_come_before_the_classes(plant: Plant) -> None:
    content = json.loads(describe(*([0],) * 3))
    content["data_list"] *= 2000
    root = plant({"x.json": json.dumps(dict(reversed(content.items())))}, *IMAGES)
    assert mmpretrain.recognise(Inventory(root)) == "x.json"
    assert len(read(root).lists["train"]) == 3


def test_thousands_of_classes_are_recognised(plant: Plant) -> None:
    text = describe([4_999], classes=[f"a class of number {i}" for i in range(5_000)])
    root = plant({"x.json": text}, "a.jpg")
    assert mmpretrain.recognise(Inventory(root)) == "x.json"
    assert read(root).lists["train"].targets.sum() == 1


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"data_list": []}', '{"images": [], "annotations": []}'),
        '{"metainfo": {}, "data_list": [{"img_path": "a.jpg", "instances": [{"bbox": [1]}]}]}',
    ],
)
def test_other_json_files_are_not_recognised(
    plant: Plant, refusal: Callable[..., str], text: str
) -> None:
    root = plant({"train.json": text}, "a.jpg")
    assert mmpretrain.recognise(Inventory(root)) == ""
    assert "there is no JSON file of MMPretrain" in refusal(mmpretrain.read, root)


def test_damage_is_refused(plant: Plant, refusal: Callable[..., str]) -> None:
    message = refusal(mmpretrain.read, plant({"x.json": describe([0])[:-9]}, "a.jpg"))
    assert "x.json cannot be read: Input data was truncated" in message
