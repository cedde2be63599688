# SPDX-License-Identifier: Apache-2.0
"""How probable it is that a label is wrong, and how many are: logistic regression with label noise.

    scores [N, C], targets [N, C] -> rates of noise, and for each label the probability of an error

A label that contradicts its score is an error of the list or an error of the model. What tells them
apart is where the contradictions are. A model that is often wrong is wrong least where it is most
sure: along the scores, the share of labels of the other kind falls to nothing. Labels that were
turned by chance are everywhere, also among the surest scores. So each class gets a sigmoid of its
scores for the true label, all classes together get a rate of wrong and one of missing labels, and
all are fitted at once by expectation maximisation (Bootkrajang and Kaban 2012, "Label-noise Robust
Logistic Regression"). Where the labels are right, the rates are fitted to zero, and no label is
probably wrong, however weak the model.

Images enter as bins of scores, so that the time does not grow with their number; of each class
those where it is known. N images, C classes, B bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from paddlex_ml.metrics.known import has_unknown, is_absent, is_known, is_present

OWN_ERRORS = 0.002
"""Share of the surest answers that are errors of the model and not of the labels, at least."""
SUPPOSED = 0.05
"""Share of wrong labels that `NoiseEstimate.power` supposes."""
EVIDENCE = 5.0
"""Gain in log likelihood from which the labels have noise: 3.0 is the usual 5 % for two rates."""
_BINS = 200
_ROUNDS = 100
_START = 0.02  # of both rates
_SMOOTHING = 0.2  # images of the class's mean: keeps the slope finite where classes are separable
_NEWTON = 4  # steps for the sigmoids in each round
_STEEPEST = 30.0  # slope, in standard deviations of the log odds
_SMALLEST = 1e-7


@dataclass(frozen=True)
class NoiseEstimate:
    """What the scores say about the labels."""

    probability: np.ndarray
    """Of an error, for each label, float64 [N, C]; 0 for classes that were left out, and where a
    label is unknown."""
    wrong: float
    """Share of the absent classes that are labelled all the same."""
    missing: float
    """Share of the present classes that are not labelled."""
    power: float
    """Share of the errors that would be probable ones, if 5 of 100 labels were wrong, 0..1."""


class _Bins(NamedTuple):
    """Images of similar score, of every class: all [B, C] but `of_image` [N, C].

    A class that is known for fewer images than B has fewer bins: its last ones are empty.
    """

    centre: np.ndarray
    """Mean log odds of a bin, in standard deviations from the mean of the class; 0 if empty."""
    present: np.ndarray
    """Images with the label."""
    absent: np.ndarray
    """Images without."""
    of_image: np.ndarray
    """Number of the bin that an image is in; any where the class is unknown."""


def estimate(scores: np.ndarray, targets: np.ndarray, learned: np.ndarray) -> NoiseEstimate:
    """Fit the noise of the labels to scores in 0..1, [N, C], of the classes of `learned`, bool [C].

    Scores must not come from a model that learned these very labels.
    """
    probability = np.zeros(targets.shape)
    if not learned.any() or not len(scores):
        return NoiseEstimate(probability, 0.0, 0.0, 0.0)
    given = targets[:, learned]
    bins = _divide(scores[:, learned], given)
    true, wrong, missing = _fit(bins, _START)
    clean, _, _ = _fit(bins, 0.0)
    if _likelihood(bins, true, wrong, missing) - _likelihood(bins, clean, 0, 0) < EVIDENCE:
        true, wrong, missing = clean, 0.0, 0.0
    with_label, without = _posterior(true, wrong, missing)
    errors = np.where(
        is_present(given),
        np.take_along_axis(1 - with_label, bins.of_image, axis=0),
        np.take_along_axis(without, bins.of_image, axis=0),
    )
    if has_unknown(given):
        errors[~is_known(given)] = 0
    probability[:, learned] = errors
    images = bins.present + bins.absent
    found = np.where(true > 1 - SUPPOSED, true, 0) + np.where(true < SUPPOSED, 1 - true, 0)
    power = (images * found).sum() / np.count_nonzero(is_known(targets))
    return NoiseEstimate(probability, wrong, missing, float(power))


def _divide(scores: np.ndarray, targets: np.ndarray) -> _Bins:
    """Sort the images of every class into bins of equal size, by score.

    Every class must be known for an image.
    """
    images, classes = scores.shape
    known = is_known(targets) if has_unknown(targets) else True
    bounded = np.clip(scores.astype(np.float64), _SMALLEST, 1 - _SMALLEST)
    odds = np.log(bounded / (1 - bounded))
    spread = np.maximum(odds.std(axis=0, where=known), 1e-9)
    odds = (odds - odds.mean(axis=0, where=known)) / spread
    of_class = np.array([images]) if known is True else np.sum(known, axis=0)  # [1] or [C]
    counts = np.minimum(of_class, _BINS)
    of_image = np.empty(odds.shape, np.int64)
    number = np.minimum(np.arange(images)[:, None] * counts // of_class, counts - 1)
    ranked = summed = odds
    if known is not True:
        ranked, summed = np.where(known, odds, np.inf), np.where(known, odds, 0)
    order = np.argsort(ranked, axis=0, kind="stable")  # the unknown last
    np.put_along_axis(of_image, order, number, axis=0)
    tables = np.zeros((3, counts.max(), classes))
    values = summed, is_present(targets), is_absent(targets)
    for table, of_kind in zip(tables, values, strict=True):
        for i in range(classes):
            table[:, i] = np.bincount(of_image[:, i], of_kind[:, i], minlength=len(table))
    centre, held, other = tables
    return _Bins(centre / np.maximum(held + other, 1), held, other, of_image)


def _fit(bins: _Bins, start: float) -> tuple[np.ndarray, float, float]:
    """Probability of a true label in each bin [B, C], and the rates of wrong and missing ones.

    start: of both rates; from 0 they stay 0.
    """
    images = bins.present + bins.absent
    share = (bins.present.sum(axis=0) + 1) / (images.sum(axis=0) + 2)
    line = np.stack([np.zeros(len(share)), np.log(share / (1 - share))])  # slope and base, [2, C]
    held = bins.present  # images whose true label is 1, as supposed so far
    wrong = missing = start
    for _ in range(_ROUNDS):
        smooth = images.sum(axis=0) / (images.sum(axis=0) + _SMOOTHING)
        goals = smooth * held / np.maximum(images, 1) + (1 - smooth) * share
        line = _improve(line, bins.centre, images, goals)
        true = OWN_ERRORS + (1 - 2 * OWN_ERRORS) * _sigmoid(line[0] * bins.centre + line[1])
        with_label, without = _posterior(true, wrong, missing)
        held = bins.present * with_label + bins.absent * without
        before = wrong, missing
        wrong = (bins.present * (1 - with_label)).sum() / max((images - held).sum(), 1e-9)
        missing = (bins.absent * without).sum() / max(held.sum(), 1e-9)
        if start and abs(wrong - before[0]) + abs(missing - before[1]) < 1e-6:
            break
    return true, float(wrong), float(missing)


def _likelihood(bins: _Bins, true: np.ndarray, wrong: float, missing: float) -> float:
    """Logarithm of the probability of all labels as they are given."""
    given = true * (1 - missing) + (1 - true) * wrong
    return float((bins.present * np.log(given) + bins.absent * np.log1p(-given)).sum())


def _posterior(true: np.ndarray, wrong: float, missing: float) -> tuple[np.ndarray, np.ndarray]:
    """Probability of a true label where one is given, and where none is: both [B, C]."""
    given, absent = true * (1 - missing), true * missing
    return given / (given + (1 - true) * wrong), absent / (absent + (1 - true) * (1 - wrong))


def _improve(line: np.ndarray, x: np.ndarray, images: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """Some steps of Newton's method for the sigmoid of every class; slopes stay 0 or above."""
    for _ in range(_NEWTON):
        share = _sigmoid(line[0] * x + line[1])
        error, weight = images * (share - goals), images * (share * (1 - share) + 1e-6)
        by_slope, by_base = (error * x).sum(axis=0), error.sum(axis=0)
        curve, mixed, flat = ((weight * power).sum(axis=0) for power in (x * x, x, 1))
        area = np.maximum(curve * flat - mixed * mixed, 1e-12)
        step = np.stack([flat * by_slope - mixed * by_base, curve * by_base - mixed * by_slope])
        line = line - np.clip(step / area, -1.5, 1.5)
        line[0] = np.clip(line[0], 0, _STEEPEST)
    return line


def _sigmoid(odds: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(odds, -700, 700))))
