# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from paddlex_ml import cli, machine_memory
from paddlex_ml.data import annotation, renaming
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import merging
from paddlex_ml.progress import ReportProgress, ignore_progress

DOOR = Path(__file__).resolve().parents[2] / "dataset_tools" / "merge.py"


@contextmanager
def watch(what: str) -> Iterator[ReportProgress]:
    yield ignore_progress


def plant(root: Path, names: Sequence[str], **lists: dict[str, tuple[str, str]]) -> Path:
    """A data set; each list: path -> content of the image, values."""
    root.mkdir(parents=True)
    (root / "label.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(names)))
    for name, images in lists.items():
        for path, (content, _) in images.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(content)
        lines = [f"{path}\t{values}\n" for path, (_, values) in images.items()]
        (root / f"{name}.txt").write_text("".join(lines))
    return root


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    """Two sets of cats; both have the picture "two", under other paths; one.jpg is two images."""
    first = plant(
        tmp_path / "first",
        ["cat", "dog"],
        train={"one.jpg": ("1", "1,0"), "x/two.jpg": ("two", "1,-1")},
        val={"three.jpg": ("3", "0,1")},
    )
    second = plant(
        tmp_path / "second",
        ["owl", "cat"],
        train={"one.jpg": ("other", "1,0"), "y/2.jpg": ("two", "0,-1")},
        val={"four.jpg": ("4", "-1,1")},
    )
    return [first, second]


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_classes_are_united_and_what_a_set_never_looked_for_is_unknown(
    tmp_path: Path, pair: list[Path]
) -> None:
    before = [contents(root) for root in pair]
    result = merging.merge(pair, tmp_path / "merged", watch)
    merged = annotation.read(tmp_path / "merged")
    assert merged.label_names == ["cat", "dog", "owl"]
    assert merged.train.paths == ["one.jpg", "x/two.jpg", "second/one.jpg"]
    assert merged.train.targets.tolist() == [[1, 0, -1], [1, -1, 0], [0, -1, 1]]
    assert merged.val.paths == ["three.jpg", "four.jpg"]
    assert merged.val.targets.tolist() == [[0, 1, -1], [1, -1, -1]]
    assert [contents(root) for root in pair] == before
    assert merged.train.path(2).read_text() == "other"
    assert os.path.samefile(merged.train.path(0), pair[0] / "one.jpg")
    assert result.notes == [
        f"1 class is not in label.txt of {pair[0]}, and unknown for its images: owl",
        f"1 class is not in label.txt of {pair[1]}, and unknown for its images: dog",
        "1 image is there more than once: the labels are put together",
        "1 image has the path of another one: now in a folder with the name of the set: "
        "second/one.jpg",
    ]


def test_spellings_of_one_name_are_told_with_the_command_that_makes_them_one(
    tmp_path: Path, pair: list[Path]
) -> None:
    names = annotation.read_labels(pair[1] / "label.txt")
    annotation.write_labels(pair[1] / "label.txt", [n.replace("cat", "Cat") for n in names])
    notes = merging.merge(pair, tmp_path / "merged", watch).notes
    command = f"dataset_tools/rename_classes.py {pair[1]} --rename Cat=cat, then merge again"
    assert f"'cat' and 'Cat' stay two classes; if they are one: {command}" in notes
    renaming.rename_classes(pair[1], renaming.parse(["Cat=cat"]))
    merging.merge(pair, tmp_path / "again", watch)
    assert annotation.read_labels(tmp_path / "again" / "label.txt") == ["cat", "dog", "owl"]


@pytest.mark.parametrize(("way", "value"), [("first", 1), ("unknown", -1), ("present", 1)])
def test_conflicts_are_refused_or_settled(
    tmp_path: Path, pair: list[Path], way: str, value: int
) -> None:
    (pair[1] / "train.txt").write_text("one.jpg\t1,0\ny/2.jpg\t0,0\n")
    with pytest.raises(PaddlexMLError, match=r"1 label is present in one set and absent") as e:
        merging.merge(pair, tmp_path / "merged", watch)
    assert f"--conflicts {way}" in e.value.fix
    assert not (tmp_path / "merged").exists()
    table = tmp_path / "merged_conflicts.csv"
    with table.open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["image", "class", "present in", "absent in"],
            ["x/two.jpg", "cat", f"{pair[0]}/x/two.jpg", f"{pair[1]}/y/2.jpg"],
        ]
    merging.merge(pair, tmp_path / "merged", watch, way)
    assert annotation.read(tmp_path / "merged").train.targets[1].tolist() == [value, -1, 0]
    assert (tmp_path / "merged" / "conflicts.csv").read_bytes() == table.read_bytes()
    merging.merge(pair[::-1], tmp_path / "reversed", watch, way)
    row = annotation.read(tmp_path / "reversed").train.targets[1].tolist()
    assert row == [0, {"first": 0}.get(way, value), -1]


def test_an_image_that_one_set_trains_on_is_not_for_validation(
    tmp_path: Path, pair: list[Path]
) -> None:
    (pair[1] / "train.txt").write_text("one.jpg\t1,0\n")
    (pair[1] / "val.txt").write_text("four.jpg\t-1,1\ny/2.jpg\t0,-1\n")
    result = merging.merge(pair, tmp_path / "merged", watch)
    merged = annotation.read(tmp_path / "merged")
    assert merged.train.paths == ["one.jpg", "x/two.jpg", "second/one.jpg"]
    assert merged.val.paths == ["three.jpg", "four.jpg"]
    text = "1 image is for training in one list and for validation in another: now in train.txt"
    assert f"{text}: x/two.jpg" in result.notes


def test_sparse_sets_of_many_classes_stay_sparse(tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(1100)]
    train = {"a.jpg": ("a", "@1,3?2"), "b.jpg": ("b", "@")}
    first = plant(tmp_path / "a", names, train=train)
    second = plant(tmp_path / "b", [*names, "more"], train={"c.jpg": ("a", "@2?0,1,3")})
    merging.merge([first, second], tmp_path / "merged", watch)
    lines = (tmp_path / "merged" / "train.txt").read_text()
    assert lines == "a.jpg\t@1,2,3\nb.jpg\t@?1100\n"
    assert not (tmp_path / "merged" / "val.txt").exists()


def test_images_of_which_few_classes_are_known_list_these(tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(1100)]
    first = plant(tmp_path / "a", names, train={"a.jpg": ("a", "@1"), "b.jpg": ("b", "@1!2")})
    second = plant(tmp_path / "b", ["class 7", "more"], train={"c.jpg": ("c", "@1")})
    merging.merge([first, second], tmp_path / "merged", watch)
    lines = (tmp_path / "merged" / "train.txt").read_text()
    assert lines == "a.jpg\t@1?1100\nb.jpg\t@1!2\nc.jpg\t@1100!7\n"


def test_relations_and_folders_of_one_name_are_told_apart(tmp_path: Path) -> None:
    sets = [
        plant(tmp_path / parent / "set", ["cat"], train={"a.jpg": (parent, "1")})
        for parent in ("p", "q", "r")
    ]
    (sets[0] / "relations.yaml").write_text("exclusive: []\n")
    result = merging.merge(sets, tmp_path / "merged", watch)
    merged = annotation.read(tmp_path / "merged", ["train"])
    assert merged.train.paths == ["a.jpg", "set/a.jpg", "set_2/a.jpg"]
    assert [merged.train.path(i).read_text() for i in range(3)] == ["p", "q", "r"]
    assert "is not taken along" in result.notes[0]


def test_what_cannot_be_merged_is_refused(tmp_path: Path, pair: list[Path]) -> None:
    for sets in ([pair[0]], [pair[0], pair[0]]):
        with pytest.raises(PaddlexMLError, match="two different data sets"):
            merging.merge(sets, tmp_path / "merged", watch)
    with pytest.raises(PaddlexMLError, match="nothing is overwritten"):
        merging.merge(pair, pair[0], watch)
    (pair[1] / "one.jpg").unlink()
    with pytest.raises(PaddlexMLError, match=r"one\.jpg"):
        merging.merge(pair, tmp_path / "merged", watch)
    assert not (tmp_path / "merged").exists()


def test_the_tool_merges_and_names_the_next_command(tmp_path: Path, pair: list[Path]) -> None:
    command = [sys.executable, str(DOOR), *map(str, pair), "-o", str(tmp_path / "merged")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "3 train, 2 val images, 3 classes" in done.stdout
    assert "Global.mode=check_dataset" in done.stdout
    assert subprocess.run(command, capture_output=True).returncode == 2


def test_the_command_after_a_merge_of_soft_values_passes(
    tmp_path: Path, pair: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for i, path in enumerate(pair[0].rglob("*.jpg")):
        Image.new("RGB", (8, 8), (80 * i, 0, 0)).save(path)
    (pair[0] / "train.txt").write_text("one.jpg\t0.3,1\nx/two.jpg\t1,0\n")
    pair[1] = plant(tmp_path / "other", ["owl"])
    shutil.copy(pair[0] / "one.jpg", pair[1])
    (pair[1] / "train.txt").write_text("one.jpg\t1\n")
    words = shlex.split(merging.merge(pair, tmp_path / "merged", watch).lines()[-1])
    assert cli.main(words[words.index("-c") :]) == 0


def test_a_merged_set_inside_of_a_source_is_refused(pair: list[Path]) -> None:
    with pytest.raises(PaddlexMLError, match="inside of one that it is made of"):
        merging.merge(pair, pair[0] / "merged", watch)
    assert not (pair[0] / "merged").exists()


def test_labels_that_no_memory_can_list_are_refused(
    tmp_path: Path, pair: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (pair[1] / "train.txt").write_text("one.jpg\t@1\ny/2.jpg\t@0\n")
    merging.merge(pair, tmp_path / "merged", watch, "first")
    monkeypatch.setattr(machine_memory, "available", lambda: 100)
    with pytest.raises(PaddlexMLError, match=r"2 labels of this sparse list would be listed"):
        merging.merge(pair, tmp_path / "other", watch, "first")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_weight_is_that_of_the_line_for_training(tmp_path: Path, order: Any) -> None:
    sets = [
        plant(tmp_path / "a", ["cat"], val={"x.png": ("x", "1\t9")}, train={"y.png": ("y", "1")}),
        plant(tmp_path / "b", ["cat"], train={"x.png": ("x", "1\t3"), "z.png": ("z", "0")}),
    ]
    merging.merge([sets[i] for i in order], tmp_path / "c", watch)
    assert "x.png\t1\t3\n" in (tmp_path / "c" / "train.txt").read_text()
