# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from paddlex_ml.metrics import out_of_fold
from paddlex_ml.metrics.average_precision import mean_average_precision
from paddlex_ml.metrics.label_quality import calibrate
from paddlex_ml.metrics.out_of_fold import score_out_of_fold


def draw(images=400, width=20, classes=3, seed=0):
    """Features, and targets that a hyperplane of them decides."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((images, width)) * np.linspace(0.01, 50, width)
    features = (features + 100).astype(np.float32)
    standard = (features - features.mean(axis=0)) / features.std(axis=0)
    targets = (standard @ rng.standard_normal((width, classes)) > 1).astype(np.uint8)
    return features, targets


def naive(features, targets, folds, seed, penalty):
    """Ridge regression fold by fold, with numpy's solver, before the sigmoid."""
    order = np.random.default_rng(seed).permutation(len(features))
    rows = features.astype(np.float64) / features.std(axis=0, dtype=np.float64)
    answers = np.empty(targets.shape)
    for part in np.array_split(order, folds):
        rest = np.setdiff1d(order, part)
        centre = rows[rest].mean(axis=0)
        known = rows[rest] - centre
        gram = known.T @ known / len(rest)
        truth = targets[rest] - targets[rest].mean(axis=0)
        ridge = penalty * np.trace(gram) / len(gram) * np.eye(len(gram))
        weights = np.linalg.solve(gram + ridge, known.T @ truth / len(rest))
        base = (targets[rest].sum(axis=0) + 1) / (len(rest) + 2)
        answers[part] = (rows[part] - centre) @ weights + base
    return answers


def test_scores_are_those_of_ridge_regression_fold_by_fold(monkeypatch):
    features, targets = draw()
    monkeypatch.setattr(out_of_fold, "PENALTIES", (0.1,))
    monkeypatch.setattr(out_of_fold, "_BLOCK", 17)  # blocks do not change the sums
    found = score_out_of_fold(features, targets, folds=4, seed=7)
    expected = calibrate(naive(features, targets, 4, 7, 0.1), targets)
    assert found.dtype == np.float32
    assert found == pytest.approx(expected, abs=1e-5)


def test_the_penalty_that_errs_least_out_of_fold_is_taken():
    features, targets = draw(images=60)
    found = score_out_of_fold(features, targets, seed=0)
    answers = {p: naive(features, targets, 5, 0, p) for p in out_of_fold.PENALTIES}
    best = min(answers, key=lambda p: np.square(answers[p] - targets).sum())
    assert out_of_fold.PENALTIES[0] < best < out_of_fold.PENALTIES[-1]
    assert found == pytest.approx(calibrate(answers[best], targets), abs=1e-5)


def test_what_can_be_learned_is_found():
    features, targets = draw()
    scores = score_out_of_fold(features, targets, seed=0)
    assert mean_average_precision(scores, targets) > 0.9
    assert scores.mean(axis=0) == pytest.approx(targets.mean(axis=0), abs=0.02)


def test_labels_by_chance_cannot_be_predicted():
    # 300 numbers for each of 200 images: what has seen the labels repeats all of them.
    rng = np.random.default_rng(0)
    features = rng.standard_normal((200, 300)).astype(np.float32)
    targets = (rng.random((200, 6)) < 0.5).astype(np.uint8)
    scores = score_out_of_fold(features, targets, seed=0)
    assert mean_average_precision(scores, targets) < 0.6


def test_an_image_does_not_see_its_own_label(monkeypatch):
    features, targets = draw(images=100)
    monkeypatch.setattr(out_of_fold, "PENALTIES", (1.0,))
    monkeypatch.setattr(out_of_fold, "calibrate", lambda answers, targets: answers)
    before = score_out_of_fold(features, targets, folds=5, seed=3)
    changed = targets.copy()
    changed[8] = 1 - changed[8]
    after = score_out_of_fold(features, changed, folds=5, seed=3)
    order = np.random.default_rng(3).permutation(100)
    fold = next(part for part in np.array_split(order, 5) if 8 in part)
    same = np.isclose(before, after, atol=1e-6)
    assert same[fold].all()
    assert not same[np.setdiff1d(order, fold)].any()


def test_the_seed_decides_the_folds():
    features, targets = draw()
    first, again, other = (score_out_of_fold(features, targets, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("images", [0, 1, 2, 3])
def test_few_images_are_no_error(images):
    features, targets = draw(images=10)
    scores = score_out_of_fold(features[:images], targets[:images], seed=0)
    assert scores.shape == (images, 3)
    assert ((scores > 0) & (scores < 1)).all()


def test_constant_features_and_classes_with_one_value_give_constant_scores():
    _, targets = draw()
    targets[:, 0] = 0
    targets[:, 1] = 1
    scores = score_out_of_fold(np.full((400, 5), 7, np.float32), targets, seed=0)
    assert np.ptp(scores, axis=0) == pytest.approx(0, abs=1e-6)
    assert scores[0, 0] < 0.01
    assert scores[0, 1] > 0.99
    assert scores[0, 2] == pytest.approx(targets[:, 2].mean(), abs=0.01)
