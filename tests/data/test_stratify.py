# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddlex_ml.data import stratify
from paddlex_ml.data import targets as data_targets
from paddlex_ml.metrics.known import UNKNOWN

# What a user sees of a division is tested in test_split.py.


def make_targets(num_images: int, num_classes: int, *steps: int) -> np.ndarray:
    """Image i shows the classes i + step: few combinations, chained to one another."""
    targets = np.zeros((num_images, num_classes), np.uint8)
    images = np.arange(num_images)
    for step in steps:
        targets[images, (images + step) % num_classes] = 1
    return targets


def measure_worst(targets: np.ndarray, in_val: np.ndarray, val_percent: int) -> float:
    shares = targets[in_val].sum(axis=0, dtype=int) / targets.sum(axis=0, dtype=int)
    return float(np.abs(shares - val_percent / 100).max())


@pytest.mark.parametrize("most", [stratify._MOST_CELLS, 0])
def test_images_of_which_little_is_known_are_divided_by_what_is_known(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    rng = np.random.default_rng(0)
    table = (rng.random((1200, 12)) < 0.2).astype(np.int8)
    table[400:][rng.random((800, 12)) < 0.7] = UNKNOWN
    table[:400][rng.random((400, 12)) < 0.2] = UNKNOWN
    mixed = data_targets.to_sparse(table)
    assert 0 < np.count_nonzero(mixed.others) < 1200
    monkeypatch.setattr(stratify, "_MOST_CELLS", most)
    in_val = stratify.choose_by_class(mixed, np.arange(1200), 25, 0)
    if most:
        assert np.array_equal(in_val, stratify.choose_by_class(table, np.arange(1200), 25, 0))
    assert in_val.sum() == 300
    for value in (1, 0, UNKNOWN):
        assert measure_worst((table == value).astype(np.uint8), in_val, 25) < 0.03


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_repair_moves_the_fewest_images(data: st.DataObject) -> None:
    num_units, num_classes = data.draw(st.integers(2, 8)), data.draw(st.integers(1, 6))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    groups = np.concatenate([np.arange(num_units), rng.integers(0, num_units, rng.integers(9))])
    targets = (rng.random((len(groups), num_classes)) < rng.choice([0.15, 0.4])).astype(np.uint8)
    units = stratify._make_units(targets, groups, rng)
    start = rng.integers(0, 2, num_units)
    shown = np.zeros((num_units, num_classes + 1), int)
    np.maximum.at(shown, units.of_image, np.column_stack([targets, np.ones_like(groups)]))

    every = np.arange(2**num_units)[:, None] >> np.arange(num_units) & 1  # all divisions
    in_val, holders = every @ shown, shown.sum(axis=0)
    good = ~((holders > 1) & ((in_val == 0) | (in_val == holders))).any(axis=1)
    if good.any():
        repaired = stratify._repair(units, start, stratify._compute_wanted(units, 20))
        moved = (every != start) @ units.sizes
        assert (repaired != start) @ units.sizes == moved[good].min()
        assert good[(every == repaired).all(axis=1)] == [True]


def test_a_class_that_cannot_be_repaired_does_not_spoil_the_others() -> None:
    # Classes 0 to 2 are a triangle; class 3 has images of its own.
    targets = np.array(
        [[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1]], np.uint8
    )
    units = stratify._make_units(targets, np.arange(5), np.random.default_rng(0))
    repaired = stratify._repair(units, np.zeros(5, int), stratify._compute_wanted(units, 50))
    counts = targets[repaired[units.of_image] == 1].sum(axis=0, dtype=int).tolist()
    assert counts[3] == 1
    assert counts[:3].count(1) == 2


def test_a_long_chain_of_repairs_ends() -> None:
    # Class i is shown by images i and i + 1 alone: only every second image may be in val.
    targets = make_targets(300, 300, 0, 1)[:299]
    in_val = stratify.choose_by_class(targets, np.arange(299), 1, 0)
    assert ((targets[in_val].sum(axis=0) == 1) | (targets.sum(axis=0) == 1)).all()


@pytest.mark.parametrize("steps", [(0, 1), (0, 1, 2), (0, 1, 3), (0, 1, 2, 7)])
@pytest.mark.parametrize(("num_images", "num_classes"), [(1000, 10), (20000, 80)])
def test_chained_classes_are_never_worse_off_than_by_chance(
    steps: tuple[int, ...], num_images: int, num_classes: int
) -> None:
    targets, groups = make_targets(num_images, num_classes, *steps), np.arange(num_images)
    for seed in range(3):
        stratified = stratify.choose_by_class(targets, groups, 20, seed)
        drawn = stratify.choose_by_chance(groups, 20, seed)
        assert measure_worst(targets, stratified, 20) < measure_worst(targets, drawn, 20)
        assert stratified.sum() == drawn.sum() == num_images // 5


def test_groups_of_very_different_sizes_give_each_side_its_part() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(400), rng.integers(1, 60, 400))
    theme = rng.integers(0, 12, 400)[groups]  # what a video is about, and now and then more
    targets = (rng.random((len(groups), 12)) < 0.05).astype(np.uint8)
    targets[np.arange(len(groups)), theme] = 1
    in_val = stratify.choose_by_class(targets, groups, 20, 0)
    assert abs(in_val.mean() - 0.2) < 0.001
    assert measure_worst(targets, in_val, 20) < 0.01
    assert measure_worst(targets, stratify.choose_by_chance(groups, 20, 0), 20) > 0.05
