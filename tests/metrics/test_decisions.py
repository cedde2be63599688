# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from sklearn.metrics import accuracy_score, hamming_loss, precision_recall_fscore_support

from paddlex_ml.metrics import decisions
from paddlex_ml.metrics import per_class_threshold as prediction

CELLS = st.tuples(
    st.integers(1, 12), st.integers(2, 5)
)  # one class is another task to scikit-learn


@st.composite
def decided_and_targets(draw):
    shape = draw(CELLS)
    cells = arrays.arrays(bool, shape)
    return draw(cells), draw(cells).astype(np.uint8)


# Four images, three classes; decided at 0.5:
#   1 0 0     has   1 0 0
#   1 1 0           0 1 0
#   1 0 0           1 0 0
#   0 1 0           0 0 0
SCORES = np.array([[0.9, 0.2, 0.1], [0.6, 0.7, 0.4], [0.5, 0.1, 0.2], [0.3, 0.8, 0.1]], np.float32)
TARGETS = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]], np.uint8)
HALF = np.full(3, 0.5)


def test_counts_by_hand():
    counts = decisions.count(decisions.decide(SCORES, HALF), TARGETS)
    assert counts.hits.tolist() == [2, 1, 0]
    assert counts.predicted.tolist() == [3, 2, 0]
    assert counts.positives.tolist() == [2, 1, 0]
    assert {counts.hits.dtype, counts.predicted.dtype, counts.positives.dtype} == {
        np.dtype("int64")
    }
    assert counts.precision == pytest.approx([2 / 3, 1 / 2, np.nan], nan_ok=True)
    assert counts.recall == pytest.approx([1, 1, np.nan], nan_ok=True)
    assert counts.f1 == pytest.approx([4 / 5, 2 / 3, np.nan], nan_ok=True)


def test_averages_by_hand():
    found = decisions.average(decisions.count(decisions.decide(SCORES, HALF), TARGETS))
    precision = (2 / 3 + 1 / 2) / 2  # the third class has none
    assert found.class_precision == pytest.approx(precision)
    assert found.class_recall == 1.0
    assert found.class_f1 == pytest.approx(2 * precision / (precision + 1))
    assert found.overall_precision == pytest.approx(3 / 5)
    assert found.overall_recall == 1.0
    assert found.overall_f1 == pytest.approx(6 / (5 + 3))
    assert found.macro_f1 == pytest.approx((4 / 5 + 2 / 3) / 2)


def test_wrong_cells_and_right_images_by_hand():
    decided = decisions.decide(SCORES, HALF)
    assert decisions.hamming_distance(decided, TARGETS) == pytest.approx(2 / 12)
    assert decisions.subset_accuracy(decided, TARGETS) == 0.5


def test_a_score_at_the_threshold_counts_and_one_below_does_not():
    below = np.nextafter(np.float32(0.7), np.float32(0))
    scores = np.array([[0.7], [below]], np.float32)
    assert decisions.decide(scores, np.array([0.7])).tolist() == [[True], [False]]


def test_each_class_has_its_own_threshold():
    scores = np.array([[0.4, 0.4], [0.0, 1.0]], np.float32)
    decided = decisions.decide(scores, np.array([0.0, 1.0]))
    assert decided.tolist() == [[True, False], [True, True]]


@given(
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3),
)
def test_decisions_are_those_of_prediction(thresholds, scores):
    scores = np.array(scores, np.float32)
    for of_image in (scores, np.array(thresholds, np.float32)):  # the second: all at the threshold
        decided = decisions.decide(of_image[None], np.array(thresholds))
        each = prediction.resolve(thresholds, ["a", "b", "c"])
        expected = prediction.choose(of_image, prediction.LabelSelection(each, 0, None))
        assert np.flatnonzero(decided).tolist() == sorted(expected)


@given(arrays.arrays(np.float32, (4, 5), elements=st.sampled_from([0, 0.25, 0.5, 1])))
def test_the_highest_three_are_those_of_prediction_with_min_labels_and_max_labels_3(scores):
    each = np.full(5, 2, np.float32)  # never reached
    for of_image, decided in zip(scores, decisions.decide_top(scores), strict=True):
        expected = prediction.choose(of_image, prediction.LabelSelection(each, 3, 3))
        assert np.flatnonzero(decided).tolist() == sorted(expected)


def test_of_equal_scores_the_first_classes_win():
    assert decisions.decide_top(np.full((1, 5), 0.3)).tolist() == [[True] * 3 + [False] * 2]
    # The highest is last: it enters, and the first two of the equal ones.
    scores = np.array([[0.3, 0.3, 0.3, 0.3, 0.9]])
    assert decisions.decide_top(scores).tolist() == [[True, True, False, False, True]]


def test_with_less_than_k_classes_all_are_chosen():
    assert decisions.decide_top(np.array([[0.0, 0.1]]), k=3).tolist() == [[True, True]]


def test_scores_stay_as_they_were():
    scores = SCORES.copy()
    decisions.decide_top(scores)
    assert np.array_equal(scores, SCORES)


@given(decided_and_targets())
def test_classes_agree_with_scikit_learn(case):
    decided, targets = case
    counts = decisions.count(decided, targets)
    expected = precision_recall_fscore_support(targets, decided, average=None, zero_division=np.nan)
    for found, wanted in zip((counts.precision, counts.recall, counts.f1), expected, strict=False):
        assert found == pytest.approx(wanted, nan_ok=True)
    assert counts.positives.tolist() == expected[3].tolist()


@given(decided_and_targets())
def test_averages_agree_with_scikit_learn(case):
    decided, targets = case
    found = decisions.average(decisions.count(decided, targets))
    present = np.flatnonzero(targets.any(axis=0))

    def theirs(average, **arguments):
        return precision_recall_fscore_support(
            targets, decided, average=average, zero_division=np.nan, **arguments
        )[:3]

    pooled = found.overall_precision, found.overall_recall, found.overall_f1
    assert pooled == pytest.approx(theirs("micro"), nan_ok=True)
    means = found.class_precision, found.class_recall
    assert means == pytest.approx(theirs("macro")[:2], nan_ok=True)
    if len(present):
        assert found.macro_f1 == pytest.approx(theirs("macro", labels=present)[2])
    else:
        assert np.isnan(found.macro_f1)


@given(decided_and_targets())
def test_cells_and_images_agree_with_scikit_learn(case):
    decided, targets = case
    expected = hamming_loss(targets, decided)
    assert decisions.hamming_distance(decided, targets) == pytest.approx(expected)
    expected = accuracy_score(targets, decided)
    assert decisions.subset_accuracy(decided, targets) == pytest.approx(expected)


def test_cells_and_images_are_those_of_the_reference(refdata):
    data = refdata.load_npz("loss_metric", "metric.npz")
    cases = refdata.load_json("loss_metric", "metric.json")
    for case, expected in cases.items():
        # The reference wants more than 0.5, in float32: the next number above.
        scores = 1 / (1 + np.exp(-data[f"{case}_logits"].astype(np.float32)))
        targets = data[f"{case}_targets"]
        above = np.nextafter(np.float32(0.5), np.float32(1))
        decided = decisions.decide(scores, np.full(targets.shape[1], above))
        found = decisions.hamming_distance(decided, targets)
        assert found == pytest.approx(expected["HammingDistance"], abs=1e-6), case
        assert 1 - found == pytest.approx(expected["AccuracyScore_label"], abs=1e-6), case
        found = decisions.subset_accuracy(decided, targets)
        assert found == pytest.approx(expected["AccuracyScore_sample"], abs=1e-6), case
    assert len(cases) >= 8


def test_nothing_decided_leaves_precision_undefined_and_recall_0():
    found = decisions.average(decisions.count(np.zeros((4, 3), bool), TARGETS))
    assert np.isnan([found.class_precision, found.class_f1, found.overall_precision]).all()
    assert (found.class_recall, found.overall_recall) == (0.0, 0.0)
    # 2 TP / (2 TP + FP + FN) needs no precision: three labels are missed.
    assert (found.overall_f1, found.macro_f1) == (0.0, 0.0)


def test_without_any_positive_recall_is_undefined_and_precision_0():
    found = decisions.average(decisions.count(np.ones((2, 2), bool), np.zeros((2, 2))))
    assert (found.class_precision, found.overall_precision, found.overall_f1) == (0.0, 0.0, 0.0)
    undefined = [found.class_recall, found.class_f1, found.overall_recall, found.macro_f1]
    assert np.isnan(undefined).all()


def test_precision_and_recall_of_0_have_a_harmonic_mean_of_0():
    found = decisions.average(decisions.count(np.array([[True, False]]), np.array([[0, 1]])))
    assert (found.class_precision, found.class_recall, found.class_f1) == (0.0, 0.0, 0.0)


def test_one_image_of_one_class_that_is_right():
    decided, targets = np.array([[True]]), np.array([[1]])
    found = decisions.average(decisions.count(decided, targets))
    assert found == decisions.Averages(*[1.0] * 7)
    assert decisions.hamming_distance(decided, targets) == 0.0
    assert decisions.subset_accuracy(decided, targets) == 1.0


def test_without_images_everything_is_undefined():
    nothing = np.empty((0, 2), bool)
    found = decisions.average(decisions.count(nothing, nothing))
    assert np.isnan(list(vars(found).values())).all()
    assert np.isnan(decisions.hamming_distance(nothing, nothing))
    assert np.isnan(decisions.subset_accuracy(nothing, nothing))
