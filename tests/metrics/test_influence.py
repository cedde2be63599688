# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from paddlex_ml.metrics import bootstrap, influence
from paddlex_ml.metrics.average_precision import average_precision
from paddlex_ml.metrics.known import UNKNOWN


def draw(images: int, classes: int, seed: int, unknown: float = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = (rng.random((images, classes)) < 0.1).astype(np.int8)
    logits = rng.standard_normal((images, classes)) + 1.5 * targets - 2
    targets[rng.random((images, classes)) < unknown] = UNKNOWN
    return (1 / (1 + np.exp(-logits))).astype(np.float32), targets


@pytest.mark.parametrize("unknown", [0, 0.4])
def test_the_influence_is_the_slope_by_the_weight_of_an_image(unknown: float) -> None:
    scores, targets = draw(60, 3, 0, unknown)
    scores = scores.round(1)  # many are equal
    found = influence.measure(scores, targets)
    measured = average_precision(scores, targets)
    assert np.array_equal(found.measured, measured)
    mean, step = measured.mean(), 1000
    for image in range(60):
        # One more copy of an image beside `step` copies of all is a weight of 1 + 1 / step.
        copies = np.full(60, step)
        copies[image] += 1
        weights = copies[None].astype(np.uint16)
        other = bootstrap.resample(scores, targets, weights).mean()
        assert (other - mean) * step == pytest.approx(found.on_mean[image], abs=2e-3)
    assert found.on_mean.sum() == pytest.approx(0, abs=1e-12)


def test_intervals_are_nearly_those_of_the_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, targets = draw(2000, 6, 1)
    drawn = bootstrap.intervals(scores, targets, rounds=1000, seed=0)
    other = draw(2000, 6, 2)[0]
    gain = bootstrap.difference(scores, other, targets, rounds=1000, seed=0)
    monkeypatch.setattr(bootstrap, "MOST", 0)
    found = bootstrap.intervals(scores, targets, rounds=1000, seed=0)
    assert np.diff(found.map) == pytest.approx(np.diff(drawn.map), rel=0.12)
    assert np.mean(found.map) == pytest.approx(np.mean(drawn.map), abs=0.003)
    assert np.diff(found.per_class) == pytest.approx(np.diff(drawn.per_class), rel=0.15)
    again = bootstrap.difference(scores, other, targets, rounds=1000, seed=0)
    assert np.diff(again) == pytest.approx(np.diff(gain), rel=0.12)
    assert np.mean(again) == pytest.approx(np.mean(gain), abs=0.003)


def test_a_class_without_a_positive_has_no_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "MOST", 0)
    scores, targets = draw(50, 2, 3)
    targets[:, 1] = 0
    found = bootstrap.intervals(scores, targets, rounds=20, seed=0)
    assert np.isnan(found.per_class[1]).all()
    assert found.map == pytest.approx(found.per_class[0])


def test_an_interval_stays_among_the_possible_values() -> None:
    assert influence.interval(0.9, 0.2, 0) == (pytest.approx(0.9 - 0.2 * influence.WIDTH), 1.0)
    assert influence.interval(-0.9, 0.2, -1)[0] == -1.0
