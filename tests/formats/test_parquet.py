# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import parquet, registry
from paddlex_ml.formats.collector import Options

Plant = Callable[..., Path]
FEATURES = {"info": {"features": {"labels": {"feature": {"names": ["cat", "red car"]}}}}}
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def write() -> Callable[..., None]:
    """Writes a table of columns, with the metadata of Hugging Face if asked."""
    pyarrow = pytest.importorskip("pyarrow")
    tables = importlib.import_module("pyarrow.parquet")

    def write_table(file: Path, features: Any = None, /, **columns: Any) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        table = pyarrow.table(columns)
        if features:
            table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
        tables.write_table(table, file)

    return write_table


def test_tables_of_paths_and_labels_are_read(plant: Plant, labels: Any, write: Any) -> None:
    root = plant({}, "images/a.jpg", "images/b.jpg", "images/c.jpg")
    write(root / "data/train-00000-of-1.parquet", path=["a.jpg", "b.jpg"], tags=[["x", "y"], []])
    write(root / "data/validation-00000-of-1.parquet", path=["c.jpg"], tags=[["y"]])
    dataset = parquet.read(root, Options())
    assert labels(dataset) == {
        "train": {"images/a.jpg": ["x", "y"], "images/b.jpg": []},
        "val": {"images/c.jpg": ["y"]},
    }
    assert dataset.account.records == {
        "data/train-00000-of-1.parquet": 2,
        "data/validation-00000-of-1.parquet": 1,
    }


def test_ids_are_named_by_the_table_or_a_class_file(
    plant: Plant, labels: Any, refusal: Any, write: Any
) -> None:
    root = plant({}, "a.jpg")
    write(root / "x.parquet", FEATURES, image=[{"bytes": None, "path": "a.jpg"}], labels=[[0, 1]])
    assert labels(parquet.read(root, Options())) == {"train": {"a.jpg": ["cat", "red car"]}}
    write(root / "x.parquet", image=["a.jpg"], label=[1])
    assert "write classes.txt" in refusal(parquet.read, root)
    (root / "classes.txt").write_text("w\nx\n")
    assert labels(parquet.read(root, Options())) == {"train": {"a.jpg": ["x"]}}


def test_images_inside_are_refused_and_the_command_unpacks_them(
    plant: Plant, labels: Any, refusal: Any, write: Any
) -> None:
    root = plant({})
    images = [{"bytes": b"\xff\xd8\xff1", "path": "a.jpg"}, {"bytes": PNG, "path": None}]
    write(root / "train-0.parquet", FEATURES, image=images, labels=[[0, 1], []])
    write(root / "val-0.parquet", FEATURES, image=images[:1], labels=[[1]])
    message = refusal(parquet.read, root)
    assert "holds the images themselves" in message
    command = re.search(r"unpack it: (.*)", message)
    assert command
    path = json.dumps(sys.path)
    _, _, module, *arguments = shlex.split(command[1])
    assert module == "paddlex_ml.formats.parquet"
    code = f"import sys, runpy; sys.path[:] = {path}; "
    code += "runpy.run_module('paddlex_ml.formats.parquet', run_name='__main__')"
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)
    dataset = parquet.read(root, Options())
    assert labels(dataset) == {
        "train": {"train-0/0000000.jpg": ["cat", "red car"], "train-0/0000001.png": []},
        "val": {"val-0/0000000.jpg": ["red car"]},
    }
    assert [found.format.name for found in registry.recognise(root)] == ["HuggingFace"]


def test_columns_are_named_and_may_be_chosen(
    plant: Plant, labels: Any, refusal: Any, write: Any
) -> None:
    root = plant({}, "a.jpg")
    write(root / "x.parquet", photo=["a.jpg"], animals=[["cat"]])
    assert "no column has the image: photo, animals" in refusal(parquet.read, root)
    assert "label_columns=[...]" in refusal(parquet.read, root, image_column="photo")
    dataset = parquet.read(root, Options(image_column="photo", label_columns=["animals"]))
    assert labels(dataset) == {"train": {"a.jpg": ["cat"]}}


def test_chosen_columns_are_unpacked(plant: Plant, labels: Any, refusal: Any, write: Any) -> None:
    root = plant({})
    write(root / "x.parquet", photo=[PNG + b"1", PNG + b"2"], animals=[["cat"], None])
    options: dict[str, Any] = {"image_column": "photo", "label_columns": ["animals"]}
    message = refusal(parquet.read, root, **options)
    assert shlex.join([str(root), "photo", "animals"]) in message
    parquet.unpack(root, Options(**options))
    message = refusal(parquet.read, root, **options)
    assert "no value for the labels (null)" in message
    assert "x/metadata.jsonl:2" in message
    table = root / "x/metadata.jsonl"
    table.write_text(table.read_text().replace("null", "[]"))
    dataset = parquet.read(root, Options(**options))
    assert labels(dataset) == {"train": {"x/0000000.png": ["cat"], "x/0000001.png": []}}


def test_a_row_without_labels_is_refused(plant: Plant, refusal: Any, write: Any) -> None:
    root = plant({}, "a.jpg", "b.jpg")
    write(root / "x.parquet", path=["a.jpg", "b.jpg"], labels=[["cat"], None])
    message = refusal(parquet.read, root)
    assert "no value for the labels (null)" in message
    assert "x.parquet row 2" in message


def test_several_columns_have_names_of_labels(plant: Plant, labels: Any, write: Any) -> None:
    root = plant({}, "a.jpg")
    write(root / "x.parquet", path=["a.jpg"], color=[["red"]], shape=["round"])
    dataset = parquet.read(root, Options(label_columns=["color", "shape"]))
    assert labels(dataset) == {"train": {"a.jpg": ["red", "round"]}}


@pytest.mark.parametrize("are_inside", [False, True])
def test_several_columns_may_each_be_a_class(
    plant: Plant, refusal: Any, write: Any, are_inside: bool
) -> None:
    root = plant({}, "a.jpg", "b.jpg")
    images = [PNG + b"1", PNG + b"2"] if are_inside else ["a.jpg", "b.jpg"]
    write(root / "x.parquet", image=images, id=[7, 8], cat=[1, 0], dog=[None, 1])
    message = refusal(parquet.read, root)
    assert """-o CheckDataset.convert.label_columns='["cat", "dog"]'""" in message
    options: dict[str, Any] = {"label_columns": ["cat", "dog"]}
    if are_inside:
        assert shlex.join([str(root), "image", "cat", "dog"]) in refusal(
            parquet.read, root, **options
        )
        parquet.unpack(root, Options(image_column="image", **options))
    dataset = parquet.read(root, Options(**options))
    assert dataset.label_names == ["cat", "dog"]
    assert dataset.lists["train"].targets.tolist() == [[1, -1], [0, 1]]


def test_numbers_of_several_columns_have_names_of_their_own(
    plant: Plant, labels: Any, write: Any, refusal: Any
) -> None:
    root, names = plant({}, "a.jpg", "b.jpg"), {"animal": ["cat", "dog"], "sky": ["blue", "grey"]}
    named = {key: {"names": value} for key, value in {**names, "wet": ["no", "yes"]}.items()}
    table = {"path": ["a.jpg", "b.jpg"], "animal": [1, 0], "sky": [[1], [0]], "wet": [0, 1]}
    write(root / "x.parquet", {"info": {"features": named}}, **table)
    dataset = parquet.read(root, Options(label_columns=["animal", "sky"]))
    assert labels(dataset) == {"train": {"a.jpg": ["dog", "grey"], "b.jpg": ["blue", "cat"]}}
    message = refusal(parquet.read, root, label_columns=["animal", "wet"])
    assert "'animal' has names (dog), and 'wet' numbers (" in message


def test_wrong_rows_and_files_are_named(plant: Plant, refusal: Any, write: Any) -> None:
    root = plant({}, "a.jpg")
    write(root / "x.parquet", path=["a.jpg", None], labels=[["cat"], ["dog"]])
    message = refusal(parquet.read, root)
    assert "the image is not the name of a file: None" in message
    assert "x.parquet row 2" in message
    (root / "x.parquet").write_bytes(b"PAR1?")
    assert "the Parquet file is damaged" in refusal(parquet.read, root)


def test_without_pyarrow_the_fix_installs_it(
    plant: Plant, refusal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    root = plant({"x.parquet": b"PAR1"}, "a.jpg")
    assert "pip install pyarrow" in refusal(parquet.read, root)
    assert parquet.recognise(Inventory(root)) == "x.parquet"
    assert parquet.recognise(Inventory(plant({"x.parquet": b"?"}))) == ""


def test_rows_that_no_file_of_its_size_holds_are_refused(
    plant: Plant, refusal: Any, write: Any
) -> None:
    root = plant({}, "a.jpg")
    write(root / "x.parquet", path=["a.jpg"] * 500_000, labels=[None] * 500_000)
    assert "it claims 500,000 rows, at most" in refusal(parquet.read, root)


def test_damage_behind_the_head_is_told(plant: Plant, refusal: Any, write: Any) -> None:
    root = plant({}, "a.jpg")
    write(root / "x.parquet", path=["a.jpg"], labels=[["cat"]])
    content = (root / "x.parquet").read_bytes()
    (root / "x.parquet").write_bytes(content[:4] + b"\xff" * 60 + content[64:])
    assert "the Parquet file is damaged" in refusal(parquet.read, root)


def test_unpacking_writes_through_no_link(plant: Plant, tmp_path: Path, write: Any) -> None:
    root, outside = plant({}), tmp_path / "photos"
    outside.mkdir()
    (root / "x").symlink_to(outside)
    write(root / "x.parquet", image=[PNG], labels=[["cat"]])
    parquet.unpack(root, Options())
    assert list(outside.iterdir()) == []
    assert (root / "x/0000000.png").read_bytes() == PNG
    (root / "x/0000000.png").unlink()
    (root / "x/0000000.png").symlink_to(outside / "mine.png")
    parquet.unpack(root, Options())
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("label", [[2], [-1]])
def test_labels_without_a_name_are_refused_by_unpacking(
    plant: Plant, write: Any, label: list[Any]
) -> None:
    root = plant({})
    write(root / "x.parquet", FEATURES, image=[PNG], labels=[label])
    with pytest.raises(PaddlexMLError, match=r"row 0: 'labels' has the labels .*, of 2 classes"):
        parquet.unpack(root, Options())


def test_a_large_group_of_rows_is_refused(
    plant: Plant, refusal: Any, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = plant({}, "a.jpg")
    write(root / "train.parquet", image=["a.jpg"], labels=[["cat"]])
    monkeypatch.setattr(parquet, "LARGEST_GROUP", 10)
    assert "bytes when it is unpacked, at most 10 are read" in refusal(parquet.read, root)


def test_unknown_labels_are_kept_also_when_images_are_unpacked(plant: Plant, write: Any) -> None:
    root = plant({}, "a.jpg", "b.jpg")
    named = {"labels": [["cat"], ["dog"]], "unknown": [["dog"], []]}
    write(root / "x.parquet", path=["a.jpg", "b.jpg"], **named)
    dataset = parquet.read(root, Options())
    assert dataset.lists["train"].targets.tolist() == [[1, -1], [0, 1]]
    write(root / "x.parquet", image=[PNG + b"1", PNG + b"2"], **named)
    parquet.unpack(root, Options())
    dataset = parquet.read(root, Options())
    assert dataset.lists["train"].targets.tolist() == [[1, -1], [0, 1]]
