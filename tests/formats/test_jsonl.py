# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.formats import jsonl
from paddlex_ml.formats.collector import Options

Plant = Callable[..., Path]
A = '{"path": "a.jpg", "labels": ["dog", "cat"]}\n'
B = '{"path": "b.jpg", "labels": [" dog "], "width": 4, "other": [{}]}\n'


def test_two_files_give_both_lists(plant: Plant, labels: Any) -> None:
    done: list[tuple[int, int]] = []
    root = plant({"train.jsonl": A, "valid.jsonl": B, "test.jsonl": "{"}, "a.jpg", "b.jpg")
    dataset = jsonl.read(root, Options(progress=lambda *step: done.append(step)))
    assert dataset.label_names == ["cat", "dog"]
    assert labels(dataset) == {"train": {"a.jpg": ["cat", "dog"]}, "val": {"b.jpg": ["dog"]}}
    assert dataset.notes == [
        "test.jsonl is not used: test images are neither for training nor for validation"
    ]
    assert (dataset.retire, done) == ([], [(2, 2)])


def test_the_folders_of_hugging_face_give_both_lists(plant: Plant, labels: Any) -> None:
    files = {
        "train/metadata.jsonl": '{"file_name": "a.jpg", "label": "x"}',
        "validation/metadata.jsonl": '{"file_name": "deep/b.jpg", "label": "y"}',
    }
    dataset = jsonl.read(plant(files, "train/a.jpg", "validation/deep/b.jpg"), Options())
    assert labels(dataset) == {
        "train": {"train/a.jpg": ["x"]},
        "val": {"validation/deep/b.jpg": ["y"]},
    }


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ({"path": "a.jpg", "image": 1, "labels": ["x"]}, ["x"]),
        ({"image": "a.jpg", "file_name": "b.jpg", "label": "x, y"}, ["x, y"]),
        ({"filename": r".\a.jpg", "labels": "x", "label": "y"}, ["x"]),
        ({"file_name": "a.jpg", "labels": [" 猫 ", "x\ty", "x\ty"]}, ["x\ty", "猫"]),
    ],
)
def test_the_first_key_that_is_there_counts(
    plant: Plant, labels: Any, line: dict[str, Any], names: list[str]
) -> None:
    text = "\ufeff" + json.dumps(line) + "\r\n\r\n" + json.dumps({"path": "b.jpg", "label": " "})
    dataset = jsonl.read(plant({"deep/x.jsonl": text}, "a.jpg", "b.jpg"), Options())
    assert labels(dataset) == {"train": {"a.jpg": names, "b.jpg": []}}


def test_a_key_divides_a_file_that_is_alone(plant: Plant, labels: Any) -> None:
    lines = [
        {"path": f"{i}.jpg", "labels": [word], "split": word}
        for i, word in enumerate(["val", "Train", "test", "validation"])
    ]
    text = "\n".join(map(json.dumps, lines))
    dataset = jsonl.read(plant({"x.jsonl": text}, *(f"{i}.jpg" for i in range(4))), Options())
    assert labels(dataset) == {
        "train": {"1.jpg": ["Train"]},
        "val": {"0.jpg": ["val"], "3.jpg": ["validation"]},
    }
    assert list(dataset.lists) == ["train", "val"]
    assert dataset.notes == ["1 images of test are not used"]


def test_a_file_that_is_a_list_does_not_ask_the_key(plant: Plant, labels: Any) -> None:
    text = '{"path": "a.jpg", "labels": "x", "split": 7}'
    dataset = jsonl.read(plant({"val.jsonl": text}, "val/a.jpg"), Options())
    assert labels(dataset) == {"train": {"val/a.jpg": ["x"]}}


@pytest.mark.parametrize("image", ["deep/a.jpg", "images/a.jpg", "a.jpg"])
def test_images_are_found_in_the_usual_folders(plant: Plant, labels: Any, image: str) -> None:
    assert labels(jsonl.read(plant({"deep/x.jsonl": A}, image), Options())) == {
        "train": {image: ["cat", "dog"]}
    }


def test_the_order_of_classes_is_that_of_the_class_file(plant: Plant) -> None:
    root = plant({"x.jsonl": A, "classes.txt": "dog\nzebra\ncat\n"}, "a.jpg")
    assert jsonl.read(root, Options()).label_names == ["dog", "zebra", "cat"]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"path": "b.jpg", "labels": ["x"}', "the JSON is damaged: expected ',' or ']'"),
        ('{"path": "b.jpg"', "the JSON is damaged: Input data was truncated"),
        (A.strip() + A.strip(), "the JSON is damaged: trailing characters"),
        ('{"x": ' + "[" * 100_000, "the JSON is damaged: maximum recursion depth"),
        ("[1]", "the line is not a JSON object"),
        ("b.jpg cat", "the JSON is damaged: invalid character"),
        ('{"labels": []}', "the line has none of the keys path, image, file_name, filename"),
        ('{"path": "b.jpg"}', "the line has none of the keys labels, label"),
        ('{"path": {"bytes": ""}, "labels": []}', "not the name of a file: {'bytes': ''}"),
        ('{"path": "", "labels": []}', "the image is not the name of a file: ''"),
        ('{"path": "b.jpg", "labels": null}', "the labels are not a list of names: None"),
        ('{"path": "b.jpg", "labels": [3]}', "the labels are not a list of names: [3]"),
        ('{"path": "b.jpg", "label": 3}', "the labels are not a list of names: 3"),
        ('{"path": "b.jpg", "labels": [""]}', "the class name '' is empty"),
        ('{"path": "b.jpg", "labels": "a\\nb"}', "the class name 'a\\nb' has a line end"),
        ('{"path": "b.jpg", "labels": [], "split": "dev"}', "neither train nor val nor test"),
        ('{"path": "b.jpg", "labels": [], "split": 1}', "neither train nor val nor test: 1"),
        ('{"path": "gone.jpg", "labels": []}', "gone.jpg is not there"),
        ('{"path": "a\\u0000/b.jpg", "labels": []}', "cannot be the name of an image"),
        ('{"path": "../../b.jpg", "labels": []}', "../../b.jpg lies outside the data set"),
        ('{"path": "b.jpg", "labels": ["照片"]}'.encode("gbk"), "the line is not UTF-8 text"),
    ],
)
def test_a_wrong_line_is_named_with_its_number(
    plant: Plant, refusal: Any, line: str | bytes, what: str
) -> None:
    text = A.encode() + b"\n" + (line.encode() if isinstance(line, str) else line) + b"\n"
    root = plant({"x.jsonl": text}, "a.jpg", "b.jpg")
    message = refusal(jsonl.read, root)
    assert what in message
    assert f"where: {root / 'x.jsonl'}:3\n" in message


def test_a_line_without_the_key_that_divides_is_named(plant: Plant, refusal: Any) -> None:
    text = '{"path": "b.jpg", "label": "x", "split": "val"}\n' + A
    message = refusal(jsonl.read, plant({"x.jsonl": text}, "a.jpg", "b.jpg"))
    assert "the line has no `split`, but other lines have" in message
    assert "x.jsonl:2" in message


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"a.jsonl": A, "b.jsonl": B}, "there are 2 .jsonl files, and it is not clear which"),
        ({}, "there is no .jsonl file in the data set"),
        ({"a.jsonl": ""}, "the source names no image that is there"),
        ({"a.jsonl": '{"path": "a.jpg", "labels": []}'}, "the source names no class"),
    ],
)
def test_files_that_say_nothing_are_refused(
    plant: Plant, refusal: Any, files: dict[str, str], what: str
) -> None:
    assert what in refusal(jsonl.read, plant(files, "a.jpg"))


def test_missing_images_are_left_out_when_asked(plant: Plant, labels: Any) -> None:
    dataset = jsonl.read(plant({"x.jsonl": A + B}, "b.jpg"), Options(skip_missing=True))
    assert labels(dataset) == {"train": {"b.jpg": ["dog"]}}
    assert dataset.label_names == ["cat", "dog"]
    assert dataset.notes == ["1 images are not there, left out: a.jpg"]
