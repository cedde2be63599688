# SPDX-License-Identifier: Apache-2.0
"""Curves and histograms of each class, and how its errors depend on the other labels of an image.

N images, C classes; scores [N, C] in 0..1, targets [N, C] of 0, 1 and UNKNOWN, which is left out.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from paddlex_ml.metrics.known import has_unknown, is_absent, is_known, is_present
from paddlex_ml.metrics.ties import group_ends

_BLOCK = 20_000  # images at a time: an 8-byte copy of all scores may not fit into memory


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


def precision_recall(scores: np.ndarray, targets: np.ndarray, *, noise: float = 0.0) -> Curve:
    """Return the curve of one class: [N], [N]. Equal scores enter together.

    noise: as in `average_precision`.
    """
    if has_unknown(targets):
        scores, targets = scores[is_known(targets)], targets[is_known(targets)]
    present = is_present(targets)
    if not present.any():
        return Curve(np.empty(0), np.empty(0), np.empty(0))
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last_of_ties = group_ends(ranked, noise)
    hits = np.cumsum(present[order])[last_of_ties]
    return Curve(ranked[last_of_ties], hits / (last_of_ties + 1), hits / hits[-1])


def thin(curve: Curve, points: int, keep: Iterable[int] = ()) -> Curve:
    """Return at most `points` points, those of `keep` among them, that draw nearly the same line.

    The point farthest above or below the line through the points taken so far comes next
    (Douglas and Peucker 1973). Nothing is averaged: each point left is one of the curve's own.
    """
    count = len(curve.recall)
    if count <= points:
        return curve
    taken = sorted({0, count - 1, *keep})
    candidates = [_farthest(curve, *ends) for ends in pairwise(taken)]
    heapq.heapify(candidates)
    while len(taken) < points and candidates and candidates[0][0] < 0:
        _, middle, first, last = heapq.heappop(candidates)
        taken.append(middle)
        heapq.heappush(candidates, _farthest(curve, first, middle))
        heapq.heappush(candidates, _farthest(curve, middle, last))
    kept = np.sort(taken)
    return Curve(curve.thresholds[kept], curve.precision[kept], curve.recall[kept])


def _farthest(curve: Curve, first: int, last: int) -> tuple[float, int, int, int]:
    """Return minus the largest distance from the line between two points, its point, and both."""
    recall, precision = (line[first : last + 1] for line in (curve.recall, curve.precision))
    width, height = recall[-1] - recall[0], precision[-1] - precision[0]
    length = np.hypot(width, height)
    if length > 0:
        area = width * (precision - precision[0]) - height * (recall - recall[0])
        distance = np.abs(area) / length
    else:
        distance = np.hypot(recall - recall[0], precision - precision[0])
    middle = int(distance.argmax())
    farthest = float(distance[middle]) if 0 < middle < last - first else 0.0
    return -farthest, first + middle, first, last


def histograms(
    scores: np.ndarray, targets: np.ndarray, bins: int = 20
) -> tuple[np.ndarray, np.ndarray]:
    """Count the scores of positives and of negatives in equal bins of 0..1: two [C, bins].

    A bin holds its lower edge; the last one holds 1 as well.
    """
    classes = scores.shape[1]
    counts = np.zeros((2, classes * bins), np.int64)
    for start in range(0, len(scores), _BLOCK):
        block = slice(start, start + _BLOCK)
        bin_of = np.clip((scores[block] * bins).astype(np.int64), 0, bins - 1)
        positions = bin_of + bins * np.arange(classes)
        present = is_present(targets[block])
        absent = is_absent(targets[block]) if has_unknown(targets[block]) else ~present
        for row, chosen in zip(counts, (present, absent), strict=True):
            row += np.bincount(positions[chosen], minlength=len(row))
    return counts[0].reshape(classes, bins), counts[1].reshape(classes, bins)


@dataclass(frozen=True)
class JointErrors:
    """Errors of the column's class on images that show the row's class, and on those that do not.

    All [C, C]. A chance is an image where the error could happen: one that shows the column's
    class for a miss, one that does not for a false alarm. Images where one of the two is unknown
    are in neither.
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
        """Errors per chance on images that do not show it; NaN without a chance."""
        return _divide(self.errors_elsewhere, self.chances_elsewhere)

    @property
    def excess(self) -> np.ndarray:
        """Errors beyond those that the rate elsewhere would give; NaN without a chance."""
        excess: np.ndarray = self.errors - self.chances * self.rate_elsewhere
        return excess

    @property
    def deviations(self) -> np.ndarray:
        """Difference of the two rates, in standard errors (pooled two-proportion z test)."""
        pooled = _divide(self.errors + self.errors_elsewhere, self.chances + self.chances_elsewhere)
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = np.sqrt(
                pooled * (1 - pooled) * (1 / self.chances + 1 / self.chances_elsewhere)
            )
        return _divide(self.rate - self.rate_elsewhere, spread)


def joint_errors(decided: np.ndarray, targets: np.ndarray) -> tuple[JointErrors, JointErrors]:
    """Return the misses and the false alarms of each class on images that show each other class.

    The diagonal holds all misses of the class itself; a false alarm is impossible there.
    """
    present = is_present(targets)
    absent = is_absent(targets) if has_unknown(targets) else ~present
    tables = []
    for wrong, possible in ((present & ~decided, present), (decided & absent, absent)):
        errors, chances = _count_together(present, wrong, possible)
        elsewhere = wrong.sum(axis=0) - errors, possible.sum(axis=0) - chances
        if has_unknown(targets):
            elsewhere = _count_together(absent, wrong, possible)
        tables.append(JointErrors(errors, chances, *elsewhere))
    return tables[0], tables[1]


def _count_together(
    shown: np.ndarray, wrong: np.ndarray, possible: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Images of `shown` and of each of the others, by class: bool [N, C] -> two int64 [C, C]."""
    errors, chances = np.zeros((2, wrong.shape[1], wrong.shape[1]), np.int64)
    for start in range(0, len(wrong), _BLOCK):
        block = slice(start, start + _BLOCK)
        row = shown[block].T.astype(np.float32)  # its products count exactly to 2^24
        errors += (row @ wrong[block].astype(np.float32)).astype(np.int64)
        chances += (row @ possible[block].astype(np.float32)).astype(np.int64)
    return errors, chances


def _divide(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    defined = below > 0  # not where it is NaN either
    ratio: np.ndarray = np.divide(above, below, out=np.full(below.shape, np.nan), where=defined)
    return ratio
