# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats import registry, sagemaker
from paddlex_ml.formats.collector import Options

Plant = Callable[..., Path]
MULTI = {"type": "groundtruth/image-classification-multilabel", "human-annotated": "yes"}
SINGLE = {"type": "groundtruth/image-classification", "confidence": 0.9, "job-name": "j"}
BOXES = {"type": "groundtruth/object-detection", "objects": [{"confidence": 0.09}]}


def line(image: str, **attributes: Any) -> str:
    """A line; `labels__metadata` stands for labels-metadata."""
    keys = {key.replace("__", "-"): value for key, value in attributes.items()}
    return json.dumps({"source-ref": f"s3://bucket/set/{image}", **keys}) + "\n"


def test_attributes_of_all_kinds_of_jobs_are_read(plant: Plant, labels: Any) -> None:
    text = (
        line("a.jpg", tags=[0, 2], tags__metadata={**MULTI, "class-map": {"0": "cat", "2": "dog"}})
        + line("b.jpg", tags=[], tags__metadata={**MULTI, "class-map": {}})
        + line("c.jpg", species=1, species__metadata={**SINGLE, "class-name": "fox"})
        + line(
            "d.jpg",
            box={"annotations": [{"class_id": 5, "left": 1}, {"class_id": 5}], "image_size": []},
            box__metadata={**BOXES, "class-map": {"5": "cat"}},
        )
    )
    dataset = sagemaker.read(
        plant({"output.manifest": text}, *(f"{name}.jpg" for name in "abcd")), Options()
    )
    assert labels(dataset) == {
        "train": {"a.jpg": ["cat", "dog"], "b.jpg": [], "c.jpg": ["fox"], "d.jpg": ["cat"]}
    }


def test_several_attributes_are_joined(plant: Plant, labels: Any) -> None:
    text = line(
        "a.jpg",
        sunrise=1, sunrise__metadata={**SINGLE, "class-name": "Sunrise"},
        beach=1, beach__metadata={**SINGLE, "class-name": "Beach"},
        ok=0, ok__metadata={"type": "groundtruth/label-verification", "class-name": "good"},
    )  # fmt: skip
    dataset = sagemaker.read(plant({"a.manifest": text}, "a.jpg"), Options())
    assert labels(dataset) == {"train": {"a.jpg": ["Beach", "Sunrise"]}}


def test_adjusted_labels_replace_those_of_the_earlier_job(plant: Plant, labels: Any) -> None:
    old = {**MULTI, "class-map": {"0": "cat"}}
    new = {**MULTI, "class-map": {"1": "dog"}, "adjustment-status": "adjusted"}
    text = line("a.jpg", tags=[0], tags__metadata=old, fixed=[1], fixed__metadata=new)
    dataset = sagemaker.read(plant({"a.manifest": text}, "a.jpg"), Options())
    assert labels(dataset) == {"train": {"a.jpg": ["dog"]}}


def test_images_that_a_job_failed_for_are_told(plant: Plant, labels: Any) -> None:
    good = line("a.jpg", tags=[0], tags__metadata={**MULTI, "class-map": {"0": "cat"}})
    bad = line("b.jpg", tags=None, tags__metadata={**MULTI, "failure-reason": "no workers"})
    dataset = sagemaker.read(plant({"a.manifest": good + bad}, "a.jpg", "b.jpg"), Options())
    assert labels(dataset) == {"train": {"a.jpg": ["cat"]}}
    assert dataset.account.dropped == {"the job failed for the image": 1}
    assert dataset.account.left_out == {"b.jpg": "the job failed for the image"}


def test_the_input_of_a_job_is_left_out(plant: Plant, labels: Any) -> None:
    text = line("a.jpg", tags=[0], tags__metadata={**MULTI, "class-map": {"0": "cat"}})
    files = {"dataset.manifest": line("a.jpg") + line("b.jpg"), "output.manifest": text}
    dataset = sagemaker.read(plant(files, "a.jpg", "b.jpg"), Options())
    assert labels(dataset) == {"train": {"a.jpg": ["cat"]}}
    assert dataset.account.left_out["dataset.manifest"].startswith("a manifest without labels")


def test_numbers_without_metadata_need_names(plant: Plant, labels: Any, refusal: Any) -> None:
    text = json.dumps({"source-ref": "s3://b/a.jpg", "class": "1"})
    text += "\n" + json.dumps({"source-ref": "s3://b/b.jpg", "class": "[0, 1]"})
    root = plant({"train.manifest": text}, "a.jpg", "b.jpg")
    assert "write classes.txt" in refusal(sagemaker.read, root)
    (root / "classes.txt").write_text("cat\ndog\n")
    expected = {"a.jpg": ["dog"], "b.jpg": ["cat", "dog"]}
    assert labels(sagemaker.read(root, Options())) == {"train": expected}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (line("b.jpg", tags=[0]), "the line has no labels"),
        (line("b.jpg", t=[1], t__metadata={**MULTI, "class-map": {"0": "x"}}), "has no class 1"),
        (line("b.jpg", t=[1], t__metadata=MULTI), "the metadata of t name no class"),
        (line("b.jpg", m__ref="s3://m.png", m__ref__metadata={"internal-color-map": {}}), "a mask"),
        ('{"source-ref": 3}', "source-ref is not the address of an image: 3"),
        ("[]", "the line is not a JSON object"),
    ],
)
def test_a_wrong_line_is_named(plant: Plant, refusal: Any, text: str, what: str) -> None:
    good = line("a.jpg", tags=[0], tags__metadata={**MULTI, "class-map": {"0": "cat"}})
    message = refusal(sagemaker.read, plant({"x.manifest": good + text}, "a.jpg", "b.jpg"))
    assert what in message
    assert "x.manifest:2" in message


def test_manifests_are_recognised_by_their_content(plant: Plant) -> None:
    root = plant({"x.manifest": line("a.jpg", t=1, t__metadata=SINGLE)}, "a.jpg")
    assert [found.format.name for found in registry.recognise(root)] == ["SageMaker"]
    assert sagemaker.recognise(Inventory(plant({"x.manifest": "CACHE MANIFEST\n"}))) == ""


def test_lines_without_a_label_are_left_out(plant: Plant, labels: Any) -> None:
    good = line("a.jpg", tags=[0], tags__metadata={**MULTI, "class-map": {"0": "cat"}})
    failed = line("b.jpg", tags__metadata={"failure-reason": "no answer"})
    root = plant({"x.manifest": good + failed + line("c.jpg")}, "a.jpg", "b.jpg", "c.jpg")
    dataset = sagemaker.read(root, Options())
    assert labels(dataset) == {"train": {"a.jpg": ["cat"]}}
    assert dataset.account.dropped == {"the job failed for the image": 1, "not labelled yet": 1}
    assert dataset.account.left_out["c.jpg"] == "not labelled yet"


def test_a_manifest_without_any_label_says_so(plant: Plant, refusal: Any) -> None:
    root = plant({"x.manifest": line("c.jpg")}, "c.jpg")
    message = refusal(sagemaker.read, root)
    assert "nobody has labelled an image: 1 not labelled yet" in message
