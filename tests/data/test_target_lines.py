# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given

from paddlex_ml.data import soft_targets, target_lines, targets
from paddlex_ml.data.target_lines import ValueFault
from paddlex_ml.data.targets import SparseTargets, Targets
from tests.data.test_targets import TABLE, forms

EXPECTED = "label.txt names 4 classes"


def parse(*lines: str) -> Targets:
    values, faults = target_lines.parse(list(lines), 4, EXPECTED)
    assert faults == []
    return values


def refusal(line: str) -> ValueFault:
    values, faults = target_lines.parse(["0,1,0,1", line, "1,0,0,0"], 4, EXPECTED)
    assert targets.dense(values)[[0, 2]].tolist() == [[0, 1, 0, 1], [1, 0, 0, 0]]
    (fault,) = faults
    assert fault.line == 1
    assert "1" in fault.fix or fault.fix
    return fault


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("0,1,0,1", [0, 1, 0, 1]),
        ("0,1,-1,1", [0, 1, -1, 1]),
        ("0,1,,1", [0, 1, -1, 1]),
        (",,,", [-1, -1, -1, -1]),
        ("1,,,", [1, -1, -1, -1]),
        (",,-1,1", [-1, -1, -1, 1]),
        (" 0, 1 ,-1, ", [0, 1, -1, -1]),
        ("\t0,1,-1,1".strip(), [0, 1, -1, 1]),
        ("@", [0, 0, 0, 0]),
        ("@2", [0, 0, 1, 0]),
        ("@3,0", [1, 0, 0, 1]),
        ("@?1", [0, -1, 0, 0]),
        ("@3, 0 ? 1,2", [1, -1, -1, 1]),
        ("@0?3,2,1", [1, -1, -1, -1]),
        ("@!", [-1, -1, -1, -1]),
        ("@3!", [-1, -1, -1, 1]),
        ("@!1", [-1, 0, -1, -1]),
        (" @3, 0 ! 1,2 ", [1, 0, 0, 1]),
        ("@0!2", [1, -1, 0, -1]),
    ],
)
def test_a_line_gives_its_values(line: str, values: list[int]) -> None:
    assert targets.dense(parse(line)).tolist() == [values]
    assert targets.dense(parse("0,1,1,0", line)).tolist() == [[0, 1, 1, 0], values]


@pytest.mark.parametrize(
    ("line", "kind", "what"),
    [
        ("0,1,0", "wrong number of values", "3 values, label.txt names 4 classes"),
        ("0,1,0,1,", "wrong number of values", "5 values"),
        ("", "wrong number of values", "no values"),
        ("0,1,2,1", "value other than 0 or 1", "class 2 is '2', neither 0 nor 1"),
        ("0,1,-2,1", "value other than 0 or 1", "class 2 is '-2'"),
        ("0,1,-,1", "value other than 0 or 1", "class 2 is '-'"),
        ("0,1,--1,1", "value other than 0 or 1", "class 2 is '--1'"),
        ("0,1,0.5,1", "value other than 0 or 1", "class 2 is '0.5'"),
        ("0,1,?,1", "value other than 0 or 1", "class 2 is '?'"),
        ("0,1,-11,1", "value other than 0 or 1", "class 2 is '-11'"),
        ("0,-1-1,1,0", "value other than 0 or 1", "class 1 is '-1-1'"),
        ("0,1,\u0661,1", "other signs than 0 to 9 and commas", "class 2 is '\u0661'"),
        ("@4", "class id out of range", "no class 4: label.txt names 4 classes"),
        ("@1?4", "class id out of range", "no class 4"),
        ("@1,1", "class named twice", "class 1 is named twice"),
        ("@?1,1", "class named twice", "class 1 is named twice"),
        ("@1,2?2", "class named twice", "class 2 is named as present and as unknown"),
        ("@-1", "malformed line", "'-1' is no class id"),
        ("@1,", "malformed line", "'' is no class id"),
        ("@,", "malformed line", "'' is no class id"),
        ("@1.0", "malformed line", "'1.0' is no class id"),
        ("@1?2?3", "malformed line", "'2?3' is no class id"),
        ("@1?", "malformed line", "no class id follows ?"),
        ("@1!2!3", "malformed line", "'2!3' is no class id"),
        ("@1?2!3", "malformed line", "the line has both ? and !"),
        ("@1!2?3", "malformed line", "the line has both ? and !"),
        ("@1!?", "malformed line", "the line has both ? and !"),
        ("@1!,", "malformed line", "'' is no class id"),
        ("@1,!2", "malformed line", "'' is no class id"),
        ("@1!x", "malformed line", "'x' is no class id"),
        ("@!!", "malformed line", "'!' is no class id"),
        ("!1", "wrong number of values", "1 value, label.txt"),
        ("@1!4", "class id out of range", "no class 4"),
        ("@4!1", "class id out of range", "no class 4"),
        ("@1!2,2", "class named twice", "class 2 is named twice"),
        ("@1,2!2", "class named twice", "class 2 is named as present and as absent"),
        ("@\u0661", "other signs than 0 to 9 and commas", "'\u0661' is no class id"),
        ("@99999999999999999999", "class id out of range", "no class 99999999999999999999"),
        ("@1?4294967296", "class id out of range", "no class 4294967296: label.txt"),
        ("@@1", "malformed line", "'@1' is no class id"),
        ("@1 2", "malformed line", "'1 2' is no class id"),
    ],
)
def test_a_wrong_line_is_named(line: str, kind: str, what: str) -> None:
    fault = refusal(line)
    assert fault.kind == kind
    assert what in fault.what
    if line.startswith("@"):
        values, faults = target_lines.parse(["@1", line], 4, EXPECTED)
        assert isinstance(values, SparseTargets)
        assert faults == [fault]
        assert targets.dense(values).tolist() == [[0, 1, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("line", "is_told"),
    [
        ("1,0,0,0 2", True),
        ("1,0,0,0,2", True),
        ("0,7,1,0,0", True),
        ("@1,2 0.5", True),
        ("1,0,0,2", False),
        ("1, 0, 0, 2", False),
        ("[1, 0, -1, 0]", False),
        ("1,0,0,0,1", True),
        ("1,0,0,1,0,1", False),
        ("1,7,0", False),
        ("@1,x", False),
    ],
)
def test_a_weight_without_its_tab_and_a_decimal_comma_are_told(line: str, is_told: bool) -> None:
    fix = refusal(line).fix
    assert (target_lines.WEIGHT_FIX in fix) == is_told
    assert ("a number such as 0.7 has a point" in fix) == (line in ("1,0,0,0,2", "0,7,1,0,0"))


@pytest.mark.parametrize("mark", [",", ", ", " ,", ";", " ; ", "\uff1b", "\uff0c", " ", "  ", "|"])
@pytest.mark.parametrize(
    ("word", "weight"),
    [("0", "0"), ("1", "1"), ("0.5", "0.5"), ("2", "2"), ("1e3", "1e3"), ("70%", "0.7")],
)
def test_a_weight_behind_another_sign_than_a_tab_is_told_as_it_is_to_be_written(
    mark: str, word: str, weight: str
) -> None:
    for values in ("0,1,0,0", "0,-1,,1"):
        assert (
            f"{target_lines.WEIGHT_FIX}: {values}<tab>{weight}" in refusal(values + mark + word).fix
        )
    is_id = mark.strip(" ") in (",", "\uff0c") and word in ("0", "2")
    if not is_id:  # two ids are a right line
        assert f"{target_lines.WEIGHT_FIX}: @1?3<tab>{weight}" in refusal("@1?3" + mark + word).fix


def test_lists_of_which_every_line_has_one_value_more_are_told_both_causes() -> None:
    for lines, cause in (
        (["0,1,0,0,1", "0,1,1,0,0"], "add the missing class to label.txt"),
        (["0,1,0,0,1", "0,1,1,0,0.5"], "the last one is no label"),
    ):
        _, faults = target_lines.parse(lines, 4, EXPECTED)
        example = f"{target_lines.WEIGHT_FIX}: 0,1,0,0<tab>1"
        assert {fault.fix for fault in faults} == {f"every line has 5 values: {cause}{example}"}
    _, faults = target_lines.parse(["0,1,0,0,1", "0,1,1,0"], 4, EXPECTED)
    assert "every line" not in faults[0].fix


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("0;1;0;-1", "0,1,0,-1"),
        ("0\uff0c1\uff0c0\uff0c1", "0,1,0,1"),
        ("0\u30011\u30010\u30011", "0,1,0,1"),
        ("0 1 0 1", "0,1,0,1"),
        ("0|1|0|1", "0,1,0,1"),
        ("0101", "0,1,0,1"),
        ("0,1,\uff10,1", "0,1,0,1"),
        ("0,1,\u0661,1", "0,1,1,1"),
        ('"0,1,0,1"', "0,1,0,1"),
        ("[0, 1, 0, 1]", "0, 1, 0, 1"),
        ("0,1,0,1\u200b", "0,1,0,1"),
        ("\ufeff0,1,0,1", "0,1,0,1"),
        ("@1;2", "@1,2"),
        ("@1\uff0c2\uff1f3", "@1,2?3"),
        ("\uff20\uff11", "@1"),
        ("0,\u22121,1,1", "0,-1,1,1"),
    ],
)
def test_values_with_other_separators_or_digits_are_told_as_they_are_to_be_written(
    line: str, right: str
) -> None:
    fault = refusal(line)
    assert fault.kind == target_lines.FOREIGN
    assert fault.fix.partition(target_lines.WEIGHT_FIX)[0].endswith(
        f"commas between the values: {right}"
    )
    assert not target_lines.parse([right], 4, EXPECTED)[1]


def test_a_comma_at_the_end_is_told() -> None:
    assert refusal("0,1,0,1,").fix == "remove the comma at the end: 0,1,0,1"
    assert refusal("0,1,0,1, ").fix == "remove the comma at the end: 0,1,0,1"
    assert refusal("@1,3,").fix == "remove the comma at the end: @1,3"
    assert "comma at the end" not in refusal("0,1,").fix


def test_a_repair_shows_the_ends_of_long_values() -> None:
    _, [fault] = target_lines.parse(["0," * 500 + "1,0.5"], 501, EXPECTED)
    assert fault.fix.endswith("0,0,...0,0,0,0,0,0,0,0,1<tab>0.5")
    assert len(fault.fix) < 300


def test_a_list_with_a_line_of_ids_is_sparse() -> None:
    assert isinstance(parse("@1", "@", "@3?0"), SparseTargets)
    mixed = parse("@1", "0,0,0,1", "@", ",1,0,0")
    assert isinstance(mixed, SparseTargets)
    assert targets.dense(mixed).tolist() == [[0, 1, 0, 0], [0, 0, 0, 1], [0] * 4, [-1, 1, 0, 0]]
    assert isinstance(parse("0,0,0,0"), np.ndarray)
    assert isinstance(parse(), np.ndarray)


@given(forms())
def test_what_is_written_is_read_back(both: tuple[np.ndarray, SparseTargets]) -> None:
    table = both[0]
    for form in both:
        lines = list(target_lines.texts(form))
        values, faults = target_lines.parse(lines, table.shape[1], "")
        assert faults == []
        assert np.array_equal(targets.dense(values), table)
        assert isinstance(values, type(form)) or not lines


def test_lines_are_written_as_short_as_they_can_be() -> None:
    assert list(target_lines.texts(TABLE[:3])) == ["0,1,-1,0", "0,0,0,0", "1,1,1,1"]
    sparse = targets.to_sparse(TABLE)
    assert list(target_lines.texts(sparse)) == ["@1?2", "@", "@0,1,2,3", "@!"]


@given(forms())
def test_of_both_sparse_forms_the_shorter_one_is_written(
    both: tuple[np.ndarray, SparseTargets],
) -> None:
    table, sparse = both
    for cells, line in zip(table, target_lines.texts(sparse), strict=True):
        shown, absent, hidden = (
            ",".join(map(str, np.flatnonzero(cells == value))) for value in (1, 0, -1)
        )
        by_unknown = f"@{shown}" + f"?{hidden}" * bool(hidden)
        assert line == min(by_unknown, f"@{shown}!{absent}", key=len)  # of equals the first


def test_ids_alone_say_how_many_classes_there_are_at_least() -> None:
    assert target_lines.count_classes(["@1,17?20", "@3"]) == 21
    assert target_lines.count_classes(["@"]) == 0


def test_a_large_sparse_list_takes_the_memory_of_its_labels() -> None:
    images, classes = 50_000, 10_000
    lines = [f"@{i % classes},{(7 * i + 1) % classes}" for i in range(images) if i % classes]
    values, faults = target_lines.parse(lines, classes, "")
    assert faults == []
    assert isinstance(values, SparseTargets)
    stored = values.starts.nbytes + values.ids.nbytes + values.values.nbytes
    assert stored < 20 * len(lines)  # an array would take 10,000 bytes for each image
    assert targets.count(values).present.sum() == 2 * len(lines)


def test_one_dense_line_among_many_sparse_ones_takes_no_array() -> None:
    classes = 100_000
    lines = ["@7"] * 20_000 + [",".join("0" * classes)]
    tracemalloc.start()
    values, faults = target_lines.parse(lines, classes, "")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert faults == []
    assert targets.labels_per_image(values).sum() == 20_000
    assert peak < 50_000_000  # 2 GB as an array


def test_lines_of_spaces_take_no_time() -> None:
    lines = ["0," + " " * 200_000 + "x", "@1" + ",  " * 50_000 + "x", "0" + ",  " * 50_000]
    lines += ["@1!" + ",  " * 50_000, "@" + "1," * 100_000 + "!", "@" + "! " * 50_000]
    _, faults = target_lines.parse(lines, 4, EXPECTED)
    assert [fault.line for fault in faults] == [0, 1, 2, 3, 4, 5]


def test_lists_of_which_little_is_known_take_the_memory_of_what_is_known() -> None:
    images, classes = 20_000, 20_000
    lines = [f"@{i % classes}!{(i + 1) % classes},{(i + 2) % classes}" for i in range(images)]
    tracemalloc.start()
    values, faults = target_lines.parse(lines, classes, "")
    assert faults == []
    counts = targets.count(values)
    assert set(counts.present.tolist()) == {1}
    assert set(counts.absent.tolist()) == {2}
    assert targets.count_unknown(values) == images * (classes - 3)
    assert list(target_lines.texts(values)) == [line_of(line) for line in lines]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000_000  # 400 MB as an array, 2 GB as unknown ids


def line_of(line: str) -> str:
    """The line as it is written: absent ids rise."""
    shown, absent = line.split("!")
    return f"{shown}!{','.join(map(str, sorted(map(int, absent.split(',')))))}"


def test_a_repair_keeps_the_soft_values_of_its_line() -> None:
    for line, right in (("@0,1:0.2,1", "@0,1:0.2<tab>1"), ("@1:0.2;2", "@1:0.2<tab>2")):
        fix = soft_targets.parse([line], 3, EXPECTED).faults[0].fix
        assert fix.endswith(f"{target_lines.WEIGHT_FIX}: {right}")
    [fault] = soft_targets.parse(["@0:0.5 ?1"], 3, EXPECTED, "-o x=true").faults
    assert fault.what == "the value of class 0 is '0.5', neither 0 nor 1"
