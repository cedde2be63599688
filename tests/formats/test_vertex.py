# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats import registry, vertex
from paddlex_ml.formats.collector import Options

Plant = Callable[..., Path]
ROWS = """TRAIN,gs://bucket/set/a.jpg,cat,"dog, small"
VALIDATION,gs://bucket/set/b.jpg,cat
TEST,gs://bucket/set/c.jpg,fox
training,gs://bucket/set/d.jpg,,
"""
ML_USE = "aiplatform.googleapis.com/ml_use"
IMAGES = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")


def line(image: str, use: str = "", **keys: Any) -> str:
    labels = {"dataItemResourceLabels": {ML_USE: use}} if use else {}
    return json.dumps({"imageGcsUri": f"gs://bucket/set/{image}", **keys, **labels}) + "\n"


def test_rows_of_different_length_are_read(plant: Plant, labels: Any) -> None:
    dataset = vertex.read(plant({"import.csv": ROWS}, *IMAGES), Options())
    assert labels(dataset) == {
        "train": {"a.jpg": ["cat", "dog, small"], "d.jpg": []},
        "val": {"b.jpg": ["cat"]},
    }
    assert dataset.account.left_out["c.jpg"] == "of the test subset"


@pytest.mark.parametrize("use", ["", "UNASSIGNED,", ","])
def test_rows_without_a_use_make_one_list(plant: Plant, labels: Any, use: str) -> None:
    rows = f"{use}gs://b/a.jpg,cat,dog\n{use}gs://b/b.jpg\n"
    dataset = vertex.read(plant({"data.csv": rows}, "a.jpg", "b.jpg"), Options())
    assert labels(dataset) == {"train": {"a.jpg": ["cat", "dog"], "b.jpg": []}}


def test_an_image_without_a_use_among_others_is_for_training(plant: Plant, labels: Any) -> None:
    rows = "UNASSIGNED,gs://b/a.jpg,cat\nVALIDATION,gs://b/b.jpg,dog\nTRAIN,gs://b/d.jpg,dog\n"
    dataset = vertex.read(plant({"data.csv": rows}, *IMAGES), Options())
    assert list(labels(dataset)["train"]) == ["a.jpg", "d.jpg"]
    assert dataset.notes == ["1 image has no use (UNASSIGNED): they are for training"]


def test_the_corners_of_boxes_are_no_labels(plant: Plant, labels: Any) -> None:
    rows = (
        "TRAINING,gs://b/a.jpg,cat,0.1,0.2,,,0.3,4e-1,,\n"
        "TRAINING,gs://b/a.jpg,dog,0.1,0.2,0.3,0.2,0.3,0.4,0.1,0.4\n"
        "TRAINING,gs://b/b.jpg,,,,,,,,,\n"
    )
    dataset = vertex.read(plant({"data.csv": rows}, "a.jpg", "b.jpg"), Options())
    assert labels(dataset) == {"train": {"a.jpg": ["cat", "dog"], "b.jpg": []}}


def test_json_lines_of_all_kinds_of_annotations(plant: Plant, labels: Any) -> None:
    text = (
        line("a.jpg", "training", classificationAnnotations=[{"displayName": "cat"}] * 2)
        + line("b.jpg", "validation", classificationAnnotation={"displayName": "dog"})
        + line("c.jpg", "test", classificationAnnotations=[{"displayName": "fox"}])
        + line("d.jpg", "training", boundingBoxAnnotations=[{"displayName": "dog", "xMin": 0.1}])
        + line("e.jpg", "training", classificationAnnotations=[])
    )
    dataset = vertex.read(plant({"data.jsonl": text}, *IMAGES, "e.jpg"), Options())
    assert labels(dataset) == {
        "train": {"a.jpg": ["cat"], "d.jpg": ["dog"], "e.jpg": []},
        "val": {"b.jpg": ["dog"]},
    }


def test_the_older_export_of_data_labeling_is_read(plant: Plant, labels: Any) -> None:
    value = {"imageClassificationAnnotation": {"annotationSpec": {"displayName": "tulip"}}}
    text = json.dumps(
        {
            "name": "projects/p/datasets/d/annotatedDatasets/a/examples/e",
            "imagePayload": {"mimeType": "IMAGE_PNG", "imageUri": "gs://bucket/a.jpg"},
            "annotations": [{"name": "n", "annotationValue": value}],
        }
    )
    dataset = vertex.read(plant({"data.jsonl": text}, "a.jpg"), Options())
    assert labels(dataset) == {"train": {"a.jpg": ["tulip"]}}


def test_parts_of_an_export_are_read_together(plant: Plant, labels: Any) -> None:
    cat: dict[str, Any] = {"classificationAnnotation": {"displayName": "cat"}}
    files = {f"data-0000{i}-of-2.jsonl": line(f"{'ab'[i]}.jpg", **cat) for i in range(2)}
    dataset = vertex.read(plant(files, "a.jpg", "b.jpg"), Options())
    assert list(labels(dataset)["train"]) == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (line("b.jpg", "dev"), "ml_use is neither training nor validation nor test: 'dev'"),
        (line("b.jpg", segmentationAnnotation={"maskGcsUri": "x"}), "a mask, which names no class"),
        (line("b.jpg", classificationAnnotations=[{}]), "an annotation has no displayName"),
        ('{"classificationAnnotations": []}', "the line has no imageGcsUri"),
        ('{"imageGcsUri": 3}', "a value has the wrong type"),
    ],
)
def test_a_wrong_line_is_named(plant: Plant, refusal: Any, text: str, what: str) -> None:
    first = line("a.jpg", classificationAnnotations=[{"displayName": "cat"}])
    message = refusal(vertex.read, plant({"x.jsonl": first + text}, "a.jpg", "b.jpg"))
    assert what in message
    assert "x.jsonl:2" in message


@pytest.mark.parametrize("row", ["cat,dog", "TRAIN", 'TRAIN,gs://b/b.jpg,"a'])
def test_a_wrong_row_is_named(plant: Plant, refusal: Any, row: str) -> None:
    message = refusal(vertex.read, plant({"x.csv": f"gs://b/a.jpg,cat\n{row}"}, "a.jpg", "b.jpg"))
    assert "x.csv:2" in message


def test_the_format_is_known_by_its_first_line(plant: Plant) -> None:
    root = plant({"data.csv": ROWS}, *IMAGES)
    assert [found.format.name for found in registry.recognise(root)] == ["Vertex"]
    for text in ("image,labels\na.jpg,cat\n", "a.jpg,cat\n", "", "train,val\n"):
        assert vertex.recognise(Inventory(plant({"data.csv": text}))) == ""


@pytest.mark.parametrize(
    "corners",
    ["0.1,0.1,,,0.3,0.3", "0.1,0.1,,,0.3,0.3,,", "0,0,,,1,1", "0,0,,,1,1,,", "0.1,0.1,0.3,0.3"],
)
def test_empty_cells_behind_a_box_may_be_missing(plant: Plant, labels: Any, corners: str) -> None:
    text = f"TRAIN,gs://b/a.jpg,cat,{corners}\nTRAIN,gs://b/b.jpg,7,3,1,0\n"
    dataset = vertex.read(plant({"i.csv": text}, "a.jpg", "b.jpg"), Options())
    assert labels(dataset) == {"train": {"a.jpg": ["cat"], "b.jpg": ["0", "1", "3", "7"]}}


@pytest.mark.parametrize("cells", ["cat,0.1,0.1", "cat,0.1,dog"])
def test_a_coordinate_is_no_label(plant: Plant, refusal: Any, cells: str) -> None:
    root = plant({"i.csv": f"TRAIN,gs://b/a.jpg,{cells}\n"}, "a.jpg")
    assert "i.csv:1" in (message := refusal(vertex.read, root))
    assert "0.1 is no label" in message
