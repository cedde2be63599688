# SPDX-License-Identifier: Apache-2.0
"""Quality of scores against targets: numpy in, floats out.

N samples, C classes. Scores may be logits or probabilities: only their order counts here.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def average_precision(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Area under the precision-recall steps of every class: [N, C], [N, C] -> [C] float64.

    Equal to scikit-learn's average_precision_score: samples with equal scores enter together,
    so neither their order nor the batch size matters. NaN for a class without positives.
    """
    return np.array([_area(*step) for step in _precision_recall(scores, targets)])


def average_precision_11point(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Mean of the best precision at recall >= 0, 0.1, ... 1: [N, C], [N, C] -> [C] or NaN."""
    return np.array([_area_11point(*step) for step in _precision_recall(scores, targets)])


def mean_average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    """Mean of the classes that have a positive; 0.0 when none has."""
    per_class = average_precision(scores, targets)
    defined = per_class[~np.isnan(per_class)]
    return float(defined.mean()) if len(defined) else 0.0


def constant_predictor_map(targets: np.ndarray) -> float:
    """The mAP of a model that says the same for every image: the mean share of positives."""
    return mean_average_precision(np.zeros(targets.shape, np.float32), targets)


def _precision_recall(
    scores: np.ndarray, targets: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield precision and recall of every class at each distinct score, from the highest down."""
    ranked = np.ascontiguousarray(-scores.T)  # classes as rows: sorting runs along the memory
    positives = targets.T > 0.5
    for row, present in zip(ranked, positives, strict=True):
        order = np.argsort(row)
        found = np.cumsum(present[order])  # true positives down to each rank
        if not present.any():
            yield np.empty(0), np.empty(0)
            continue
        last_of_ties = np.flatnonzero(np.append(np.diff(row[order]) != 0, True))
        found = found[last_of_ties]
        yield found / (last_of_ties + 1), found / found[-1]


def _area(precision: np.ndarray, recall: np.ndarray) -> float:
    return float((np.diff(recall, prepend=0.0) * precision).sum()) if len(recall) else np.nan


def _area_11point(precision: np.ndarray, recall: np.ndarray) -> float:
    levels = np.linspace(0, 1, 11) - 1e-12  # 0.3 of ten positives is 0.30000000000000004
    best = [precision[recall >= level].max(initial=0.0) for level in levels]
    return float(np.mean(best)) if len(recall) else np.nan
