# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from paddlex_ml.data import (
    annotation,
    check,
    relations,
    renaming,
    soft_targets,
    split,
    target_lines,
    targets,
    tidy,
)
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.data.soft_targets import SoftCells
from paddlex_ml.data.split import Division
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import exporters, merging, rewrite
from tests.formats.test_merging import watch as watch

LINES = [
    *("0,0.7,1", "@2:0.25,0?1", "1,0,-1", ".5,,1e-3", "@", " 1.0 , 0.0 , -1.0 "),
    *("@1:1,2:0", "0.49999999999,0.99999999999,1e-60", "@0,1:0.25!2", "@2:0.5!", "@0:0.2,1!"),
]
TABLE: list[list[float]] = [
    [0, 0.7, 1],
    [1, -1, 0.25],
    [1, 0, -1],
    [0.5, -1, 1e-3],
    [0, 0, 0],
    [1, 0, -1],
    [0, 1, 0],
    [0.5, 1, 0],
    [1, 0.25, 0],
    [-1, -1, 0.5],
    [0.2, 1, -1],
]


def fill(values: targets.Targets, soft: SoftCells | None) -> list[list[float]]:
    rows = [targets.row(values, i) for i in range(len(values))]
    filled = rows if soft is None else [soft.fill(row, i) for i, row in enumerate(rows)]
    return [[round(float(value), 6) for value in row] for row in filled]


def parse(lines: list[str], num_classes: int = 3, refusal: str = "") -> soft_targets.SoftLines:
    return soft_targets.parse(list(lines), num_classes, "label.txt names 3 classes", refusal)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight images for training, of which two have soft values and three a weight, two for val."""
    root = tmp_path / "set"
    root.mkdir()
    for i in range(10):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"{i}.png")
    (root / "label.txt").write_text("0 cat\n1 dog\n2 bird\n")
    (root / "train.txt").write_text(
        "0.png\t0,0.7,1\t2\n1.png\t1,0.25,-1\n2.png\t1,0,0\t0.5\n3.png\t0,1,0\n4.png\t0,0,1\t0\n"
        "5.png\t1,1,0\n6.png\t0,1,1\n7.png\t0,0,0\n"
    )
    (root / "val.txt").write_text("8.png\t1,1,0\n9.png\t0,0,1\n")
    return root


def read(root: Path) -> annotation.MLClsDataset:
    return annotation.read(root, soft_labels=True)


def test_lines_of_both_forms_give_the_values_that_are_written() -> None:
    values, soft, faults = parse(LINES)
    assert not faults
    assert fill(values, soft) == TABLE
    hard = [[value if value < 0 else float(value >= 0.5) for value in row] for row in TABLE]
    assert targets.dense(values).tolist() == hard


@pytest.mark.parametrize("lines", [LINES, LINES[::2], [LINES[1], LINES[4]], [LINES[2]]])
def test_texts_are_read_back_as_the_same_cells(lines: list[str]) -> None:
    first = parse(lines)
    texts = list(soft_targets.texts(first.values, first.soft))
    again = parse(texts)
    assert fill(again.values, again.soft) == fill(first.values, first.soft)
    assert list(soft_targets.texts(again.values, again.soft)) == texts


def test_texts_are_short() -> None:
    values, soft, _ = parse(["0,0.70,1", "0.3,0.123456789,0"])
    assert list(soft_targets.texts(values, soft)) == ["0,0.7,1", "0.3,0.12345679,0"]
    values, soft, _ = parse(["@2:.25,0?1", "@1:0.50"])
    assert list(soft_targets.texts(values, soft)) == ["@0,2:0.25?1", "@1:0.5"]


@pytest.mark.parametrize("word", ["1.5", "-0.5", "nan", "inf", "1e400", "0,5", "0.7x", "-1.5", "_"])
def test_a_value_that_is_no_share_is_named_with_its_class(word: str) -> None:
    shown = "0" if "," in word else word
    for line, others in ((f"0.5,{word},1", "0.5,0,1"), (f"@0:0.5,1:{word}", "@0:0.5")):
        values, soft, [fault] = parse([others, line, others])
        assert fault.line == 1
        if "," in word:  # of C classes there are too many then
            continue
        assert fault.what == f"the value of class 1 is {shown!r}, no number from 0 to 1"
        assert fault.kind == "value not from 0 to 1"
        assert fault.fix.startswith("write a number from 0 to 1")
        right = fill(values, soft)
        assert right[0] == right[2]
        assert right[0][0] == 0.5


@pytest.mark.parametrize("word", ["70", "70%", "0 2", "0.7 2"])
@pytest.mark.parametrize("other", ["1,0,0", "0.5,0,1"])
def test_percents_and_weights_behind_a_space_are_told(word: str, other: str) -> None:
    for line, place in ((f"0,1,{word}", 2), (f"@1:{word}", 1)):
        _, _, [fault] = parse([other, line])
        assert fault.what == f"the value of class {place} is {word!r}, no number from 0 to 1"
        assert "(0.7 for 70 %)" in fault.fix
        assert (target_lines.WEIGHT_FIX in fault.fix) == (" " in word)
    _, _, [fault] = parse([other.replace("0.5", "0"), "0,True,1"], refusal="-o x=true")
    assert fault.what == "the value of class 1 is 'True', neither 0 nor 1"
    _, _, [fault] = parse([other.replace("0.5", "0"), "0,1,70"], refusal="-o x=true")
    assert fault.what == "the value of class 2 is '70', neither 0 nor 1"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("0.5,1", "label vector has 2 values"),
        ("0.5,1,0,0.1", "label vector has 4 values"),
        ("@3:0.5", "there is no class 3"),
        ("@1:0.2,1", "class 1 is named twice"),
        ("@1:0.2?1", "class 1 is named as present and as unknown"),
        ("@0?1:0.2", "a class behind ? has a value, but it is unknown or absent"),
        ("@0:", "the value of class 0 is '', no number from 0 to 1"),
    ],
)
def test_other_faults_of_such_lines_are_told_as_without_soft_values(line: str, what: str) -> None:
    values, soft, [fault] = parse([line])
    assert fault.what.startswith(what)
    assert soft is None
    assert not targets.dense(values).any()


def test_where_soft_values_are_refused_the_repair_is_the_one_given() -> None:
    values, soft, faults = parse(["0,0.7,1", "@2:0.25", "1,1.5,0", "1,0,0"], refusal="-o x=true")
    assert soft is None
    assert [(f.line, f.fix == "-o x=true") for f in faults] == [(0, True), (1, True), (2, False)]
    assert faults[0].what == "the value of class 1 is '0.7', neither 0 nor 1"
    assert faults[1].what == "the value of class 2 is '0.25', neither 0 nor 1"
    assert targets.dense(values)[3].tolist() == [1, 0, 0]


def test_images_are_taken_and_joined_with_their_soft_values() -> None:
    values, soft, _ = parse(LINES)
    assert soft is not None
    order = [3, 0, 0, 4]
    assert fill(targets.take(values, order), soft.take(order)) == [TABLE[i] for i in order]
    assert soft.take([2, 4]) is None
    joined = soft_targets.concatenate([None, soft, None, soft.take([1])], [2, len(LINES), 1, 1])
    assert joined is not None
    assert joined.starts.tolist()[-1] == len(soft.ids) + 1
    assert len(joined) == len(LINES) + 4
    assert joined.images()[-1] == len(LINES) + 3
    assert soft_targets.concatenate([None, None], [3, 4]) is None
    weights = soft_targets.join_weights([None, np.array([3], np.float32)], [2, 1])
    assert weights is not None
    assert weights.tolist() == [1, 1, 3]


@pytest.mark.parametrize("is_sparse", [False, True])
def test_classes_that_become_one_keep_the_highest_value(is_sparse: bool) -> None:
    lines = ["0.7,0,0", "0.7,1,0", "0.3,0.4,0", "0.3,-1,0", "0.7,-1,0", "0.2,0,0.9"]
    values, soft, _ = parse(lines)
    if is_sparse:
        values = targets.to_sparse(values)
    mapped, kept = soft_targets.map_classes(soft, values, np.array([1, 1, 0]), 2)
    rows = [[0, 0.7], [0, 1], [0, 0.4], [0, -1], [0, 0.7], [0.9, 0.2]]
    assert fill(mapped, kept) == rows


def test_an_implied_class_is_as_certain_as_what_implies_it() -> None:
    """Class 0 implies 2; 1 implies 2. What is 1 in `after` has been completed."""
    lines = ["0.7,0,0", "0.7,1,0.2", "0.3,0,0", "0.3,0.9,-1", "0.2,0,0.6", "0.2,0,-1", "1,0,0"]
    values, soft, _ = parse(lines)
    after = targets.dense(values).copy()
    after[[0, 1, 3, 6], 2] = 1
    raised, changed = soft_targets.raise_implied(soft, values, after, {2: [0, 1]})
    assert [row[2] for row in fill(after, raised)] == [0.7, 1, 0.3, 0.9, 0.6, -1, 1]
    assert changed == 4
    assert soft_targets.raise_implied(None, values, after, {2: [0]}) == (None, 0)


def test_weights_are_finite_numbers_of_at_least_0() -> None:
    weights, faults = soft_targets.parse_weights(["2", "", " 0.5 ", "1e-3", "0e5"], is_train=True)
    assert weights is not None and not faults  # noqa: PT018
    assert weights.tolist() == pytest.approx([2, 1, 0.5, 1e-3, 0])
    assert soft_targets.normalise(weights).mean() == pytest.approx(1, rel=1e-6)
    assert soft_targets.parse_weights(["1", "", "1.0"], is_train=True) == (None, [])
    wrong = ["1.5x", "-1", "nan", "inf", "1e400", "1e39", "0,5", "--", "1E-60", f"0.{'0' * 50}7"]
    _, faults = soft_targets.parse_weights(["1", *wrong], is_train=False)
    assert [fault.line for fault in faults] == list(range(1, 11))
    assert faults[8].what.endswith("at least 0: so small that it would be 0")
    assert faults[1].what == "the weight of the image is '-1', no finite number of at least 0"
    _, [fault] = soft_targets.parse_weights(["0", "0.0"], is_train=True)
    assert fault.what == "the weight of every image is 0"
    weights, faults = soft_targets.parse_weights(["0", "0.0"], is_train=False)
    assert (weights is None, faults) == (False, [])  # in val.txt weights have no effect


def test_a_list_has_soft_values_and_weights(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    train = read(folder).train
    assert fill(train.values, train.soft)[:2] == [[0, 0.7, 1], [1, 0.25, -1]]
    assert train.weights is not None
    assert train.weights.tolist() == [2, 1, 0.5, 1, 0, 1, 1, 1]
    assert train.text() == (folder / "train.txt").read_text()
    told = soft_targets.tell(train.soft, train.weights)
    assert told[0].startswith("train.txt: soft values for 2 labels of 2 images")
    assert "3 images have a weight other than 1: 0 at least, 1 in the middle, 2 at most" in told[1]
    assert not caplog.messages
    (folder / "val.txt").write_text("8.png\t1,1,0\t3\n9.png\t0,0,1\n")
    assert read(folder).val.weights is not None
    assert "the weights in val.txt have no effect" in caplog.text


@pytest.mark.parametrize(
    ("line", "what", "fix"),
    [
        ("9.png\t0,0.5,1", "the value of class 1 is '0.5', neither 0 nor 1", "Train.soft_labels"),
        ("9.png\t0,1,1\t70%", "the weight of the image is '70%'", "as 0.7 behind the second tab"),
        ("9.png\t0,1,1\t-2", "the weight of the image is '-2'", "remove the third column"),
        ("9.png\t0,1,1\t2\t3", "the line has 3 tabs", "ONE tab"),
        ("9.png\t0\t1", "label vector has 1 value", "'1' behind the second tab is the weight"),
        ("a\t9.png\t0,1,1", "the line has 2 tabs", "ONE tab"),
    ],
)
def test_faults_name_the_line_and_a_repair(folder: Path, line: str, what: str, fix: str) -> None:
    (folder / "train.txt").write_text(f"8.png\t1,0,0\n{line}\n")
    [fault] = annotation.parse(folder, ["train"]).faults
    assert fault.where == "train.txt:2"
    assert fault.text.startswith(what)
    assert fix in fault.fix


def test_soft_values_in_val_are_refused_whatever_is_asked(folder: Path) -> None:
    (folder / "val.txt").write_text("8.png\t1,0.6,0\n9.png\t0,0,1\n")
    [fault] = annotation.parse(folder, soft_labels=True).faults
    assert fault.where == "val.txt:1"
    assert "Train.soft_labels" not in fault.fix
    assert fault.fix.startswith("write 1, 0 or -1 (unknown), or move the line to train.txt")


def test_the_digest_depends_on_soft_values_and_weights_and_is_the_old_one_without() -> None:
    paths, values = ["a", "b"], np.array([[1, 0], [0, 1]], np.int8)
    plain = annotation.digest(ImageList(Path(), paths, values))
    assert plain == targets.digest(values, b"a\0b")
    cells = [
        soft_targets.from_cells(np.array([0]), np.array([i]), np.array([v], np.float32), 2)
        for i, v in ((0, 0.7), (0, 0.8), (1, 0.2))
    ]
    lists = [ImageList(Path(), paths, values, soft) for soft in cells]
    lists += [
        ImageList(Path(), paths, values, None, np.array(w, np.float32)) for w in ([1, 2], [2, 1])
    ]
    assert len({plain, *map(annotation.digest, lists)}) == 6
    ones = ImageList(Path(), paths, values, None, np.ones(2, np.float32))
    assert annotation.digest(ones) == plain


def test_a_division_keeps_soft_values_in_train_and_all_weights(folder: Path) -> None:
    before = read(folder)
    rewritten = rewrite.resplit(folder, Division(val_percent=50))
    after = read(folder)
    assert rewritten.notes == [
        "2 of 10 images have soft values and stay in train.txt: val.txt gets 50 % of the others"
    ]
    assert len(after.val) == 4
    lines = {line for part in (before.train, before.val) for line in part.text().splitlines()}
    assert {*after.train.text().splitlines(), *after.val.text().splitlines()} == lines
    assert {"0.png", "1.png"} <= {*after.train.paths}
    (folder / "train.txt").write_text("0.png\t0,0.7,1\n1.png\t1,0.3,0\n")
    (folder / "val.txt").unlink()
    with pytest.raises(PaddlexMLError, match="too few for a val"):
        rewrite.resplit(folder, Division(val_percent=50))


@pytest.mark.parametrize("seed", range(4))
def test_a_division_refuses_an_image_that_is_soft_in_one_list_and_certain_in_the_other(
    folder: Path, seed: int
) -> None:
    (folder / "val.txt").write_text("0.png\t1,0,0\n9.png\t0,0,1\n")
    before = (folder / "train.txt").read_text()
    with pytest.raises(PaddlexMLError, match="1 image is listed more than once: 0"):
        rewrite.resplit(folder, Division(val_percent=50, seed=seed))
    assert (folder / "train.txt").read_text() == before


@pytest.mark.parametrize("seed", range(4))
def test_the_group_of_an_image_with_soft_values_stays_in_train(folder: Path, seed: int) -> None:
    names = [f"{group}_{i}.png" for group in "abc" for i in range(3)]
    for i, name in enumerate(names):
        (folder / f"{i}.png").rename(folder / name)
    lines = [f"{name}\t1,{i % 2},0\n" for i, name in enumerate(names)]
    (folder / "train.txt").write_text("".join(lines).replace("1,1,0", "0.5,1,0", 1))
    (folder / "val.txt").unlink()
    division = Division(val_percent=40, seed=seed, group_regex="^([abc])_")
    notes = rewrite.resplit(folder, division).notes
    assert notes[0].startswith("3 of 9 images, or their groups, have soft values and stay in train")
    assert len({name[0] for name in read(folder).val.paths}) == 1
    assert {"a_0.png", "a_1.png", "a_2.png"} <= {*read(folder).train.paths}


def divide(folder: Path, seed: int) -> dict[str, ImageList]:
    """The images of train.txt as a division with this seed puts them."""
    listed = annotation.read(folder, ["train"]).train
    order = sorted(range(len(listed)), key=listed.paths.__getitem__)
    return split.divide(listed.take(order), Division(val_percent=50, seed=seed))


def test_a_division_that_leaves_only_images_of_weight_0_is_refused(folder: Path) -> None:
    lines = [f"{i}.png\t1,{i % 2},0\t0\n" for i in range(8)]
    (folder / "train.txt").write_text("".join(lines[:7]) + "7.png\t0,0,1\n")
    (folder / "val.txt").unlink()
    before = (folder / "train.txt").read_text()
    told = "train.txt would get 4 images, all of weight 0"
    chosen = next(seed for seed in range(20) if "7.png" in divide(folder, seed)["val"].paths)
    with pytest.raises(PaddlexMLError, match=told):
        rewrite.resplit(folder, Division(val_percent=50, seed=chosen))
    assert (folder / "train.txt").read_text() == before
    chosen = next(seed for seed in range(20) if "7.png" in divide(folder, seed)["train"].paths)
    rewrite.resplit(folder, Division(val_percent=50, seed=chosen))
    assert len(read(folder).val) == 4  # though all of these have the weight 0


@pytest.mark.parametrize("kind", ["missing", "broken"])
def test_lines_left_out_may_not_leave_images_of_weight_0_alone(folder: Path, kind: str) -> None:
    lines = [f"{i}.png\t1,{i % 2},0\t{int(i > 5)}\n" for i in range(8)]
    (folder / "train.txt").write_text("".join(lines))
    for name in ("6.png", "7.png"):
        (folder / name).unlink() if kind == "missing" else (folder / name).write_bytes(b"x")
    draft = rewrite.draft_lists(folder, drop=[kind])
    draft = draft.leave_out(check.inspect(draft.parsed, workers=0), [kind])
    with pytest.raises(PaddlexMLError, match=r"txt would get 6 images, all") as caught:
        draft.write()
    assert caught.value.fix == (
        "remove the third column of some, or correct the lines that would be left out"
    )
    assert (folder / "train.txt").read_text() == "".join(lines)
    (folder / "train.txt").write_text("".join([*lines[1:], "0.png\t1,0,0\n"]))
    draft = rewrite.draft_lists(folder, drop=[kind])
    draft.leave_out(check.inspect(draft.parsed, workers=0), [kind]).write()
    assert len(read(folder).train) == 6


def test_renamed_classes_keep_soft_values_and_weights(folder: Path) -> None:
    renaming.rename_classes(folder, {"dog": "animal", "bird": "animal"})
    train = read(folder).train
    assert fill(train.values, train.soft)[:3] == [[0, 1], [1, -1], [1, 0]]
    assert train.weights is not None
    assert train.weights[:3].tolist() == [2, 1, 0.5]


def test_relations_raise_soft_values_in_the_list(folder: Path) -> None:
    (folder / "relations.yaml").write_text("implies: {dog: cat}\n")
    known = relations.read(folder / "relations.yaml", ["cat", "dog", "bird"])
    written = rewrite.draft_lists(folder).complete(known).write()
    assert written.notes == ["1 soft value of train.txt raised by relations.yaml"]
    train = read(folder).train
    assert fill(train.values, train.soft)[:4] == [
        [0.7, 0.7, 1],
        [1, 0.25, -1],
        [1, 0, 0],
        [1, 1, 0],
    ]


def test_merged_sets_keep_soft_values_and_weights(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("0.png", "2.png"):
        (other / name).write_bytes((folder / name).read_bytes())
    (other / "label.txt").write_text("0 bird\n1 dog\n")
    (other / "train.txt").write_text("0.png\t1,0.9\t7\n2.png\t0.1,0\n")
    merging.merge([folder, other], tmp_path / "merged", watch)
    train = read(tmp_path / "merged").train
    rows = dict(zip(train.paths, fill(train.values, train.soft), strict=True))
    assert rows["0.png"] == [0, 0.7, 1]
    assert rows["1.png"] == [1, 0.25, -1]
    assert rows["2.png"] == [1, 0, 0]
    assert train.weights is not None
    assert dict(zip(train.paths, train.weights.tolist(), strict=True))["0.png"] == 2
    merging.merge([other, folder], tmp_path / "turned", watch)
    train = read(tmp_path / "turned").train
    rows = dict(zip(train.paths, fill(train.values, train.soft), strict=True))
    assert rows["0.png"] == [1, 0.9, 0]
    assert rows["2.png"] == [0.1, 0, 1]


@pytest.mark.parametrize("kind", exporters.WRITERS)
def test_an_export_refuses_what_the_format_cannot_hold(folder: Path, kind: str) -> None:
    with pytest.raises(PaddlexMLError, match="2 labels have soft values and 3 images a weight"):
        exporters.export(folder, kind, unknown="negative")
    output = folder.parent / "out"
    exporters.export(folder, kind, output, unknown="negative", hard=True)
    text = "".join(path.read_text() for path in sorted(output.rglob("*train*")))
    assert "0.7" not in text
    assert text


def test_copies_with_other_soft_values_are_not_the_same_labels(folder: Path) -> None:
    (folder / "train.txt").write_text(
        "0.png\t0,0.7,1\n0.png\t0,0.8,1\n1.png\t1,0,0\n1.png\t1,0,0\t2\n"
    )
    parsed = annotation.parse(folder, ["train"], drop=["duplicates"], soft_labels=True)
    assert [fault.where for fault in parsed.faults] == ["train.txt:2", "train.txt:4"]
    assert parsed.faults[1].text.endswith("line 3, with other labels or another weight")
    (folder / "train.txt").write_text("0.png\t0,0.7,1\t2\n./0.png\t0,0.7,1\t2\n")
    parsed = annotation.parse(folder, ["train"], drop=["duplicates"], soft_labels=True)
    assert not parsed.faults
    assert len(parsed.changes) == 1
    assert not tidy.leave_out(parsed, {}, []).faults


@pytest.mark.parametrize("line", ["0," * 60 + "0.x", "1" * 200_000 + ".5.", "0.5" + " " * 200_000])
def test_no_line_takes_forever(line: str) -> None:
    """Patterns that try every way would take years for these."""
    assert parse([line], 61).faults
    assert parse([line.replace(",", ":"), f"@{line}"], 61).faults
    assert soft_targets.parse_weights([line.strip() + "x"], is_train=True)[1]


def read_slowly(line: str, num_classes: int) -> list[float] | None:
    """The values of a dense line, word by word; None where it is wrong."""
    number = r"([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,4})?"
    words = [word.strip() if " " in line else word for word in line.split(",")]
    if not all(re.fullmatch(rf"(-1(\.0*)?|{number})?", word, re.ASCII) for word in words):
        return None
    found = [float(word or -1) for word in words]
    are_right = len(words) == num_classes and all(x == -1 or 0 <= x <= 1 for x in found)
    return [float(np.float32(x)) for x in found] if are_right else None


WORDS = [
    *("0", "1", "-1", "", "-1.0", "-1.", "-1.5", "1.0", "1.", ".5", ".", "-", "-0", "+1", "01"),
    *("00.50", "1e-400", "1e400", "1E-2", "1e", "e1", "1.0000000001", "0.99999999999", "nan"),
    *("inf", "0x1", "1_0", "0.5.", "..5", "0.1234567890123456789", "0.123456789012345678901234"),
    *("0.3333333333333333", "1" * 30, "0." + "0" * 40 + "1", "\u0661", "0\uff0e5", "0.7x", " 0.5"),
    *("0.5 ", " ", "1 2", "2", "0.000000000000001", "9.99999999999999e-1", "000000000000001"),
]


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_dense_lines_are_read_as_word_by_word(data: st.DataObject) -> None:
    word = st.sampled_from(WORDS) | st.decimals(0, 1, allow_nan=False).map("{:f}".format)
    vectors = data.draw(st.lists(st.lists(word, min_size=1, max_size=3), max_size=8))
    lines = [",".join(["0.5", *words]) for words in [*vectors, ["0.25", "1"]]]
    values, soft, faults = parse(lines)
    assert soft is not None
    wanted = [read_slowly(line, 3) for line in lines]
    assert [fault.line for fault in faults] == [i for i, row in enumerate(wanted) if row is None]
    for i, row in enumerate(wanted):
        cells = targets.row(values, i)
        assert soft.fill(cells, i).tolist() == (row or [0, 0, 0])
        assert cells.tolist() == [x if x == -1 else x >= 0.5 for x in row or [0, 0, 0]]


@pytest.mark.parametrize("word", [*WORDS, *map(repr, np.random.default_rng(1).random(50))])
@pytest.mark.parametrize("line", ["0.5,{},1", "0.5,1,{}"])
def test_each_word_is_read_or_refused_as_by_itself(line: str, word: str) -> None:
    wanted = read_slowly(line.format(word), 3)
    values, soft, faults = parse(["0.5,0,1", line.format(word)])
    assert [fault.line for fault in faults] == [1] * (wanted is None)
    assert soft is not None
    assert soft.fill(targets.row(values, 1), 1).tolist() == (wanted or [0, 0, 0])


@pytest.mark.parametrize(("line", "is_every"), [("0.5,0,1", False), ("0.5,0,1,1", True)])
def test_soft_lines_count_where_every_line_has_one_value_more(line: str, is_every: bool) -> None:
    faults = parse([line, "0,1,0,1", "1,0,0,1"])[2]
    assert [("every line" in fault.fix) for fault in faults] == [is_every] * (2 + is_every)


def test_many_soft_lines_are_read_as_written() -> None:
    rng = np.random.default_rng(0)
    table = np.round(rng.random((20_000, 20)), 3)
    lines = [",".join(map(str, row)) for row in table.tolist()]
    values, soft, faults = parse(lines, 20)
    assert not faults
    assert fill(values, soft) == table.tolist()
    assert parse(list(soft_targets.texts(values, soft)), 20).soft is not None
