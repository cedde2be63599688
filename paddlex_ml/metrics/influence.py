# SPDX-License-Identifier: Apache-2.0
"""Intervals of average precision from the influence of each image, where resampling takes too long.

    scores [N, C], targets [N, C] -> change of each class's AP by each image -> standard errors

The infinitesimal jackknife (Jaeckel 1972; Efron 1982, "The Jackknife, the Bootstrap and Other
Resampling Plans", chapter 6). Average precision with image weights w is

    AP = 1/P * sum over the steps s of g_s * H_s / D_s

with g_s the weight of the positives that enter at step s, H_s and D_s the weight of all positives
and of all images down to it, and P that of all positives. Its slope by the weight of an image, at
weights of 1, is the influence of the image; an image draws as many times as one in N, so the
variance is the sum of the squared influences. One sort of each class gives it, where a bootstrap
needs a pass for every round. N images, C classes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from paddlex_ml.metrics.average_precision import Steps, area, descend
from paddlex_ml.metrics.columns import columns
from paddlex_ml.metrics.known import has_unknown, is_known, is_present

WIDTH = 1.959963984540054
"""Standard errors from the middle of a 95 % interval to each of its ends."""


class Influences(NamedTuple):
    """Average precision, and how far it would change on other images."""

    measured: np.ndarray
    """Of every class, float64 [C]; NaN without a positive."""
    errors: np.ndarray
    """Standard error of every class, float64 [C]; NaN without a positive."""
    on_mean: np.ndarray
    """Influence of each image on the mean over the classes that have a positive, float64 [N]."""


def measure(scores: np.ndarray, targets: np.ndarray, *, noise: float = 0.0) -> Influences:
    """The influence of every image: [N, C], [N, C]. noise: as in `average_precision`."""
    images, classes = scores.shape
    measured, errors = np.full((2, classes), np.nan)
    on_mean, some_unknown = np.zeros(images), has_unknown(targets)
    found = zip(descend(scores, targets, noise=noise), columns(scores, targets), strict=True)
    for number, (steps, (score, target)) in enumerate(found):
        if len(steps.hits):
            order = np.argsort(-score)
            if some_unknown:
                order = order[is_known(target[order])]
            order = order[: steps.depth[-1]]
            measured[number] = area(steps)
            own = _influence(steps, is_present(target[order]), measured[number])
            errors[number] = np.sqrt(np.square(own).sum())
            on_mean[order] += own
    return Influences(measured, errors, on_mean / max(1, int((~np.isnan(measured)).sum())))


def _influence(steps: Steps, present: np.ndarray, measured: float) -> np.ndarray:
    """Influence on one class of its images by falling score, down to the last positive."""
    hits, depth = steps.hits.astype(np.float64), steps.depth.astype(np.float64)
    growth = np.diff(hits, prepend=0)
    by_hits = np.cumsum((growth / depth)[::-1])[::-1]  # of this step and all later ones
    by_depth = np.cumsum((growth * hits / depth**2)[::-1])[::-1]
    step_of = np.repeat(np.arange(len(hits)), np.diff(steps.depth, prepend=0))
    gain = (hits / depth + by_hits - measured)[step_of]
    return np.asarray((np.where(present, gain, 0) - by_depth[step_of]) / hits[-1])


def interval(middle: float, error: float, lowest: float) -> tuple[float, float]:
    """95 % of a normal distribution, clipped to lowest..1."""
    low, high = np.clip([middle - WIDTH * error, middle + WIDTH * error], lowest, 1.0)
    return float(low), float(high)
