# SPDX-License-Identifier: Apache-2.0
"""Quality of scores against targets: numpy in, floats out.

    scores [N, C], targets [N, C] -> Steps of each class -> area under precision over recall [C]

N samples, C classes. Scores may be logits or probabilities: only their order counts here. With
`noise` they are probabilities, and a crowd of them that differs by that noise of its log odds
counts as equal (`metrics.ties`). A class counts the samples where it is known (`metrics.known`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from paddlex_ml.metrics.columns import map_columns
from paddlex_ml.metrics.known import has_unknown, is_known, is_present
from paddlex_ml.metrics.ties import group_ends


class Steps(NamedTuple):
    """A class's samples from the highest score down, at each distinct score of a positive.

    Only there recall grows. Samples with equal scores enter together.
    """

    hits: np.ndarray
    """Positives down to each step, rising to their number, [S]; S = 0 where there is none."""
    depth: np.ndarray
    """Samples down to each step, [S]."""


def average_precision(scores: np.ndarray, targets: np.ndarray, *, noise: float = 0.0) -> np.ndarray:
    """Area under the precision-recall steps of every class: [N, C], [N, C] -> [C] float64.

    Equal to scikit-learn's average_precision_score: samples with equal scores enter together,
    so neither their order nor the batch size matters. NaN for a class without positives, and 1 for
    one without negatives.
    """
    return np.array([area(steps) for steps in descend(scores, targets, noise=noise)])


def mean_average_precision(scores: np.ndarray, targets: np.ndarray, *, noise: float = 0.0) -> float:
    """Mean of the classes that have a positive; 0.0 when none has."""
    per_class = average_precision(scores, targets, noise=noise)
    defined = per_class[~np.isnan(per_class)]
    return float(defined.mean()) if len(defined) else 0.0


def constant_predictor_map(targets: np.ndarray) -> float:
    """The mAP of a model that gives every image the same scores: the mean share of positives."""
    present = is_present(targets).sum(axis=0, dtype=np.int64)
    known = np.full(len(present), len(targets))
    if has_unknown(targets):
        known = is_known(targets).sum(axis=0, dtype=np.int64)
    some = present > 0
    # One step with all images, computed in the order of `area`: the same to the last bit.
    per_class = (present * (present / np.maximum(known, 1)))[some] / present[some]
    return float(per_class.mean()) if some.any() else 0.0


def descend(scores: np.ndarray, targets: np.ndarray, *, noise: float = 0.0) -> Iterator[Steps]:
    """Yield the steps of every class, counted from one sort of its scores."""
    some_unknown = has_unknown(targets)

    def count_steps(score: np.ndarray, target: np.ndarray) -> Steps:
        row = -score
        ranked = np.sort(row[is_present(target)])
        # Sorting values alone is several times as fast as sorting their positions.
        every = np.sort(row[is_known(target)] if some_unknown else row)
        ends = np.searchsorted(every, ranked, side="right")  # of the equals of each positive
        if noise and len(ranked):
            groups = group_ends(-every, noise) + 1
            ends = groups[np.searchsorted(groups, ends)]
        last = np.flatnonzero(np.append(ends[1:] != ends[:-1], [True] * (len(ends) > 0)))
        return Steps(hits=last + 1, depth=ends[last])

    return map_columns(count_steps, scores, targets)


def area(steps: Steps) -> float:
    """Sum over the steps of precision times growth of recall, 0..1; NaN without steps.

    Sampled counts may be 0: a step without a hit adds nothing, and without any hit it is NaN.
    """
    hits, depth = steps
    if not len(hits) or not hits[-1]:
        return np.nan
    growth = hits.copy()
    growth[1:] -= hits[:-1]  # np.diff with a first value takes ten times as long
    return float((growth * (hits / np.maximum(depth, 1))).sum() / hits[-1])


def area_11point(steps: Steps) -> float:
    """Mean of the best precision at recall >= 0, 0.1, ... 1; NaN without steps."""
    hits, depth = steps
    if not len(hits):
        return np.nan
    levels = np.linspace(0, 1, 11) - 1e-12  # 0.3 of ten positives is 0.30000000000000004
    # From the right: the best of this step and all later ones.
    best = np.maximum.accumulate((hits / depth)[::-1])[::-1]
    return float(best[np.searchsorted(hits / hits[-1], levels)].mean())
