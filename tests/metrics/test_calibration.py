# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from paddlex_ml.metrics import calibration


def pooled_error(*scores_and_targets, **options):
    return calibration.calibration_errors(*scores_and_targets, **options)[0]


def class_errors(*scores_and_targets, **options):
    return calibration.calibration_errors(*scores_and_targets, **options)[1]


def draw(images, classes, seed=0):
    rng = np.random.default_rng(seed)
    scores = rng.random((images, classes)).astype(np.float32)
    return scores, (rng.random((images, classes)) < scores).astype(np.uint8)


def test_error_by_hand():
    # Two bins. Below 0.5: 0.1 and 0.3, none positive: |0 - 0.2|, 2 of 5 cells.
    # From 0.5: 0.5, 0.8 and 0.8, two positive: |2/3 - 0.7|, 3 of 5 cells.
    scores = np.array([[0.1], [0.3], [0.5], [0.8], [0.8]], np.float32)
    targets = np.array([[0], [0], [1], [1], [0]])
    expected = 2 / 5 * 0.2 + 3 / 5 * (0.7 - 2 / 3)
    found = pooled_error(scores, targets, bins=2)
    assert found == pytest.approx(expected, abs=1e-7)
    assert class_errors(scores, targets, bins=2) == pytest.approx([expected])


def test_pooled_errors_of_two_classes_may_cancel_where_each_has_one():
    # One bin. First class: all 0.5, none positive; second: all 0.5, all positive.
    scores = np.full((4, 2), 0.5, np.float32)
    targets = np.array([[0, 1]] * 4, np.uint8)
    assert pooled_error(scores, targets) == 0.0
    assert class_errors(scores, targets).tolist() == [0.5, 0.5]


def test_bins_by_hand():
    scores = np.array([[0.0, 0.25], [0.25, 0.5], [0.9, 1.0]], np.float32)
    targets = np.array([[0, 1], [0, 1], [1, 1]], np.uint8)
    found = calibration.reliability(scores, targets, bins=4)
    assert found.edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found.count.tolist() == [1, 2, 1, 2]
    assert found.mean_score == pytest.approx([0, 0.25, 0.5, 0.95])
    assert found.share.tolist() == [0, 0.5, 1, 1]


def test_an_empty_bin_is_undefined():
    found = calibration.reliability(np.full((3, 1), 0.1), np.ones((3, 1)), bins=2)
    assert found.count.tolist() == [3, 0]
    assert np.isnan(found.mean_score).tolist() == [False, True]
    assert np.isnan(found.share).tolist() == [False, True]


@pytest.mark.parametrize("bins", [5, 10, 15])
def test_a_score_on_an_edge_opens_the_bin_above(bins):
    scores = np.array([[i / bins] for i in range(bins)], np.float32)  # 0.2 as the model gives it
    found = calibration.reliability(scores, np.zeros_like(scores), bins)
    assert found.count.tolist() == [1] * bins


def test_the_curve_agrees_with_scikit_learn():
    scores, targets = draw(500, 4)
    share, mean_score = calibration_curve(targets.ravel(), scores.ravel(), n_bins=15)
    found = calibration.reliability(scores, targets)
    assert found.share == pytest.approx(share)
    assert found.mean_score == pytest.approx(mean_score)
    gaps = np.abs(found.share - found.mean_score)
    expected = (gaps * found.count).sum() / scores.size
    assert pooled_error(scores, targets) == pytest.approx(expected)


def test_the_error_of_a_class_is_the_pooled_error_of_its_column():
    scores, targets = draw(300, 3)
    found = class_errors(scores, targets)
    columns = [pooled_error(scores[:, [c]], targets[:, [c]]) for c in range(3)]
    assert found.tolist() == columns


def test_scores_of_exactly_0_and_1_that_are_right_have_no_error():
    targets = np.eye(4, dtype=np.uint8)
    assert pooled_error(targets.astype(np.float32), targets) == 0.0
    assert pooled_error(1 - targets.astype(np.float32), targets) == 1.0


def test_one_image_of_one_class_without_the_label():
    found = class_errors(np.array([[0.25]]), np.array([[0]]))
    assert found.tolist() == [0.25]


def test_without_images_there_is_no_error():
    nothing = np.empty((0, 2), np.float32)
    assert np.isnan(pooled_error(nothing, nothing))
    assert np.isnan(class_errors(nothing, nothing)).tolist() == [True, True]


def test_a_calibrated_model_has_a_small_error_and_a_boastful_one_a_large():
    scores, targets = draw(20_000, 2)
    assert pooled_error(scores, targets) < 0.01
    boastful = np.where(scores > 0.5, 1, 0).astype(np.float32)
    # Mean distance of a uniform score from the nearer end: 0.25.
    found = pooled_error(boastful, targets)
    assert found == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("wrong", [-0.1, 1.1, np.nan])
def test_logits_are_refused(wrong):
    with pytest.raises(ValueError, match="apply the sigmoid"):
        pooled_error(np.array([[0.5], [wrong]]), np.ones((2, 1)))
