# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats import jsonl, registry
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
        ({"filename": r".\a.jpg", "labels": "x", "label": ["x"]}, ["x"]),
        ({"fileName": "a.jpg", "Labels": ["x"]}, ["x"]),
        ({"image": "a.jpg", "annotations": [{"label": "x", "coordinates": {}}]}, ["x"]),
        ({"image": "a.jpg", "class_name": "x", "label": 3}, ["x"]),
        ({"image": "a.jpg", "tags": "x|y; z"}, ["x", "y", "z"]),
        ({"image": "a.jpg", "labels": ["x"], "objects": {"bbox": [[1, 2]]}}, ["x"]),
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
    assert dataset.account.dropped == {"of the test subset": 1}
    assert dataset.account.left_out == {"2.jpg": "of the test subset"}


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
        ('{"path": "b.jpg", "labels": null}', "there is no value for the labels (null)"),
        ('{"path": "b.jpg", "labels": [3]}', "the labels are numbers, but names in x.jsonl:1"),
        ('{"path": "b.jpg", "label": 3}', "the labels are numbers, but names in x.jsonl:1"),
        ('{"path": "b.jpg", "labels": [""]}', "the class name '' is empty"),
        ('{"path": "b.jpg", "labels": "a\\nb"}', "the class name 'a\\nb' has a line end"),
        ('{"path": "b.jpg", "labels": [], "split": "dev"}', "neither train nor val nor test"),
        ('{"path": "b.jpg", "labels": [], "split": 1}', "neither train nor val nor test: 1"),
        ('{"path": "gone.jpg", "labels": []}', "gone.jpg is not there"),
        ('{"path": "a\\u0000/b.jpg", "labels": []}', "cannot be the name of an image"),
        ('{"path": "../../c.jpg", "labels": []}', "../../c.jpg lies outside the data set"),
        ('{"path": "b.jpg", "labels": [true]}', "the labels are not a list of names: True"),
        ('{"path": "b.jpg", "labels": [1.5]}', "the labels are not a list of names: 1.5"),
        ('{"path": "b.jpg", "labels": ["x", [3]]}', "the labels are names and numbers: ['x', [3]]"),
        (b'{"path": "b.jpg", "labels": ["\xff\xe9"]}', "the line is neither UTF-8 nor GB18030"),
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
    assert "the record names no subset (`split`), but others do" in message
    assert "x.jsonl:2" in message


@pytest.mark.parametrize(
    ("files", "what"),
    [
        (
            {"a.jsonl": A, "b.jsonl": B},
            "there are several files, each .jsonl file, and it is not clear",
        ),
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
    assert dataset.notes == ["1 image is not there, left out: a.jpg"]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ({"image": {"bytes": None, "path": "a.jpg"}, "tags": ["x", "y"]}, ["x", "y"]),
        ({"img_path": "a.jpg", "labels": [{"name": "x"}, {"label": "y", "box": [1]}]}, ["x", "y"]),
        ({"file": "a.jpg", "labels": {"x": 1, "y": 1, "z": 0}}, ["x", "y"]),
        ({"path": "a.jpg", "labels": "['x', 'y']"}, ["x", "y"]),
        ({"path": "a.jpg", "objects": {"bbox": [[0]], "category": ["x", "y"]}}, ["x", "y"]),
    ],
)
def test_labels_of_the_usual_kinds_are_read(
    plant: Plant, labels: Any, line: dict[str, Any], names: list[str]
) -> None:
    dataset = jsonl.read(plant({"x.ndjson": json.dumps(line)}, "a.jpg"), Options())
    assert labels(dataset) == {"train": {"a.jpg": names}}


def test_ids_get_their_names_from_the_class_file(plant: Plant, labels: Any, refusal: Any) -> None:
    lines = [{"path": "a.jpg", "labels": [0, 2]}, {"path": "b.jpg", "label": 1.0}]
    root = plant({"x.jsonl": "\n".join(map(json.dumps, lines))}, "a.jpg", "b.jpg")
    message = refusal(jsonl.read, root)
    assert "the labels are numbers, and no file names the classes" in message
    assert "write classes.txt into the data set folder: one name a line" in message
    assert "(3 lines)" in message
    (root / "classes.txt").write_text("cat\ndog\nred car\n")
    expected = {"a.jpg": ["cat", "red car"], "b.jpg": ["dog"]}
    assert labels(jsonl.read(root, Options())) == {"train": expected}
    (root / "classes.txt").write_text("cat\ndog\n")
    assert "no class has the number 2: 2 have names, counted from 0" in refusal(jsonl.read, root)


def test_one_text_that_may_be_several_names_is_asked_about(
    plant: Plant, labels: Any, refusal: Any
) -> None:
    texts = ["cat, dog", "cat", "dog", "bird, cat"]
    lines = [json.dumps({"path": f"{i}.jpg", "labels": text}) for i, text in enumerate(texts)]
    root = plant({"x.jsonl": "\n".join(lines)}, *(f"{i}.jpg" for i in range(4)))
    message = refusal(jsonl.read, root)
    assert "'cat, dog' is one name, or several" in message
    assert "-o 'CheckDataset.convert.separator=\",\"'" in message
    dataset = jsonl.read(root, Options(separator=","))
    assert list(labels(dataset)["train"].values()) == [
        ["cat", "dog"], ["cat"], ["dog"], ["bird", "cat"],
    ]  # fmt: skip
    (root / "classes.txt").write_text("cat\ndog\ncat, dog\nbird, cat\n")
    assert len(jsonl.read(root, Options()).label_names) == 4


def test_parts_are_read_together_unless_they_differ(
    plant: Plant, labels: Any, refusal: Any
) -> None:
    root = plant({"part-1.jsonl": A, "part-2.jsonl": B}, "a.jpg", "b.jpg")
    assert list(labels(jsonl.read(root, Options()))["train"]) == ["a.jpg", "b.jpg"]
    (root / "part-2.jsonl").write_text('{"path": "a.jpg", "labels": ["dog"]}')
    assert "a.jpg has other labels in part-1.jsonl:1" in refusal(jsonl.read, root)


def test_a_file_of_chinese_text_is_read_as_it_is(plant: Plant, labels: Any) -> None:
    text = '{"path": "a.jpg", "labels": ["照片"]}'.encode("gbk")
    dataset = jsonl.read(plant({"x.jsonl": text}, "a.jpg"), Options())
    assert labels(dataset) == {"train": {"a.jpg": ["照片"]}}
    assert dataset.account.encodings == {"GB18030": ["x.jsonl"]}


def test_the_format_is_known_by_its_first_line(plant: Plant) -> None:
    assert jsonl.recognise(Inventory(plant({"x.jsonl": A}))) == "x.jsonl"
    for line in ("[]", "{", "\n", '{"file_name": "a.jpg", "text": "A cat."}', '{"labels": []}'):
        assert jsonl.recognise(Inventory(plant({"x.jsonl": line}))) == ""


def test_two_keys_of_labels_are_asked_about(plant: Plant, labels: Any, refusal: Any) -> None:
    line = {"path": "a.jpg", "labels": ["x"], "category": "y"}
    root = plant({"x.jsonl": 3 * (json.dumps(line) + "\n")}, "a.jpg")
    message = refusal(jsonl.read, root)
    assert "x.jsonl:1" in message
    assert "labels, category may each have the labels" in message
    assert """-o CheckDataset.convert.label_columns='["labels"]'""" in message
    assert """-o CheckDataset.convert.label_columns='["labels", "category"]'""" in message
    for columns, names in ((["labels"], ["x"]), (["labels", "category"], ["x", "y"])):
        dataset = jsonl.read(root, Options(label_columns=columns))
        assert labels(dataset) == {"train": {"a.jpg": names}}


def test_a_key_for_each_class_is_asked_about(plant: Plant, labels: Any, refusal: Any) -> None:
    text = '{"image": "a.jpg", "cat": 1, "dog": 0}\n{"image": "b.jpg", "cat": 1, "dog": true}'
    root = plant({"x.jsonl": text}, "a.jpg", "b.jpg")
    assert jsonl.recognise(Inventory(root)) == "x.jsonl"
    option = """-o CheckDataset.convert.label_columns='["cat", "dog"]'"""
    assert option in refusal(jsonl.read, root)
    dataset = jsonl.read(root, Options(label_columns=["cat", "dog"]))
    assert labels(dataset) == {"train": {"a.jpg": ["cat"], "b.jpg": ["cat", "dog"]}}


def test_the_chosen_keys_must_be_there(plant: Plant, labels: Any, refusal: Any) -> None:
    root = plant({"x.jsonl": '{"foto": "a.jpg", "what": "x"}'}, "a.jpg")
    dataset = jsonl.read(root, Options(image_column="foto", label_columns=["what"]))
    assert labels(dataset) == {"train": {"a.jpg": ["x"]}}
    assert "no key 'Foto'" in refusal(jsonl.read, root, image_column="Foto")
    assert "no key 'y'" in refusal(jsonl.read, root, image_column="foto", label_columns=["y"])


def test_all_lines_together_tell_whether_chosen_keys_are_classes(
    plant: Plant, labels: Any, refusal: Any
) -> None:
    options = Options(label_columns=["l1", "l2"])

    def write(*rows: dict[str, Any], **files: str) -> Path:
        named = ({"path": f"{'ab'[i]}.jpg"} | row for i, row in enumerate(rows))
        text = "\n".join(map(json.dumps, named))
        return plant({"x.jsonl": text, **files}, "a.jpg", "b.jpg")

    flags, null = {"l1": 1, "l2": 0}, {"l1": None, "l2": None}
    root = write({"l1": 2, "l2": 1}, flags, **{"classes.txt": "cat\ndog\nowl\n"})
    dataset = jsonl.read(root, options)
    assert labels(dataset) == {"train": {"a.jpg": ["dog", "owl"], "b.jpg": ["cat", "dog"]}}
    (root / "classes.txt").unlink()
    dataset = jsonl.read(write(null, flags), options)
    assert dataset.label_names == ["l1", "l2"]
    assert dataset.lists["train"].targets.tolist() == [[-1, -1], [1, 0]]
    named = {"l1": "cat", "l2": ["dog"], "unknown": ["dog"]}
    message = refusal(jsonl.read, write(null, named), label_columns=["l1", "l2"])
    assert "x.jsonl:1: there is no value for the labels (null)" in message
    assert "x.jsonl:2: 'dog' is a label of the image, and in `unknown`" in message


def test_words_of_yes_and_no_are_values_of_chosen_keys(plant: Plant) -> None:
    rows = [{"cat": "yes", "dog": "no"}, {"cat": "no", "dog": ""}, {"cat": "1", "dog": "true"}]
    lines = [json.dumps({"path": f"{i}.jpg", **row}) for i, row in enumerate(rows)]
    root = plant({"x.jsonl": "\n".join(lines)}, "0.jpg", "1.jpg", "2.jpg")
    dataset = jsonl.read(root, Options(label_columns=["cat", "dog"]))
    assert dataset.label_names == ["cat", "dog"]
    assert dataset.lists["train"].targets.tolist() == [[1, 0], [0, -1], [1, 1]]


@pytest.mark.parametrize("value", [None, -1])
def test_a_key_without_a_value_is_told(plant: Plant, value: int | None) -> None:
    rows = [{"cat": 1, "dog": 0, "owl": value}, {"cat": 0, "dog": 1, "owl": value}]
    for chosen in (None, ["cat", "dog", "owl"]):
        lines = [
            json.dumps({"path": f"{i}.jpg", **(row if chosen else {"labels": row})})
            for i, row in enumerate(rows)
        ]
        root = plant({"x.jsonl": "\n".join(lines)}, "0.jpg", "1.jpg")
        dataset = jsonl.read(root, Options(label_columns=chosen))
        assert dataset.label_names == ["cat", "dog"]
        assert "1 name has neither 1 nor 0 in any record: no class, left out: owl" in dataset.notes


def test_boxes_of_createml_are_labels(plant: Plant, labels: Any) -> None:
    boxes = [{"label": name, "coordinates": {"x": 1, "y": 2}} for name in ("cat", "dog", "cat")]
    rows = [{"image": "a.jpg", "annotations": boxes}, {"image": "b.jpg", "annotations": []}]
    files = {"train/_annotations.createml.json": json.dumps(rows)}
    root = plant(files, "train/a.jpg", "train/b.jpg")
    dataset = registry.read(root, "auto", Options())
    assert labels(dataset) == {"train": {"train/a.jpg": ["cat", "dog"], "train/b.jpg": []}}


def test_unknown_names_classes_that_nobody_has_looked_for(plant: Plant, refusal: Any) -> None:
    lines = [
        {"path": "a.jpg", "labels": ["cat"], "unknown": ["dog"]},
        {"path": "b.jpg", "labels": ["dog"], "unknown": []},
        {"path": "c.jpg", "labels": [], "unknown": ["owl", "cat"]},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    dataset = jsonl.read(plant({"x.jsonl": text}, "a.jpg", "b.jpg", "c.jpg"), Options())
    assert dataset.label_names == ["cat", "dog", "owl"]
    assert dataset.lists["train"].targets.tolist() == [[1, -1, 0], [0, 1, 0], [-1, 0, -1]]
    wrong = json.dumps({"path": "a.jpg", "labels": ["cat"], "unknown": [3]})
    message = refusal(jsonl.read, plant({"x.jsonl": wrong}, "a.jpg"))
    assert "`unknown` is not a list of class names" in message


def test_absent_names_the_only_classes_that_are_not_there(plant: Plant, refusal: Any) -> None:
    rows: list[dict[str, Any]] = [
        {"path": "a.jpg", "labels": ["cat"], "absent": ["dog"]},
        {"path": "b.jpg", "labels": ["dog"], "absent": []},
        {"path": "c.jpg", "labels": [], "unknown": ["owl", "cat"]},
        {"path": "d.jpg", "labels": ["owl"]},
    ]
    root = plant({"train.jsonl": "\n".join(map(json.dumps, rows))}, *(row["path"] for row in rows))
    result = jsonl.read(root, Options())
    assert result.label_names == ["cat", "dog", "owl"]
    table = [[1, 0, -1], [-1, 1, -1], [-1, 0, -1], [0, 0, 1]]
    assert result.lists["train"].targets.tolist() == table
    for wrong, what in (
        ({"absent": ["dog"], "unknown": []}, "the line has both `unknown` and `absent`"),
        ({"absent": ["cat"]}, "'cat' is a label of the image, and in `absent`"),
        ({"absent": [3]}, "`absent` is not a list of class names"),
    ):
        line = json.dumps({"path": "a.jpg", "labels": ["cat"], **wrong})
        assert what in refusal(jsonl.read, plant({"train.jsonl": line}, "a.jpg"))
    ours = json.dumps({"path": "a.jpg", "labels": ["cat"], "absent": 3})
    assert jsonl.read(plant({"train.jsonl": ours}, "a.jpg"), Options()).label_names == ["cat"]


@pytest.mark.parametrize("chosen", [False, True])
def test_values_of_classes_leave_unknown_what_none_of_them_says(
    plant: Plant, refusal: Any, chosen: bool
) -> None:
    rows: list[dict[str, Any]] = [
        {"cat": 1, "dog": -1, "owl": 0},
        {"cat": 0, "dog": 1, "owl": None},
        {"cat": 1, "dog": None, "owl": 1},
    ]

    def read(*rows: dict[str, Any]) -> list[list[int]]:
        paths = [f"{i}.jpg" for i in range(len(rows))]
        pairs = zip(paths, rows, strict=True)
        lines = [{"path": p, **(row if chosen else {"labels": row})} for p, row in pairs]
        root = plant({"x.jsonl": "\n".join(map(json.dumps, lines))}, *paths)
        if chosen:  # the question names every class
            assert """'["cat", "dog", "owl"]'""" in refusal(jsonl.read, root)
        options = Options(label_columns=["cat", "dog", "owl"]) if chosen else Options()
        dataset = jsonl.read(root, options)
        assert dataset.label_names == ["cat", "dog", "owl"]
        table: list[list[int]] = dataset.lists["train"].targets.tolist()
        return table

    assert read(*rows) == [[1, -1, 0], [0, 1, -1], [1, -1, 1]]
    nothing = {"cat": None, "dog": 1, "owl": None}
    if not chosen:
        # A class that a record does not name; and 1 and nothing alone.
        assert read(rows[0], {"cat": 1, "dog": 1}) == [[1, -1, 0], [1, 1, -1]]
        assert read({"cat": 1, "dog": None, "owl": 1}, nothing) == [[1, 0, 1], [0, 1, 0]]


def test_minus_one_beside_0_in_a_list_of_values_is_unknown(plant: Plant, refusal: Any) -> None:
    line = '{"path": "a.jpg", "labels": [1, -1, 0]}'
    files = {"x.jsonl": line, "classes.txt": "cat\ndog\nowl\n"}
    dataset = jsonl.read(plant(files, "a.jpg"), Options())
    assert dataset.lists["train"].targets.tolist() == [[1, -1, 0]]
    files["x.jsonl"] += '\n{"path": "b.jpg", "labels": [1, -1]}'
    assert '{"cat": 1, "dog": 0, "owl": -1}' in refusal(jsonl.read, plant(files, "a.jpg", "b.jpg"))
