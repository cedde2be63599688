# SPDX-License-Identifier: Apache-2.0
"""How far average precision would change on other images of the same kind: bootstrap intervals.

    N images -> N drawn with replacement, R times -> average precision of each draw [R, C]
             -> the middle 95 % of each class, and of their mean, less the bias of the rounds

N images, C classes, R rounds. Efron and Tibshirani 1993, "An Introduction to the Bootstrap":
percentiles (chapter 13) and the estimate of bias (chapter 10). An image drawn twice is an image
with weight 2, so every class is sorted once, whatever the number of rounds. Images where a class is
unknown are drawn too, and do not count for it.

A positive that is drawn twice counts as two hits at one score, so its precision looks too high and
the rounds lie above the measured value: with 80 classes of 40 positives by more than the width of
the interval of the mAP. So the rounds are shifted until their mean equals the measured value. A
much smaller bias of the same kind is in average precision itself: it falls a little as images are
added. The interval does not include that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paddlex_ml.metrics import influence
from paddlex_ml.metrics.average_precision import Steps, area, average_precision, descend
from paddlex_ml.metrics.columns import columns
from paddlex_ml.metrics.decisions import mean_defined
from paddlex_ml.metrics.known import has_unknown, is_known, is_present

PERCENTILES = 2.5, 97.5
MOST = 2 * 10**10
"""Cells times rounds up to which images are drawn, about a minute; above, see `influence`."""


@dataclass(frozen=True)
class Intervals:
    """Where 95 % of the rounds lie, less their bias. NaN where fewer than half are defined."""

    map: tuple[float, float]
    """Of the mean over the classes: a round leaves out those without a positive."""
    per_class: np.ndarray
    """Of every class, float64 [C, 2]."""


def intervals(
    scores: np.ndarray, targets: np.ndarray, *, rounds: int, seed: int, noise: float = 0.0
) -> Intervals:
    """Resample the images and measure again: [N, C], [N, C] -> 95 % intervals.

    noise: as in `average_precision`.
    """
    if rounds * scores.size > MOST:
        found = influence.measure(scores, targets, noise=noise)
        ends = [
            influence.interval(*each, lowest=0)
            for each in zip(found.measured, found.errors, strict=True)
        ]
        error = float(np.sqrt(np.square(found.on_mean).sum()))
        middle = mean_defined(found.measured)
        return Intervals(influence.interval(middle, error, 0), np.reshape(ends, (-1, 2)))
    weights = draw_weights(len(scores), rounds=rounds, seed=seed)
    sampled = resample(scores, targets, weights, noise=noise)
    measured = average_precision(scores, targets, noise=noise)  # [C]
    per_class = [_middle(*of_class, lowest=0) for of_class in zip(sampled.T, measured, strict=True)]
    mean = _middle(_mean(sampled), mean_defined(measured), lowest=0)
    return Intervals(mean, np.reshape(per_class, (-1, 2)))


def beats_guessing(mean: float, interval: tuple[float, float] | None, constant: float) -> bool:
    """Whether a mAP is better than that of the constant predictor, by more than chance.

    interval: 95 % of the mAP; None where it is unknown: then the mAP alone must be higher.
    """
    low = mean if interval is None or np.isnan(interval[0]) else interval[0]
    return low > constant + 1e-9  # the same mean, summed in another order


def difference(
    scores: np.ndarray,
    others: np.ndarray,
    targets: np.ndarray,
    *,
    rounds: int,
    seed: int,
    noise: float = 0.0,
) -> tuple[float, float]:
    """95 % interval of the mAP of `scores` minus that of `others`, on the same images.

    Each round draws the same images for both, so an easy draw is easy for both and cancels out: the
    interval is far narrower than a comparison of two intervals. An interval without 0 is a
    difference beyond chance.
    """
    both = scores, others
    if rounds * scores.size > MOST:
        one, other = (influence.measure(each, targets, noise=noise) for each in both)
        gain = mean_defined(one.measured) - mean_defined(other.measured)
        error = float(np.sqrt(np.square(one.on_mean - other.on_mean).sum()))
        return influence.interval(gain, error, -1)
    weights = draw_weights(len(scores), rounds=rounds, seed=seed)
    means = [_mean(resample(each, targets, weights, noise=noise)) for each in both]
    measured = [mean_defined(average_precision(each, targets, noise=noise)) for each in both]
    return _middle(means[0] - means[1], measured[0] - measured[1], lowest=-1)


def draw_weights(images: int, *, rounds: int, seed: int) -> np.ndarray:
    """How often each round draws each image, of as many draws as images: uint16 [R, N]."""
    rng = np.random.default_rng(seed)
    weights = np.empty((rounds, images), np.uint16)  # small, because there are many
    for row in weights:
        row[:] = np.bincount(rng.integers(0, max(images, 1), images), minlength=images)
    return weights


def resample(
    scores: np.ndarray, targets: np.ndarray, weights: np.ndarray, *, noise: float = 0.0
) -> np.ndarray:
    """Average precision with weighted images: [N, C], [N, C], counts [R, N] -> float64 [R, C].

    Equal to that of images repeated so often. NaN where no image with a weight has the class.
    """
    sampled = np.full((len(weights), scores.shape[1]), np.nan)
    some_unknown = has_unknown(targets)
    found = zip(descend(scores, targets, noise=noise), columns(scores, targets), strict=True)
    for of_class, (steps, (score, target)) in enumerate(found):
        if len(steps.hits):
            order = np.argsort(-score)
            if some_unknown:
                order = order[is_known(target[order])]
            order = order[: steps.depth[-1]]
            positives = order[is_present(target[order])]
            sampled[:, of_class] = [area(_weigh(row, order, positives, steps)) for row in weights]
    return sampled


def _weigh(weights: np.ndarray, order: np.ndarray, positives: np.ndarray, steps: Steps) -> Steps:
    """Count a class's steps again, each image as often as its weight.

    `order` and `positives` are images by falling score. Equal ones share a step, in any order.
    """
    counts = []
    for images, ends in ((positives, steps.hits), (order, steps.depth)):
        drawn = np.take(weights, images, mode="clip")  # half the time of weights[images]
        begins = np.concatenate([[0], ends[:-1]])
        counts.append(np.cumsum(np.add.reduceat(drawn, begins, dtype=np.int64)))
    return Steps(*counts)


def _mean(sampled: np.ndarray) -> np.ndarray:
    """Mean of the classes that are defined: [R, C] -> [R], NaN where none is."""
    defined = ~np.isnan(sampled)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(defined, sampled, 0).sum(axis=1) / defined.sum(axis=1))


def _middle(values: np.ndarray, measured: float, lowest: float) -> tuple[float, float]:
    """The middle 95 % of the rounds, shifted so that their mean is the measured value.

    Clipped to lowest..1: what average precision, or a difference of two, can be.
    """
    defined = values[~np.isnan(values)]
    if len(defined) == 0 or 2 * len(defined) < len(values):
        return np.nan, np.nan
    bounds = np.percentile(defined, PERCENTILES) - (defined.mean() - measured)
    low, high = np.clip(bounds, lowest, 1.0)
    return float(low), float(high)
