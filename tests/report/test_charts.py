# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re

import numpy as np
import pytest
from msgspec.structs import replace

from paddlex_ml.metrics.calibration import reliability
from paddlex_ml.metrics.decisions import count, decide
from paddlex_ml.metrics.measures import ClassMeasures, TunedMeasures
from paddlex_ml.report import charts


def draw(images: int = 5000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    targets = (rng.random(images) < 0.2).astype(np.uint8)
    scores = 1 / (1 + np.exp(-(rng.normal(size=images) - 1 + 2 * targets)))
    return scores.astype(np.float32), targets


def row_of(threshold: float, precision: float | None, recall: float | None) -> ClassMeasures:
    return ClassMeasures(
        name="cat", positives=1, average_precision=None, average_precision_ci95=None,
        average_precision_11point=None, threshold=threshold, predicted=1, precision=precision,
        recall=recall, f1=None, expected_calibration_error=None,
    )  # fmt: skip


def row_at(scores: np.ndarray, targets: np.ndarray, threshold: float) -> ClassMeasures:
    found = count(decide(scores[:, None], np.array([threshold])), targets[:, None])
    return row_of(threshold, float(found.precision[0]), float(found.recall[0]))


def test_the_marks_lie_on_the_line_though_it_is_thinned():
    scores, targets = draw()
    at = row_at(scores, targets, 0.37)
    tuned = TunedMeasures(threshold=at.threshold, precision=at.precision, recall=at.recall, f1=None)
    row = replace(row_at(scores, targets, 0.5), tuned=tuned)
    found = charts.draw_curve(scores, targets, row)
    points = re.findall(r"[ML]([\d.]+) ([\d.]+)", found.line)
    assert 30 < len(points) <= 60
    for mark in found.marks.values():
        assert (mark.x, mark.y) in points
    assert float(found.share) == pytest.approx(charts.SMALL.y(targets.mean()), abs=0.05)


def test_a_threshold_that_nothing_reaches_has_no_mark():
    scores, targets = draw(50)
    row = row_of(1.0, None, 0.0)
    assert charts.draw_curve(scores, targets, row).marks == {"now": None, "tuned": None}


def test_bars_stand_up_and_down_from_the_middle_by_roots_of_shares():
    positives, negatives = np.array([0, 1, 3]), np.array([9, 0, 0])
    found = charts.draw_histogram(positives, negatives, row_of(0.5, None, None))
    heights = [float(h) for h in re.findall(r"v(-?[\d.]+)", found.positives)]
    assert heights == pytest.approx([-30, -60 * np.sqrt(0.75)], abs=0.05)
    assert re.findall(r"v(-?[\d.]+)", found.negatives) == ["60"]
    assert (found.now, found.tuned) == ("92", None)


def test_no_bar_is_drawn_of_nothing():
    found = charts.draw_histogram(np.zeros(20), np.zeros(20), row_of(0.5, None, None))
    assert found.positives == found.negatives == ""


def test_the_calibration_line_has_a_point_for_each_filled_bin():
    scores = np.array([[0.05], [0.05], [0.95], [0.95]])
    found = charts.draw_reliability(reliability(scores, np.array([[0], [0], [1], [0]]), bins=10))
    assert [(b.low, b.high, b.count, b.share) for b in found.bins] == [
        ("0.00", "0.10", 2, "0.000"),
        ("0.90", "1.00", 2, "0.500"),
    ]
    left, bottom = charts.LARGE.x(0.05), charts.LARGE.y(0)
    assert found.line.startswith(f"M{left:g} {bottom:g}L")


def test_the_share_and_the_line_are_those_of_the_known_images():
    scores, targets = draw(2000)
    partly = targets.astype(np.int8)
    partly[::3] = -1
    row, known = row_at(scores, partly, 0.5), partly >= 0
    found = charts.draw_curve(scores, partly, row)
    assert found == charts.draw_curve(scores[known], partly[known], row)
    assert found.share != charts.draw_curve(scores, targets * (targets == partly), row).share
