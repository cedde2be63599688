# SPDX-License-Identifier: Apache-2.0
"""Scores for images whose labels the model has learned: each by a read-out that did not see it.

    features [N, D], targets [N, C] -> K folds -> ridge regression on the K - 1 others -> scores

A trained model has seen the labels of its own training list, the wrong ones too, and comes to
repeat them. The strict way out is K trainings, each without one part of the list. This is its cheap
relative: the backbone stays, and only a linear read-out of its features is fitted K times, in
closed form for all classes at once. The label of an image reaches its own score through the
backbone alone.

Copies of one photograph in different folds are a leak: where a wrong label was copied with the
picture, each copy confirms the other.

N images, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import NamedTuple

import numpy as np

from paddlex_ml.metrics.label_quality import calibrate

PENALTIES: tuple[float, ...] = tuple(10.0 ** (half / 2) for half in range(-6, 7))
"""Candidates for the penalty of the ridge, in mean variances along the features' directions."""
_AT_ONCE = 1 << 13  # rows that are held in float64
_CHOOSING = 10_000  # images of each fold that choose the penalty


class _Moments(NamedTuple):
    """Sums over some images: those without a fold are those of all minus those of the fold."""

    images: int
    features: np.ndarray  # [D]
    targets: np.ndarray  # [C]
    gram: np.ndarray  # [D, D]
    cross: np.ndarray  # [D, C]

    def plus(self, other: _Moments) -> _Moments:
        """The sums over the images of both."""
        return _Moments(
            self.images + other.images,
            self.features + other.features,
            self.targets + other.targets,
            self.gram + other.gram,
            self.cross + other.cross,
        )

    def without(self, part: _Moments) -> _Moments:
        """The sums over the images that are not in `part`."""
        return _Moments(
            self.images - part.images,
            self.features - part.features,
            self.targets - part.targets,
            self.gram - part.gram,
            self.cross - part.cross,
        )


class _ReadOut(NamedTuple):
    """Fitted to the images outside one fold, for every penalty at once."""

    centre: np.ndarray  # [D]
    base: np.ndarray  # [C]
    directions: np.ndarray  # [D, D], in columns
    variances: np.ndarray  # [D], along the directions
    slopes: np.ndarray  # [D, C], along the directions, times the variances

    def answer(self, rows: np.ndarray, penalty: float) -> np.ndarray:
        """Features [B, D] -> answers [B, C], about 0 for absent and 1 for present."""
        ridge = penalty * max(float(self.variances.mean()), 1e-12)
        weights = self.directions @ (self.slopes / (self.variances + ridge)[:, None])
        answers: np.ndarray = (rows - self.centre) @ weights + self.base
        return answers


def score_out_of_fold(
    features: np.ndarray, targets: np.ndarray, *, folds: int = 5, seed: int
) -> np.ndarray:
    """Scores float32 [N, C] in 0..1 from features [N, D] and targets [N, C], 0 or 1.

    The penalty is the one that errs least on the images left out, the same for all classes. The
    answers become scores by one sigmoid per class, whose two numbers are fitted to all images.
    A single image gets 0.5 for all classes. Needs D x D x K numbers of float64 beside its input.
    """
    assert folds >= 2  # one fold would be all, and leave nothing to fit
    order = np.random.default_rng(seed).permutation(len(features))
    parts = [np.sort(part) for part in np.array_split(order, folds)]
    scale = _spread(features)
    if len(features) < features.shape[1]:
        features = _turn(features / scale)
        scale = np.ones(features.shape[1])
    sums = [_moments(features, targets, part, scale) for part in parts]
    whole = reduce(_Moments.plus, sums)
    read_outs = [_fit(whole.without(part)) for part in sums]
    penalty = _choose_penalty(read_outs, parts, features, targets, scale)
    answers = np.empty(targets.shape)
    for read_out, part in zip(read_outs, parts, strict=True):
        for chosen, rows in _blocks(features, part, scale):
            answers[chosen] = read_out.answer(rows, penalty)
    return calibrate(answers, targets).astype(np.float32)


def _turn(features: np.ndarray) -> np.ndarray:
    """The same images in as many directions as there are images: [N, D] -> [N, N].

    A ridge knows distances alone, which stay; and N x N matrices are the smaller ones here.
    """
    values, directions = np.linalg.eigh(features @ features.T)
    return np.asarray(directions * np.sqrt(np.maximum(values, 0)))


def _spread(features: np.ndarray) -> np.ndarray:
    """Standard deviation of each feature; 1 where it is constant."""
    everyone = np.arange(len(features))
    total, squares = np.zeros(features.shape[1]), np.zeros(features.shape[1])
    first = features[:1].sum(axis=0, dtype=np.float64)  # squares of what is near 0 lose no digits
    for _, rows in _blocks(features, everyone, np.ones(features.shape[1])):
        total += (rows - first).sum(axis=0)
        squares += np.square(rows - first).sum(axis=0)
    count = max(len(features), 1)
    variance = squares / count - np.square(total / count)
    return np.sqrt(np.where(variance > 1e-12, variance, 1.0))


def _moments(
    features: np.ndarray, targets: np.ndarray, part: np.ndarray, scale: np.ndarray
) -> _Moments:
    wide, classes = features.shape[1], targets.shape[1]
    gram, cross = np.zeros((wide, wide)), np.zeros((wide, classes))
    total, present = np.zeros(wide), np.zeros(classes)
    for chosen, rows in _blocks(features, part, scale):
        truth = targets[chosen].astype(np.float64)
        gram += rows.T @ rows
        cross += rows.T @ truth
        total += rows.sum(axis=0)
        present += truth.sum(axis=0)
    return _Moments(len(part), total, present, gram, cross)


def _fit(sums: _Moments) -> _ReadOut:
    count = max(sums.images, 1)
    centre = sums.features / count
    base = (sums.targets + 1) / (sums.images + 2)
    covariance = sums.gram / count - np.outer(centre, centre)
    slopes = sums.cross / count - np.outer(centre, sums.targets / count)
    variances, directions = np.linalg.eigh(covariance)
    return _ReadOut(centre, base, directions, np.maximum(variances, 0), directions.T @ slopes)


def _choose_penalty(
    read_outs: list[_ReadOut],
    parts: list[np.ndarray],
    features: np.ndarray,
    targets: np.ndarray,
    scale: np.ndarray,
) -> float:
    """The candidate with the smallest squared error on images that did not take part."""
    errors = np.zeros(len(PENALTIES))
    for read_out, part in zip(read_outs, parts, strict=True):
        for chosen, rows in _blocks(features, part[:: -(-len(part) // _CHOOSING) or 1], scale):
            for number, penalty in enumerate(PENALTIES):
                missed = read_out.answer(rows, penalty) - targets[chosen]
                errors[number] += np.square(missed).sum()
    best = int(errors.argmin())
    return PENALTIES[best]


def _blocks(
    features: np.ndarray, part: np.ndarray, scale: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield some of the images `part` and their features in float64, divided by `scale`."""
    for start in range(0, len(part), _AT_ONCE):
        chosen = part[start : start + _AT_ONCE]
        yield chosen, features[chosen] / scale
