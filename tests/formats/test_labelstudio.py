# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats import labelstudio
from paddlex_ml.formats.collector import Options, SourceDataset

Plant = Callable[..., Path]
Labels = Callable[[SourceDataset], dict[str, dict[str, list[str]]]]
NAMES = [f"0a1b2c3{i}-x{i}.jpg" for i in range(3)]
IMAGES = [f"images/{name}" for name in NAMES]


def choose(*names: str, control: str = "choice", **fields: Any) -> dict[str, Any]:
    value = {"choices": list(names)}
    return {
        **{"id": "Ab1", "type": "choices", "value": value, "origin": "manual"},
        **{"to_name": "image", "from_name": control, **fields},
    }


def draw(kind: str, *names: Any) -> dict[str, Any]:
    value = {"x": 1.5, "y": 2, "width": 50, "height": 40, "rotation": 0, kind: list(names)}
    return {
        **{"original_width": 80, "original_height": 64, "image_rotation": 0, "value": value},
        **{"id": "Cd2", "from_name": "label", "to_name": "image", "type": kind},
    }


def annotate(*results: Any, **fields: Any) -> dict[str, Any]:
    return {
        **{"id": 7, "completed_by": 1, "result": list(results), "was_cancelled": False},
        **{"ground_truth": False, "created_at": "2024-01-01T00:00:00Z", "lead_time": 3.1, **fields},
    }


def task(number: int, *annotations: Any, **fields: Any) -> dict[str, Any]:
    return {
        **{"id": number + 1, "annotations": list(annotations), "drafts": [], "predictions": []},
        **{"file_upload": NAMES[number], "data": {"image": f"/data/upload/1/{NAMES[number]}"}},
        **{"meta": {}, "project": 1, **fields},
    }


def read(root: Path, **options: Any) -> SourceDataset:
    return labelstudio.read(root, Options(**options))


SOUND = [
    task(0, annotate(choose("Cat", "Red car"))),
    task(1, annotate(choose("Dog"), draw("rectanglelabels", "Cat"))),
    task(2, annotate()),
]


def test_choices_and_labels_of_regions_are_the_labels(plant: Plant, labels: Labels) -> None:
    root = plant({"project-1-at-2024-05-06-0a1b2c3d.json": json.dumps(SOUND)}, *IMAGES)
    dataset = read(root)
    assert dataset.label_names == ["Cat", "Dog", "Red car"]
    assert labels(dataset) == {
        "train": dict(zip(IMAGES, [["Cat", "Red car"], ["Cat", "Dog"], []], strict=True))
    }
    assert dataset.notes == []
    assert dataset.account.guesses == []
    assert dataset.account.records == {"project-1-at-2024-05-06-0a1b2c3d.json": 3}


@pytest.mark.parametrize(
    ("result", "names"),
    [
        (draw("polygonlabels", "a"), ["a"]),
        (draw("ellipselabels", "a", "b"), ["a", "b"]),
        (draw("brushlabels", "a"), ["a"]),
        (draw("keypointlabels", "a"), ["a"]),
        (draw("labels", "a"), ["a"]),
        (draw("bitmasklabels", "a"), ["a"]),
        (draw("taxonomy", ["animal", "cat"], ["thing"]), ["animal/cat", "thing"]),
        (choose("a", per_region=True), ["a"]),
    ],
)
def test_all_kinds_of_labels_count(
    plant: Plant, labels: Labels, result: Any, names: list[str]
) -> None:
    root = plant({"result.json": json.dumps([task(0, annotate(result))])}, IMAGES[0])
    assert labels(read(root)) == {"train": {IMAGES[0]: names}}


def test_results_without_a_class_name_are_counted(plant: Plant) -> None:
    text = {**choose(), "type": "textarea", "id": "T", "value": {"text": ["a cat"]}}
    rating = {**choose(), "type": "rating", "id": "R", "value": {"rating": 4}}
    shape = {**draw("rectangle"), "type": "rectangle"}
    entries = [task(0, annotate(choose("Cat"), text, rating, shape, draw("labels", "Dog")))]
    dataset = read(plant({"result.json": json.dumps(entries)}, IMAGES[0]))
    assert dataset.label_names == ["Cat", "Dog"]
    assert dataset.account.dropped == {
        "without a class name: textarea": 1,
        "without a class name: rating": 1,
    }


def test_a_file_of_texts_alone_is_refused(plant: Plant, refusal: Callable[..., str]) -> None:
    text = {**choose(), "type": "textarea", "value": {"text": ["a cat"]}}
    root = plant({"result.json": json.dumps([task(0, annotate(text))])}, IMAGES[0])
    message = refusal(labelstudio.read, root)
    assert "the source names no class" in message


def test_several_annotators_are_united_and_cancelled_ones_left_out(
    plant: Plant, labels: Labels
) -> None:
    cancelled = annotate(choose("Bird"), was_cancelled=True)
    entries = [
        task(0, annotate(choose("Cat")), annotate(choose("Dog")), cancelled),
        task(1, cancelled),
        task(2, predictions=[{"result": [choose("Bird")]}]),
    ]
    dataset = read(plant({"result.json": json.dumps(entries)}, *IMAGES))
    assert labels(dataset) == {"train": {IMAGES[0]: ["Cat", "Dog"], IMAGES[1]: []}}
    assert dataset.lists["train"].targets.tolist() == [[1, 1], [-1, -1]]  # skipped: unknown
    assert dataset.account.unknown == 2
    assert dataset.notes == [
        "result.json: 1 image has several annotations, and the labels of all of them",
        "1 task was skipped, whose classes are unknown: result.json: [1] (id 2)",
        "result.json: 1 task has no annotation (1 with predictions, which are not used): "
        "their images are left out",
    ]
    assert dataset.account.dropped == {"of a cancelled annotation": 2}
    assert dataset.account.left_out[IMAGES[2]] == "its task has no annotation"


def test_tasks_without_any_annotation_are_refused(
    plant: Plant, refusal: Callable[..., str]
) -> None:
    entries = [task(0, predictions=[{"result": [choose("Cat")]}])]
    message = refusal(labelstudio.read, plant({"x.json": json.dumps(entries)}, IMAGES[0]))
    assert "no task has an annotation (1 with predictions" in message
    assert "accept the predictions" in message


def test_old_completions_are_read(plant: Plant, labels: Labels) -> None:
    entries = [{"id": 1, "data": {"image": "x.jpg"}, "completions": [annotate(choose("Cat"))]}]
    root = plant({"result.json": json.dumps(entries)}, "x.jpg")
    assert labelstudio.recognise(Inventory(root)) == "result.json"
    assert labels(read(root)) == {"train": {"x.jpg": ["Cat"]}}


@pytest.mark.parametrize(
    ("address", "path", "guesses"),
    [
        ("/data/upload/1/0a1b2c3d-x.jpg", "images/0a1b2c3d-x.jpg", 0),
        ("/data/upload/0a1b2c3d-x.jpg", "images/0a1b2c3d-x.jpg", 0),
        ("/data/upload/1/0a1b2c3d-x.jpg", "photos/x.jpg", 1),
        ("/data/upload/1/0a1b2c3d-x.jpg", "0a1b2c3d-x.jpg", 0),
        ("/data/upload/1/0a1b2c3d-a_b.JPG", "images/1/0a1b2c3d-a_b.JPG", 1),
        ("/data/local-files/?d=sub/x%20y.jpg", "sub/x y.jpg", 0),
        ("/data/local-files/?d=home/me/sub/x.jpg", "sub/x.jpg", 1),
        ("s3://bucket/sub/x.jpg", "sub/x.jpg", 1),
        ("gs://bucket/x.jpg", "images/x.jpg", 1),
        ("https://host/a/x%20y.jpg?token=1", "images/x y.jpg", 1),
        ("http://localhost:8080/data/local-files/?d=sub/x.jpg", "sub/x.jpg", 0),
        ("/tasks/1/resolve/?fileuri=czM6Ly9idWNrZXQvc3ViL3guanBn", "sub/x.jpg", 1),
        ("C:\\photos\\x.jpg", "images/x.jpg", 1),
    ],
)
def test_the_image_is_found_by_its_address(
    plant: Plant, labels: Labels, address: str, path: str, guesses: int
) -> None:
    entries = [task(0, annotate(choose("Cat")), data={"image": address, "text": "a cat"})]
    dataset = read(plant({"result.json": json.dumps(entries)}, path))
    assert labels(dataset) == {"train": {path: ["Cat"]}}
    assert len(dataset.account.guesses) == guesses


def test_two_uploads_of_one_name_are_not_one_image(
    plant: Plant, refusal: Callable[..., str]
) -> None:
    entries = [
        task(i, annotate(choose("Cat")), data={"image": f"/data/upload/1/{name}"})
        for i, name in enumerate(("0a1b2c3d-x.jpg", "ffffffff-x.jpg"))
    ]
    root = plant({"result.json": json.dumps(entries)}, "images/x.jpg")
    assert "images/x.jpg belongs to 0a1b2c3d-x.jpg already" in refusal(labelstudio.read, root)


@pytest.mark.parametrize("value", ["data:image/png;base64,AAAA", ["a.jpg", "b.jpg"], None, 7])
def test_a_task_that_names_no_image_file_is_refused(
    plant: Plant, refusal: Callable[..., str], value: Any
) -> None:
    entries = [*SOUND, task(0, annotate(choose("Cat")), data={"image": value})]
    message = refusal(labelstudio.read, plant({"result.json": json.dumps(entries)}, *IMAGES))
    assert "image does not name one image file" in message
    assert "result.json: [3] (id 1)" in message


def test_two_fields_with_images_are_asked_for(
    plant: Plant, labels: Labels, refusal: Callable[..., str]
) -> None:
    data = {"photo": "a.jpg", "mask": "b.png"}
    entries = [task(0, annotate(choose("Cat")), data=data)]
    root = plant({"result.json": json.dumps(entries)}, "a.jpg", "b.png")
    message = refusal(labelstudio.read, root)
    assert "2 fields of the tasks may name the image: mask, photo" in message
    assert "-o CheckDataset.convert.image_column=photo" in message
    assert labels(read(root, image_column="photo")) == {"train": {"a.jpg": ["Cat"]}}
    assert "no task has a field 'x'" in refusal(labelstudio.read, root, image_column="x")


def test_labels_of_two_images_in_one_task_are_asked_for(
    plant: Plant, labels: Labels, refusal: Callable[..., str]
) -> None:
    results = [choose("Cat"), choose("Dog", control="other", to_name="second")]
    data = {"first": "a.jpg", "second": "b.jpg"}
    entries = [task(0, annotate(*results), data=data)]
    root = plant({"result.json": json.dumps(entries)}, "a.jpg", "b.jpg")
    message = refusal(labelstudio.read, root, image_column="first")
    assert "the tasks have 2 images, and labels for 2 of them" in message
    assert "-o 'CheckDataset.convert.label_columns=[choice]' (for image)" in message
    dataset = read(root, image_column="first", label_columns=["choice"])
    assert labels(dataset) == {"train": {"a.jpg": ["Cat"]}}


def test_a_value_of_two_choices_is_asked_for(
    plant: Plant, labels: Labels, refusal: Callable[..., str]
) -> None:
    entries = [
        task(i, annotate(choose(a, control="has_cat"), choose(b, control="has_dog")))
        for i, (a, b) in enumerate([("yes", "no"), ("no", "no"), ("yes", "yes")])
    ]
    root = plant({"result.json": json.dumps(entries)}, *IMAGES)
    message = refusal(labelstudio.read, root)
    assert "'no' is a value of has_cat and of has_dog: it would be one class" in message
    assert "-o 'CheckDataset.convert.label_columns=[has_cat]' or -o" in message
    dataset = read(root, label_columns=["has_cat"])
    assert labels(dataset)["train"][IMAGES[0]] == ["yes"]
    assert dataset.notes == ["not among convert.label_columns: has_dog"]
    assert labels(read(root, label_columns=["has_cat", "has_dog"]))["train"][IMAGES[0]] == [
        "no",
        "yes",
    ]
    message = refusal(labelstudio.read, root, label_columns=["cat"])
    assert "no control or column 'cat' has labels; there are has_cat, has_dog" in message


def test_train_and_val_are_lists_and_test_is_not_used(plant: Plant, labels: Labels) -> None:
    files = {f"{name}.json": json.dumps([SOUND[i]]) for i, name in enumerate(("train", "valid"))}
    dataset = read(plant({**files, "test.json": json.dumps(SOUND)}, *IMAGES))
    assert labels(dataset) == {
        "train": {IMAGES[0]: ["Cat", "Red car"]},
        "val": {IMAGES[1]: ["Cat", "Dog"]},
    }
    assert "test.json is not used" in dataset.notes[0]


def test_two_exports_of_one_project_are_refused(plant: Plant, refusal: Callable[..., str]) -> None:
    files = {name: json.dumps(SOUND) for name in ("a.json", "b.json")}
    root = plant(files, *IMAGES)
    message = refusal(labelstudio.read, root)
    assert f"mv {root}/b.json {root}/b.json.unused" in message
    (root / "b.json").rename(root / "b.json.unused")
    assert len(read(root).lists["train"]) == 3


def test_the_classes_may_have_an_order(plant: Plant) -> None:
    files = {"result.json": json.dumps(SOUND), "classes.txt": "Red car\nDog\nCat\nBird\n"}
    assert read(plant(files, *IMAGES)).label_names == ["Red car", "Dog", "Cat", "Bird"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '[{"image": "a.jpg", "annotations": [{"label": "cat", "coordinates": {}}]}]',
        '{"images": [{"id": 1, "file_name": "/data/upload/1/0a1b2c3d-x.jpg"}], "annotations": []}',
        '{"shapes": []}',
        '[{"url": "a.jpg", "labels": ["cat"]}]',
    ],
)
def test_other_json_files_are_not_recognised(plant: Plant, text: str) -> None:
    assert labelstudio.recognise(Inventory(plant({"result.json": text}))) == ""


def test_a_folder_without_export_is_refused(plant: Plant, refusal: Callable[..., str]) -> None:
    message = refusal(labelstudio.read, plant({"test.json": json.dumps(SOUND)}, "a.jpg"))
    assert "there is no export of Label Studio for training" in message


def test_damage_is_refused(plant: Plant, refusal: Callable[..., str]) -> None:
    text = json.dumps(SOUND)
    message = refusal(labelstudio.read, plant({"result.json": text[:-20]}, *IMAGES))
    assert "result.json cannot be read" in message
    without = [{**SOUND[0], "annotations": [5]}]
    message = refusal(labelstudio.read, plant({"result.json": json.dumps(without)}, *IMAGES))
    assert "result.json is not as expected: Expected `object`, got `int`" in message
    assert "$[0].annotations[0]" in message
    odd = [task(0, annotate(choose("Cat"), {**choose(), "value": {"choices": [{}]}, "id": "x"}))]
    dataset = read(plant({"result.json": json.dumps(odd)}, *IMAGES))
    assert dataset.account.dropped == {"without a class name: choices": 1}
