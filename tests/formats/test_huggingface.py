# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats import huggingface, registry
from paddlex_ml.formats.collector import Options
from paddlex_ml.storage import regular_file

Plant = Callable[..., Path]
README = """---
license: mit
dataset_info:
  features:
  - name: image
    dtype: image
  - name: labels
    sequence:
      class_label:
        names:
          '0': cat
          '1': red car
  splits:
  - name: train
---
# A set
"""
NAMED = {"feature": {"names": ["cat", "red car"], "_type": "ClassLabel"}, "_type": "Sequence"}
INFOS = {"default": {"features": {"labels": NAMED}}}
INFO = {"features": {"labels": {"feature": {"names": ["cat", "red car"]}}, "names": None}}


def lines(*rows: dict[str, Any]) -> str:
    return "\n".join(map(json.dumps, rows)) + "\n"


def test_metadata_in_the_folders_of_subsets_make_both_lists(plant: Plant, labels: Any) -> None:
    files = {
        "data/train/metadata.jsonl": lines({"file_name": "1.jpg", "labels": ["cat", "dog"]}),
        "data/validation/metadata.jsonl": lines({"file_name": "x/2.jpg", "labels": []}, {
            "file_name": "3.jpg", "labels": ["dog"]}),
        "data/test/metadata.jsonl": lines({"file_name": "4.jpg", "labels": ["dog"]}),
    }  # fmt: skip
    images = ("data/train/1.jpg", "data/validation/x/2.jpg", "data/validation/3.jpg",
              "data/test/4.jpg")  # fmt: skip
    dataset = huggingface.read(plant(files, *images), Options())
    assert labels(dataset) == {
        "train": {"data/train/1.jpg": ["cat", "dog"]},
        "val": {"data/validation/x/2.jpg": [], "data/validation/3.jpg": ["dog"]},
    }


def test_one_file_for_all_images_is_divided_by_their_folders(plant: Plant, labels: Any) -> None:
    table = "file_name,label\ntrain/1.jpg,cat\nvalidation/2.jpg,dog\ntest/3.jpg,dog\n"
    images = ("train/1.jpg", "validation/2.jpg", "test/3.jpg")
    dataset = huggingface.read(plant({"metadata.csv": table}, *images), Options())
    assert labels(dataset) == {
        "train": {"train/1.jpg": ["cat"]},
        "val": {"validation/2.jpg": ["dog"]},
    }
    assert dataset.account.left_out == {"test/3.jpg": "of the test subset"}


@pytest.mark.parametrize(
    "info",
    [
        {"README.md": README},
        {"dataset_infos.json": json.dumps(INFOS)},
        {"dataset_info.json": json.dumps(INFO)},
        {"classes.txt": "cat\nred car\n"},
    ],
)
def test_ids_are_named_by_the_features_or_a_class_file(
    plant: Plant, labels: Any, info: dict[str, str]
) -> None:
    text = lines({"file_name": "1.jpg", "labels": [0, 1]}, {"file_name": "2.jpg", "labels": []})
    dataset = huggingface.read(plant({"metadata.jsonl": text, **info}, "1.jpg", "2.jpg"), Options())
    assert labels(dataset) == {"train": {"1.jpg": ["cat", "red car"], "2.jpg": []}}
    assert dataset.account.left_out == {}


@pytest.mark.parametrize("table", ["file_name,label\n1.jpg,1\n", 'file_name,labels\n1.jpg,"[1]"\n'])
def test_ids_without_names_are_refused(plant: Plant, refusal: Any, table: str) -> None:
    message = refusal(huggingface.read, plant({"metadata.csv": table}, "1.jpg"))
    assert "write classes.txt into the data set folder" in message


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("file_name,labels\n1.jpg,\"['cat', 'dog']\"\n2.jpg,[]\n", [["cat", "dog"], []]),
        ('file_name,labels\n1.jpg,"[""cat""]"\n2.jpg,\n', [["cat"], []]),
        ("file_name,cat,dog\n1.jpg,1,0\n2.jpg,0,0\n", [["cat"], []]),
        (f"file_name,label\n1.jpg,{'1' * 5000}\n2.jpg,\n", [["1" * 5000], []]),
        ("file_name,cat,dog\n1.jpg,True,1.0\n2.jpg,False,0\n", [["cat", "dog"], []]),
        ("text,file_name,label\nA cat.,1.jpg,cat\nNone.,2.jpg,\n", [["cat"], []]),
    ],
)
def test_cells_of_all_kinds_are_read(
    plant: Plant, labels: Any, table: str, expected: list[list[str]]
) -> None:
    dataset = huggingface.read(plant({"metadata.csv": table}, "1.jpg", "2.jpg"), Options())
    assert list(labels(dataset)["train"].values()) == expected


def test_a_cell_that_may_be_several_names_is_asked_about(
    plant: Plant, labels: Any, refusal: Any
) -> None:
    table = 'file_name,labels\n1.jpg,"cat, dog"\n2.jpg,cat\n'
    root = plant({"metadata.csv": table}, "1.jpg", "2.jpg")
    assert "-o 'CheckDataset.convert.separator=\",\"'" in refusal(huggingface.read, root)
    dataset = huggingface.read(root, Options(separator=","))
    assert labels(dataset) == {"train": {"1.jpg": ["cat", "dog"], "2.jpg": ["cat"]}}


def test_a_bar_separates_names(plant: Plant, labels: Any) -> None:
    table = "file_name,labels\n1.jpg,cat|dog\n2.jpg,cat\n"
    dataset = huggingface.read(plant({"metadata.csv": table}, "1.jpg", "2.jpg"), Options())
    assert any("1 text has several names, separated by |;" in note for note in dataset.notes)
    assert labels(dataset) == {"train": {"1.jpg": ["cat", "dog"], "2.jpg": ["cat"]}}


def test_boxes_give_their_categories(plant: Plant, labels: Any) -> None:
    text = lines({"file_name": "1.jpg", "objects": {"bbox": [[1], [2]], "categories": [1, 1]}})
    root = plant({"metadata.jsonl": text, "classes.txt": "cat\ndog\n"}, "1.jpg")
    assert labels(huggingface.read(root, Options())) == {"train": {"1.jpg": ["dog"]}}


def test_columns_without_labels_are_named_and_may_be_chosen(
    plant: Plant, labels: Any, refusal: Any
) -> None:
    text = lines({"file_name": "1.jpg", "text": "A cat.", "animals": ["cat"]})
    root = plant({"metadata.jsonl": text}, "1.jpg")
    message = refusal(huggingface.read, root)
    assert "there are: text, animals" in message
    assert "CheckDataset.convert.label_columns" in message
    dataset = huggingface.read(root, Options(label_columns=["animals"]))
    assert labels(dataset) == {"train": {"1.jpg": ["cat"]}}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("metadata.jsonl", lines({"file_name": "1.jpg", "color": "red", "shape": "round"})),
        ("metadata.csv", "file_name,color,shape\n1.jpg,red,round\n"),
    ],
)
def test_columns_of_names_may_be_chosen_together(
    plant: Plant, labels: Any, file: str, text: str
) -> None:
    root = plant({file: text}, "1.jpg")
    dataset = huggingface.read(root, Options(label_columns=["color", "shape"]))
    assert labels(dataset) == {"train": {"1.jpg": ["red", "round"]}}
    dataset = huggingface.read(root, Options(label_columns=["shape"]))
    assert labels(dataset) == {"train": {"1.jpg": ["round"]}}


def test_keys_of_classes_are_chosen_by_the_repair(plant: Plant, refusal: Any) -> None:
    rows = lines(
        {"file_name": "1.jpg", "width": 1, "cat": 1, "dog": 0, "owl": -1},
        {"file_name": "2.jpg", "width": 1, "cat": 0, "dog": None, "owl": 1},
    )
    root = plant({"metadata.jsonl": rows}, "1.jpg", "2.jpg")
    fix = """-o CheckDataset.convert.label_columns='["cat", "dog", "owl"]'"""
    assert fix in refusal(huggingface.read, root)
    dataset = huggingface.read(root, Options(label_columns=["cat", "dog", "owl"]))
    assert dataset.label_names == ["cat", "dog", "owl"]
    assert dataset.lists["train"].targets.tolist() == [[1, 0, -1], [0, -1, 1]]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("metadata.jsonl", lines({"file_name": "1.jpg", "animal": 1, "sky": [0, 1], "wet": 1})),
        ("metadata.csv", 'file_name,animal,sky,wet\n1.jpg,1,"[0, 1]",1\n'),
    ],
)
def test_numbers_of_several_columns_have_names_of_their_own(
    plant: Plant, labels: Any, refusal: Any, file: str, text: str
) -> None:
    features = {"animal": {"names": ["cat", "dog"]}, "sky": {"names": ["blue", "grey"]}}
    info = json.dumps({"features": features})
    root = plant({file: text, "dataset_info.json": info}, "1.jpg")
    dataset = huggingface.read(root, Options(label_columns=["animal", "sky"]))
    assert labels(dataset) == {"train": {"1.jpg": ["blue", "dog", "grey"]}}
    message = refusal(huggingface.read, root, label_columns=["animal", "wet"])
    assert "'animal' has names (dog), and 'wet' numbers (" in message
    root = plant({file: text.replace("[0, 1]", "[0, 2]"), "dataset_info.json": info}, "1.jpg")
    message = refusal(huggingface.read, root, label_columns=["animal", "sky"])
    assert "'sky' has the labels" in message
    assert "of 2 classes" in message


def test_a_chosen_column_that_is_not_there_is_named(plant: Plant, refusal: Any) -> None:
    root = plant({"metadata.csv": "file_name,cat,dog\n1.jpg,1,0\n"}, "1.jpg")
    message = refusal(huggingface.read, root, label_columns=["cat", "dogs"])
    assert "there is no column 'dogs'; there are: cat, dog" in message


@pytest.mark.parametrize(
    ("file", "text", "what"),
    [
        ("metadata.jsonl", '{"file_name": "1.jpg", "label": "x"}\n{"file_name": 3, "label": "x"}',
         "file_name is not the name of a file: 3"),
        ("metadata.csv", "file_name,label\n1.jpg,x\n1.jpg,x,y\n", "the row has 3 cells"),
        ("metadata.csv", "file_name,label,split\n1.jpg,x,dev\n", "neither train nor val nor test"),
        ("metadata.csv", 'file_name,label\n1.jpg,"x\n', "unexpected end of data"),
    ],
)  # fmt: skip
def test_a_wrong_record_is_named(
    plant: Plant, refusal: Any, file: str, text: str, what: str
) -> None:
    message = refusal(huggingface.read, plant({file: text}, "1.jpg"))
    assert what in message
    assert f"{file}:" in message


def test_metadata_is_recognised_by_its_content(plant: Plant) -> None:
    text = lines({"file_name": "1.jpg", "label": "cat"})
    root = plant({"train/metadata.jsonl": text}, "train/1.jpg")
    assert [found.format.name for found in registry.recognise(root)] == ["HuggingFace"]
    for name, other in (("metadata.csv", "id,age\n1,2\n"), ("metadata.jsonl", '{"a": 1}\n')):
        assert huggingface.recognise(Inventory(plant({f"train/{name}": other}))) in ("",
            "train/metadata.jsonl")  # fmt: skip


def test_a_description_that_is_too_large_is_told(
    plant: Plant, labels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regular_file, "LARGEST_YAML", 100)
    rows = lines({"file_name": "1.jpg", "labels": ["cat"]})
    root = plant({"train/metadata.jsonl": rows, "README.md": README}, "train/1.jpg")
    dataset = huggingface.read(root, Options())
    assert labels(dataset) == {"train": {"train/1.jpg": ["cat"]}}
    (note,) = [note for note in dataset.notes if "README.md" in note]
    assert "README.md is not read: it has " in note
    assert "at most 100 are read" in note


def test_unknown_labels_are_kept(plant: Plant, refusal: Any) -> None:
    text = lines(
        {"file_name": "a.jpg", "labels": ["cat"], "unknown": ["dog"]},
        {"file_name": "b.jpg", "labels": ["dog"], "absent": []},
    )
    dataset = huggingface.read(plant({"metadata.jsonl": text}, "a.jpg", "b.jpg"), Options())
    assert dataset.lists["train"].targets.tolist() == [[1, -1], [-1, 1]]
    table = "file_name,cat,dog,owl\na.jpg,1,-1,0\nb.jpg,0,,1\nc.jpg,0,1,1\n"
    (root := plant({}, "a.jpg", "b.jpg", "c.jpg")).joinpath("metadata.jsonl").unlink()
    (root / "metadata.csv").write_text(table)
    dataset = huggingface.read(root, Options())
    assert dataset.lists["train"].targets.tolist() == [[1, -1, 0], [0, -1, 1], [0, 1, 1]]
    (root / "metadata.csv").write_text(table.replace("-1", "2"))
    assert "metadata.csv:1" in refusal(huggingface.read, root)
