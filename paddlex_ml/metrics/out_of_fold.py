# SPDX-License-Identifier: Apache-2.0
"""Scores for images whose labels the model has learned: each by a linear probe that did not see it.

    features [N, D], targets [N, C] -> K folds -> ridge regression on the K - 1 others -> scores

A trained model has seen the labels of its own training list, the wrong ones too, and tends to
repeat them. The strict remedy is K trainings, each without one fold of the list. This is a cheap
approximation: the backbone stays, and only a linear probe of its features is fitted K times, in
closed form for all classes at once. The label of an image affects its own score only through the
backbone.

A class that is unknown for some images is fitted to the others alone, and has scores for them
alone. Classes that are known for the same images are fitted together, so that the time grows with
the number of such groups.

Near-duplicates in different folds are a leak: where a wrong label was copied together with the
photograph, each copy confirms the other.

N images, D features, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from paddlex_ml.metrics.known import has_unknown, is_known
from paddlex_ml.metrics.label_quality import calibrate

PENALTIES: tuple[float, ...] = tuple(10.0 ** (half / 2) for half in range(-6, 7))
"""Candidates for the penalty of the ridge, in mean variances along the features' directions."""
_BLOCK = 1 << 13  # rows that are held in float64
_CHOOSING = 10_000  # images of each fold that the penalty is chosen on


class _Moments(NamedTuple):
    """Sums over some images. Those outside a fold are the sums of all minus those of the fold."""

    images: int
    features: np.ndarray  # [D]
    targets: np.ndarray  # [C]
    gram: np.ndarray  # [D, D]
    cross: np.ndarray  # [D, C]


class _LinearProbe(NamedTuple):
    """A linear regression fitted to the images outside one fold, for every penalty at once."""

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
    """Scores float32 [N, C] in 0..1 from features [N, D] and targets [N, C]: 0, 1 or UNKNOWN.

    The penalty, one for all classes, is that with the smallest error on the images left out. The
    answers become scores by one sigmoid per class, whose two numbers are fitted to all images.
    A single image gets 0.5 for all classes. Needs memory for D x D x K numbers of float64.

    NaN where a target is unknown. With unknown ones, classes that are known for the same images
    have the scores, and the penalty, that they would have if there were no others.
    """
    assert folds >= 2  # a single fold would leave no images to fit
    if has_unknown(targets):
        scores = np.full(targets.shape, np.nan, np.float32)
        known, group_of = np.unique(is_known(targets), axis=1, return_inverse=True)
        for number, rows in enumerate(known.T):
            cells = np.ix_(rows, group_of.ravel() == number)
            if rows.any():
                part = features[rows], targets[cells]
                scores[cells] = score_out_of_fold(*part, folds=folds, seed=seed)
        return scores
    order = np.random.default_rng(seed).permutation(len(features))
    fold_ids = [np.sort(fold) for fold in np.array_split(order, folds)]
    scale = _standard_deviation(features)
    if len(features) < features.shape[1]:
        # As many directions as images, [N, N]: a ridge depends on distances alone, which stay, and
        # N x N matrices are the smaller ones here.
        scaled = features / scale
        values, directions = np.linalg.eigh(scaled @ scaled.T)
        features = directions * np.sqrt(np.maximum(values, 0))
        scale = np.ones(features.shape[1])
    sums = [_moments(features, targets, fold, scale) for fold in fold_ids]
    total: list[Any] = [sum(of_folds) for of_folds in zip(*sums, strict=True)]
    probes = [
        _fit(_Moments(*(of_all - own for of_all, own in zip(total, fold, strict=True))))
        for fold in sums
    ]
    penalty = _choose_penalty(probes, fold_ids, features, targets, scale)
    answers = np.empty(targets.shape)
    for read_out, fold in zip(probes, fold_ids, strict=True):
        for chosen, rows in _blocks(features, fold, scale):
            answers[chosen] = read_out.answer(rows, penalty)
    return calibrate(answers, targets).astype(np.float32)


def _standard_deviation(features: np.ndarray) -> np.ndarray:
    """Of each feature, [D]; 1 where it is constant."""
    total, squares = np.zeros(features.shape[1]), np.zeros(features.shape[1])
    first = features[:1].sum(axis=0, dtype=np.float64)  # subtracted: large squares lose digits
    for _, rows in _blocks(features, np.arange(len(features)), np.ones(features.shape[1])):
        total += (rows - first).sum(axis=0)
        squares += np.square(rows - first).sum(axis=0)
    count = max(len(features), 1)
    variance = squares / count - np.square(total / count)
    return np.sqrt(np.where(variance > 1e-12, variance, 1.0))


def _moments(
    features: np.ndarray, targets: np.ndarray, image_ids: np.ndarray, scale: np.ndarray
) -> _Moments:
    width, classes = features.shape[1], targets.shape[1]
    gram, cross = np.zeros((width, width)), np.zeros((width, classes))
    total, present = np.zeros(width), np.zeros(classes)
    for chosen, rows in _blocks(features, image_ids, scale):
        truth = targets[chosen].astype(np.float64)
        gram += rows.T @ rows
        cross += rows.T @ truth
        total += rows.sum(axis=0)
        present += truth.sum(axis=0)
    return _Moments(len(image_ids), total, present, gram, cross)


def _fit(sums: _Moments) -> _LinearProbe:
    count = max(sums.images, 1)
    centre = sums.features / count
    base = (sums.targets + 1) / (sums.images + 2)
    covariance = sums.gram / count - np.outer(centre, centre)
    slopes = sums.cross / count - np.outer(centre, sums.targets / count)
    variances, directions = np.linalg.eigh(covariance)
    return _LinearProbe(centre, base, directions, np.maximum(variances, 0), directions.T @ slopes)


def _choose_penalty(
    probes: list[_LinearProbe],
    fold_ids: list[np.ndarray],
    features: np.ndarray,
    targets: np.ndarray,
    scale: np.ndarray,
) -> float:
    """The candidate with the smallest squared error on the images that were left out."""
    errors = np.zeros(len(PENALTIES))
    for read_out, fold in zip(probes, fold_ids, strict=True):
        for chosen, rows in _blocks(features, fold[:: -(-len(fold) // _CHOOSING) or 1], scale):
            for number, penalty in enumerate(PENALTIES):
                error = read_out.answer(rows, penalty) - targets[chosen]
                errors[number] += np.square(error).sum()
    return PENALTIES[int(errors.argmin())]


def _blocks(
    features: np.ndarray, image_ids: np.ndarray, scale: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield ids of images, a block at a time, and their features in float64 divided by `scale`."""
    for start in range(0, len(image_ids), _BLOCK):
        chosen = image_ids[start : start + _BLOCK]
        yield chosen, features[chosen] / scale
