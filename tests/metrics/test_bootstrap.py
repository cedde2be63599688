# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from sklearn.metrics import average_precision_score

from paddlex_ml.metrics import bootstrap
from paddlex_ml.metrics.average_precision import average_precision, mean_average_precision


def draw(images, classes, seed=0, distance=1.0, share=0.3):
    rng = np.random.default_rng(seed)
    targets = rng.random((images, classes)) < share
    scores = rng.standard_normal((images, classes)) + distance * targets
    return (1 / (1 + np.exp(-scores))).astype(np.float32), targets.astype(np.uint8)


@st.composite
def weighted_images(draw):
    images = draw(st.integers(1, 15))
    few = st.sampled_from([0, 0.25, 0.5, 1])  # many are equal
    scores = draw(arrays.arrays(np.float32, (images, 2), elements=few | st.floats(0, 1, width=32)))
    targets = draw(arrays.arrays(np.uint8, (images, 2), elements=st.integers(0, 1)))
    weights = draw(arrays.arrays(np.uint16, (1, images), elements=st.integers(0, 3)))
    return scores, targets, weights


def test_value_by_hand():
    # By falling score, positives marked: 0.9* 0.8 0.7*, with weights 1 2 3.
    # Precision 1/1 at the first, 4/6 at the last: (1 x 1 + 3 x 4/6) / 4.
    scores = np.array([[0.7], [0.9], [0.8]])
    targets = np.array([[1], [1], [0]])
    found = bootstrap.resample(scores, targets, np.array([[3, 1, 2]], np.uint16))
    assert found == pytest.approx(np.array([[0.75]]))


@pytest.mark.parametrize("digits", [1, 7])
def test_with_weights_of_1_the_value_is_exactly_the_plain_one(digits):
    scores, targets = draw(500, 6)
    scores, targets[:, 2] = scores.round(digits), 0
    found = bootstrap.resample(scores, targets, np.ones((1, 500), np.uint16))
    assert np.array_equal(found[0], average_precision(scores, targets), equal_nan=True)


@given(weighted_images())
def test_weighted_images_are_worth_repeated_ones_by_scikit_learn(case):
    scores, targets, weights = case
    found = bootstrap.resample(scores, targets, weights)[0]
    repeated = np.repeat(np.arange(len(scores)), weights[0])
    for of_class, value in enumerate(found):
        present = targets[repeated, of_class]
        if present.any():
            expected = average_precision_score(present, scores[repeated, of_class])
            assert value == pytest.approx(expected)
        else:
            assert np.isnan(value)


def test_every_round_draws_as_many_images_as_there_are():
    weights = bootstrap.draw_weights(1000, rounds=50, seed=0)
    assert weights.shape == (50, 1000)
    assert (weights.sum(axis=1) == 1000).all()
    # Of N draws with replacement, 1 / e of the images stay out.
    assert (weights == 0).mean() == pytest.approx(np.exp(-1), abs=0.01)
    assert (weights[0] != weights[1]).any()


def test_the_seed_decides_the_intervals():
    scores, targets = draw(200, 3)
    one, again, other = (
        bootstrap.intervals(scores, targets, rounds=50, seed=seed) for seed in (1, 1, 2)
    )
    assert one.map == again.map
    assert np.array_equal(one.per_class, again.per_class)
    assert one.map != other.map


def test_intervals_hold_what_was_measured():
    scores, targets = draw(300, 5)
    found = bootstrap.intervals(scores, targets, rounds=200, seed=0)
    measured = average_precision(scores, targets)
    assert (found.per_class[:, 0] < measured).all()
    assert (measured < found.per_class[:, 1]).all()
    assert found.map[0] < measured.mean() < found.map[1]
    # Five classes average out: their mean is surer than any of them.
    assert found.map[1] - found.map[0] < np.ptp(found.per_class, axis=1).min()


def test_four_times_the_images_halve_the_interval():
    small, large = (
        bootstrap.intervals(*draw(images, 8), rounds=200, seed=0).per_class
        for images in (500, 2000)
    )
    assert np.ptp(small, axis=1).mean() / np.ptp(large, axis=1).mean() == pytest.approx(2, abs=0.4)


def test_a_class_without_positives_has_no_interval_and_leaves_that_of_the_others():
    scores, targets = draw(200, 3)
    targets[:, 1] = 0
    found = bootstrap.intervals(scores, targets, rounds=60, seed=0)
    assert np.isnan(found.per_class).tolist() == [[False] * 2, [True] * 2, [False] * 2]
    alone = bootstrap.intervals(scores[:, [0, 2]], targets[:, [0, 2]], rounds=60, seed=0)
    assert found.map == alone.map
    assert np.array_equal(found.per_class[[0, 2]], alone.per_class)


def test_rounds_without_the_class_are_left_out():
    # One positive of 50, perfect: 1.0 in the two thirds of the rounds that draw it.
    scores, targets = np.zeros((50, 1), np.float32), np.zeros((50, 1), np.uint8)
    scores[7] = targets[7] = 1
    weights = bootstrap.draw_weights(50, rounds=200, seed=0)
    sampled = bootstrap.resample(scores, targets, weights)[:, 0]
    assert np.isnan(sampled).tolist() == (weights[:, 7] == 0).tolist()
    found = bootstrap.intervals(scores, targets, rounds=200, seed=0)
    assert found.per_class.tolist() == [[1.0, 1.0]]
    assert found.map == (1.0, 1.0)


def test_an_interval_of_less_than_half_of_the_rounds_is_undefined():
    assert np.isnan(bootstrap._middle(np.array([0.5, np.nan, np.nan]), 0.5, lowest=0)).all()
    assert bootstrap._middle(np.array([0.5, np.nan]), 0.5, lowest=0) == (0.5, 0.5)


def test_rounds_are_shifted_to_what_was_measured():
    rounds = np.linspace(0.5, 0.7, 201)  # their mean is 0.6, their middle 95 % 0.505 to 0.695
    assert bootstrap._middle(rounds, 0.55, lowest=0) == pytest.approx((0.455, 0.645))


def test_many_rare_classes_do_not_push_the_interval_above_the_measured_map():
    # Rounds of 40 classes with ten positives each lie about 0.05 above what is measured.
    held = 0
    expected = np.mean([mean_average_precision(*rare(seed)) for seed in range(100, 200)])
    for seed in range(20):
        scores, targets = rare(seed)
        weights = bootstrap.draw_weights(len(scores), rounds=60, seed=seed)
        plain = np.percentile(bootstrap.resample(scores, targets, weights).mean(axis=1), 2.5)
        low, high = bootstrap.intervals(scores, targets, rounds=60, seed=seed).map
        measured = mean_average_precision(scores, targets)
        assert low < measured < high
        assert low < plain - 0.01
        held += int(low <= expected <= high)
    assert held >= 17


def rare(seed):
    """400 images of 40 classes, of which each has ten positives."""
    rng = np.random.default_rng(seed)
    targets = np.zeros((400, 40), np.uint8)
    targets[:10] = 1
    logits = rng.standard_normal((400, 40)) + 1.5 * targets
    return logits.astype(np.float32), targets


def test_without_any_positive_nothing_is_defined():
    found = bootstrap.intervals(np.full((4, 2), 0.5), np.zeros((4, 2)), rounds=10, seed=0)
    assert np.isnan(found.map).all()
    assert np.isnan(found.per_class).all()
    assert found.per_class.shape == (2, 2)


@pytest.mark.parametrize("score", [0.0, 0.5, 1.0])
def test_all_positives_and_all_scores_equal_are_sure(score):
    scores = np.full((6, 2), score, np.float32)
    found = bootstrap.intervals(scores, np.ones((6, 2)), rounds=20, seed=0)
    assert found.map == (1.0, 1.0)
    assert found.per_class.tolist() == [[1.0, 1.0]] * 2


def test_one_image_of_one_class():
    found = bootstrap.intervals(np.array([[0.3]]), np.array([[1]]), rounds=5, seed=0)
    assert found.map == (1.0, 1.0)


@pytest.mark.parametrize(("images", "rounds"), [(0, 5), (3, 0)])
def test_without_images_or_rounds_there_is_no_interval(images, rounds):
    nothing = np.ones((images, 2))
    found = bootstrap.intervals(nothing, nothing, rounds=rounds, seed=0)
    assert np.isnan(found.map).all()
    assert np.isnan(found.per_class).all()


def test_a_model_differs_from_itself_by_nothing():
    scores, targets = draw(100, 3)
    assert bootstrap.difference(scores, scores, targets, rounds=40, seed=0) == (0.0, 0.0)


def test_a_difference_has_a_sign():
    scores, targets = draw(300, 4, distance=2.0)
    worse = scores[::-1]
    low, high = bootstrap.difference(scores, worse, targets, rounds=100, seed=0)
    assert 0 < low < high
    turned = bootstrap.difference(worse, scores, targets, rounds=100, seed=0)
    assert turned == pytest.approx((-high, -low))


def test_paired_rounds_see_a_difference_that_two_intervals_hide():
    scores, targets = draw(300, 4)
    noise = np.random.default_rng(1).standard_normal(scores.shape) * 0.05
    worse = (scores + noise).astype(np.float32)
    low, high = bootstrap.difference(scores, worse, targets, rounds=200, seed=0)
    one, other = (
        bootstrap.intervals(each, targets, rounds=200, seed=0).map for each in (scores, worse)
    )
    assert low > 0
    assert one[0] < other[1]  # they overlap
    assert high - low < (one[1] - one[0]) / 2


def test_the_interval_holds_the_true_value_about_95_times_of_100():
    # 300 classes are 300 experiments; a million images of the same kind tell the truth.
    truth = average_precision(*draw(1_000_000, 1, seed=99))[0]
    found = bootstrap.intervals(*draw(400, 300), rounds=150, seed=0).per_class
    held = ((found[:, 0] <= truth) & (truth <= found[:, 1])).mean()
    assert 0.91 <= held <= 0.98
