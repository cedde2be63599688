# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.formats import labelme
from paddlex_ml.formats.collector import Options

Plant = Callable[..., Path]


def note(*shapes: str, image: str | None = None, flags: dict[str, bool] | None = None) -> str:
    """One file as LabelMe writes it."""
    content = {
        "version": "5.4.1",
        "flags": flags or {},
        "shapes": [
            {"label": label, "points": [[1, 2], [3.5, 4]], "group_id": None, "flags": {}}
            for label in shapes
        ],
        "imagePath": image,
        "imageData": None,
        "imageHeight": 4,
    }
    return json.dumps(content, ensure_ascii=False, indent=2)


def test_flags_that_are_true_and_shapes_are_the_labels(plant: Plant, labels: Any) -> None:
    files = {
        "a.json": note("dog", " dog ", image="a.jpg", flags={"sunny": True, "snow": False}),
        "b.json": note("猫, 大", image="b.jpg", flags={"sunny": False}),
        "c.json": note(image="c.jpg"),
    }
    done: list[tuple[int, int]] = []
    root = plant(files, "a.jpg", "b.jpg", "c.jpg")
    dataset = labelme.read(root, Options(progress=lambda *step: done.append(step)))
    assert dataset.label_names == ["dog", "sunny", "猫, 大"]
    assert labels(dataset) == {
        "train": {"a.jpg": ["dog", "sunny"], "b.jpg": ["猫, 大"], "c.jpg": []}
    }
    assert dataset.notes == ["1 flags are true for no image and are not classes: snow"]
    assert (dataset.retire, done) == ([], [(1, 3), (2, 3), (3, 3)])


def test_a_class_file_keeps_flags_that_are_never_set(plant: Plant) -> None:
    files = {"a.json": note("dog", flags={"snow": False}), "classes.txt": "snow\ndog\n"}
    assert labelme.read(plant(files, "a.jpg"), Options()).label_names == ["snow", "dog"]


@pytest.mark.parametrize(
    ("json_path", "named", "image"),
    [
        ("annotations/a.json", r"..\images\x 1.JPG", "images/x 1.JPG"),
        ("annotations/a.json", "../images/x.jpg", "images/x.jpg"),
        ("annotations/a.json", "x.jpg", "images/x.jpg"),
        ("annotations/a.json", r"C:\Users\me\x.jpg", "images/x.jpg"),
        ("annotations/a.json", None, "images/a.jpg"),
        ("deep/er/a.JSON", "renamed.jpg", "deep/er/a.png"),
        ("deep/er/a.json", None, "deep/er/a.png"),
        ("a.json", "../../outside.jpg", "a.png"),
        ("a.json", "./b.png", "b.png"),
    ],
)
def test_the_image_is_the_named_one_or_the_one_called_like_the_file(
    plant: Plant, labels: Any, json_path: str, named: str | None, image: str
) -> None:
    dataset = labelme.read(plant({json_path: note("dog", image=named)}, image), Options())
    assert labels(dataset) == {"train": {image: ["dog"]}}


def test_folders_of_train_and_val_divide_and_test_is_left_alone(plant: Plant, labels: Any) -> None:
    files = {
        "annotations/train/a.json": note("cat", image="../../images/a.jpg"),
        "valid/b.json": note("dog", image="b.jpg"),
        "test/c.json": "{",
    }
    dataset = labelme.read(plant(files, "images/a.jpg", "valid/b.jpg", "test/c.jpg"), Options())
    assert labels(dataset) == {"train": {"images/a.jpg": ["cat"]}, "val": {"valid/b.jpg": ["dog"]}}
    assert dataset.notes == ["1 files in test/ are not used: test/c.json"]


def test_a_file_outside_of_train_and_val_is_refused(plant: Plant, refusal: Any) -> None:
    files = {"train/a.json": note("x"), "val/b.json": note("x"), "c.json": note("x")}
    message = refusal(labelme.read, plant(files, "train/a.jpg", "val/b.jpg", "c.jpg"))
    assert "is neither in a train nor in a val folder" in message
    assert "set/c.json" in message


def test_images_without_a_file_are_left_out_and_told(plant: Plant, labels: Any) -> None:
    root = plant({"a.json": note("cat", image="a.jpg")}, "a.jpg", "b.jpg", "test/c.jpg", "d.txt")
    dataset = labelme.read(root, Options())
    assert labels(dataset) == {"train": {"a.jpg": ["cat"]}}
    assert dataset.notes == ["1 images have no LabelMe file, left out: b.jpg"]


@pytest.mark.parametrize(
    ("text", "what", "where"),
    [
        ('{"images": [], "annotations": []}', "a.json is not a LabelMe file", "a.json"),
        ("[1, 2]", "a.json is not a LabelMe file, which is an object with `shapes`", "a.json"),
        ('{\n"shapes": [\n{"label": "x",}]}', "the JSON is damaged: trailing comma", "a.json:3"),
        ('{\n"shapes": [\n', "the JSON is damaged: Input data was truncated", "a.json:3"),
        ("", "the JSON is damaged: Input data was truncated", "a.json:1"),
        ('{"shapes": [{"label": null}]}', "got `null` - at `$.shapes[0].label`", "a.json"),
        ('{"shapes": [{}]}', "missing required field `label` - at `$.shapes[0]`", "a.json"),
        ('{"shapes": 1}', "Expected `array`, got `int` - at `$.shapes`", "a.json"),
        ('{"shapes": [], "flags": {"a": "yes"}}', "Expected `bool`, got `str`", "a.json"),
        ('{"shapes": [{"label": " "}]}', "the class name '' is empty", "a.json"),
        ('{"shapes": [{"label": "a\\nb"}]}', r"the class name 'a\nb' has a line end", "a.json"),
        ('{\n"shapes": [], "flags": {"照片": true}}'.encode("gbk"), "is not UTF-8", "a.json:2"),
        ('{"a": ' + "[" * 100_000, "the JSON is damaged: maximum recursion depth", "a.json:1"),
        (note(image="gone.jpg"), "gone.jpg is not there", "a.json"),
        (note(image="../../x.jpg"), "x.jpg lies outside the data set", "a.json"),
    ],
)
def test_a_wrong_file_is_named(
    plant: Plant, refusal: Any, text: str | bytes, what: str, where: str
) -> None:
    root = plant({"b.json": note("x"), "a.json": text}, "b.jpg")
    message = refusal(labelme.read, root)
    assert what in message
    assert f"where: {root / where}\n" in message


def test_every_file_of_another_kind_is_named_and_counted(plant: Plant, refusal: Any) -> None:
    files = {f"other{i:02}.json": "{}" for i in range(25)}
    message = refusal(labelme.read, plant({"a.json": note("x"), **files}, "a.jpg"))
    assert "not a LabelMe file: 25" in message
    assert "other19.json: other19.json is not a LabelMe file" in message
    assert "... and 5 more" in message


def test_a_folder_without_files_is_refused(plant: Plant, refusal: Any) -> None:
    root = plant({"test/a.json": note("x")}, "a.jpg")
    assert "there is no .json file in the data set" in refusal(labelme.read, root)
    assert "the folder cannot be read" in refusal(labelme.read, root / "none")


def test_a_json_file_that_is_a_folder_is_not_read(plant: Plant) -> None:
    root = plant({"a.json": note("x")}, "a.jpg")
    (root / "b.json").mkdir()
    assert len(labelme.read(root, Options()).lists["train"]) == 1


def test_the_image_inside_a_file_is_not_kept(plant: Plant) -> None:
    content = json.loads(note("x"))
    content["imageData"] = "A" * 4_000_000
    root = plant({"a.json": json.dumps(content)}, "a.jpg")
    tracemalloc.start()
    labelme.read(root, Options())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6_000_000  # the file once; decoded it would be twice


def test_missing_images_are_left_out_when_asked(plant: Plant, labels: Any) -> None:
    files = {"a.json": note("cat", image="gone.jpg"), "b.json": note("dog")}
    dataset = labelme.read(plant(files, "b.jpg"), Options(skip_missing=True))
    assert labels(dataset) == {"train": {"b.jpg": ["dog"]}}
    assert dataset.notes == ["1 images are not there, left out: gone.jpg"]
