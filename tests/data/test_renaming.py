# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from paddlex_ml.data import annotation, journal, renaming
from paddlex_ml.errors import PaddlexMLError

DOOR = Path(__file__).resolve().parents[2] / "dataset_tools" / "rename_classes.py"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four classes, six images; the last two classes are two spellings of one thing."""
    (tmp_path / "label.txt").write_text("0 cat\n1 dog\n2 car\n3 automobile\n")
    values = ["1,0,0,1", "0,1,-1,0", "0,0,0,0", "0,0,-1,1", "0,0,1,0"]
    lines = [f"{i}.jpg\t{text}\n" for i, text in enumerate(values)]
    (tmp_path / "train.txt").write_text("".join(lines))
    (tmp_path / "val.txt").write_text("v.jpg\t0,0,-1,-1\n")
    for name in ("0", "1", "2", "3", "4", "v"):
        (tmp_path / f"{name}.jpg").touch()
    return tmp_path


def test_classes_of_one_name_become_one_and_known_presence_counts_first(root: Path) -> None:
    change, notes = renaming.rename_classes(root, {"automobile": "car", "cat": "feline"})
    assert notes == ["'cat' becomes: 'feline'", "'car' and 'automobile' are one class: 'car'"]
    dataset = annotation.read(root)
    assert dataset.label_names == ["feline", "dog", "car"]
    assert dataset.train.targets.tolist() == [
        [1, 0, 1], [0, 1, -1], [0, 0, 0], [0, 0, 1], [0, 0, 1],
    ]  # fmt: skip
    assert dataset.val.targets.tolist() == [[0, 0, -1]]
    assert sorted(path.name for path in root.glob("*.bak")) == [
        "label.txt.bak", "train.txt.bak", "val.txt.bak",
    ]  # fmt: skip
    journal.undo(root)
    assert annotation.read(root).label_names == ["cat", "dog", "car", "automobile"]
    assert change.what == "classes renamed"


def test_sparse_lists_stay_sparse(root: Path) -> None:
    (root / "train.txt").write_text("0.jpg\t@0,2?3\n1.jpg\t@?2,3\n2.jpg\t@\n3.jpg\t@3\n")
    renaming.rename_classes(root, {"automobile": "car"})
    assert (root / "train.txt").read_text() == "0.jpg\t@0,2\n1.jpg\t@?2\n2.jpg\t@\n3.jpg\t@2\n"


def test_two_names_may_be_exchanged(root: Path) -> None:
    renaming.rename_classes(root, {"cat": "dog", "dog": "cat"})
    assert annotation.read(root).label_names == ["dog", "cat", "car", "automobile"]
    assert not (root / "train.txt.bak").exists()  # its values stay what they are


@pytest.mark.parametrize(
    ("rename", "message"),
    [
        ({"catt": "feline"}, "no class has the name 'catt'.*write one of 'cat'"),
        ({"cat": "two\nlines"}, "cannot be written to label.txt"),
        ({"cat": ""}, "cannot be written to label.txt"),
    ],
)
def test_names_that_cannot_be_change_nothing(
    root: Path, rename: dict[str, str], message: str
) -> None:
    before = (root / "label.txt").read_bytes()
    with pytest.raises(PaddlexMLError) as caught:
        renaming.rename_classes(root, rename)
    assert re.search(message, str(caught.value), re.DOTALL)
    assert (root / "label.txt").read_bytes() == before


def test_relations_must_have_the_new_names_already(root: Path) -> None:
    (root / "relations.yaml").write_text("exclusive: [[cat, dog]]\n")
    with pytest.raises(PaddlexMLError, match=r"relations\.yaml"):
        renaming.rename_classes(root, {"cat": "feline"})
    (root / "relations.yaml").write_text("exclusive: [[feline, dog]]\n")
    renaming.rename_classes(root, {"cat": "feline"})
    assert annotation.read(root).label_names[0] == "feline"


def test_relations_that_name_another_class_now_are_told(root: Path) -> None:
    (root / "relations.yaml").write_text("implies: {cat: car}\n")
    _, notes = renaming.rename_classes(root, {"cat": "dog", "dog": "cat"})
    told = "relations.yaml names 'cat', which is another class now: see that it says what you mean"
    assert notes[2:] == [told]


def test_a_name_with_an_equals_sign_has_it_behind_a_backslash() -> None:
    assert renaming.parse([r"a\=b=c", r"d = e\=f"]) == {"a=b": "c", "d": "e=f"}
    with pytest.raises(PaddlexMLError, match=r"--rename 'a\\=b=c'"):
        renaming.parse(["a=b=c"])


@pytest.mark.parametrize("pairs", [["cat"], ["=cat"], ["cat="], ["a=b", "a=c"]])
def test_pairs_that_are_none_are_refused(pairs: list[str]) -> None:
    with pytest.raises(PaddlexMLError):
        renaming.parse(pairs)


def test_the_tool_renames_and_says_how_to_take_it_back(root: Path) -> None:
    command = [sys.executable, str(DOOR), str(root), "--rename"]
    done = subprocess.run([*command, "car = vehicle"], capture_output=True, text=True, check=True)
    assert "'car' becomes: 'vehicle'" in done.stdout
    assert "to take this back" in done.stdout
    assert annotation.read(root).label_names[2] == "vehicle"
    failed = subprocess.run([*command, "car=vehicle"], capture_output=True, text=True)
    assert failed.returncode == 2
    assert "no class has the name 'car'" in failed.stderr
