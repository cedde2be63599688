# SPDX-License-Identifier: Apache-2.0
"""relations.yaml: read, counted, followed in lists; and the stories of the check with it."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddlex_ml.config.schema import CheckDatasetConfig, Config, RepairConfig, SplitConfig
from paddlex_ml.data import annotation, check, journal, relations, targets
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.data.relations import Relations
from paddlex_ml.engines import check_dataset
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.metrics.known import UNKNOWN
from tests.data.test_unknown_labels import write_set
from tests.engines.test_check_dataset import configure

NAMES = ["cat", "kitten", "dog", "puppy", "animal", "day", "night", "no"]
PETS = """implies: {kitten: cat, puppy: [dog], cat: animal, dog: animal}
exclusive: [[day, night], [cat, dog]]
"""


def read(tmp_path: Path, text: str = PETS) -> Relations:
    path = tmp_path / "relations.yaml"
    path.write_text(text, encoding="utf-8")
    return relations.read(path, NAMES)


def test_implications_are_followed_to_their_end(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert found.stated == ((1, 0), (3, 2), (0, 4), (2, 4))
    assert found.implied == ((4,), (0, 4), (4,), (2, 4), (), (), (), ())
    assert found.exclusive == ((5, 6), (0, 2))
    assert found.implied_by == {4: [0, 1, 2, 3], 0: [1], 2: [3]}


def test_words_of_yaml_stay_names_of_classes(tmp_path: Path) -> None:
    assert read(tmp_path, "exclusive: [[no, day]]").exclusive == ((7, 5),)


def test_a_set_without_the_file_has_no_relations(tmp_path: Path) -> None:
    assert relations.parse(tmp_path / "relations.yaml", NAMES) == (None, [])
    with pytest.raises(PaddlexMLError, match="does not exist"):
        relations.read(tmp_path / "relations.yaml", NAMES)


@pytest.mark.parametrize(
    ("text", "line", "message", "fix"),
    [
        ("implies: {kiten: cat}", ":1", "no class 'kiten'", "write kitten"),
        ("implies:\n  kitten: [cat,\n    zebra]", ":3", "no class 'zebra'", "one of cat, kitten"),
        ("exclusive: [[day, '']]", ":1", "no class ''", "one of cat"),
        ("implies: {cat: cat}", ":1", "cycle: cat -> cat", "remove one"),
        (
            "implies:\n  kitten: cat\n  cat: animal\n  animal: [puppy, cat]",
            ":3",
            "cycle: cat -> animal -> cat",
            "remove one",
        ),
        (
            "implies: {kitten: [cat, dog], puppy: kitten}\nexclusive: [[cat, dog]]",
            ":1",
            "kitten implies cat and dog, which exclude each other",
            "or the group",
        ),
        (
            "implies:\n  kitten: cat\n  cat: animal\nexclusive: [[kitten, animal]]",
            ":2",
            "kitten implies animal, but they exclude each other",
            "or the group",
        ),
        ("exclusive: [[day]]", ":1", "has 1; it needs two or more", "name the classes"),
        ("exclusive:\n- []", ":2", "has 0; it needs two or more", "name the classes"),
        ("exclusive: [[day, night, day]]", ":1", "day is named twice", "remove one"),
        ("exclusive: [[day, night], [night, day]]", ":1", "is given twice", "remove one"),
        ("implies: {puppy: [dog, dog]}", ":1", "dog is named twice", "remove one"),
        ("implies:\n  cat: animal\n  cat: no", ":3", "cat is given twice", "one list"),
        ("implies: {cat: animal}\nimplies: {dog: animal}", ":2", "implies is given twice", "one"),
        ("implied: {cat: animal}", ":1", "unknown key 'implied'", "write implies"),
        ("names: [cat]", ":1", "unknown key 'names'", "choose from implies, exclusive"),
        ("[a]: 1", ":1", "unknown key 'a list or a mapping'", "choose from"),
        ("- cat", ":1", "is not a mapping", "write"),
        ("implies: [cat]", ":1", "not a mapping from classes", "kitten: cat"),
        ("implies: {cat: {dog: 1}}", ":1", "where the name of a class is expected", "kitten: cat"),
        ("implies: {cat: []}", ":1", "cat implies nothing", "remove the line"),
        ("exclusive: {cat: dog}", ":1", "not a list of groups", "[[day, night], [cat, dog]]"),
        ("exclusive: [day, night]", ":1", "is no list of classes", "[[day, night], [cat, dog]]"),
        ("", "", "no relation", "or remove the file"),
        ("# nothing", "", "no relation", "or remove the file"),
        ("implies: {}\nexclusive: []", ":1", "no relation", "or remove the file"),
        ("implies: {cat: [", ":1", "YAML is damaged", "correct it"),
        ("implies: &a {cat: *a}", ":1", "contains itself", "correct it"),
        ("implies: " + "[" * 60 + "]" * 60, ":1", "more than 50 deep", "correct it"),
    ],
)
def test_each_fault_has_its_line_and_a_repair(tmp_path, text, line, message, fix) -> None:
    (tmp_path / "relations.yaml").write_text(text, encoding="utf-8")
    found, faults = relations.parse(tmp_path / "relations.yaml", NAMES)
    assert found is None
    assert faults[0].where == f"relations.yaml{line}"
    assert message in faults[0].text
    assert fix in faults[0].fix
    if "cycle" in message or "exclude" in message:
        assert len(faults) == 1


def test_all_faults_come_together(tmp_path: Path) -> None:
    text = "implies: {kiten: cat, dog: dog}\nexclusive: [[day]]\nmore: 1\n"
    with pytest.raises(PaddlexMLError, match=r"^the relations have 4 faults of 4 kinds") as caught:
        read(tmp_path, text)
    assert len(caught.value.rows) == 4


def make_list(values: targets.Targets) -> ImageList:
    return ImageList(Path(), [f"{i}.jpg" for i in range(len(values))], values)


def cells(*rows: str, sparse: bool = False) -> targets.Targets:
    """A letter for each class of NAMES: 1, 0, or ? for unknown; of a row cut short 0 follows."""
    table = [[{"1": 1, "0": 0, "?": UNKNOWN}[c] for c in row.ljust(8, "0")] for row in rows]
    array = np.array(table, np.int8)
    return targets.to_sparse(array) if sparse else array


@pytest.mark.parametrize("sparse", [False, True])
def test_violations_are_counted_by_rule_and_list(tmp_path: Path, sparse: bool) -> None:
    known = read(tmp_path)
    train = cells("01001", "?1??1", "01??1", "00000110", "000001?0", "10001", sparse=sparse)
    val = cells("01?10", sparse=sparse)  # kitten and puppy: cat and dog, and an animal
    lists = {"train": make_list(train), "val": make_list(val)}
    found = {each.what: each.images for each in relations.check(known, lists)}
    assert {
        what: {name: rows.tolist() for name, rows in images.items()}
        for what, images in found.items()
    } == {
        "kitten without cat": {"train": [0, 2], "val": [0]},
        "puppy without dog": {"train": [], "val": []},
        "cat without animal": {"train": [], "val": [0]},
        "dog without animal": {"train": [], "val": [0]},
        "day and night together": {"train": [3], "val": []},
        "cat and dog together": {"train": [], "val": [0]},
    }
    warnings = [each.text for each in relations.warn(relations.check(known, lists), lists)]
    assert warnings[0].startswith("kitten without cat: 2 images in train: 0.jpg, 2.jpg; -o Check")
    assert "day and night together: 1 image in train: 3.jpg; keep the right one" in warnings[4]
    assert len(warnings) == 6


def test_beyond_twenty_rules_one_warning_has_the_rest() -> None:
    names = tuple(f"c{i}" for i in range(60))
    pairs = tuple((2 * i, 2 * i + 1) for i in range(30))
    many = Relations(names, pairs, tuple((i + 1,) * (1 - i % 2) for i in range(60)), ())
    lists = {"train": make_list(np.tile([1, 0], (3, 30)).astype(np.int8))}
    findings = relations.warn(relations.check(many, lists), lists)
    assert len(findings) == 21
    assert "10 more rules of relations.yaml are violated: c40 without c41" in findings[-1].text
    assert len(findings[-1].images) == 3


@pytest.mark.parametrize("sparse", [False, True])
def test_labels_that_follow_are_added(tmp_path: Path, sparse: bool, monkeypatch) -> None:
    before = cells(
        "01000",  # a kitten: cat and animal were wrong
        "?1???",  # a kitten: cat and animal were unknown, dog is not there, so no puppy
        "1000?",
        "?????1?0",
        "??000",  # no animal: neither cat nor kitten
        "10101110",  # both: stays
        sparse=sparse,
    )
    expected = cells("11001", "11001", "10001", "?????100", "00000", "10101110")
    if sparse:
        monkeypatch.setattr(targets, "dense", pytest.fail)
        monkeypatch.setattr(targets, "row", pytest.fail)
    done = relations.complete(read(tmp_path), before)
    again = relations.complete(read(tmp_path), done.values)
    monkeypatch.undo()
    assert isinstance(done.values, np.ndarray) is not sparse
    assert targets.dense(done.values).tolist() == targets.dense(expected).tolist()
    assert done[1:] == (2, 3, 5, 1)
    assert done.changed == 10
    assert again[1:] == (0, 0, 0, 1)
    assert again.values is done.values


@settings(max_examples=200)
@given(st.data())
def test_the_added_labels_are_those_of_single_steps(data: st.DataObject) -> None:
    names, direct = tuple("abcdefg"), []
    for i in range(7):
        direct.append(data.draw(st.sets(st.integers(0, i - 1), max_size=2)) if i else set())
    closed: list[set[int]] = []
    for others in direct:
        closed.append(others.union(*(closed[b] for b in others)))
    groups = data.draw(st.lists(st.sets(st.integers(0, 6), min_size=2, max_size=3), max_size=3))
    groups = [g for g in groups if all(len(g & (up | {a})) < 2 for a, up in enumerate(closed))]
    stated = tuple((a, b) for a, others in enumerate(direct) for b in others)
    known = Relations(
        names, stated, tuple(tuple(sorted(up)) for up in closed), tuple(map(tuple, groups))
    )
    row = data.draw(st.lists(st.sampled_from([0, 1, UNKNOWN]), min_size=7, max_size=7))
    done = relations.complete(known, np.array([row], np.int8))
    assert targets.dense(done.values).tolist() == [follow(row, stated, groups)]
    # The same image twice: with the absent classes as the others, and with the unknown ones.
    table = np.array([row, row], np.int8)
    both = targets.to_sparse(table).compared_with(np.array([0, UNKNOWN], np.int8))
    sparse = relations.complete(known, both)
    assert targets.dense(sparse.values).tolist() == targets.dense(done.values).tolist() * 2
    assert [2 * count for count in done[1:]] == list(sparse[1:])
    lists = [annotation.ImageList(Path(), ["a", "b"], each) for each in (table, both)]
    found = [relations.check(known, {"train": each}) for each in lists]
    for ours, theirs in zip(*found, strict=True):
        assert ours[:3] == theirs[:3]
        assert ours.images["train"].tolist() == theirs.images["train"].tolist()


def test_a_long_chain_is_followed_and_too_many_implications_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"c{i}" for i in range(2000)]
    lines = [f"  c{i}: c{i + 1}\n" for i in range(1999)]
    (tmp_path / relations.FILE).write_text("implies:\n" + "".join(lines))
    known = relations.read(tmp_path / relations.FILE, names)
    assert known.implied[1990] == tuple(range(1991, 2000))
    assert sum(map(len, known.implied)) == 1999 * 2000 // 2
    monkeypatch.setattr(relations, "_MOST_IMPLIED", 1999 * 1000 - 1)
    with pytest.raises(PaddlexMLError, match="the classes imply more than 1,998,999 others"):
        relations.read(tmp_path / relations.FILE, names)


def follow(
    row: list[int], stated: tuple[tuple[int, int], ...], groups: list[set[int]]
) -> list[int]:
    """One image, one step at a time until nothing changes: first what is present, then absent."""
    row = list(row)
    while wrong := [b for a, b in stated if row[a] == 1 and row[b] != 1]:
        row[wrong[0]] = 1
    while True:
        gone = [a for a, b in stated if row[a] == UNKNOWN and row[b] == 0]
        gone += [a for g in groups for a in g if row[a] == UNKNOWN and any(row[b] == 1 for b in g)]
        if not gone:
            return row
        row[gone[0]] = 0


PAIRS = """implies: {dog: cat}
exclusive: [[owl, bat]]
"""
TRAIN = ["1,0,-1,1", "0,1,1,0", "1,1,1,1", "0,1,-1,-1"]


def ask(root: Path, output: Path, *, split: bool = False) -> Config:
    base = configure(root, output)
    divide = SplitConfig(enable=True, train_percent=50, val_percent=50) if split else SplitConfig()
    asked = CheckDatasetConfig(repair=RepairConfig(relations=True), split=divide)
    return replace(base, CheckDataset=asked)


@pytest.fixture(params=["dense", "sparse"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    rows, val = TRAIN, ["1,1,0,1", "1,0,1,0"]
    if request.param == "sparse":
        rows, val = ["@0,3?2", "@1,2", "@0,1,2,3", "@1?2,3"], ["@0,1,3", "@0,2"]
    root = write_set(tmp_path / "set", rows, val)
    (root / "relations.yaml").write_text(PAIRS)
    return root


def test_the_check_counts_and_changes_nothing(folder: Path, tmp_path: Path) -> None:
    before = (folder / "train.txt").read_bytes()
    result = msgspec.to_builtins(check_dataset.run(configure(folder, tmp_path / "output")))
    assert result["relations"] == [
        {"rule": "dog implies cat", "train": 2, "val": 0},
        {"rule": "owl, bat exclude each other", "train": 1, "val": 0},
    ]
    texts = [text for text in result["warnings"] if "in train" in text]
    assert any(text.startswith("dog without cat: 2 images in train:") for text in texts)
    assert any(text.startswith("owl and bat together: 1 image in train:") for text in texts)
    assert "rewritten" not in result
    assert (folder / "train.txt").read_bytes() == before


def test_the_lists_are_completed_as_one_change(folder, tmp_path: Path, caplog) -> None:
    before = {name: (folder / name).read_bytes() for name in ("train.txt", "val.txt")}
    with caplog.at_level(logging.INFO):
        result = msgspec.to_builtins(check_dataset.run(ask(folder, tmp_path / "output")))
    assert result["rewritten"]["completed"] == {
        "train": {
            "absent_to_present": 2,
            "unknown_to_present": 0,
            "unknown_to_absent": 1,
            "not_repaired": 1,
        },
        "val": {
            "absent_to_present": 0,
            "unknown_to_present": 0,
            "unknown_to_absent": 0,
            "not_repaired": 0,
        },
    }
    assert [each["train"] for each in result["relations"]] == [0, 1]
    values = annotation.read(folder).train.values
    assert isinstance(values, np.ndarray) == (b"@" not in before["train.txt"])
    assert targets.dense(values).tolist() == [
        [1, 0, 0, 1],
        [1, 1, 1, 0],
        [1, 1, 1, 1],
        [1, 1, -1, -1],
    ]
    assert "2 absent and 0 unknown labels became present, 1 unknown ones absent" in caplog.text
    assert "images that show exclusive classes, and stay: 1" in caplog.text
    assert (folder / "train.txt.bak").read_bytes() == before["train.txt"]
    assert not (folder / "val.txt.bak").exists()
    journal.undo(folder)
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_completed_lists_are_divided_and_written_once(folder: Path, tmp_path: Path) -> None:
    result = msgspec.to_builtins(check_dataset.run(ask(folder, tmp_path / "output", split=True)))
    assert result["rewritten"]["completed"]["train"]["absent_to_present"] == 2
    dataset = annotation.read(folder)
    assert len(dataset.train) == len(dataset.val) == 3
    known = relations.read(folder / "relations.yaml", dataset.label_names)
    lists = {"train": dataset.train, "val": dataset.val}
    found = relations.check(known, lists)
    assert [sum(map(len, each.images.values())) for each in found] == [0, 1]
    assert [path.name for path in folder.glob("*.bak*")].count("train.txt.bak") == 1


def test_lists_without_a_violation_stay(folder: Path, tmp_path: Path) -> None:
    (folder / "relations.yaml").write_text("exclusive: [[cat, owl, dog, bat]]\nimplies: {}\n")
    for name in ("train", "val"):
        paths = getattr(annotation.read(folder), name).paths
        annotation.write_list(folder / f"{name}.txt", paths, np.eye(4, dtype=np.int8)[: len(paths)])
    result = msgspec.to_builtins(check_dataset.run(ask(folder, tmp_path / "output")))
    assert result["rewritten"]["files"] == []
    assert not list(folder.glob("*.bak"))


def test_faults_of_the_file_are_in_the_one_error(folder: Path, tmp_path: Path) -> None:
    (folder / "relations.yaml").write_text("implies: {dgo: cat}\n")
    with (folder / "train.txt").open("a") as file:
        file.write("gone.jpg\t1,0,0,0\n")
    with pytest.raises(PaddlexMLError, match="2 faults of 2 kinds") as caught:
        check_dataset.run(ask(folder, tmp_path / "output"))
    assert "relations.yaml:1: there is no class 'dgo'" in str(caught.value)
    assert len(check.check(folder, workers=0).faults) == 2


def test_a_repair_without_the_file_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "relations.yaml").unlink()
    with pytest.raises(PaddlexMLError, match=r"repair\.relations=false"):
        check_dataset.run(ask(folder, tmp_path / "output"))
    with pytest.raises(PaddlexMLError, match="does not exist"):
        check_dataset.run(ask(tmp_path / "no", tmp_path / "output"))
