# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve

from paddlex_ml.metrics import curves
from paddlex_ml.metrics.average_precision import average_precision


def draw(images: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = (rng.random((images, classes)) < 0.3).astype(np.uint8)
    scores = 1 / (1 + np.exp(-(rng.normal(size=targets.shape) + 2.0 * targets - 1)))
    return scores.astype(np.float32).round(2), targets  # rounded: many ties


def test_the_curve_by_hand():
    curve = curves.precision_recall(np.array([0.9, 0.6, 0.6, 0.1]), np.array([1, 1, 0, 1]))
    assert curve.thresholds.tolist() == [0.9, 0.6, 0.1]
    assert curve.precision.tolist() == [1.0, 2 / 3, 0.75]
    assert curve.recall.tolist() == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_the_curve_is_that_of_scikit_learn_and_its_area_the_average_precision():
    scores, targets = draw(400, 1)
    curve = curves.precision_recall(scores[:, 0], targets[:, 0])
    precision, recall, thresholds = precision_recall_curve(targets[:, 0], scores[:, 0])
    np.testing.assert_allclose(curve.thresholds, thresholds[::-1])
    np.testing.assert_allclose(curve.precision, precision[:-1][::-1])
    np.testing.assert_allclose(curve.recall, recall[:-1][::-1])
    area = (np.diff(curve.recall, prepend=0) * curve.precision).sum()
    assert area == pytest.approx(average_precision(scores, targets)[0])


def test_a_threshold_is_found_at_the_point_of_its_decisions():
    scores, targets = draw(400, 1)
    curve = curves.precision_recall(scores[:, 0], targets[:, 0])
    for threshold in (0.0, 0.123, 0.5, float(scores.max())):
        decided = scores[:, 0] >= threshold
        point = curve.find(threshold)
        hits = (decided & (targets[:, 0] == 1)).sum()
        assert curve.precision[point] == pytest.approx(hits / decided.sum())
        assert curve.recall[point] == pytest.approx(hits / targets.sum())
    assert curve.find(1.01) is None


def test_a_class_without_positives_has_no_curve():
    curve = curves.precision_recall(np.array([0.9, 0.6]), np.array([0, 0]))
    assert len(curve.thresholds) == len(curve.precision) == len(curve.recall) == 0
    assert curve.find(0.5) is None
    assert curves.thin(curve, 60) is curve


def test_thinning_moves_no_point_and_keeps_the_ends_and_the_marked():
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 2, 5000)
    curve = curves.precision_recall(rng.random(5000) + 0.4 * targets, targets)
    thinned = curves.thin(curve, 60, keep=[1234, 2345])
    assert len(thinned.recall) == 60
    places = np.searchsorted(-curve.thresholds, -thinned.thresholds)
    assert {0, 1234, 2345, len(curve.recall) - 1} <= set(places.tolist())
    np.testing.assert_array_equal(curve.precision[places], thinned.precision)
    np.testing.assert_array_equal(curve.recall[places], thinned.recall)
    # what is drawn stays within a hundredth of what was there
    inside = (curve.recall > 0.02) & (curve.recall < 1)  # not where the line is vertical
    drawn = np.interp(curve.recall[inside], thinned.recall, thinned.precision)
    assert np.abs(drawn - curve.precision[inside]).max() < 0.01


def test_histograms_count_every_score_once():
    scores = np.array([[0.0, 1.0], [0.049, 0.05], [0.5, 0.999], [1.0, 0.2]])
    targets = np.array([[0, 1], [0, 0], [1, 1], [1, 0]])
    positives, negatives = curves.histograms(scores, targets, bins=20)
    assert positives.sum() + negatives.sum() == 8
    assert (positives[0, 10], positives[0, 19], negatives[0, 0]) == (1, 1, 2)
    assert (positives[1, 19], negatives[1, 1], negatives[1, 4]) == (2, 1, 1)


def test_blocks_of_images_make_no_difference(monkeypatch):
    scores, targets = draw(300, 4)
    whole = curves.histograms(scores, targets), curves.joint_errors(scores >= 0.5, targets)[0]
    monkeypatch.setattr(curves, "_BLOCK", 7)
    parts = curves.histograms(scores, targets), curves.joint_errors(scores >= 0.5, targets)[0]
    np.testing.assert_array_equal(parts[0], whole[0])
    np.testing.assert_array_equal(parts[1].errors, whole[1].errors)
    np.testing.assert_array_equal(parts[1].chances, whole[1].chances)
    assert whole[1].chances.sum() > 300


def test_joint_errors_other_classes_by_counting():
    scores, targets = draw(300, 4)
    decided, present = scores >= 0.5, targets == 1
    missed, alarmed = curves.joint_errors(decided, targets)
    for row in range(4):
        for column in range(4):
            with_row, without = present[:, row], ~present[:, row]
            can = present[:, column]
            lost = can & ~decided[:, column]
            assert missed.errors[row, column] == (with_row & lost).sum()
            assert missed.chances[row, column] == (with_row & can).sum()
            assert missed.errors_elsewhere[row, column] == (without & lost).sum()
            assert missed.chances_elsewhere[row, column] == (without & can).sum()
            false = ~can & decided[:, column]
            assert alarmed.errors[row, column] == (with_row & false).sum()
            assert alarmed.chances[row, column] == (with_row & ~can).sum()
    assert alarmed.chances.diagonal().tolist() == [0] * 4
    assert np.isnan(alarmed.rate.diagonal()).all()


def test_a_class_that_is_missed_beside_another_stands_out():
    targets = np.array([[1, 1]] * 40 + [[1, 0]] * 60 + [[0, 1]] * 50 + [[0, 0]] * 50)
    decided = targets == 1
    decided[:30, 0] = False  # class 0 is missed in 30 of 40 images that show class 1 ...
    decided[40:46, 0] = False  # ... and in 6 of the 60 others
    found, _ = curves.joint_errors(decided, targets)
    assert found.rate[1, 0] == pytest.approx(0.75)
    assert found.rate_elsewhere[1, 0] == pytest.approx(0.1)
    assert found.excess[1, 0] == pytest.approx(30 - 40 * 0.1)
    # z by hand: 0.65 / sqrt(0.36 * 0.64 * (1/40 + 1/60))
    assert found.deviations[1, 0] == pytest.approx(6.634, abs=1e-3)
    assert np.nan_to_num(found.deviations[0, 1]) == 0  # class 1 is never missed
