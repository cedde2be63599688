# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import registry
from paddlex_ml.formats.collector import Options

Plant = Callable[..., Path]
DATUMARO = {"categories": {}, "items": [{"id": "a", "annotations": [{"label_id": 0}]}]}
FIFTYONE = {"samples": [{"filepath": "data/a.jpg", "ground_truth": {"_cls": "Classifications"}}]}
SUPERVISELY = {"objects": [{"classTitle": "cat"}], "tags": []}
VIA = {"a.jpg9": {"filename": "a.jpg", "regions": [{"region_attributes": {"type": "cat"}}]}}
PALIGEMMA = {"image": "a.jpg", "prefix": "detect cat", "suffix": "<loc0100> cat"}
CAPTIONS = {"images": [], "annotations": [{"image_id": 1, "caption": "a cat"}]}


@pytest.mark.parametrize(
    ("file", "content", "what", "fix"),
    [
        ("annotations/default.json", DATUMARO, "Datumaro", "CVAT for images 1.1"),
        ("samples.json", FIFTYONE, "FiftyOne", "COCODetectionDataset"),
        ("ds0/ann/a.jpg.json", SUPERVISELY, "Supervisely", "Export to COCO"),
        ("via_region_data.json", VIA, "VGG Image Annotator", "COCO format"),
        ("_annotations.train.jsonl", PALIGEMMA, "language model", "COCO"),
        ("annotations/captions_train2017.json", CAPTIONS, "captions", "no classes"),
        ("train/cat.tfrecord", {}, "TensorFlow", "COCO"),
        ("labels.xls", {}, "a table of old Excel", "save it in Excel as .xlsx"),
        ("labels.json", {"a.jpg": ["cat"]}, "known format: labels.json", "labels.jsonl"),
    ],
)
def test_what_is_not_read_is_named_with_another_export(
    plant: Plant, file: str, content: object, what: str, fix: str
) -> None:
    root = plant({file: json.dumps(content)}, "images/a.jpg")
    with pytest.raises(PaddlexMLError) as caught:
        registry.read(root, "auto", Options())
    assert caught.value.what.startswith("no format is recognised")
    assert what in caught.value.what
    assert fix in caught.value.fix


def test_a_table_without_images_of_the_set_is_named(plant: Plant) -> None:
    table = "ImageId_ClassId,EncodedPixels\na.jpg_1,29102 12\na.jpg_2,\n"
    with pytest.raises(PaddlexMLError) as caught:
        registry.read(plant({"train.csv": table}, "train_images/a.jpg"), "auto", Options())
    assert "none of the files that may be annotations is in a known format" in caught.value.what
    assert "-o CheckDataset.convert.src_dataset_type=CSV" in caught.value.fix


@pytest.mark.parametrize(("text", "encoding"), [("café", "latin-1"), ("イヌ", "shift-jis")])
def test_a_table_in_another_encoding_is_named(plant: Plant, text: str, encoding: str) -> None:
    table = f"image,label\na.jpg,{text}\n".encode(encoding)
    with pytest.raises(PaddlexMLError) as caught:
        registry.read(plant({"labels.csv": table}, "a.jpg"), "auto", Options())
    assert "labels.csv is neither UTF-8 nor Chinese text in GB18030" in caught.value.what
    assert caught.value.fix.startswith("save it as UTF-8: in Excel as CSV UTF-8, or ")
    assert len(caught.value.fix) < 400  # no list of formats behind it
    assert caught.value.fix.startswith("save it as UTF-8")
