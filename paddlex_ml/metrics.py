# SPDX-License-Identifier: Apache-2.0
"""Quality of scores against targets: numpy in, floats out.

N samples, C classes. Scores may be logits or probabilities: only their order counts here.
"""

from __future__ import annotations

import numpy as np


def average_precision(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Area under the precision-recall steps of every class: [N, C], [N, C] -> [C] float64.

    Equal to scikit-learn's average_precision_score: samples with equal scores enter together,
    so neither their order nor the batch size matters. NaN for a class without positives.
    """
    if len(scores) == 0:
        return np.full(scores.shape[1], np.nan)
    positives = targets.T > 0.5  # [C, N]: classes as rows, so that sorting runs along memory
    ranked = np.ascontiguousarray(-scores.T)
    order = np.argsort(ranked, axis=1)
    ranked = np.take_along_axis(ranked, order, axis=1)
    hits = np.take_along_axis(positives, order, axis=1)
    found = np.cumsum(hits, axis=1, dtype=np.int64)  # true positives down to each rank
    ranks = np.arange(1, ranked.shape[1] + 1)
    precision = found / ranks
    # Every sample of a tie gets the precision at the end of its tie.
    precision = np.take_along_axis(precision, _tie_ends(ranked), axis=1)
    count = found[:, -1]
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, (precision * hits).sum(axis=1) / np.maximum(count, 1), np.nan)


def average_precision_11point(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Mean of the best precision at recall >= 0, 0.1, ... 1: [N, C], [N, C] -> [C] or NaN."""
    result = np.full(scores.shape[1], np.nan)
    for c in range(scores.shape[1]):
        order = np.argsort(-scores[:, c], kind="stable")
        hits = targets[order, c] > 0.5
        if not hits.any():
            continue
        found = np.cumsum(hits)
        ends = _tie_ends(-scores[order, c][None])[0]
        precision = (found / np.arange(1, len(hits) + 1))[ends]
        recall = (found / found[-1])[ends]
        best = [precision[recall >= t - 1e-12].max(initial=0.0) for t in np.linspace(0, 1, 11)]
        result[c] = float(np.mean(best))
    return result


def mean_average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    """Mean of the classes that have a positive; 0.0 when none has."""
    per_class = average_precision(scores, targets)
    defined = per_class[~np.isnan(per_class)]
    return float(defined.mean()) if len(defined) else 0.0


def constant_predictor_map(targets: np.ndarray) -> float:
    """The mAP of a model that says the same for every image: the mean share of positives."""
    return mean_average_precision(np.zeros(targets.shape, np.float32), targets)


def _tie_ends(ranked: np.ndarray) -> np.ndarray:
    """Rows sorted along axis 1 -> index of the last element equal to each element, same shape."""
    rows, columns = ranked.shape
    last = np.ones((rows, columns), bool)
    last[:, :-1] = ranked[:, 1:] != ranked[:, :-1]
    ends = np.where(last, np.arange(columns), columns)
    return np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
