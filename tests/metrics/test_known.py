# SPDX-License-Identifier: Apache-2.0
"""Unknown labels: every measure is that of the known cells, and equal to the references on them."""

from __future__ import annotations

import dataclasses
from typing import Any

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    coverage_error,
    f1_score,
    hamming_loss,
    label_ranking_average_precision_score,
    label_ranking_loss,
    precision_score,
    recall_score,
)

from paddlex_ml.metrics import (
    average_precision,
    bootstrap,
    calibration,
    curves,
    decisions,
    label_noise,
    label_quality,
    out_of_fold,
    ranking,
    threshold_search,
)
from paddlex_ml.metrics.known import (
    UNKNOWN,
    has_unknown,
    is_absent,
    is_known,
    is_present,
)
from paddlex_ml.metrics.label_quality import find_suspects
from paddlex_ml.metrics.measures import Summary, summarise
from paddlex_ml.metrics.threshold_search import Goal

EXACT = 1e-9
GOALS = (Goal("f1", min_positives=1), Goal("precision", 0.8, 1), Goal("recall", 0.8, 1))


@st.composite
def partly_known(draw: st.DrawFn, most: int = 25) -> tuple[np.ndarray, np.ndarray]:
    """Scores in 0..1, many of them equal, and targets with unknown cells."""
    shape = draw(st.tuples(st.integers(1, most), st.integers(1, 5)))
    few = st.sampled_from([0, 0.25, 0.5, 1])
    scores = draw(arrays.arrays(np.float32, shape, elements=few | st.floats(0, 1, width=32)))
    targets = draw(arrays.arrays(np.int8, shape, elements=st.sampled_from([0, 1, UNKNOWN])))
    return scores, targets.astype(draw(st.sampled_from([np.int8, np.float32])))


def draw_many(
    images: int = 300, classes: int = 4, unknown: float = 0.4, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of a fair model, and targets: one in twenty is wrong, and a share is unknown."""
    rng = np.random.default_rng(seed)
    truth = rng.random((images, classes)) < np.linspace(0.1, 0.5, classes)
    odds = rng.standard_normal(truth.shape) + 4 * truth - 2
    targets = (truth ^ (rng.random(truth.shape) < 0.05)).astype(np.int8)
    targets[rng.random(truth.shape) < unknown] = UNKNOWN
    return (1 / (1 + np.exp(-odds))).astype(np.float32), targets


def names(targets: np.ndarray) -> list[str]:
    return [f"class {i}" for i in range(targets.shape[1])]


def measure(scores: np.ndarray, targets: np.ndarray, rounds: int = 0) -> Summary:
    return summarise(scores, targets, names(targets), np.full(targets.shape[1], 0.5), rounds=rounds)


def test_the_value_of_a_cell_is_one_of_three() -> None:
    for dtype in (np.int8, np.float32):
        targets = np.array([[1, 0, UNKNOWN]], dtype)
        assert is_present(targets).tolist() == [[True, False, False]]
        assert is_absent(targets).tolist() == [[False, True, False]]
        assert is_known(targets).tolist() == [[True, True, False]]
        assert has_unknown(targets)
        assert not has_unknown(targets[:, :2])
    assert not has_unknown(np.zeros((0, 3), np.int8))


def plain(value: Any) -> Any:
    """Numbers and arrays without the types that hold them: numpy compares these, NaN too."""
    if dataclasses.is_dataclass(value):
        return plain(vars(value))
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def everything(scores: np.ndarray, targets: np.ndarray) -> Any:
    """The answers of all measures, but what they say of unknown cells themselves."""
    known, classes = is_known(targets), targets.shape[1]
    others = np.where(known, 1 - scores, scores)
    decided = scores >= 0.5
    tuned = [threshold_search.tune(scores, targets, goal) for goal in GOALS]
    held_out = [threshold_search.decide_held_out(scores, targets, g, seed=0) for g in GOALS]
    learned = label_quality.find_learned(scores, targets)
    noise = label_noise.estimate(scores, targets, learned)
    quality = label_quality.label_quality(scores, targets)
    assert np.isnan(quality[~known]).all()
    assert not noise.probability[~known].any()
    assert not label_quality.find_doubtful(scores, targets)[~known].any()
    summary = measure(scores, targets, 20)
    answers = [
        msgspec.to_builtins([summary.metrics, summary.per_class]),
        average_precision.constant_predictor_map(targets),
        bootstrap.difference(scores, others, targets, rounds=20, seed=0),
        calibration.reliability(scores, targets),
        [curves.precision_recall(scores[:, i], targets[:, i]) for i in range(classes)],
        curves.histograms(scores, targets),
        curves.joint_errors(decided, targets),
        decisions.hamming_distance(decided, targets),
        ranking.rank(scores, targets),
        tuned,
        [cells[known] for cells in held_out],
        find_suspects(scores, targets),
        (learned, quality, noise, label_quality.calibrate(scores, targets)),
    ]
    return plain(answers)


@settings(max_examples=60, deadline=None)
@given(partly_known(), st.data())
def test_the_scores_of_unknown_cells_change_nothing(
    case: tuple[np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    scores, targets = case
    other = data.draw(arrays.arrays(np.float32, scores.shape, elements=st.floats(0, 1, width=32)))
    changed = np.where(is_known(targets), scores, other)
    np.testing.assert_equal(everything(changed, targets), everything(scores, targets))


def test_the_scores_of_many_unknown_cells_change_nothing() -> None:
    scores, targets = draw_many()
    changed = np.where(is_known(targets), scores, 1 - scores)
    assert find_suspects(scores, targets)
    np.testing.assert_equal(everything(changed, targets), everything(scores, targets))


@given(partly_known())
def test_measures_of_a_class_agree_with_scikit_learn_on_its_known_images(
    case: tuple[np.ndarray, np.ndarray],
) -> None:
    scores, targets = case
    found = measure(scores, targets).per_class
    areas = average_precision.average_precision(scores, targets)
    for i, row in enumerate(found):
        known = is_known(targets[:, i])
        score, target = scores[known, i], targets[known, i] > 0
        decided = score >= 0.5
        assert (row.positives, row.negatives) == (target.sum(), (~target).sum())
        assert row.predicted == decided.sum()
        if not target.any():
            assert row.average_precision is None
            assert np.isnan(areas[i])
            continue
        area = average_precision_score(target, score)
        assert areas[i] == pytest.approx(area, abs=EXACT)
        assert row.recall == pytest.approx(recall_score(target, decided), abs=EXACT)
        assert row.f1 == pytest.approx(f1_score(target, decided), abs=EXACT)
        if decided.any():
            assert row.precision == pytest.approx(precision_score(target, decided), abs=EXACT)
        curve = curves.precision_recall(scores[:, i], targets[:, i])
        steps = np.diff(curve.recall, prepend=0) * curve.precision
        assert steps.sum() == pytest.approx(area, abs=EXACT)


@given(partly_known())
def test_wrong_cells_and_right_images_are_those_that_are_known(
    case: tuple[np.ndarray, np.ndarray],
) -> None:
    scores, targets = case
    decided, known = scores >= 0.5, is_known(targets)
    distance = decisions.hamming_distance(decided, targets)
    exact = decisions.subset_accuracy(decided, targets)
    if not known.any():
        assert np.isnan(distance)
        assert np.isnan(exact)
        return
    assert distance == pytest.approx(hamming_loss(targets[known] > 0, decided[known]), abs=EXACT)
    right = [
        accuracy_score((targets[k] > 0)[None, known[k]], decided[None, k, known[k]])
        if known[k].sum() > 1
        else float((decided[k] == (targets[k] > 0))[known[k]].all())
        for k in np.flatnonzero(known.any(axis=1))
    ]
    assert exact == pytest.approx(np.mean(right), abs=EXACT)


@given(partly_known())
def test_the_order_of_an_image_agrees_with_scikit_learn_on_its_known_labels(
    case: tuple[np.ndarray, np.ndarray],
) -> None:
    scores, targets = case
    found = ranking.rank(scores, targets)
    rows = []
    for score, target in zip(scores, targets, strict=True):
        known = is_known(target)
        truth, part = (target[known] > 0)[None], score[known][None].astype(np.float64)
        if known.sum() > 1:
            measures = coverage_error, label_ranking_loss, label_ranking_average_precision_score
            rows.append([each(truth, part) for each in measures])
        elif known.any():  # a single label is no ranking to scikit-learn
            rows.append([float(truth.sum()), 0.0, 1.0])
    expected = np.mean(rows, axis=0) if rows else np.full(3, np.nan)
    if not is_present(targets).any():
        expected[[0, 2]] = np.nan
    if not (is_present(targets).any(axis=1) & is_absent(targets).any(axis=1)).any():
        expected[1] = np.nan
    values = [found.coverage_error, found.ranking_loss, found.average_precision]
    np.testing.assert_allclose(values, expected, rtol=0, atol=EXACT)


def test_three_labels_are_the_highest_of_those_that_are_known() -> None:
    scores = np.array([[0.9, 0.8, 0.7, 0.6, 0.5]], np.float32)
    targets = np.array([[UNKNOWN, 1, 0, UNKNOWN, 1]], np.int8)
    found = measure(scores, targets).metrics
    assert (found.OP_top3, found.OR_top3) == (pytest.approx(2 / 3), 1.0)
    found = measure(scores, np.array([[UNKNOWN, 1, UNKNOWN, UNKNOWN, 0]], np.int8)).metrics
    assert (found.OP_top3, found.OR_top3) == (0.5, 1.0)


@given(partly_known())
def test_calibration_is_that_of_the_known_cells(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, targets = case
    pooled, errors = calibration.calibration_errors(scores, targets)
    known = is_known(targets)
    cells = scores[known][:, None], targets[known][:, None]
    alone = calibration.calibration_errors(*cells)[0]
    np.testing.assert_allclose(pooled, alone, rtol=0, atol=EXACT)
    for name, values in vars(calibration.reliability(*cells)).items():
        found = getattr(calibration.reliability(scores, targets), name)
        np.testing.assert_allclose(found, values, rtol=0, atol=EXACT)
    for i in range(targets.shape[1]):
        rows = known[:, i]
        alone = calibration.calibration_errors(scores[rows, i : i + 1], targets[rows, i : i + 1])[0]
        np.testing.assert_allclose(errors[i], alone, rtol=0, atol=EXACT)


@given(partly_known(), st.sampled_from([0.0, 2e-5]))
def test_rounds_of_the_bootstrap_are_those_of_the_known_images(
    case: tuple[np.ndarray, np.ndarray], noise: float
) -> None:
    scores, targets = case
    weights = bootstrap.draw_weights(len(scores), rounds=7, seed=3)
    found = bootstrap.resample(scores, targets, weights, noise=noise)
    for i in range(targets.shape[1]):
        rows = is_known(targets[:, i])
        cells = scores[rows, i : i + 1], targets[rows, i : i + 1]
        alone = bootstrap.resample(*cells, weights[:, rows], noise=noise)
        np.testing.assert_array_equal(found[:, i : i + 1], alone)


@given(partly_known(), st.sampled_from(GOALS))
def test_a_threshold_is_tuned_on_the_known_images(
    case: tuple[np.ndarray, np.ndarray], goal: Goal
) -> None:
    scores, targets = case[0][:, :1], case[1][:, :1]
    rows = is_known(targets[:, 0])
    found = threshold_search.tune(scores, targets, goal)
    if not rows.any():
        assert (found.thresholds.tolist(), found.shared) == ([0.5], 0.5)
        return
    alone = threshold_search.tune(scores[rows], targets[rows], goal)
    np.testing.assert_equal(vars(found), vars(alone))


@pytest.mark.parametrize("goal", GOALS)
def test_each_of_several_classes_is_tuned_on_its_own_known_images(goal: Goal) -> None:
    scores, targets = draw_many()
    goal = Goal(goal.method, goal.target, min_positives=1, shrinkage=0)  # the shared one is unused
    found = threshold_search.tune(scores, targets, goal)
    assert (found.thresholds != 0.5).sum() > 2
    for i in range(targets.shape[1]):
        rows = is_known(targets[:, i])
        alone = threshold_search.tune(scores[rows, i : i + 1], targets[rows, i : i + 1], goal)
        assert found.thresholds[i] == alone.thresholds[0]
        assert found.is_unreached[i] == alone.is_unreached[0]


def test_the_shared_threshold_counts_the_known_cells_alone() -> None:
    scores, targets = draw_many(classes=2)
    known = is_known(targets)
    targets[:, 1] = UNKNOWN  # the other class cannot move it
    found = threshold_search.tune(scores, targets, GOALS[0]).shared
    part = scores[known[:, 0], :1], targets[known[:, 0], :1]
    assert found == threshold_search.tune(*part, GOALS[0]).shared != 0.5


@pytest.mark.parametrize("images", [30, 300, 2000])
def test_doubtful_labels_of_one_class_are_those_of_its_known_images(images: int) -> None:
    scores, targets = draw_many(images, classes=1)
    rows = is_known(targets[:, 0])
    found = label_quality.review(scores, targets)
    alone = label_quality.review(scores[rows], targets[rows])
    assert found.is_able == alone.is_able
    numbers = np.flatnonzero(rows)
    pairs = [
        [(int(image), s.given, s.score) for s, image in zip(part.suspects, at, strict=True)]
        for part, at in (
            (found, [s.image for s in found.suspects]),
            (alone, numbers[[s.image for s in alone.suspects]]),
        )
    ]
    assert pairs[0] == pairs[1]
    assert images < 300 or pairs[0]
    for name in ("quality", "probability"):
        values = [[getattr(s, name) for s in part.suspects] for part in (found, alone)]
        assert values[0] == pytest.approx(values[1], abs=EXACT)


def test_an_unknown_cell_is_no_doubtful_label_and_known_ones_stay_found() -> None:
    scores, targets = draw_many(4000, unknown=0)
    every = {(s.image, s.class_id) for s in find_suspects(scores, targets)}
    hidden = targets.copy()
    hidden[np.random.default_rng(1).random(targets.shape) < 0.5] = UNKNOWN
    found = {(s.image, s.class_id) for s in find_suspects(scores, hidden)}
    known = is_known(hidden)
    assert all(known[cell] for cell in found)
    still = {cell for cell in every if known[cell]}
    assert len(found & still) > 0.9 * len(still) > 50


def test_the_noise_of_known_labels_is_found_among_unknown_ones() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((20_000, 4)) < [0.1, 0.2, 0.3, 0.5]
    odds = rng.standard_normal(truth.shape) + 5 * truth - 2
    flips = rng.random(truth.shape) < 0.05
    targets = (truth ^ flips).astype(np.int8)
    scores = (1 / (1 + np.exp(-odds))).astype(np.float32)
    whole = label_noise.estimate(scores, targets, np.ones(4, bool))
    targets[rng.random(truth.shape) < [0.1, 0.5, 0.9, 0.995]] = UNKNOWN  # the last: fewer than bins
    assert is_known(targets).sum(axis=0).min() < 200
    found = label_noise.estimate(scores, targets, np.ones(4, bool))
    assert found.wrong == pytest.approx(whole.wrong, abs=0.005)
    assert found.missing == pytest.approx(whole.missing, abs=0.01)
    assert found.wrong == pytest.approx(0.05, abs=0.01)
    assert found.missing == pytest.approx(0.05, abs=0.02)
    likely = found.probability > 0.5
    assert flips[likely].mean() > 0.9
    assert found.power > 0.8


@pytest.mark.parametrize(("images", "width"), [(300, 12), (40, 60)])
def test_scores_out_of_fold_are_those_of_the_known_images(images: int, width: int) -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((images, width)).astype(np.float32)
    targets = (features @ rng.standard_normal((width, 4)) > 1).astype(np.int8)
    targets[rng.random(images) < 0.3, :2] = UNKNOWN  # two classes that were labelled together
    targets[rng.random(images) < 0.6, 2] = UNKNOWN
    whole = targets.copy()
    found = out_of_fold.score_out_of_fold(features, targets, seed=5)
    assert np.isnan(found[~is_known(targets)]).all()
    for classes in ([0, 1], [2], [3]):
        rows = is_known(targets[:, classes[0]])
        cells = np.ix_(rows, np.array(classes))
        alone = out_of_fold.score_out_of_fold(features[rows], whole[cells], seed=5)
        np.testing.assert_array_equal(found[cells], alone)
    targets[:, 3] = UNKNOWN
    assert np.isnan(out_of_fold.score_out_of_fold(features, targets, seed=5)[:, 3]).all()
    # Review of them: NaN stands where there is no label to doubt.
    assert all(is_known(targets)[s.image, s.class_id] for s in find_suspects(found, targets))


@given(partly_known())
def test_errors_together_are_counted_where_both_classes_are_known(
    case: tuple[np.ndarray, np.ndarray],
) -> None:
    scores, targets = case
    decided, classes = scores >= 0.5, range(targets.shape[1])
    for joint, kind in zip(curves.joint_errors(decided, targets), (1, 0), strict=True):
        for row in classes:
            for column in classes:
                possible = targets[:, column] == kind
                wrong = possible & (decided[:, column] != kind)
                shown, absent = (targets[:, row] == value for value in (1, 0))
                assert joint.errors[row, column] == (wrong & shown).sum()
                assert joint.chances[row, column] == (possible & shown).sum()
                assert joint.errors_elsewhere[row, column] == (wrong & absent).sum()
                assert joint.chances_elsewhere[row, column] == (possible & absent).sum()


@given(partly_known())
def test_histograms_hold_the_known_scores(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, targets = case
    counts = curves.histograms(scores, targets, 7)
    for i in range(targets.shape[1]):
        for of_kind, kind in zip(counts, (1, 0), strict=True):
            rows = targets[:, i] == kind
            alone = curves.histograms(scores[rows, i : i + 1], targets[rows, i : i + 1], 7)
            assert of_kind[i].tolist() == alone[1 - kind][0].tolist()


def test_a_class_that_nobody_has_looked_for_is_told_from_one_that_no_image_has() -> None:
    scores = np.full((4, 4), 0.3, np.float32)
    scores[:, 3] = 0.9
    targets = np.array([[0, UNKNOWN, 1, 1]] * 2 + [[0, UNKNOWN, 0, UNKNOWN]] * 2, np.int8)
    found = summarise(scores, targets, ["cow", "yak", "dog", "cat"], np.full(4, 0.5), rounds=20)
    undefined = found.metrics.undefined
    both = "no image has cow, and nobody has looked for yak"
    assert undefined["average_precision"] == f"{both} (left out of MultiLabelMAP)"
    assert undefined["recall"] == f"{both} (left out of CR)"
    assert undefined["precision"] == (
        "no score reaches the threshold of cow, dog where it is known, and nobody has looked for "
        "yak (left out of CP)"
    )
    assert undefined["class_calibration_error"] == "nobody has looked for yak"
    assert found.metrics.undefined_classes == ["cow", "yak"]
    rows = [(row.positives, row.negatives, row.average_precision) for row in found.per_class]
    assert rows == [(0, 4, None), (0, 0, None), (2, 2, 0.5), (2, 0, 1.0)]
    assert found.metrics.MultiLabelMAP == 0.75  # cat counts, as it does where all is known


def test_a_list_of_unknown_labels_has_no_measure_and_each_says_why() -> None:
    found = measure(np.full((3, 2), 0.7, np.float32), np.full((3, 2), UNKNOWN, np.int8), 20)
    values = msgspec.to_builtins(found.metrics)
    empty = {name for name, value in values.items() if value is None}
    assert empty == values.keys() - {"images", "undefined", "undefined_classes"}
    assert {values["undefined"][name] for name in empty} == {"nobody has looked for any label"}


def test_a_list_without_unknown_labels_has_the_same_numbers_for_every_kind_of_array() -> None:
    scores, targets = draw_many(unknown=0)
    expected = msgspec.to_builtins([*measure(scores, targets, 20).per_class])
    for dtype in (bool, np.uint8, np.float32):
        again = measure(scores, targets.astype(dtype), 20).per_class
        assert msgspec.to_builtins([*again]) == expected


def test_a_class_without_a_name_is_undefined_too() -> None:
    targets = np.array([[0, UNKNOWN]], np.int8)
    found = summarise(np.full((1, 2), 0.9, np.float32), targets, ["", ""], np.full(2, 0.5))
    assert found.metrics.undefined["recall"] == (
        "no image has , and nobody has looked for  (left out of CR)"
    )
    assert (found.unknown, measure(*draw_many(unknown=0)).unknown) == (1, 0)
