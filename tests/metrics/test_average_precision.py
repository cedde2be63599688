# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from sklearn.metrics import average_precision_score, precision_recall_curve

from paddlex_ml.metrics import average_precision as metrics

# Cases of the reference whose scores are all different: there it is right.
WITHOUT_TIES = ("random", "no_positives", "all_negative", "all_positive", "perfect")


def eleven_points(scores, targets):
    """The 11-point average of every class."""
    return np.array([metrics.area_11point(steps) for steps in metrics.descend(scores, targets)])


def draw(samples, classes, seed=0):
    rng = np.random.default_rng(seed)
    targets = (rng.random((samples, classes)) < np.linspace(0.03, 0.8, classes)).astype(np.float32)
    targets[0] = 1
    scores = (rng.standard_normal((samples, classes)) + targets).astype(np.float32)
    return scores, targets


def sklearns(scores, targets):
    columns = zip(scores.T, targets.T, strict=True)
    return [average_precision_score(present, score) for score, present in columns]


def test_value_by_hand():
    # Ranks of the positives: 1, 3, 4.  (1/1 + 2/3 + 3/4) / 3
    scores = np.array([[0.9], [0.8], [0.7], [0.6], [0.1]])
    targets = np.array([[1], [0], [1], [1], [0]])
    assert metrics.average_precision(scores, targets)[0] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


def test_11_points_by_hand():
    # Precision 1/1 at recall 1/3, then 2/3 and 3/4 at 2/3 and 1: from 0.4 on 3/4 is the best.
    scores = np.array([[0.9], [0.8], [0.7], [0.6], [0.1]])
    targets = np.array([[1], [0], [1], [1], [0]])
    expected = (4 * 1 + 7 * 3 / 4) / 11
    assert eleven_points(scores, targets)[0] == pytest.approx(expected)


@st.composite
def few_images(draw):
    images = draw(st.integers(1, 15))
    few = st.sampled_from([-1, 0, 0.25, 0.5, 1])  # many are equal
    scores = draw(arrays.arrays(np.float32, images, elements=few | st.floats(-9, 9, width=32)))
    return scores, draw(arrays.arrays(bool, images))


@given(few_images())
def test_a_few_images_agree_with_scikit_learn(case):
    scores, targets = case
    found = [
        average(scores[:, None], targets[:, None])[0]
        for average in (metrics.average_precision, eleven_points)
    ]
    if not targets.any():
        assert np.isnan(found).all()
        return
    precision, recall, _ = precision_recall_curve(targets, scores)
    precision, recall = precision[:-1], recall[:-1]  # the last is no threshold, but 1 at recall 0
    best = [precision[recall >= level - 1e-9].max() for level in np.linspace(0, 1, 11)]
    assert found == pytest.approx([average_precision_score(targets, scores), np.mean(best)])


def test_random_scores_agree_with_scikit_learn():
    scores, targets = draw(300, 12)
    found = metrics.average_precision(scores, targets)
    assert found.dtype == np.float64
    assert found.tolist() == pytest.approx(sklearns(scores, targets), abs=1e-12)


@pytest.mark.parametrize("digits", [0, 1, 2])
def test_ties_agree_with_scikit_learn(digits):
    scores, targets = draw(300, 12)
    scores = np.round(scores, digits)
    found = metrics.average_precision(scores, targets)
    assert found.tolist() == pytest.approx(sklearns(scores, targets), abs=1e-12)


def test_constant_scores_are_worth_the_share_of_positives():
    _, targets = draw(200, 6)
    found = metrics.average_precision(np.full(targets.shape, 0.3), targets)
    assert found.tolist() == pytest.approx(targets.mean(axis=0).tolist(), abs=1e-7)
    assert metrics.constant_predictor_map(targets) == pytest.approx(targets.mean(), abs=1e-7)


def test_saturated_scores_agree_with_scikit_learn():
    scores, targets = draw(200, 4)
    saturated = 1 / (1 + np.exp(-40 * scores.clip(-2, 2)))
    assert (saturated.astype(np.float32) == 1).mean() > 0.3
    saturated = saturated.astype(np.float32)
    found = metrics.average_precision(saturated, targets)
    assert found.tolist() == pytest.approx(sklearns(saturated, targets), abs=1e-12)


@pytest.mark.parametrize("case", WITHOUT_TIES)
def test_both_averages_are_those_of_the_reference_where_no_scores_are_equal(refdata, case):
    data = refdata.load_npz("loss_metric", "metric.npz")
    expected = refdata.load_json("loss_metric", "metric.json")[case]
    logits, targets = data[f"{case}_logits"], data[f"{case}_targets"]
    for average, kind in (
        (metrics.average_precision, "integral"),
        (eleven_points, "11point"),
    ):
        found = [None if np.isnan(value) else value for value in average(logits, targets)]
        wanted = expected[f"AP_{kind}"]
        assert [value is None for value in found] == [value is None for value in wanted]
        assert [v for v in found if v is not None] == pytest.approx(
            [v for v in wanted if v is not None], abs=1e-6
        )
    total = metrics.mean_average_precision(logits, targets)
    assert total == pytest.approx(expected["mAP_integral"], abs=1e-6)


@pytest.mark.parametrize("case", ["ties", "constant_scores", "saturated"])
def test_where_scores_are_equal_scikit_learn_is_right_and_the_reference_is_not(refdata, case):
    data = refdata.load_npz("loss_metric", "metric.npz")
    scores = 1 / (1 + np.exp(-data[f"{case}_logits"].astype(np.float32)))
    targets = data[f"{case}_targets"]
    found = metrics.mean_average_precision(scores, targets)
    reference = refdata.load_json("loss_metric", "metric.json")[case]["mAP_integral"]
    assert found == pytest.approx(np.mean(sklearns(scores, targets)), abs=1e-12)
    assert abs(found - reference) > 1e-4


def test_the_order_of_the_samples_does_not_matter():
    scores, targets = draw(300, 5)
    scores = np.round(scores, 1)
    order = np.random.default_rng(1).permutation(len(scores))
    before = metrics.average_precision(scores, targets)
    after = metrics.average_precision(scores[order], targets[order])
    assert (before == after).all()
    assert (eleven_points(scores, targets) == eleven_points(scores[order], targets[order])).all()


def test_only_the_order_of_the_scores_matters():
    scores, targets = draw(100, 4)
    probabilities = 1 / (1 + np.exp(-scores.astype(np.float64)))
    assert (
        metrics.average_precision(scores, targets)
        == metrics.average_precision(probabilities, targets)
    ).all()


def test_classes_without_positives_are_undefined_and_left_out_of_the_mean():
    scores, targets = draw(50, 3)
    targets[:, 1] = 0
    found = metrics.average_precision(scores, targets)
    assert np.isnan(found).tolist() == [False, True, False]
    assert metrics.mean_average_precision(scores, targets) == np.mean(found[[0, 2]])
    assert np.isnan(eleven_points(scores, targets)[1])


@pytest.mark.parametrize("samples", [0, 1, 7])
def test_without_any_positive_the_mean_is_zero(samples):
    scores, targets = np.zeros((samples, 3)), np.zeros((samples, 3))
    assert np.isnan(metrics.average_precision(scores, targets)).all()
    assert metrics.average_precision(scores, targets).shape == (3,)
    assert metrics.mean_average_precision(scores, targets) == 0.0


def test_the_inputs_stay_as_they_were():
    scores, targets = draw(20, 3)
    before = scores.copy(), targets.copy()
    metrics.average_precision(scores, targets)
    assert np.array_equal(scores, before[0])
    assert np.array_equal(targets, before[1])


def test_forty_thousand_images_of_eighty_classes_agree_with_scikit_learn():
    scores, targets = draw(40_000, 80)
    found = metrics.average_precision(scores, targets)
    chosen = [0, 17, 79]
    expected = sklearns(scores[:, chosen], targets[:, chosen])
    assert found[chosen].tolist() == pytest.approx(expected, abs=1e-12)
