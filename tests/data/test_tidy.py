# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paddlex_ml.data import annotation, check, tidy
from paddlex_ml.data.annotation import Parsed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes; train: a, b, a copy of a, a broken one, a bare one; val: a copy of b, c."""
    for seed, name in enumerate("abc"):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    for name, original in (("a2", "a"), ("b2", "b")):
        (tmp_path / f"{name}.png").write_bytes((tmp_path / f"{original}.png").read_bytes())
    Image.new("RGB", (40, 40)).save(tmp_path / "bare.png")
    (tmp_path / "broken.png").write_bytes(b"<html></html>")
    annotation.write_labels(tmp_path / "label.txt", ["cat", "dog"])
    train = ("a 1,0", "b 1,1", "a2 1,0", "broken 1,0", "bare 0,0")
    put(tmp_path, "train", *train)
    put(tmp_path, "val", "b2 1,1", "c 0,1")
    return tmp_path


def put(root: Path, name: str, *lines: str) -> None:
    text = "".join(line.replace(" ", ".png\t") + "\n" for line in lines)
    (root / f"{name}.txt").write_text(text)


def leave_out(root: Path, *drop: str) -> Parsed:
    parsed = annotation.parse(root, drop=drop)
    return tidy.leave_out(parsed, check.inspect(parsed, workers=0), drop)


def names(parsed: Parsed) -> str:
    lists = (parsed.dataset.train, parsed.dataset.val)
    return " | ".join(" ".join(p.removesuffix(".png") for p in each.paths) for each in lists)


@pytest.mark.parametrize(
    ("drop", "left", "gone"),
    [
        ("broken", "a b a2 bare | b2 c", ["train.txt:4 broken"]),
        ("empty", "a b a2 broken | b2 c", ["train.txt:5 empty"]),
        (
            "duplicates",
            "a broken bare | b2 c",
            ["train.txt:2 duplicates (of b2.png)", "train.txt:3 duplicates (of a.png)"],
        ),
    ],
)
def test_each_kind_goes_and_is_told(folder: Path, drop: str, left: str, gone: list[str]) -> None:
    parsed = leave_out(folder, drop)
    assert names(parsed) == left
    assert [f"{change.where} {change.why}" for change in parsed.changes] == gone
    assert [change.found for change in parsed.changes] == [""] * len(gone)
    assert len(parsed.lines["train"]) == len(parsed.dataset.train)
    assert parsed.dataset.train.targets.shape == (len(parsed.dataset.train), 2)


def test_all_kinds_together_leave_a_sound_set(folder: Path) -> None:
    parsed = leave_out(folder, "broken", "empty", "duplicates", "missing")
    assert names(parsed) == "a | b2 c"
    assert check.find_faults(parsed, check.inspect(parsed, workers=0)) == []


def test_copies_with_other_labels_stay(folder: Path) -> None:
    put(folder, "val", "b2 0,1", "c 0,1")
    assert names(leave_out(folder, "duplicates")) == "a b broken bare | b2 c"


def test_a_copy_goes_also_where_an_earlier_one_has_other_labels(folder: Path) -> None:
    put(folder, "train", "a 1,0", "b2 0,1", "b 0,1")
    (folder / "b3.png").write_bytes((folder / "b.png").read_bytes())
    put(folder, "val", "b3 1,1", "c 0,1")
    assert names(leave_out(folder, "duplicates")) == "a b2 | b3 c"


def test_an_image_named_twice_goes_where_its_labels_are_the_same(folder: Path) -> None:
    put(folder, "train", "a 1,0", "./a 1,0", "b 0,1", "c 1,0", "c 1,1")
    parsed = leave_out(folder, "duplicates")
    assert [change[:3] for change in parsed.changes] == [
        ("train.txt:2", "./a.png", "duplicates"),
    ]
    (fault,) = parsed.faults
    assert (fault.where, fault.text) == (
        "train.txt:5",
        "c.png is already in line 4, with other labels",
    )


def test_an_image_of_both_lists_stays_in_val(folder: Path) -> None:
    put(folder, "train", "a 1,0", "./c 0,1", "b 0,1")
    put(folder, "val", "c 0,1")
    assert names(leave_out(folder, "duplicates")) == "a b | c"


def test_a_list_that_would_lose_everything_is_a_fault(folder: Path) -> None:
    put(folder, "train", "bare 0,0", "broken 1,0")
    (fault,) = leave_out(folder, "broken", "empty").faults
    assert (fault.kind, fault.where) == ("nothing left", "train.txt")
    assert fault.text == "all 2 images would be left out: broken, empty"


@pytest.mark.parametrize("name", ["train", "val"])
def test_a_list_of_which_all_images_are_lost_is_a_fault(folder: Path, name: str) -> None:
    put(folder, name, "lost 1,0\t2", "./lost 1,0\t2", "gone 0,1")
    (fault,) = leave_out(folder, "missing").faults
    assert (fault.kind, fault.where) == ("nothing left", f"{name}.txt")
    assert fault.text == "all 3 images would be left out: missing"
    put(folder, name, "lost 1,0", "bare 0,0")
    (fault,) = leave_out(folder, "missing", "empty").faults
    assert fault.text == "all 2 images would be left out: empty, missing"
    put(folder, name, "lost 1,0", "a 0,2")
    (fault,) = leave_out(folder, "missing").faults
    assert fault.kind == "value other than 0 or 1"
    put(folder, name, "lost 1,0", "c 0,1")
    assert not leave_out(folder, "missing").faults
