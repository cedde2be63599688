# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from paddlex_ml.metrics import label_noise
from paddlex_ml.metrics.label_noise import estimate
from paddlex_ml.metrics.label_quality import find_learned


def draw(
    wrong: float, missing: float, images: int = 3000, apart: float = 5.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, targets with these rates of noise, and where the noise is: all [N, 4]."""
    rng = np.random.default_rng(0)
    truth = rng.random((images, 4)) < [0.1, 0.2, 0.3, 0.5]
    odds = rng.standard_normal(truth.shape) + np.where(truth, apart, 0) - 2
    flips = rng.random(truth.shape) < np.where(truth, missing, wrong)
    return (1 / (1 + np.exp(-odds))).astype(np.float32), truth ^ flips, flips


@pytest.mark.parametrize(("wrong", "missing"), [(0.05, 0.05), (0.0, 0.2), (0.03, 0.0), (0.1, 0.1)])
def test_the_rates_of_the_noise_are_found(wrong: float, missing: float) -> None:
    scores, targets, flips = draw(wrong, missing)
    found = estimate(scores, targets, np.ones(4, bool))
    assert found.wrong == pytest.approx(wrong, abs=0.01)
    assert found.missing == pytest.approx(missing, abs=0.02)
    likely = found.probability > 0.5
    assert flips[likely].mean() >= 0.9
    assert flips[likely].sum() >= 0.8 * flips.sum()
    assert found.power > 0.8


@pytest.mark.parametrize("apart", [0.0, 1.0, 3.0, 6.0])
def test_right_labels_have_no_noise(apart: float) -> None:
    scores, targets, _ = draw(0, 0, apart=apart)
    found = estimate(scores, targets, np.ones(4, bool))
    assert found.wrong < 0.001
    assert found.missing < 0.001
    assert (found.probability < 0.5).all()


@pytest.mark.parametrize("seed", [40, 229])  # of 370, those that look most like noise
def test_what_chance_makes_of_right_labels_is_no_noise(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random((240, 8)) < 0.2
    odds = rng.normal(size=truth.shape) + truth - 0.5
    scores = (1 / (1 + np.exp(-odds))).astype(np.float32)
    learned = find_learned(scores, truth)
    assert learned.any()
    found = estimate(scores, truth, learned)
    assert (found.wrong, found.missing) == (0, 0)
    assert (found.probability < 0.5).all()


def test_the_power_grows_with_the_model() -> None:
    found = [estimate(*draw(0, 0, apart=a)[:2], np.ones(4, bool)).power for a in (0, 1, 2, 3, 5)]
    assert found == sorted(found)
    assert found[0] < 0.01
    assert found[-1] > 0.9


def test_classes_that_were_not_learned_have_no_part() -> None:
    scores, targets, _ = draw(0.05, 0.05)
    learned = np.array([True, False, True, True])
    found = estimate(scores, targets, learned)
    assert (found.probability[:, 1] == 0).all()
    alone = estimate(scores[:, learned], targets[:, learned], np.ones(3, bool))
    assert np.array_equal(found.probability[:, learned], alone.probability)
    nothing = estimate(scores, targets, np.zeros(4, bool))
    assert (nothing.probability.sum(), nothing.power) == (0, 0)


@pytest.mark.parametrize("images", [0, 1, 2, 5])
def test_few_images_and_equal_scores_are_no_error(images: int) -> None:
    scores, targets, _ = draw(0.1, 0.1)
    for few in (scores[:images], np.full((images, 4), 0.5, np.float32)):
        found = estimate(few, targets[:images], np.ones(4, bool))
        assert found.probability.shape == (images, 4)
        assert np.isfinite(found.probability).all()


def test_too_little_evidence_is_no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, targets, flips = draw(0.03, 0.03, images=30)
    assert flips.any()
    assert estimate(scores, targets, np.ones(4, bool)).wrong == 0
    monkeypatch.setattr(label_noise, "EVIDENCE", -np.inf)
    assert estimate(scores, targets, np.ones(4, bool)).wrong > 0
