# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats import labelbox, registry
from paddlex_ml.formats.collector import Options

Plant = Callable[..., Path]


def answer(name: str, *inner: Any) -> dict[str, Any]:
    return {"feature_id": "f", "name": name, "value": name.lower(), "classifications": list(inner)}


def checklist(name: str, *names: str) -> dict[str, Any]:
    return {"name": name, "value": name, "checklist_answers": list(map(answer, names))}


def radio(name: str, picked: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "value": name, "radio_answer": picked}


def label(*questions: Any, objects: Any = (), skipped: bool = False) -> dict[str, Any]:
    return {
        "label_kind": "Default",
        "performance_details": {"seconds_to_create": 4, "skipped": skipped},
        "annotations": {
            "objects": list(objects), "classifications": list(questions), "relationships": [],
        },
    }  # fmt: skip


def row(image: str, *labels: Any, **keys: Any) -> str:
    data = {"id": "c1", "external_id": image, "row_data": f"https://x/y/{image}", **keys}
    project = {"name": "p", "labels": list(labels), "project_details": {}}
    line = {"data_row": data, "media_attributes": {}, "projects": {"cm1": project}}
    return json.dumps(line) + "\n"


def read(plant: Plant, text: str, *images: str) -> Any:
    return labelbox.read(plant({"export.ndjson": text}, *images), Options())


def test_answers_and_objects_are_labels(plant: Plant, labels: Any) -> None:
    box = {"name": "Car", "annotation_kind": "ImageBoundingBox", "classifications": []}
    text = (
        row("a.jpg", label(checklist("tags", "Cat", "Dog"), objects=[box, box]))
        + row("b.jpg", label(radio("kind", answer("Wolf", checklist("breed", "Grey")))))
        + row("c.jpg", label())
    )
    assert labels(read(plant, text, "a.jpg", "b.jpg", "c.jpg")) == {
        "train": {"a.jpg": ["Car", "Cat", "Dog"], "b.jpg": ["Grey", "Wolf"], "c.jpg": []}
    }


def test_an_answer_of_several_questions_is_several_classes(plant: Plant, labels: Any) -> None:
    text = row("a.jpg", label(radio("cat?", answer("yes")), radio("dog?", answer("no"))))
    text += row("b.jpg", label(radio("cat?", answer("no")), radio("dog?", answer("yes"))))
    dataset = read(plant, text, "a.jpg", "b.jpg")
    assert labels(dataset) == {
        "train": {"a.jpg": ["cat?: yes", "dog?: no"], "b.jpg": ["cat?: no", "dog?: yes"]}
    }
    assert dataset.notes == [
        "no, yes are the answers of several questions, and become a class for each"
    ]


def test_labels_of_several_people_are_joined_and_told(plant: Plant, labels: Any) -> None:
    one, two = label(checklist("tags", "Cat")), label(checklist("tags", "Dog"))
    text = row("a.jpg", one, two) + row("b.jpg", one, two) + row("c.jpg", one, one)
    dataset = read(plant, text, "a.jpg", "b.jpg", "c.jpg")
    assert labels(dataset)["train"]["a.jpg"] == ["Cat", "Dog"]
    assert dataset.notes == [
        "2 records whose several labels differ: the image has all of them",
        "1 records whose several labels agree: the image has all of them",
    ]


def test_skipped_and_open_rows_are_told_and_not_used(plant: Plant, labels: Any) -> None:
    cat = label(checklist("tags", "Cat"))
    text = row("a.jpg", cat) + row("b.jpg", label(skipped=True)) + row("c.jpg")
    dataset = read(plant, text, "a.jpg", "b.jpg", "c.jpg")
    assert labels(dataset) == {"train": {"a.jpg": ["Cat"]}}
    assert dataset.account.dropped == {"skipped by the labeller": 1, "not labelled yet": 1}
    assert dataset.account.left_out == {
        "b.jpg": "skipped by the labeller",
        "c.jpg": "not labelled yet",
    }


def test_texts_and_questions_about_objects_are_counted(plant: Plant, labels: Any) -> None:
    box = {"name": "Car", "classifications": [radio("colour", answer("red"))]}
    text = row("a.jpg", label({"name": "note", "text_answer": {"content": "?"}}, objects=[box]))
    dataset = read(plant, text, "a.jpg")
    assert labels(dataset) == {"train": {"a.jpg": ["Car"]}}
    assert dataset.account.dropped == {
        "questions about an object, not about the image": 1,
        "answers in words, no classes": 1,
    }


def test_the_address_names_the_image_where_the_id_does_not(plant: Plant, labels: Any) -> None:
    cat = label(checklist("tags", "Cat"))
    text = row("product 7", cat, row_data="https://store/bucket/a.jpg?Expires=1", global_key=None)
    assert labels(read(plant, text, "images/a.jpg")) == {"train": {"images/a.jpg": ["Cat"]}}


def test_the_older_export_is_read(plant: Plant, labels: Any) -> None:
    rows = [
        {
            "ID": "1", "Labeled Data": "https://x/a.jpg", "External ID": "a.jpg", "Skipped": False,
            "Label": {
                "objects": [{"title": "Car", "value": "car", "bbox": {}}],
                "classifications": [
                    {"title": "tags", "answers": [{"title": "Cat", "value": "cat"}]},
                    {"title": "kind", "answer": {"title": "Dog", "value": "dog"}},
                ],
            },
        },
        {"ID": "2", "Labeled Data": "https://x/b.jpg", "Label": {}, "Skipped": True},
    ]  # fmt: skip
    root = plant({"export.json": json.dumps(rows)}, "a.jpg", "b.jpg")
    dataset = labelbox.read(root, Options())
    assert labels(dataset) == {"train": {"a.jpg": ["Car", "Cat", "Dog"]}}
    assert dataset.account.left_out == {"b.jpg": "skipped by the labeller"}
    assert [found.format.name for found in registry.recognise(root)] == ["Labelbox"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (row("gone.jpg", label(checklist("tags", "Cat"))), "gone.jpg is not there"),
        (row("", label(), row_data=""), "the row names no image"),
        (row("b.jpg", label({"checklist_answers": [{}], "name": "q"})), "an answer has no name"),
        (row("b.jpg", label()).replace('"labels": [', '"labels": [3, '), "the wrong type"),
        ("{", "the JSON is damaged"),
    ],
)
def test_a_wrong_line_is_named(plant: Plant, refusal: Any, text: str, what: str) -> None:
    good = row("a.jpg", label(checklist("tags", "Cat")))
    message = refusal(labelbox.read, plant({"e.ndjson": good + text}, "a.jpg", "b.jpg"))
    assert what in message
    assert "e.ndjson:2" in message


def test_exports_are_recognised_by_their_content(plant: Plant) -> None:
    root = plant({"export.ndjson": row("a.jpg", label())}, "a.jpg")
    assert [found.format.name for found in registry.recognise(root)] == ["Labelbox"]
    assert labelbox.recognise(Inventory(plant({"export.ndjson": '{"data_row": {}}'}))) == ""


def old(image: str, content: Any) -> dict[str, Any]:
    return {"Labeled Data": f"https://x/{image}?E=1", "Label": content, "External ID": image}


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"Boot": [{"geometry": []}], "Hat": [[{"x": 1}]], "Sock": []}, ["Boot", "Hat"]),
        ({"Boot": "MULTIPOLYGON (((1 2, 3 4, 1 2)))"}, ["Boot"]),
        ({"kind": "x", "more": ["y", "z"]}, ["x", "y", "z"]),
        ('{"kind": "x"}', ["x"]),
        ({"objects": [{"title": "Slum"}]}, ["Slum"]),
    ],
)  # fmt: skip
def test_oldest_rows_have_a_key_for_each_class(
    plant: Plant, labels: Any, content: Any, names: list[str]
) -> None:
    rows = [old("a.jpg", content), old("b.jpg", "Skip"), old("c.jpg", {}), old("d.jpg", None)]
    root = plant({"e.json": json.dumps(rows)}, *(f"{name}.jpg" for name in "abcd"))
    dataset = labelbox.read(root, Options())
    assert labels(dataset) == {"train": {"a.jpg": names}}
    assert dataset.account.dropped == {"skipped by the labeller": 1, "not labelled yet": 2}


@pytest.mark.parametrize("content", ["a text", {"mask": {"url": "u"}}, {"n": 3}])
def test_an_unknown_old_label_is_refused(plant: Plant, refusal: Any, content: Any) -> None:
    rows = [old("a.jpg", content), old("b.jpg", {"objects": [{"title": "x"}]})]
    root = plant({"e.json": json.dumps(rows)}, "a.jpg", "b.jpg")
    assert "e.json [0]" in refusal(labelbox.read, root)


def test_a_row_of_a_video_is_refused(plant: Plant, refusal: Any) -> None:
    video = {"annotations": {"frames": {"1": {"objects": {}}}, "segments": {}}}
    text = row("a.jpg", video) + row("b.jpg", label(checklist("q", "cat")))
    message = refusal(labelbox.read, plant({"e.ndjson": text}, "a.jpg", "b.jpg"))
    assert "e.ndjson:1" in message
    assert "is a video, not an image" in message


def test_names_of_two_images_are_refused(plant: Plant, refusal: Any) -> None:
    text = row("a.jpg", label(checklist("q", "cat")), row_data="https://x/b.jpg")
    message = refusal(labelbox.read, plant({"e.ndjson": text}, "a.jpg", "b.jpg"))
    assert "a.jpg is a.jpg, and https://x/b.jpg is b.jpg" in message


@pytest.mark.parametrize("indent", [None, 1])
def test_rows_may_be_one_list(plant: Plant, labels: Any, indent: int | None) -> None:
    rows = [json.loads(row("a.jpg", label(checklist("q", "cat")))), json.loads(row("b.jpg"))]
    root = plant({"e.json": json.dumps(rows, indent=indent)}, "a.jpg", "b.jpg")
    assert labels(registry.read(root, "auto", Options())) == {"train": {"a.jpg": ["cat"]}}


def test_an_export_that_nobody_labelled_says_so(plant: Plant, refusal: Any) -> None:
    text = row("a.jpg") + row("b.jpg", label(skipped=True))
    message = refusal(labelbox.read, plant({"e.ndjson": text}, "a.jpg", "b.jpg"))
    assert "nobody has labelled an image: 1 not labelled yet, 1 skipped" in message
