# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given
from sklearn.metrics import (
    coverage_error,
    label_ranking_average_precision_score,
    label_ranking_loss,
)

from paddlex_ml.metrics import ranking


@st.composite
def scores_and_targets(draw):
    shape = draw(st.tuples(st.integers(1, 12), st.integers(2, 6)))
    few = st.sampled_from([0, 0.25, 0.5, 0.75, 1])  # many are equal
    scores = draw(arrays.arrays(np.float32, shape, elements=few | st.floats(0, 1, width=32)))
    return scores, draw(arrays.arrays(bool, shape)).astype(np.uint8)


def assert_as_scikit_learn(scores, targets):
    found = ranking.rank(scores, targets)
    assert found.coverage_error == pytest.approx(coverage_error(targets, scores))
    assert found.ranking_loss == pytest.approx(label_ranking_loss(targets, scores))
    expected = label_ranking_average_precision_score(targets, scores)
    assert found.average_precision == pytest.approx(expected)


def test_values_by_hand():
    # Order of the classes: 3 0 1 2. True are 0 and 2, at places 2 and 4.
    scores = np.array([[0.8, 0.5, 0.2, 0.9]])
    targets = np.array([[1, 0, 1, 0]])
    found = ranking.rank(scores, targets)
    assert found.coverage_error == 4.0
    # Pairs (true, false): 0-1 is right; 0-3, 2-1 and 2-3 are wrong.
    assert found.ranking_loss == pytest.approx(3 / 4)
    assert found.average_precision == pytest.approx((1 / 2 + 2 / 4) / 2)


def test_equal_scores_share_the_worst_place_by_hand():
    # Three labels share place 3; one of them is true.
    scores = np.array([[0.5, 0.5, 0.5, 0.1]])
    targets = np.array([[0, 1, 0, 0]])
    found = ranking.rank(scores, targets)
    assert found.coverage_error == 3.0
    assert found.ranking_loss == pytest.approx(2 / 3)
    assert found.average_precision == pytest.approx(1 / 3)


@given(scores_and_targets())
def test_all_agree_with_scikit_learn(case):
    scores, targets = case
    labels = targets.sum(axis=1)
    assume(((labels > 0) & (labels < targets.shape[1])).any())
    assert_as_scikit_learn(scores, targets)


def test_blocks_of_images_add_up(monkeypatch):
    rng = np.random.default_rng(0)
    scores = rng.random((101, 7)).astype(np.float32).round(1)
    targets = (rng.random((101, 7)) < 0.3).astype(np.uint8)
    assert_as_scikit_learn(scores, targets)
    at_once = ranking.rank(scores, targets)
    monkeypatch.setattr(ranking, "BLOCK", 70)
    assert_as_scikit_learn(scores, targets)
    assert ranking.rank(scores, targets).coverage_error == at_once.coverage_error


def test_images_with_no_label_or_all_count_as_in_scikit_learn():
    scores = np.array([[0.9, 0.1, 0.5], [0.9, 0.1, 0.5], [0.9, 0.1, 0.5]])
    targets = np.array([[0, 0, 0], [1, 1, 1], [0, 0, 1]])
    assert_as_scikit_learn(scores, targets)
    found = ranking.rank(scores, targets)
    assert found.coverage_error == pytest.approx((0 + 3 + 2) / 3)
    assert found.ranking_loss == pytest.approx((0 + 0 + 1 / 2) / 3)
    assert found.average_precision == pytest.approx((1 + 1 + 1 / 2) / 3)


def test_without_any_positive_nothing_is_defined():
    found = ranking.rank(np.full((3, 2), 0.5), np.zeros((3, 2)))
    assert np.isnan([found.coverage_error, found.ranking_loss, found.average_precision]).all()


def test_where_every_image_has_every_label_no_pair_can_be_wrong():
    found = ranking.rank(np.random.default_rng(0).random((3, 4)), np.ones((3, 4)))
    assert found.coverage_error == 4.0
    assert np.isnan(found.ranking_loss)
    assert found.average_precision == 1.0


def test_a_single_class_has_no_pairs():
    found = ranking.rank(np.array([[0.2], [0.9]]), np.array([[1], [0]]))
    assert found.coverage_error == 0.5
    assert np.isnan(found.ranking_loss)
    assert found.average_precision == 1.0


@pytest.mark.parametrize("shape", [(0, 3), (0, 0), (2, 0)])
def test_without_cells_nothing_is_defined(shape):
    found = ranking.rank(np.empty(shape), np.empty(shape))
    assert np.isnan([found.coverage_error, found.ranking_loss, found.average_precision]).all()


def test_scores_of_exactly_0_and_1_that_are_right():
    targets = np.array([[1, 0, 1, 0], [0, 0, 0, 1]], np.uint8)
    found = ranking.rank(targets.astype(np.float32), targets)
    assert found == ranking.Ranking(1.5, 0.0, 1.0)
    assert_as_scikit_learn(targets.astype(np.float32), targets)
