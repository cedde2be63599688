# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import io
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats import registry, webdataset
from paddlex_ml.formats.collector import Options

Plant = Callable[..., Path]


def tar(**members: str) -> bytes:
    """A tar file; `a_jpg` stands for a.jpg."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, text in members.items():
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return content.getvalue()


@pytest.mark.skipif(sys.platform == "win32", reason="a command of a Unix shell")
def test_packed_images_are_refused_and_the_command_unpacks_them(
    plant: Plant, labels: Any, refusal: Any
) -> None:
    shards = {
        "my set/train-0.tar": tar(a_jpg="1", a_json='{"labels": ["cat", "dog"]}'),
        "my set/train-1.tar": tar(a_jpg="2", a_json='{"labels": []}'),
        "my set/val-0.tar": tar(a_jpg="3", a_json='{"labels": ["dog"]}'),
    }
    root = plant(shards)
    message = refusal(webdataset.read, root)
    assert "the images are inside 3 tar files" in message
    command = re.search(r"unpack them: (.*)", message)
    assert command
    subprocess.run(command[1], shell=True, check=True)
    dataset = webdataset.read(root, Options())
    assert labels(dataset) == {
        "train": {"my set/train-0/a.jpg": ["cat", "dog"], "my set/train-1/a.jpg": []},
        "val": {"my set/val-0/a.jpg": ["dog"]},
    }
    assert set(dataset.account.left_out.values()) == {"unpacked into the folder beside it"}
    (root / "my set/train-1/a.jpg").unlink()
    assert "the images are inside 1 tar file: my set/train-1.tar" in refusal(webdataset.read, root)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a.cls": "1", "b.cls": "0 1", "classes.txt": "cat\ndog\n"}, [["dog"], ["cat", "dog"]]),
        ({"a.cls": "dog", "b.cls": "cat\ndog\n"}, [["dog"], ["cat", "dog"]]),
        ({"a.txt": "dog", "b.txt": "cat, dog"}, [["dog"], ["cat", "dog"]]),
        ({"a.json": '["dog"]', "b.json": '{"label": "cat", "w": 1}'}, [["dog"], ["cat"]]),
        ({"a.json": '{"tags": ["dog"]}', "a.txt": "A dog.", "b.json": '{"tags": []}'},
         [["dog"], []]),
    ],
)  # fmt: skip
def test_labels_of_all_kinds_are_read(
    plant: Plant, labels: Any, files: dict[str, str], expected: list[list[str]]
) -> None:
    dataset = webdataset.read(plant(files, "a.jpg", "b.jpg"), Options())
    assert list(labels(dataset)["train"].values()) == expected


def test_an_image_without_labels_of_its_own_is_told(plant: Plant) -> None:
    dataset = webdataset.read(plant({"a.cls": "cat"}, "a.seg.jpg", "a.jpg", "b.jpg"), Options())
    assert dataset.account.left_out == {"b.jpg": "no annotation names it"}


def test_keys_of_classes_may_be_chosen(plant: Plant, refusal: Any) -> None:
    files = {"a.json": '{"cat": 1, "dog": 0}', "b.json": '{"cat": 0, "dog": null}'}
    root = plant(files, "a.jpg", "b.jpg")
    fix = """-o CheckDataset.convert.label_columns='["cat", "dog"]'"""
    assert fix in refusal(webdataset.read, root)
    dataset = webdataset.read(root, Options(label_columns=["cat", "dog"]))
    assert dataset.lists["train"].targets.tolist() == [[1, 0], [0, -1]]


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("a.json", '{"caption": "A cat."}', "none of labels, label"),
        ("a.json", "{", "Input data was truncated"),
        ("a.cls", "3", "write classes.txt into the data set folder"),
    ],
)
def test_what_is_no_label_is_refused(
    plant: Plant, refusal: Any, name: str, text: str, what: str
) -> None:
    assert what in refusal(webdataset.read, plant({name: text}, "a.jpg"))


def test_the_format_is_known_by_tar_files_or_what_was_in_them(plant: Plant) -> None:
    root = plant({"0.tar": tar(a_jpg="1", a_cls="1")})
    assert [found.format.name for found in registry.recognise(root)] == ["WebDataset"]
    for files in ({"0.tar": tar(a_jpg="1")}, {"0.tar": b"?"}, {"a.json": '{"shapes": []}'}):
        assert webdataset.recognise(Inventory(plant(files, "a.jpg"))) == ""
    assert webdataset.recognise(Inventory(plant({"a.cls": "1"}, "a.jpg"))) == "a.cls"


def test_a_compressed_or_damaged_tar_is_not_looked_into(plant: Plant, tmp_path: Path) -> None:
    whole = tar(a_jpg="1", a_json='{"labels": ["cat"]}')
    for content in (gzip.compress(whole), whole[:100] + b"\xff" * 500, b"\0" * 5000):
        assert webdataset.recognise(Inventory(plant({"x.tar": content}))) == ""


def test_a_tar_that_breaks_off_is_not_taken_for_an_unpacked_one(plant: Plant, refusal: Any) -> None:
    members = {f"{i}_{kind}": "1" for i in range(30) for kind in ("jpg", "cls")}
    content = tar(**members)
    at = 55 * 1024  # behind the members that tell the format
    content = content[:at] + b"\xff" * 512 + content[at + 512 :]
    root = plant({"x.tar": content})
    assert "the images are inside 1 tar file: x.tar" in refusal(webdataset.read, root)


def test_unknown_labels_are_kept(plant: Plant) -> None:
    files = {
        "train/a.json": '{"labels": ["cat"], "unknown": ["dog"]}',
        "train/b.json": '{"labels": ["dog"], "absent": []}',
    }
    dataset = webdataset.read(plant(files, "train/a.jpg", "train/b.jpg"), Options())
    assert dataset.lists["train"].targets.tolist() == [[1, -1], [-1, 1]]


def test_numbers_of_cls_files_may_be_minus_one_and_floats(plant: Plant) -> None:
    files = {"train-0/a.cls": "1.0, -1.0, 0.0", "train-0/b.cls": "0 1 0", "classes.txt": "x\ny\nz"}
    dataset = webdataset.read(plant(files, "train-0/a.jpg", "train-0/b.jpg"), Options())
    assert dataset.lists["train"].targets.tolist() == [[1, -1, 0], [0, 1, 0]]
