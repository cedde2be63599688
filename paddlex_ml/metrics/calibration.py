# SPDX-License-Identifier: Apache-2.0
"""Calibration: whether a score of 0.8 means that 8 of 10 such images have the label.

    scores [N, C], targets [N, C] -> B bins of equal width -> mean score and share of positives [B]

N images, C classes. Bin b holds scores from b / B to below (b + 1) / B, and the last one 1 as well.
Every class is a yes-or-no question of its own and the score is the confidence in "yes": a score of
0.1 stays in the lowest bin, it does not become a confidence of 0.9 in "no". Scores of unknown cells
are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paddlex_ml.metrics.columns import map_columns
from paddlex_ml.metrics.known import has_unknown, is_known, is_present


@dataclass(frozen=True)
class Reliability:
    """The calibration curve: `share` against `mean_score`. On the diagonal scores are perfect."""

    edges: np.ndarray
    """Edges of the bins, rising from 0 to 1, float64 [B + 1]."""
    count: np.ndarray
    """Scores in each bin, int64 [B]."""
    mean_score: np.ndarray
    """Mean of them, float64 [B]; NaN where the bin is empty."""
    share: np.ndarray
    """Share of positives among them, float64 [B]; NaN where the bin is empty."""


def reliability(scores: np.ndarray, targets: np.ndarray, bins: int = 15) -> Reliability:
    """Sort the scores of all classes into bins, pooled: [N, C], [N, C] -> [B].

    Raises ValueError for scores outside 0..1, such as logits.
    """
    count, total, hits = (part.sum(axis=0) for part in _tables(scores, targets, bins))
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN: the bin is empty
        return Reliability(np.linspace(0, 1, bins + 1), count, total / count, hits / count)


def calibration_errors(
    scores: np.ndarray, targets: np.ndarray, bins: int = 15
) -> tuple[float, np.ndarray]:
    """Expected calibration error, 0..1 and 0 is best: of all cells pooled, and of each class [C].

    Mean distance of score and share of positives (Naeini et al. 2015; Guo et al. 2017,
    arXiv:1706.04599), for yes-or-no questions. Where few cells are positive, the many low scores
    dominate the pooled error: look at the classes too, whose mean is the class-wise error of Kull
    et al. 2019 (arXiv:1910.12656). A class without a positive has an error too: its mean score.
    NaN without known cells. Raises ValueError for scores outside 0..1.
    """
    tables = _tables(scores, targets, bins)
    pooled = [part.sum(axis=0, keepdims=True) for part in tables]
    return float(_mean_distance(*pooled)[0]), _mean_distance(*tables)


def _mean_distance(count: np.ndarray, total: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Rows of bins [R, B] -> [R]. A bin counts by its number of scores, so its mean cancels out."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(hits - total).sum(axis=1) / count.sum(axis=1))


def _tables(
    scores: np.ndarray, targets: np.ndarray, bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count, sum of scores and number of positives in every bin of every class: [C, B] each."""
    if scores.size and not (scores.min() >= 0 and scores.max() <= 1):  # NaN is neither
        raise ValueError("calibration needs scores in 0..1: apply the sigmoid first")
    # float32 as the scores are: 0.2 as a float64 would lie below a score of 0.2.
    edges = np.linspace(0, 1, bins + 1).astype(np.float32)
    lower, upper = edges[:-1], np.append(edges[1:-1], np.float32(2))  # the last bin holds 1
    some_unknown = has_unknown(targets)

    def count(column: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, ...]:
        score = column.astype(np.float32, copy=False)
        if some_unknown:
            score, target = score[is_known(target)], target[is_known(target)]
        # Nearly always right: a comparison with both edges of the bin corrects the rounding.
        bin_of = np.minimum((score * bins).astype(np.int32), bins - 1)
        bin_of -= score < lower[bin_of]
        bin_of += score >= upper[bin_of]
        total = np.bincount(bin_of, weights=score, minlength=bins)
        hits = np.bincount(bin_of[is_present(target)], minlength=bins)
        return np.bincount(bin_of, minlength=bins), total, hits

    counted = list(map_columns(count, scores, targets))
    if not counted:
        return np.zeros((0, bins), np.int64), np.zeros((0, bins)), np.zeros((0, bins), np.int64)
    counts, totals, hits = map(np.stack, zip(*counted, strict=True))
    return counts, totals, hits
