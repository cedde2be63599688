# SPDX-License-Identifier: Apache-2.0
"""Quality of scores against targets: numpy in, floats out.

    scores [N, C], targets [N, C] -> Steps of each class -> area under precision over recall [C]

N samples, C classes. Scores may be logits or probabilities: only their order counts here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Steps(NamedTuple):
    """A class's samples from the highest score down, at each distinct score of a positive.

    Only there recall grows. Samples with equal scores enter together.
    """

    found: np.ndarray
    """Positives down to each step, rising to their number, [S]; S = 0 where there is none."""
    depth: np.ndarray
    """Samples down to each step, [S]."""


def average_precision(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Area under the precision-recall steps of every class: [N, C], [N, C] -> [C] float64.

    Equal to scikit-learn's average_precision_score: samples with equal scores enter together,
    so neither their order nor the batch size matters. NaN for a class without positives.
    """
    return np.array([area(steps) for steps in descend(scores, targets)])


def average_precision_11point(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Mean of the best precision at recall >= 0, 0.1, ... 1: [N, C], [N, C] -> [C] or NaN."""
    return np.array([area_11point(steps) for steps in descend(scores, targets)])


def mean_average_precision(scores: np.ndarray, targets: np.ndarray) -> float:
    """Mean of the classes that have a positive; 0.0 when none has."""
    per_class = average_precision(scores, targets)
    defined = per_class[~np.isnan(per_class)]
    return float(defined.mean()) if len(defined) else 0.0


def constant_predictor_map(targets: np.ndarray) -> float:
    """The mAP of a model that says the same for every image: the mean share of positives."""
    return mean_average_precision(np.zeros(targets.shape, np.float32), targets)


def descend(scores: np.ndarray, targets: np.ndarray) -> Iterator[Steps]:
    """Yield the steps of every class, counted from one sort of its scores."""
    falling = np.ascontiguousarray(-scores.T)  # classes as rows: sorting runs along the memory
    positives = np.ascontiguousarray(targets.T > 0.5)
    for row, present in zip(falling, positives, strict=True):
        levels, last = _levels(row[present])
        # Sorting values alone is several times as fast as sorting their places.
        yield Steps(found=last + 1, depth=np.searchsorted(np.sort(row), levels, side="right"))


def area(steps: Steps) -> float:
    """Sum over the steps of precision times growth of recall, 0..1; NaN without steps.

    Sampled counts may be 0: a step at which nothing is found adds nothing, NaN without any find.
    """
    found, depth = steps
    if not len(found) or not found[-1]:
        return np.nan
    grown = found.copy()
    grown[1:] -= found[:-1]  # np.diff with a first value takes ten times as long
    return float((grown * (found / np.maximum(depth, 1))).sum() / found[-1])


def area_11point(steps: Steps) -> float:
    """Mean of the best precision at recall >= 0, 0.1, ... 1; NaN without steps."""
    found, depth = steps
    if not len(found):
        return np.nan
    levels = np.linspace(0, 1, 11) - 1e-12  # 0.3 of ten positives is 0.30000000000000004
    # From the right: the best of this step and all later ones.
    best = np.maximum.accumulate((found / depth)[::-1])[::-1]
    return float(best[np.searchsorted(found / found[-1], levels)].mean())


def _levels(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values, rising, and the place of the last of each in the sorted row."""
    ranked = np.sort(scores)
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], [True] * (len(ranked) > 0)))
    return ranked[last], last
