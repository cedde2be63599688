# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    coverage_error,
    hamming_loss,
    label_ranking_average_precision_score,
    label_ranking_loss,
    precision_recall_fscore_support,
)

from paddlex_ml.metrics import average_precision, bootstrap, calibration
from paddlex_ml.metrics.measures import summarise


def pooled_error(*scores_and_targets, **options):
    return calibration.calibration_errors(*scores_and_targets, **options)[0]


def class_errors(*scores_and_targets, **options):
    return calibration.calibration_errors(*scores_and_targets, **options)[1]


METRICS = [
    "MultiLabelMAP",
    "MultiLabelMAP_ci95",
    "MultiLabelMAP_11point",
    "constant_predictor",
    "images",
    "CP",
    "CR",
    "CF1",
    "OP",
    "OR",
    "OF1",
    "macro_f1",
    "CP_top3",
    "CR_top3",
    "CF1_top3",
    "OP_top3",
    "OR_top3",
    "OF1_top3",
    "HammingDistance",
    "subset_accuracy",
    "coverage_error",
    "ranking_loss",
    "label_ranking_average_precision",
    "expected_calibration_error",
    "undefined_classes",
    "undefined",
]
COLUMNS = [
    "name",
    "positives",
    "negatives",
    "average_precision",
    "average_precision_ci95",
    "average_precision_11point",
    "threshold",
    "predicted",
    "precision",
    "recall",
    "f1",
    "expected_calibration_error",
]
NAMES = ["cat", "dog", "fish", "bird", "cow"]


def draw(images=200, seed=0):
    rng = np.random.default_rng(seed)
    targets = (rng.random((images, 5)) < 0.3).astype(np.uint8)
    scores = 1 / (1 + np.exp(-2 * rng.standard_normal((images, 5)) - 2 * targets + 1))
    return scores.astype(np.float32), targets


def eleven_points(scores, targets):
    steps = average_precision.descend(scores, targets)
    return np.array([average_precision.area_11point(each) for each in steps])


def numbers(value):
    """All values in it, for their types."""
    if isinstance(value, dict):
        return [number for part in value.values() for number in numbers(part)]
    if isinstance(value, list | tuple):
        return [number for part in value for number in numbers(part)]
    return [value]


def nulls(found):
    """Names of the metrics and columns that are None somewhere."""
    metrics, rows = msgspec.to_builtins([found.metrics, found.per_class])
    columns = {key for row in rows for key, value in row.items() if value is None}
    return {key for key, value in metrics.items() if value is None} | columns


def test_names_and_their_order_are_those_of_the_file():
    scores, targets = draw()
    found = summarise(scores, targets, NAMES, np.full(5, 0.5))
    assert list(msgspec.to_builtins(found.metrics)) == METRICS
    assert [list(msgspec.to_builtins(row)) for row in found.per_class] == [COLUMNS] * 5
    assert [row.name for row in found.per_class] == NAMES


def test_every_metric_agrees_with_scikit_learn():
    scores, targets = draw()
    thresholds = np.linspace(0.3, 0.7, 5)
    found = msgspec.to_builtins(summarise(scores, targets, NAMES, thresholds).metrics)
    decided = scores >= thresholds
    top = np.argsort(np.argsort(-scores, axis=1), axis=1) < 3
    expected = {"images": 200}
    for labels, suffix in ((decided, ""), (top, "_top3")):
        precision, recall, macro, _ = precision_recall_fscore_support(
            targets, labels, average="macro", zero_division=np.nan
        )
        expected |= {f"CP{suffix}": precision, f"CR{suffix}": recall}
        expected[f"CF1{suffix}"] = 2 * precision * recall / (precision + recall)
        expected |= {} if suffix else {"macro_f1": macro}
        pooled = precision_recall_fscore_support(targets, labels, average="micro")[:3]
        expected |= dict(zip((f"OP{suffix}", f"OR{suffix}", f"OF1{suffix}"), pooled, strict=True))
    expected |= {
        "MultiLabelMAP": average_precision_score(targets, scores, average="macro"),
        "constant_predictor": targets.mean(),
        "HammingDistance": hamming_loss(targets, decided),
        "subset_accuracy": accuracy_score(targets, decided),
        "coverage_error": coverage_error(targets, scores),
        "ranking_loss": label_ranking_loss(targets, scores),
        "label_ranking_average_precision": label_ranking_average_precision_score(targets, scores),
    }
    assert len(expected) == len(METRICS) - 5  # interval, 11point, calibration, what is undefined
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    eleven = eleven_points(scores, targets).mean()
    assert found["MultiLabelMAP_11point"] == eleven
    error = pooled_error(scores, targets)
    assert found["expected_calibration_error"] == error
    assert (found["undefined_classes"], found["undefined"]) == ([], {})


def test_every_class_agrees_with_scikit_learn():
    scores, targets = draw()
    thresholds = np.linspace(0.3, 0.7, 5)
    rows = summarise(scores, targets, NAMES, thresholds).per_class
    decided = scores >= thresholds
    found = {key: [getattr(row, key) for row in rows] for key in COLUMNS}
    precision, recall, f1, positives = precision_recall_fscore_support(targets, decided)
    assert found["precision"] == pytest.approx(precision)
    assert found["recall"] == pytest.approx(recall)
    assert found["f1"] == pytest.approx(f1)
    assert found["positives"] == positives.tolist()
    assert found["predicted"] == decided.sum(axis=0).tolist()
    expected = average_precision_score(targets, scores, average=None)
    assert found["average_precision"] == pytest.approx(expected)
    expected = eleven_points(scores, targets)
    assert found["average_precision_11point"] == expected.tolist()
    expected = class_errors(scores, targets)
    assert found["expected_calibration_error"] == expected.tolist()
    assert found["average_precision_ci95"] == [None] * 5


def test_map_is_bit_for_bit_that_of_an_evaluation():
    scores, targets = draw()
    targets[:, 2] = 0
    found = summarise(scores, targets, NAMES, np.full(5, 0.5)).metrics
    assert found.MultiLabelMAP == average_precision.mean_average_precision(scores, targets)
    assert found.constant_predictor == average_precision.constant_predictor_map(targets)


def test_rounds_give_the_intervals_of_the_bootstrap():
    scores, targets = draw()
    found = summarise(scores, targets, NAMES, np.full(5, 0.5), rounds=30, seed=7)
    expected = bootstrap.intervals(scores, targets, rounds=30, seed=7)
    assert found.metrics.MultiLabelMAP_ci95 == expected.map
    rows = [list(row.average_precision_ci95 or ()) for row in found.per_class]
    assert rows == expected.per_class.tolist()
    assert nulls(found) == set()


def test_without_rounds_intervals_are_none_and_not_called_undefined():
    scores, targets = draw()
    found = summarise(scores, targets, NAMES, np.full(5, 0.5))
    assert nulls(found) == {"MultiLabelMAP_ci95", "average_precision_ci95"}
    assert found.metrics.undefined == {}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_threshold_reads_as_it_was_written(dtype):
    scores, targets = draw()
    rows = summarise(scores, targets, NAMES, np.full(5, 0.7, dtype)).per_class
    assert [row.threshold for row in rows] == [0.7] * 5


def test_what_is_undefined_is_named_with_its_classes():
    scores, targets = draw()
    targets[:, 1] = 0
    targets[:, 4] = 0
    found = summarise(scores, targets, NAMES, np.array([0.5, 0.5, 0.5, 1, 1]), rounds=10)
    assert found.metrics.undefined_classes == ["dog", "cow"]
    assert found.metrics.undefined == {
        "average_precision": "no image has dog, cow (left out of MultiLabelMAP)",
        "average_precision_ci95": "most rounds draw no image that has dog, cow",
        "average_precision_11point": "no image has dog, cow (left out of its mean)",
        "precision": "no score reaches the threshold of bird, cow (left out of CP)",
        "recall": "no image has dog, cow (left out of CR)",
        "f1": "no image has or gets cow",
    }
    assert nulls(found) == set(found.metrics.undefined)


def test_a_class_that_is_never_among_the_top_three_is_named():
    scores, targets = draw()
    scores[:, 0] = 0
    undefined = summarise(scores, targets, NAMES, np.zeros(5)).metrics.undefined
    reason = "no image has cat among its highest 3 (left out of CP_top3)"
    assert undefined == {"precision_top3": reason}


def test_of_many_classes_ten_are_named():
    scores = np.random.default_rng(0).random((4, 14)).astype(np.float32)
    targets = np.zeros((4, 14), np.uint8)
    targets[0, 0] = 1
    names = [f"c{i}" for i in range(14)]
    found = summarise(scores, targets, names, np.zeros(14)).metrics
    listed = "c1, c2, c3, c4, c5, c6, c7, c8, c9, c10 and 3 more"
    assert found.undefined["recall"] == f"no image has {listed} (left out of CR)"
    assert found.undefined_classes == names[1:]


DEGENERATE = {
    "no positives": (0.5, 0, {"OP": 0.0, "CP": 0.0, "HammingDistance": 1.0}),
    "no positives, none predicted": (0.25, 0, {"HammingDistance": 0.0, "subset_accuracy": 1.0}),
    "all positives": (1.0, 1, {"MultiLabelMAP": 1.0, "CF1": 1.0, "expected_calibration_error": 0}),
    "all positives, none predicted": (0.0, 1, {"OR": 0.0, "OF1": 0.0, "MultiLabelMAP": 1.0}),
    "at the threshold": (0.5, 1, {"OR": 1.0, "subset_accuracy": 1.0}),
}


@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("images", [0, 1, 6])
@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("rounds", [0, 5])
def test_degenerate_input_gives_plain_numbers_and_names_every_none(case, images, classes, rounds):
    score, target, expected = DEGENERATE[case]
    scores = np.full((images, classes), score, np.float32)
    targets = np.full((images, classes), target, np.uint8)
    names = [f"c{i}" for i in range(classes)]
    found = summarise(scores, targets, names, np.full(classes, 0.5), rounds=rounds)
    plain = msgspec.to_builtins([found.metrics, found.per_class])
    json.dumps(plain, allow_nan=False)
    kinds = {type(number) for number in numbers(plain)}
    assert kinds <= {float, int, str, type(None)}
    unasked = set() if rounds else {"MultiLabelMAP_ci95", "average_precision_ci95"}
    undefined = found.metrics.undefined
    assert nulls(found) - unasked == set(undefined) - {"precision_top3"}
    assert all(undefined.values())
    if images:
        assert {key: getattr(found.metrics, key) for key in expected} == expected
    else:
        assert undefined["MultiLabelMAP"] == "there are no images"


def test_logits_are_refused():
    with pytest.raises(ValueError, match="apply the sigmoid"):
        summarise(np.array([[3.0]]), np.array([[1]]), ["cat"], np.array([0.5]))
