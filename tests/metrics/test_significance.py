# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest

from paddlex_ml.metrics import bootstrap, influence, significance
from paddlex_ml.metrics.average_precision import mean_average_precision
from tests.metrics.test_bootstrap import draw

MANY = np.full((4, 4), np.inf)
"""Degrees of freedom that do not matter."""


def models(targets: np.ndarray, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Equally good models, to which the same images are hard."""
    common = rng.normal(size=targets.shape)
    logits = [common + rng.normal(size=targets.shape) + 1.5 * targets for _ in range(count)]
    return [(1 / (1 + np.exp(-each))).astype(np.float32) for each in logits]


@pytest.mark.parametrize("noise", [0.0, 2e-5])
def test_rounds_are_those_of_the_bootstrap_of_an_evaluation(noise):
    scores, targets = draw(60, 3)
    targets = targets.astype(np.int8)
    targets[::7, 1] = -1  # nobody has looked
    weights = bootstrap.draw_weights(60, rounds=30, seed=5)
    sampled = bootstrap.resample(scores, targets, weights, noise=noise)
    found = significance.resample_map(scores, targets, rounds=30, seed=5, noise=noise)
    assert found == pytest.approx(np.nanmean(sampled, axis=1), abs=1e-12)


def test_a_list_without_a_positive_has_no_rounds():
    nothing = significance.resample_map(
        np.ones((4, 2), np.float32), np.zeros((4, 2), np.int8), rounds=3, seed=0
    )
    assert np.isnan(nothing).all()
    assert np.isnan(significance.errors_of_rounds(np.array([nothing, nothing]))).all()


def test_errors_are_those_of_paired_differences():
    rng = np.random.default_rng(3)
    targets = (rng.random((800, 4)) < 0.3).astype(np.int8)
    one, other = models(targets, 2, rng)
    rows = [significance.resample_map(s, targets, rounds=800, seed=1) for s in (one, other)]
    found = significance.errors_of_rounds(np.array(rows))
    assert found[0, 1] == pytest.approx((rows[0] - rows[1]).std(ddof=1))
    assert found[0, 0] == 0
    slopes = np.array([influence.measure(s, targets).on_mean for s in (one, other)])
    assert significance.errors_of_influences(slopes)[0, 1] == pytest.approx(found[0, 1], rel=0.1)


def test_holm_by_hand():
    p_values = np.array([0.04, 0.01, np.nan, 0.03])
    assert significance.holm(p_values) == pytest.approx([0.06, 0.03, np.nan, 0.06], nan_ok=True)
    assert significance.holm(np.array([0.9, 0.8])).tolist() == [1, 1]
    assert significance.holm(np.array([])).tolist() == []


@pytest.mark.parametrize(
    ("statistic", "freedom", "chance"),
    [  # from the tables of Student's t
        (12.706, 1, 0.05),
        (4.303, 2, 0.05),
        (2.228, 10, 0.05),
        (3.169, 10, 0.01),
        (1.984, 100, 0.05),
        (1.95996, math.inf, 0.05),
        (0.0, 3, 1.0),
    ],
)
def test_two_sided_by_the_table(statistic, freedom, chance):
    found = significance.two_sided(np.array([statistic, math.nan]), np.array([freedom, freedom]))
    assert found == pytest.approx([chance, math.nan], rel=1e-2, nan_ok=True)


def test_models_with_the_same_scores_do_not_differ_and_unknown_ones_stay_unknown():
    values, errors = np.array([0.7, 0.7, 0.2]), np.zeros((3, 3))
    two = significance.compare_all(values[:2], errors[:2, :2], MANY[:2, :2])
    assert two.tolist() == [[1, 1], [1, 1]]
    errors[2, :] = errors[:, 2] = np.nan
    found = significance.compare_all(values, errors, MANY[:3, :3])
    assert found[0, 1] == 1
    assert np.isnan(found[0, 2])


def test_every_pair_counts_and_not_only_those_with_the_best():
    errors = np.full((4, 4), 0.01)
    found = significance.compare_all(np.array([0.9, 0.9, 0.9, 0.87]), errors, MANY)
    alone = math.erfc(3 / math.sqrt(2))
    assert found[0, 3] == pytest.approx(6 * alone)


def test_seeds_add_their_spread_and_few_of_them_make_it_uncertain():
    image_errors = np.array([[0, 0.003], [0.003, 0]])
    repeats = [np.array([0.70, 0.72]), np.array([0.60, 0.62, 0.64])]
    errors, freedom = significance.add_spread(image_errors, np.full((2, 2), 50.0), repeats)
    spread = (0.0002 + 0.0008) / 3  # of three degrees of freedom
    own = spread * (1 / 2 + 1 / 3)
    assert errors[0, 1] == pytest.approx(math.sqrt(0.003**2 + own))
    expected = (0.003**2 + own) ** 2 / (0.003**4 / 50 + own**2 / 3)
    assert freedom[0, 1] == pytest.approx(expected)
    one_seed = [np.array([0.7]), repeats[1]]
    errors, freedom = significance.add_spread(image_errors, MANY[:2, :2], one_seed)
    assert errors[0, 1] == pytest.approx(math.sqrt(0.003**2 + 0.0004 * (1 + 1 / 3)))
    assert freedom[0, 1] > 2
    errors, _ = significance.add_spread(image_errors, MANY[:2, :2], [np.ones(1), np.zeros(1)])
    assert np.isnan(errors).all()


def test_normal_influences_have_the_freedom_of_their_number_and_a_few_large_ones_less():
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(2, 20_000))
    found = significance.freedom_of_influences(normal)
    assert found[0, 1] == pytest.approx(20_000, rel=0.1)
    assert found[0, 0] == np.inf  # the same model
    normal[:, 20:] /= 1e6  # twenty images decide
    assert 10 < significance.freedom_of_influences(normal)[0, 1] < 60


def test_folds_are_compared_in_pairs():
    values = np.array([[0.5, 0.6, 0.7], [0.4, 0.52, 0.6]])
    errors, freedom = significance.errors_of_folds(values)
    spread = np.std([0.1, 0.08, 0.1], ddof=1)
    assert errors[0, 1] == pytest.approx(spread * math.sqrt(1 / 3 + 1 / 2))
    assert freedom[0, 1] == 2


def test_rounds_are_few_where_scores_are_many():
    assert significance.choose_rounds(12 * 400 * 5) == significance.MOST_ROUNDS
    assert significance.choose_rounds(1000 * 1000 * 20) == 0
    assert significance.choose_rounds(500_000) == 400


def test_equal_models_are_called_different_in_few_trials():
    """The full simulation: benchmarks/leaderboard_chance.py."""
    rng, wrong, trials = np.random.default_rng(11), 0, 60
    for _ in range(trials):
        targets = (rng.random((150, 3)) < 0.3).astype(np.int8)
        scores = models(targets, 6, rng)
        values = np.array([mean_average_precision(each, targets) for each in scores])
        rows = [significance.resample_map(s, targets, rounds=200, seed=0) for s in scores]
        errors = significance.errors_of_rounds(np.array(rows))
        slopes = np.array([influence.measure(each, targets).on_mean for each in scores])
        freedom = significance.freedom_of_influences(slopes)
        p_values = significance.compare_all(values, errors, freedom)[values.argmax()]
        wrong += bool((p_values < significance.LEVEL).any())
    assert wrong <= 6  # 5 % of 60 are 3, and 7 or more come by chance once in 30
