# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Literal

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, recall_score

from paddlex_ml.metrics import decisions
from paddlex_ml.metrics.decisions import decide
from paddlex_ml.metrics.threshold_search import Goal, decide_held_out, tune

F1 = Goal("f1", min_positives=1, shrinkage=0)


def column(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def draw(images: int = 400, classes: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a fair model, most of them low, and targets of rare to frequent classes."""
    random = np.random.default_rng(seed)
    targets = random.random((images, classes)) < np.linspace(0.03, 0.5, classes)
    logits = random.standard_normal((images, classes)) + 2 * targets - 2.5
    return (1 / (1 + np.exp(-logits))).astype(np.float32), targets.astype(np.uint8)


def test_scores_next_to_one_keep_thresholds_below_one() -> None:
    random = np.random.default_rng(0)
    targets = (random.random((400, 3)) < 0.3).astype(np.uint8)
    logits = random.standard_normal((400, 3)) * 0.6 + 9.2 + 2.4 * targets  # from 0.999 up
    scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
    tuned = tune(scores, targets, Goal("f1"))
    assert 0.9999 < tuned.shared < 1
    assert (tuned.thresholds < 1).all()
    assert decisions.count(decisions.decide(scores, tuned.thresholds), targets).f1.min() > 0.9


def test_the_best_f1_by_hand() -> None:
    scores = column(0.9, 0.8, 0.7, 0.4, 0.2)
    targets = np.array([1, 0, 1, 0, 0])[:, None]
    # From 0.9: 2*1/(1+2) = 0.67; from 0.8: 2*1/(2+2) = 0.5; from 0.7: 2*2/(3+2) = 0.8, the best;
    # from 0.4: 2*2/(4+2) = 0.67. Halfway to 0.4 lies 0.55.
    tuned = tune(scores, targets, F1, in_use=0.75)
    assert tuned.thresholds.tolist() == [0.55]
    assert not tuned.is_shared[0]
    assert tune(scores, targets, F1, in_use=0.5).thresholds.tolist() == [0.5]  # the same F1


@pytest.mark.parametrize(
    ("target", "threshold", "unreached"),
    # Precision down the ranks: 1, 1/2, 2/3, 2/4, 3/5.
    [(0.9, 0.85, False), (0.6, 0.1, False), (0.62, 0.5, False), (0.4, 0.1, False)],
)
def test_a_precision_is_reached_with_as_many_hits_as_it_allows(
    target: float, threshold: float, unreached: bool
) -> None:
    scores = column(0.9, 0.8, 0.6, 0.4, 0.2)
    targets = np.array([1, 0, 1, 0, 1])[:, None]
    tuned = tune(scores, targets, Goal("precision", target, 1))
    assert tuned.thresholds.tolist() == [threshold]
    assert tuned.is_unreached.tolist() == [unreached]


def test_a_precision_that_cannot_be_had_is_told_and_neared() -> None:
    scores = column(0.9, 0.8, 0.6, 0.4)
    targets = np.array([0, 1, 1, 0])[:, None]
    tuned = tune(scores, targets, Goal("precision", 0.95, 1))
    assert tuned.is_unreached.tolist() == [True]
    assert tuned.thresholds.tolist() == [0.5]  # the best there is: two of three


@pytest.mark.parametrize(("target", "threshold"), [(0.3, 0.85), (0.5, 0.5), (0.7, 0.1), (1, 0.1)])
def test_a_recall_is_reached_with_as_few_predictions_as_it_allows(
    target: float, threshold: float
) -> None:
    scores = column(0.9, 0.8, 0.6, 0.4, 0.2)
    targets = np.array([1, 0, 1, 0, 1])[:, None]
    tuned = tune(scores, targets, Goal("recall", target, 1))
    assert tuned.thresholds.tolist() == [threshold]
    assert tuned.is_unreached.tolist() == [False]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), digits=st.sampled_from([1, 2, 6]))
def test_no_threshold_is_better_than_the_tuned_one(seed: int, digits: int) -> None:
    scores, targets = draw(60, 4, seed)
    scores = np.round(scores, digits).astype(np.float32)
    tuned = tune(scores, targets, F1)
    decided = decide(scores, tuned.thresholds)
    for score, present, chosen in zip(scores.T, targets.T == 1, decided.T, strict=True):
        every = score >= score[:, None]  # by each score as the threshold, [N, N]
        best = (2 * (every & present).sum(axis=1) / (every.sum(axis=1) + present.sum())).max()
        if present.any():
            assert f1_score(present, chosen) == pytest.approx(best, abs=1e-12)


@st.composite
def tiny_lists(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores [N, C], targets [N, C] and thresholds in use [C] of 2, 5 or 10 images."""
    images, classes = draw(st.sampled_from([2, 5, 10])), draw(st.integers(1, 4))
    few = st.sampled_from([0.0, 1e-7, 0.12345, 0.123456, 0.3, 0.5, 0.99999, 1.0])
    anything = st.floats(0, 1, width=32)
    shape = (images, classes)
    scores = draw(arrays.arrays(np.float32, shape, elements=few | anything))
    targets = draw(arrays.arrays(np.uint8, shape, elements=st.integers(0, 1)))
    return scores, targets, draw(arrays.arrays(np.float32, classes, elements=few | anything))


@settings(max_examples=300, deadline=None)
@given(
    case=tiny_lists(),
    goal=st.builds(
        Goal,
        method=st.sampled_from(["f1", "precision", "recall"]),
        target=st.sampled_from([0.4, 0.7, 1.0]),
        min_positives=st.sampled_from([0, 1, 3, 10]),
        shrinkage=st.sampled_from([0, 50]),
    ),
)
def test_no_class_is_worse_than_with_the_threshold_in_use(
    case: tuple[np.ndarray, np.ndarray, np.ndarray], goal: Goal
) -> None:
    scores, targets, in_use = case
    tuned = tune(scores, targets, goal, in_use)
    before, after = (
        decisions.count(decide(scores, each), targets) for each in (in_use, tuned.thresholds)
    )
    changed = tuned.thresholds.astype(np.float32) != in_use
    assert (tuned.thresholds[changed] >= 0).all()
    assert (tuned.thresholds[changed] <= 1).all()
    if goal.method == "f1":  # nothing to find and nothing found is as good as can be
        old, new = (np.nan_to_num(counts.f1, nan=1.0) for counts in (before, after))
        assert (new >= old).all()
        assert (new > old)[changed].all()
        means = [decisions.average(counts).macro_f1 for counts in (before, after)]
        assert np.isnan(means).all() or means[1] >= means[0]
    else:
        assert goal.target is not None
        old, new = (np.nan_to_num(getattr(counts, goal.method)) for counts in (before, after))
        kept = (targets.sum(axis=0) > 0) & (old >= goal.target - 1e-9)
        assert (new >= goal.target - 1e-9)[kept].all()


@settings(max_examples=100, deadline=None)
@given(case=tiny_lists())
def test_a_new_threshold_lies_between_two_scores(
    case: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    scores, targets, _ = case
    tuned = tune(scores, targets, F1, np.ones(scores.shape[1]))
    for score, threshold in zip(scores.T, tuned.thresholds.astype(np.float32), strict=True):
        if threshold == 1:  # it was in use
            continue
        reached = score[score >= threshold].min(initial=1.0)
        missed = score[score < threshold].max(initial=0.0)
        is_adjacent = np.nextafter(missed, np.float32(1)) >= reached
        assert missed < threshold < reached or is_adjacent or reached == missed == 0


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    method=st.sampled_from(["precision", "recall"]),
    target=st.floats(0.05, 1),
)
def test_the_wanted_value_is_reached_unless_told_otherwise(
    seed: int, method: Literal["precision", "recall"], target: float
) -> None:
    scores, targets = draw(60, 4, seed)
    tuned = tune(scores, targets, Goal(method, target, 1))
    decided = decide(scores, tuned.thresholds)
    measure = precision_score if method == "precision" else recall_score
    for i in np.flatnonzero(targets.any(axis=0)):
        value = measure(targets[:, i], decided[:, i], zero_division=0)
        assert tuned.is_unreached[i] == (value < target - 1e-9)


def test_a_threshold_decides_as_predictions_do_however_close_two_scores_are() -> None:
    low = np.float32(0.3)
    high = np.nextafter(low, np.float32(1))
    scores = np.array([[high], [low]], np.float32)
    tuned = tune(scores, np.array([[1], [0]]), F1)
    assert decide(scores, tuned.thresholds).tolist() == [[True], [False]]


def test_rare_classes_take_the_threshold_that_all_share() -> None:
    scores, targets = draw()
    targets[:, 0] = 0
    targets[:9, 0] = 1
    tuned = tune(scores, targets, Goal("f1", min_positives=10, shrinkage=0), in_use=0.99)
    assert tuned.is_shared.tolist() == [True] + [False] * 5
    assert tuned.thresholds[0] == tuned.shared
    own = tune(scores, targets, Goal("f1", min_positives=9, shrinkage=0), in_use=0.99)
    assert not own.is_shared.any()
    assert own.thresholds[1:].tolist() == tuned.thresholds[1:].tolist()


def test_a_threshold_is_pulled_to_the_shared_one_by_what_the_class_lacks_in_images() -> None:
    scores, targets = draw()
    none = 0.99  # a threshold in use that gives no label: every other one is better
    own, shared = tune(scores, targets, F1, none).thresholds, tune(scores, targets, F1).shared
    tuned = tune(scores, targets, Goal("f1", min_positives=1, shrinkage=50), none).thresholds
    positives = targets.sum(axis=0)

    def log_odds(score: np.ndarray | float) -> np.ndarray:
        return np.asarray(np.log(score / (1 - np.asarray(score))))

    weight = positives / (positives + 50)
    odds = weight * log_odds(own) + (1 - weight) * log_odds(shared)
    # In the same space between two scores, and well inside it.
    wanted = 1 / (1 + np.exp(-odds))
    assert (decide(scores, tuned) == decide(scores, wanted)).all()
    assert tuned == pytest.approx(wanted, abs=0.01)


@pytest.mark.parametrize("method", ["precision", "recall"])
def test_a_wanted_precision_or_recall_is_not_pulled(method: Literal["precision", "recall"]) -> None:
    scores, targets = draw()
    pulled, own = (
        tune(scores, targets, Goal(method, 0.8, 1, pull)).thresholds.tolist() for pull in (50, 0)
    )
    assert pulled == own


def test_the_shared_threshold_has_the_best_macro_f1() -> None:
    scores, targets = draw()
    shared = tune(scores, targets, F1).shared

    def macro(threshold: float) -> float:
        return float(f1_score(targets, scores >= np.float32(threshold), average="macro"))

    assert macro(shared) >= max(macro(level) for level in np.linspace(0.01, 0.99, 99)) - 1e-3
    assert macro(shared) > macro(0.5) + 0.05


@pytest.mark.parametrize(
    ("method", "pooled"), [("precision", precision_score), ("recall", recall_score)]
)
def test_the_shared_threshold_reaches_the_target_over_all_classes(
    method: Literal["precision", "recall"], pooled: object
) -> None:
    scores, targets = draw(4000)
    shared = tune(scores, targets, Goal(method, 0.8, 10**6)).shared
    value = pooled(targets.ravel(), scores.ravel() >= np.float32(shared))  # type: ignore[operator]
    assert 0.8 <= value < 0.81


def test_a_class_without_a_positive_takes_the_shared_one_whatever_the_guard() -> None:
    scores, targets = draw()
    targets[:, 2] = 0
    scores[:, 2] = 0.01  # no false alarm by the shared one, and none by 0.98 either
    tuned = tune(scores, targets, Goal("f1", min_positives=0), in_use=0.0)
    assert tuned.is_shared.tolist() == [False, False, True, False, False, False]
    assert tune(scores, targets, Goal("f1", min_positives=0), 0.98).thresholds[2] == 0.98


def test_without_any_positive_the_usual_half_remains() -> None:
    scores, _ = draw()
    tuned = tune(scores, np.zeros(scores.shape, np.uint8), F1)
    assert tuned.thresholds.tolist() == [0.5] * 6


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_scores_at_the_ends_give_thresholds_that_are_allowed(score: float) -> None:
    scores = np.full((3, 1), score, np.float32)
    tuned = tune(scores, np.ones((3, 1), np.uint8), F1)
    assert 0 <= tuned.thresholds[0] <= 1
    assert decide(scores, tuned.thresholds).all()


def test_held_out_decisions_never_saw_the_labels_of_their_image() -> None:
    scores, targets = draw()
    decided = decide_held_out(scores, targets, F1, seed=3)
    for image in range(0, 400, 57):
        turned = targets.copy()
        turned[image] = 1 - turned[image]
        again = decide_held_out(scores, turned, F1, seed=3)
        assert again[image].tolist() == decided[image].tolist()


def test_held_out_f1_is_near_what_new_images_give() -> None:
    scores, targets = draw(300, 8, seed=1)
    fresh, truth = draw(20_000, 8, seed=2)
    expected = f1_score(truth, decide(fresh, tune(scores, targets, F1).thresholds), average="macro")
    held_out = f1_score(targets, decide_held_out(scores, targets, F1, seed=0), average="macro")
    in_sample = f1_score(
        targets, decide(scores, tune(scores, targets, F1).thresholds), average="macro"
    )
    assert in_sample > expected + 0.02  # the reason why held-out figures are given
    assert held_out == pytest.approx(expected, abs=0.05)
