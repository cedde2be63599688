# SPDX-License-Identifier: Apache-2.0
"""Quality of decisions: the labels that an image gets, compared with those that it has.

    scores [N, C] -> decide, decide_top -> decided [N, C] -> count -> Counts -> average -> Averages

N images, C classes. 0 / 0 stays undefined, NaN: precision of a class that no image got,
recall of a class that no image has. Nothing becomes 0 or 1 by convention. Cells that are unknown
(`metrics.known`) are neither right nor wrong: they are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paddlex_ml.metrics.known import has_unknown, is_known, is_present


@dataclass(frozen=True)
class Counts:
    """Images of every class, int64 [C]."""

    hits: np.ndarray
    """Images that have the label and got it: true positives."""
    predicted: np.ndarray
    """Images that got the label, of those where it is known."""
    positives: np.ndarray
    """Images that have the label."""
    negatives: np.ndarray
    """Images that are known not to have it."""

    @property
    def precision(self) -> np.ndarray:
        """hits / predicted, float64 [C]; NaN where no image got the label."""
        return _ratio(self.hits, self.predicted)

    @property
    def recall(self) -> np.ndarray:
        """hits / positives, float64 [C]; NaN where no image has the label."""
        return _ratio(self.hits, self.positives)

    @property
    def f1(self) -> np.ndarray:
        """2 TP / (2 TP + FP + FN), float64 [C]; NaN where no image has or got the label.

        0 where images have it and none got it, although precision is undefined there.
        """
        return _ratio(2 * self.hits, self.predicted + self.positives)


@dataclass(frozen=True)
class Averages:
    """Precision, recall and F1 of all classes together: 0..1, NaN where undefined."""

    class_precision: float
    """CP: mean precision of the classes that some image got."""
    class_recall: float
    """CR: mean recall of the classes that some image has."""
    class_f1: float
    """CF1: harmonic mean of CP and CR, NaN where one of them is."""
    overall_precision: float
    """OP: hits / predicted, all classes pooled."""
    overall_recall: float
    """OR: hits / positives, all classes pooled."""
    overall_f1: float
    """OF1: 2 TP / (2 TP + FP + FN), all classes pooled."""
    macro_f1: float
    """Mean F1 of the classes that some image has: unlike CF1, a single bad class lowers it."""


def decide(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Labels whose score is at least the threshold of their class: [N, C], [C] -> bool [N, C].

    Both as float32, as in prediction: 0.7 as a float64 would lie above a score of 0.7.
    """
    return np.asarray(
        scores.astype(np.float32, copy=False) >= np.asarray(thresholds).astype(np.float32)
    )


def decide_top(scores: np.ndarray, k: int = 3) -> np.ndarray:
    """The k labels with the highest scores of each image, however low: bool [N, C].

    Of equal scores the class that comes first wins, as in prediction. All C where C < k.
    """
    left = scores.astype(np.float32)  # a copy: chosen scores become -inf in it
    decided = np.zeros(scores.shape, bool)
    rows = np.arange(len(scores))
    for _ in range(min(k, scores.shape[1])):
        best = left.argmax(axis=1)  # the first of equals
        decided[rows, best] = True
        left[rows, best] = -np.inf
    return decided


def count(decided: np.ndarray, targets: np.ndarray) -> Counts:
    """Count the images of every class: bool [N, C], [N, C] -> [C]."""
    present, images = is_present(targets), len(targets)
    if has_unknown(targets):
        known = is_known(targets)
        decided, images = decided & known, known.sum(axis=0, dtype=np.int64)
    hits, predicted, positives = (
        cells.sum(axis=0, dtype=np.int64) for cells in (decided & present, decided, present)
    )
    return Counts(hits, predicted, positives, images - positives)


def average(counts: Counts) -> Averages:
    """Join the classes, by mean (C...) and pooled (O...)."""
    parts = counts.hits, counts.predicted, counts.positives, counts.negatives
    pooled = Counts(*(part.sum(keepdims=True) for part in parts))
    precision, recall = mean_defined(counts.precision), mean_defined(counts.recall)
    return Averages(
        class_precision=precision,
        class_recall=recall,
        class_f1=2 * precision * recall / (precision + recall) if precision + recall else 0.0,
        overall_precision=float(pooled.precision[0]),
        overall_recall=float(pooled.recall[0]),
        overall_f1=float(pooled.f1[0]),
        macro_f1=mean_defined(counts.f1[counts.positives > 0]),
    )


def hamming_distance(decided: np.ndarray, targets: np.ndarray) -> float:
    """Share of wrong cells: bool [N, C], [N, C] -> 0..1, 0 is best; NaN without known cells."""
    wrong = decided != is_present(targets)
    if has_unknown(targets):
        wrong = wrong[is_known(targets)]
    return float(wrong.mean()) if wrong.size else np.nan


def subset_accuracy(decided: np.ndarray, targets: np.ndarray) -> float:
    """Share of images whose known labels are all right: bool [N, C], [N, C] -> 0..1 or NaN.

    An image of which nothing is known does not count.
    """
    right = decided == is_present(targets)
    if has_unknown(targets):
        known = is_known(targets)
        right = (right | ~known)[known.any(axis=1)]
    right = right.all(axis=1)
    return float(right.mean()) if right.size else np.nan


def mean_defined(values: np.ndarray) -> float:
    """Mean of those that are not NaN; NaN when all are."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else np.nan


def _ratio(part: np.ndarray, total: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
        return np.asarray(part / total)
