# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paddlex_ml.metrics import bootstrap, curves
from paddlex_ml.metrics.average_precision import average_precision, constant_predictor_map
from paddlex_ml.metrics.ties import NOISE, group_ends


def draw(images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Scores of a fair model, targets, and the generator that drew them."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((images, 3)) < [0.1, 0.3, 0.6]).astype(np.uint8)
    targets[0] = 1
    logits = rng.standard_normal((images, 3)) + targets - 1
    return (1 / (1 + np.exp(-logits))).astype(np.float32), targets, rng


@pytest.mark.parametrize("level", [1e-6, 0.03, 0.5, 0.9999, 1.0])
@pytest.mark.parametrize("images", [2, 12, 500])
def test_scores_that_differ_by_rounding_have_the_map_of_the_constant_predictor(
    level: float, images: int
) -> None:
    _, targets, rng = draw(images)
    steps = rng.integers(-3, 1, targets.shape)
    last_digit = np.spacing(np.nextafter(np.float32(level), np.float32(0)))
    scores = (level + steps * last_digit).astype(np.float32)
    assert len(np.unique(scores)) > 1
    found = average_precision(scores, targets, noise=NOISE)
    assert np.nanmean(found) == pytest.approx(constant_predictor_map(targets), abs=1e-12)
    if images > 2:
        assert (average_precision(scores, targets) != found).any()
    for column, present in zip(scores.T, targets.T, strict=True):
        assert len(curves.precision_recall(column, present, noise=NOISE).recall) == 1


def test_a_few_images_that_differ_leave_the_others_equal() -> None:
    rng = np.random.default_rng(1)
    scores = (0.5 + 1e-7 * rng.standard_normal(100)).astype(np.float32)
    scores[:3] = 0.9, 0.7, 0.1
    falling = np.sort(scores)[::-1]
    assert group_ends(falling, NOISE).tolist() == [0, 1, 98, 99]
    assert len(group_ends(falling, 0.0)) > 4


def test_equal_bits_are_equal_without_noise_too() -> None:
    falling = np.array([0.9, 0.9, 0.5, 0.2, 0.2], np.float32)
    assert group_ends(falling, 0.0).tolist() == group_ends(falling, NOISE).tolist() == [1, 2, 4]
    assert group_ends(falling[:0], NOISE).tolist() == []
    assert group_ends(falling[:1], NOISE).tolist() == [0]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), images=st.integers(20, 300))
def test_a_network_that_tells_images_apart_is_measured_exactly(seed: int, images: int) -> None:
    scores, targets, _ = draw(images, seed)
    exact = average_precision(scores, targets)
    assert np.array_equal(average_precision(scores, targets, noise=NOISE), exact, equal_nan=True)


def test_two_crowds_are_told_apart() -> None:
    rng = np.random.default_rng(2)
    high, low = (level + 1e-7 * rng.standard_normal(50) for level in (0.51, 0.5))
    targets = np.repeat([1, 0], 50)[:, None]
    scores = np.concatenate([high, low]).astype(np.float32)[:, None]
    assert average_precision(scores, targets, noise=NOISE).tolist() == [1.0]


def test_a_chain_of_close_scores_is_no_single_crowd() -> None:
    step = NOISE / 4 / 100  # of scores near one half: 100 of them span the noise
    falling = 0.5 - step * np.arange(1000)
    ends = group_ends(falling, NOISE)
    assert len(ends) == 1000  # a crowd would be 250 images
    assert group_ends(falling[:300], NOISE).tolist() == [299]  # no gap, and only 3 times the noise


def test_a_crowd_without_a_gap_is_no_wider_than_five_times_the_noise() -> None:
    step = NOISE / 4 / 10
    falling = 0.5 - step * np.concatenate([np.linspace(0, 9, 100), 10 + np.arange(200)])
    ends = group_ends(falling, NOISE)
    assert 100 + 38 <= ends[0] <= 100 + 42
    assert len(ends) == 300 - ends[0]


@pytest.mark.parametrize("spread", [1e-5, 2e-5, 4e-5])
@pytest.mark.parametrize("images", [24, 400])
def test_rounding_does_not_decide_where_a_crowd_ends(spread: float, images: int) -> None:
    """As of a network after a few updates: it hardly tells images apart, and rounds by 3e-6."""
    _, targets, rng = draw(images)
    logits = -1 + spread * rng.random(targets.shape)
    found = []
    for _ in range(20):  # other sizes of batches
        rounded = logits + rng.uniform(-1.7e-6, 1.7e-6, logits.shape)
        scores = (1 / (1 + np.exp(-rounded))).astype(np.float32)
        found.append(average_precision(scores, targets, noise=NOISE))
    assert np.ptp(found, axis=0).max() < 1e-12


def test_the_interval_of_a_guess_holds_the_constant_predictor() -> None:
    _, targets, rng = draw(400)
    scores = (0.3 + 1e-7 * rng.standard_normal(targets.shape)).astype(np.float32)
    found = bootstrap.intervals(scores, targets, rounds=100, seed=0, noise=NOISE)
    constant = constant_predictor_map(targets)
    assert found.map[0] < constant < found.map[1]
    assert not bootstrap.beats_guessing(constant + 0.01, found.map, constant)
    sure, _, _ = draw(400)
    found = bootstrap.intervals(sure, targets, rounds=100, seed=0, noise=NOISE)
    assert bootstrap.beats_guessing(0.6, found.map, constant)


@pytest.mark.parametrize(
    ("mean", "interval", "better"),
    [
        (0.4, None, True),
        (0.3, None, False),
        (0.4, (0.29, 0.5), False),
        (0.4, (0.31, 0.5), True),
        (0.2, (0.1, 0.25), False),
        (0.4, (np.nan, np.nan), True),
    ],
)
def test_better_than_guessing_is_above_the_constant_predictor(
    mean: float, interval: tuple[float, float] | None, better: bool
) -> None:
    assert bootstrap.beats_guessing(mean, interval, 0.3) is better
