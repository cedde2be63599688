# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
from collections.abc import Iterator

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


@st.composite
def forms(draw: st.DrawFn) -> tuple[np.ndarray, SparseTargets]:
    """A table, and the same as sparse targets of which any cells may be the others of a row."""
    table = draw(tables)
    others = draw(arrays(np.int8, len(table), elements=st.integers(-1, 1)))
    sparse = targets.to_sparse(table).compared_with(others)
    assert np.array_equal(sparse.others, others)
    assert not (sparse.values == others[sparse.images()]).any()
    return table, sparse


@pytest.fixture(autouse=True, params=[targets.AT_ONCE, 16])
def _blocks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything is done at once, and in blocks of few cells."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(targets, "AT_ONCE", request.param)
        yield


@given(forms())
def test_dense_and_sparse_targets_say_the_same(form: tuple[np.ndarray, SparseTargets]) -> None:
    table, sparse = form
    assert targets.to_sparse(sparse) is sparse
    assert np.array_equal(targets.dense(sparse), table)
    assert sparse.shape == table.shape
    assert len(sparse) == len(table)
    for name in ("count", "labels_per_image", "count_unknown", "has_unknown", "digest"):
        ours, theirs = (getattr(targets, name)(each) for each in (sparse, table))
        assert np.array_equal(ours, theirs), name
    for value in (-1, 0, 1):
        pairs = [np.stack(targets.cells(each, value)) for each in (sparse, table)]
        assert np.array_equal(pairs[0], pairs[1])
        wanted = (table == value).sum(axis=1)
        for each in (sparse, table) if value else ():
            assert np.array_equal(targets.labels_per_image(each, unknown=value < 0), wanted)
            ids = [np.flatnonzero(cells == value).tolist() for cells in table]
            assert list(targets.rows_of_ids(each, unknown=value < 0)) == ids
            if value > 0:
                assert [targets.labels(each, i) for i in range(len(table))] == ids
    for i in range(len(table)):
        for each in (sparse, table):
            assert targets.row(each, i).tolist() == table[i].tolist()
    assert np.array_equal(
        np.concatenate([each for _, each in targets.blocks(sparse)] or [table]), table
    )
    for value in (0, 1):
        for each in (sparse, table):
            assumed = targets.assume(each, value)
            assert isinstance(assumed, type(each))
            assert np.array_equal(targets.dense(assumed), np.where(table < 0, value, table))


@given(forms(), st.data())
def test_images_are_taken_by_number_and_by_mask(
    form: tuple[np.ndarray, SparseTargets], data: st.DataObject
) -> None:
    table, sparse = form
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


@given(forms(), st.data())
def test_classes_are_chosen_and_cells_are_read_and_put(
    form: tuple[np.ndarray, SparseTargets], data: st.DataObject
) -> None:
    table, sparse = form
    classes = np.flatnonzero(data.draw(arrays(np.bool_, table.shape[1])))
    for each in (sparse, table):
        chosen = targets.dense(targets.choose_classes(each, classes))
        assert np.array_equal(chosen, table[:, classes])
    count = data.draw(st.integers(0, 12)) if len(table) else 0
    images = data.draw(arrays(np.int64, count, elements=st.integers(0, max(0, len(table) - 1))))
    ids = data.draw(arrays(np.int64, count, elements=st.integers(0, table.shape[1] - 1)))
    values = data.draw(arrays(np.int8, count, elements=st.integers(-1, 1)))  # some cells twice
    expected = table.copy()
    for image, class_id, value in zip(images, ids, values, strict=True):
        expected[image, class_id] = value
    for each in (sparse, table):
        assert targets.look_up(each, images, ids).tolist() == table[images, ids].tolist()
        found = targets.put(each, images, ids, values)
        assert isinstance(found, type(each))
        assert np.array_equal(targets.dense(found), expected)
        if isinstance(found, SparseTargets):
            same = targets.to_sparse(expected).compared_with(found.others)
            assert found.ids.tolist() == same.ids.tolist()
            assert found.starts.tolist() == same.starts.tolist()
        assert np.array_equal(targets.dense(each), table)  # those given stay


@given(forms(), st.data())
def test_classes_of_any_targets_are_mapped(
    form: tuple[np.ndarray, SparseTargets], data: st.DataObject
) -> None:
    table, sparse = form
    new = data.draw(arrays(np.int64, table.shape[1], elements=st.integers(0, 7)))
    expected = np.full((len(table), 8), -1, np.int8)
    for class_id in set(new.tolist()):
        old = table[:, new == class_id]
        unless = np.where((old < 0).any(axis=1), -1, 0)
        expected[:, class_id] = np.where((old > 0).any(axis=1), 1, unless)
    for each in (sparse, table):
        mapped = targets.map_classes(each, new, 8)
        assert isinstance(mapped, type(each))
        assert np.array_equal(targets.dense(mapped), expected)
        if isinstance(mapped, SparseTargets):
            assert not (mapped.values == mapped.others[mapped.images()]).any()


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
    values = targets.from_labels([{2, 0}, {1}, ()], [(), {2}, ()], classes, [{1, 2}, None, set()])
    assert isinstance(values, SparseTargets) == (classes > targets.MOST_DENSE)
    table = targets.dense(values)
    assert table[:, :3].tolist() == [[1, 0, 1], [0, 1, -1], [-1, -1, -1]]
    assert (table[:, 3:] == np.array([[-1], [0], [-1]])).all()


@pytest.mark.parametrize("sparse", [False, True])
def test_classes_are_mapped_and_merged(sparse: bool) -> None:
    table = np.array([[1, -1, 0, 0], [-1, 0, 1, 1], [0, 0, -1, -1], [0, 0, 0, 0]], np.int8)
    values = targets.to_sparse(table) if sparse else table
    mapped = targets.map_classes(values, np.array([2, 2, 0, 0]), 4)
    assert isinstance(mapped, SparseTargets) == sparse
    # Present counts before unknown, unknown before absent; classes that none becomes are unknown.
    assert targets.dense(mapped).tolist() == [
        [0, -1, 1, -1], [1, -1, -1, -1], [-1, -1, 0, -1], [0, -1, 0, -1],
    ]  # fmt: skip


@pytest.mark.parametrize("sparse", [False, True])
def test_unknown_cells_may_be_listed_and_taken_for_present(sparse: bool) -> None:
    table = np.array([[1, -1, 0], [0, 0, 0], [-1, 1, -1]], np.int8)
    values = targets.to_sparse(table) if sparse else table
    assert list(targets.rows_of_ids(values)) == [[0], [], [1]]
    assert list(targets.rows_of_ids(values, unknown=True)) == [[1], [], [0, 2]]
    taken = targets.dense(targets.assume(values, 1))
    assert taken.tolist() == [[1, 1, 0], [0, 0, 0], [1, 1, 1]]
