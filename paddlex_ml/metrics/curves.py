# SPDX-License-Identifier: Apache-2.0
"""What lies behind the figures: curves, histograms, and which classes err beside which.

N images, C classes; scores [N, C] in 0..1, targets [N, C] of 0 and 1.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class Curve:
    """Precision and recall of one class at each distinct score, from the highest down: all [K].

    The area under its steps is the average precision. Empty for a class without positives.
    """

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray

    def find(self, threshold: float) -> int | None:
        """Return the point where every score >= threshold is predicted; None: nothing is."""
        predicted = int(np.count_nonzero(self.thresholds >= threshold))
        return predicted - 1 if predicted else None


def precision_recall(scores: np.ndarray, targets: np.ndarray) -> Curve:
    """Return the curve of one class: [N], [N]. Equal scores enter together."""
    present = targets > 0.5
    if not present.any():
        return Curve(np.empty(0), np.empty(0), np.empty(0))
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last_of_ties = np.flatnonzero(np.append(np.diff(ranked) != 0, True))
    found = np.cumsum(present[order])[last_of_ties]
    return Curve(ranked[last_of_ties], found / (last_of_ties + 1), found / found[-1])


def thin(curve: Curve, points: int, keep: Iterable[int] = ()) -> Curve:
    """Return at most `points` points, those of `keep` among them, that draw nearly the same line.

    The point farthest above or below the line through the points taken so far comes next
    (Douglas and Peucker 1973). Nothing is averaged: each point left is one of the curve's own.
    """
    count = len(curve.recall)
    if count <= points:
        return curve
    taken = sorted({0, count - 1, *keep})
    waiting = [_farthest(curve, *ends) for ends in pairwise(taken)]
    heapq.heapify(waiting)
    while len(taken) < points and waiting and waiting[0][0] < 0:
        _, middle, first, last = heapq.heappop(waiting)
        taken.append(middle)
        heapq.heappush(waiting, _farthest(curve, first, middle))
        heapq.heappush(waiting, _farthest(curve, middle, last))
    kept = np.sort(taken)
    return Curve(curve.thresholds[kept], curve.precision[kept], curve.recall[kept])


def _farthest(curve: Curve, first: int, last: int) -> tuple[float, int, int, int]:
    """Return minus the largest distance from the line between two points, its point, and both."""
    recall, precision = (line[first : last + 1] for line in (curve.recall, curve.precision))
    width, height = recall[-1] - recall[0], precision[-1] - precision[0]
    length = np.hypot(width, height)
    if length > 0:
        aside = width * (precision - precision[0]) - height * (recall - recall[0])
        away = np.abs(aside) / length
    else:
        away = np.hypot(recall - recall[0], precision - precision[0])
    middle = int(away.argmax())
    return -float(away[middle]) if 0 < middle < last - first else 0.0, first + middle, first, last


def histograms(
    scores: np.ndarray, targets: np.ndarray, bins: int = 20
) -> tuple[np.ndarray, np.ndarray]:
    """Count the scores of positives and of negatives in equal bins of 0..1: two [C, bins].

    A bin holds its lower edge; the last one holds 1 as well.
    """
    classes = scores.shape[1]
    places = np.clip((scores * bins).astype(np.int64), 0, bins - 1) + bins * np.arange(classes)
    present = targets > 0.5
    positives, negatives = (
        np.bincount(places[chosen], minlength=bins * classes).reshape(classes, bins)
        for chosen in (present, ~present)
    )
    return positives, negatives


@dataclass(frozen=True)
class Beside:
    """Errors of the column's class on images that show the row's class, and on the others.

    All [C, C]. A chance is an image where the error could happen: one that shows the column's
    class for a miss, one that does not for a false alarm.
    """

    errors: np.ndarray
    chances: np.ndarray
    errors_elsewhere: np.ndarray
    chances_elsewhere: np.ndarray

    @property
    def rate(self) -> np.ndarray:
        """Errors per chance on images that show the row's class; NaN without a chance."""
        return _divide(self.errors, self.chances)

    @property
    def rate_elsewhere(self) -> np.ndarray:
        """Errors per chance on the other images; NaN without a chance."""
        return _divide(self.errors_elsewhere, self.chances_elsewhere)

    @property
    def excess(self) -> np.ndarray:
        """Errors beyond those that the rate elsewhere would give; NaN without a chance."""
        excess: np.ndarray = self.errors - self.chances * self.rate_elsewhere
        return excess

    @property
    def deviations(self) -> np.ndarray:
        """How far the two rates lie apart, in standard errors (pooled two-proportion z test)."""
        pooled = _divide(self.errors + self.errors_elsewhere, self.chances + self.chances_elsewhere)
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = np.sqrt(
                pooled * (1 - pooled) * (1 / self.chances + 1 / self.chances_elsewhere)
            )
        return _divide(self.rate - self.rate_elsewhere, spread)


def misses_beside(decided: np.ndarray, targets: np.ndarray) -> Beside:
    """Return the misses of each class beside each other one; the diagonal is its own rate."""
    present = targets > 0.5
    return _beside(present & ~decided, present, present)


def false_alarms_beside(decided: np.ndarray, targets: np.ndarray) -> Beside:
    """Return the false alarms of each class beside each other one; the diagonal is impossible."""
    present = targets > 0.5
    return _beside(decided & ~present, ~present, present)


def _beside(wrong: np.ndarray, possible: np.ndarray, present: np.ndarray) -> Beside:
    shown = present.T.astype(np.float32)  # products of matrices: exact to 2^24 images
    errors, chances = (
        (shown @ found.astype(np.float32)).astype(np.int64) for found in (wrong, possible)
    )
    return Beside(errors, chances, wrong.sum(axis=0) - errors, possible.sum(axis=0) - chances)


def _divide(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    defined = below > 0  # not where it is NaN either
    ratio: np.ndarray = np.divide(above, below, out=np.full(below.shape, np.nan), where=defined)
    return ratio
