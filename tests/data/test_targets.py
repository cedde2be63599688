# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from paddlex_ml.data import targets
from paddlex_ml.data.targets import SparseTargets, Targets, ValueFault

EXPECTED = "label.txt names 4 classes"
TABLE = np.array([[0, 1, -1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [-1, -1, -1, -1]], np.int8)
tables = st.tuples(st.integers(0, 6), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.int8, shape, elements=st.integers(-1, 1))
)


def parse(*lines: str) -> Targets:
    values, faults = targets.parse(list(lines), 4, EXPECTED)
    assert faults == []
    return values


def refusal(line: str) -> ValueFault:
    values, faults = targets.parse(["0,1,0,1", line, "1,0,0,0"], 4, EXPECTED)
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
        ("0,1,\u0661,1", "value other than 0 or 1", "class 2 is '\u0661'"),
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
        ("@\u0661", "malformed line", "'\u0661' is no class id"),
        ("@99999999999999999999", "malformed line", "is no class id"),
        ("@@1", "malformed line", "'@1' is no class id"),
        ("@1 2", "malformed line", "'1 2' is no class id"),
    ],
)
def test_a_wrong_line_is_named(line: str, kind: str, what: str) -> None:
    fault = refusal(line)
    assert fault.kind == kind
    assert what in fault.what
    if line.startswith("@"):
        values, faults = targets.parse(["@1", line], 4, EXPECTED)
        assert isinstance(values, SparseTargets)
        assert faults == [fault]
        assert targets.dense(values).tolist() == [[0, 1, 0, 0], [0, 0, 0, 0]]


def test_a_list_with_a_line_of_ids_is_sparse() -> None:
    assert isinstance(parse("@1", "@", "@3?0"), SparseTargets)
    mixed = parse("@1", "0,0,0,1", "@", ",1,0,0")
    assert isinstance(mixed, SparseTargets)
    assert targets.dense(mixed).tolist() == [[0, 1, 0, 0], [0, 0, 0, 1], [0] * 4, [-1, 1, 0, 0]]
    assert isinstance(parse("0,0,0,0"), np.ndarray)
    assert isinstance(parse(), np.ndarray)


@given(tables)
def test_dense_and_sparse_targets_say_the_same(table: np.ndarray) -> None:
    sparse = targets.to_sparse(table)
    assert targets.to_sparse(sparse) is sparse
    assert np.array_equal(targets.dense(sparse), table)
    assert sparse.shape == table.shape
    assert len(sparse) == len(table)
    for name in ("count", "labels_per_image", "count_unknown", "digest"):
        ours, theirs = (getattr(targets, name)(each) for each in (sparse, table))
        assert np.array_equal(ours, theirs), name
    for unknown in (False, True):
        pairs = [np.stack(targets.cells(each, unknown=unknown)) for each in (sparse, table)]
        assert np.array_equal(pairs[0], pairs[1])
    for i in range(len(table)):
        assert (
            targets.row(sparse, i).tolist() == table[i].tolist() == targets.row(table, i).tolist()
        )
        assert targets.labels(sparse, i) == targets.labels(table, i)
    assert np.array_equal(
        np.concatenate([each for _, each in targets.blocks(sparse)] or [table]), table
    )


@given(tables, st.data())
def test_images_are_taken_by_number_and_by_mask(table: np.ndarray, data: st.DataObject) -> None:
    sparse = targets.to_sparse(table)
    numbers = data.draw(st.lists(st.integers(0, len(table) - 1)) if len(table) else st.just([]))
    mask = data.draw(arrays(np.bool_, len(table)))
    for rows in (numbers, mask):
        ours, theirs = (targets.dense(targets.take(each, rows)) for each in (sparse, table))
        assert np.array_equal(ours, theirs)
    both = targets.concatenate([targets.take(sparse, numbers), table])
    rows = targets.dense(targets.take(table, numbers))
    assert np.array_equal(targets.dense(both), np.concatenate([rows, table]))
    assert isinstance(both, SparseTargets)
    assert isinstance(targets.concatenate([table, table]), np.ndarray)


@given(tables)
def test_what_is_written_is_read_back(table: np.ndarray) -> None:
    for form in (table, targets.to_sparse(table)):
        lines = list(targets.texts(form))
        values, faults = targets.parse(lines, table.shape[1], "")
        assert faults == []
        assert np.array_equal(targets.dense(values), table)
        assert isinstance(values, type(form)) or not lines


def test_lines_are_written_as_short_as_they_can_be() -> None:
    assert list(targets.texts(TABLE[:3])) == ["0,1,-1,0", "0,0,0,0", "1,1,1,1"]
    sparse = targets.to_sparse(TABLE)
    assert list(targets.texts(sparse)) == ["@1?2", "@", "@0,1,2,3", "@?0,1,2,3"]


def test_counts_are_of_known_cells() -> None:
    counts = targets.count(TABLE)
    assert counts.present.tolist() == [1, 2, 1, 1]
    assert counts.known.tolist() == [3, 3, 2, 3]
    assert counts.absent.tolist() == [2, 1, 1, 2]
    assert targets.count_unknown(TABLE) == 5
    assert targets.labels_per_image(TABLE).tolist() == [1, 0, 4, 0]


def test_the_digest_is_that_of_the_cells() -> None:
    assert targets.digest(TABLE, b"x") == hashlib.sha256(b"x" + TABLE.tobytes()).hexdigest()


@pytest.mark.parametrize("classes", [3, targets.MOST_DENSE, targets.MOST_DENSE + 1])
def test_labels_become_sparse_where_there_are_many_classes(classes: int) -> None:
    values = targets.from_labels([{2, 0}, set()], [{1, 2}, {1}], classes)
    assert isinstance(values, SparseTargets) == (classes > targets.MOST_DENSE)
    assert targets.dense(values)[:, :3].tolist() == [[1, -1, 1], [0, -1, 0]]
    assert not targets.dense(values)[:, 3:].any()


@pytest.mark.parametrize("sparse", [False, True])
def test_classes_are_mapped_and_merged(sparse: bool) -> None:
    table = np.array([[1, -1, 0, 0], [-1, 0, 1, 1], [0, 0, -1, -1], [0, 0, 0, 0]], np.int8)
    values = targets.to_sparse(table) if sparse else table
    mapped = targets.map_classes(values, np.array([2, 2, 0, 0]), 4)
    assert isinstance(mapped, SparseTargets) == sparse
    # Present counts before unknown, unknown before absent; classes that none becomes are absent.
    assert targets.dense(mapped).tolist() == [
        [0, 0, 1, 0], [1, 0, -1, 0], [-1, 0, 0, 0], [0, 0, 0, 0],
    ]  # fmt: skip


@pytest.mark.parametrize("sparse", [False, True])
def test_unknown_cells_may_be_listed_and_taken_for_present(sparse: bool) -> None:
    table = np.array([[1, -1, 0], [0, 0, 0], [-1, 1, -1]], np.int8)
    values = targets.to_sparse(table) if sparse else table
    assert list(targets.rows_of_ids(values)) == [[0], [], [1]]
    assert list(targets.rows_of_ids(values, unknown=True)) == [[1], [], [0, 2]]
    taken = targets.dense(targets.assume_present(values))
    assert taken.tolist() == [[1, 1, 0], [0, 0, 0], [1, 1, 1]]


def test_ids_alone_say_how_many_classes_there_are_at_least() -> None:
    assert targets.count_classes(["@1,17?20", "@3"]) == 21
    assert targets.count_classes(["@"]) == 0


def test_a_large_sparse_list_takes_the_memory_of_its_labels() -> None:
    images, classes = 50_000, 10_000
    lines = [f"@{i % classes},{(7 * i + 1) % classes}" for i in range(images) if i % classes]
    values, faults = targets.parse(lines, classes, "")
    assert faults == []
    assert isinstance(values, SparseTargets)
    stored = values.starts.nbytes + values.ids.nbytes + values.values.nbytes
    assert stored < 20 * len(lines)  # an array would take 10,000 bytes for each image
    assert targets.count(values).present.sum() == 2 * len(lines)


def test_cells_are_put_into_dense_and_sparse_targets_alike() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        table = rng.integers(-1, 2, (6, 5)).astype(np.int8)
        images, ids = rng.integers(0, 6, 9), rng.integers(0, 5, 9)  # some cells twice
        values = rng.integers(-1, 2, 9).astype(np.int8)
        expected = table.copy()
        for image, class_id, value in zip(images, ids, values, strict=True):
            expected[image, class_id] = value
        before = targets.to_sparse(table)
        found = targets.put(before, images, ids, values)
        assert isinstance(found, SparseTargets)
        assert targets.dense(found).tolist() == expected.tolist()
        again = targets.to_sparse(expected)
        assert found.ids.tolist() == again.ids.tolist()
        assert found.starts.tolist() == again.starts.tolist()
        assert targets.dense(targets.put(table, images, ids, values)).tolist() == expected.tolist()
        assert targets.dense(before).tolist() == table.tolist()  # those given stay


def test_one_dense_line_among_many_sparse_ones_takes_no_array() -> None:
    classes = 100_000
    lines = ["@7"] * 20_000 + [",".join("0" * classes)]
    tracemalloc.start()
    values, faults = targets.parse(lines, classes, "")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert faults == []
    assert targets.labels_per_image(values).sum() == 20_000
    assert peak < 50_000_000  # 2 GB as an array


def test_lines_of_spaces_take_no_time() -> None:
    lines = ["0," + " " * 200_000 + "x", "@1" + ",  " * 50_000 + "x", "0" + ",  " * 50_000]
    _, faults = targets.parse(lines, 4, EXPECTED)
    assert [fault.line for fault in faults] == [0, 1, 2]
