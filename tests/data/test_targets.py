# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from paddlex_ml.data import targets
from paddlex_ml.data.targets import SparseTargets

TABLE = np.array([[0, 1, -1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [-1, -1, -1, -1]], np.int8)
tables = st.tuples(st.integers(0, 6), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.int8, shape, elements=st.integers(-1, 1))
)


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
