# SPDX-License-Identifier: Apache-2.0
"""Quality of the order of the labels of each image; thresholds have no effect.

    scores [N, C], targets [N, C] -> rank of every label among those of its image -> Ranking

N images, C classes. Tsoumakas et al. 2010, "Mining Multi-label Data"; equal to scikit-learn's
coverage_error, label_ranking_loss and label_ranking_average_precision_score: labels with equal
scores share the worst of their ranks. Of each image, the labels that are known are ranked: images
without one do not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paddlex_ml.metrics.known import has_unknown, is_known, is_present

BLOCK = 2**18
"""Cells that are ranked at a time: their tables fit into the processor's cache."""


@dataclass(frozen=True)
class Ranking:
    """Means over all images, NaN where no image defines them."""

    coverage_error: float
    """Labels to read from the top until all true ones are found, 1..C; the mean number of true
    labels is best. An image without labels counts 0; NaN when no image has one."""
    ranking_loss: float
    """Share of pairs (true label, false label) in the wrong order or equal, 0..1, 0 is best. An
    image with no label or all counts 0, as it has no pairs; NaN when no image has any."""
    average_precision: float
    """Mean share of true labels among those down to each true one (LRAP), 0..1, 1 is best. An
    image without labels counts 1; NaN when no image has one."""


def rank(scores: np.ndarray, targets: np.ndarray) -> Ranking:
    """Rank the labels of every image by score, [N, C], and compare with those that it has."""
    if has_unknown(targets):
        counted = is_known(targets).any(axis=1)
        scores, targets = scores[counted], targets[counted]
        scores = np.where(is_known(targets), scores, -np.inf)  # below all known labels
    images, classes = scores.shape
    present, known = is_present(targets), np.full(images, classes)
    if has_unknown(targets):
        known = is_known(targets).sum(axis=1)
    rows = max(1, BLOCK // max(1, classes))
    blocks = [
        _measure(*(each[begin : begin + rows] for each in (scores, present, known)))
        for begin in range(0, images, rows)
    ]
    labels = present.sum(axis=1)
    some, pairs = labels.any(), ((labels > 0) & (labels < known)).any()
    coverage, loss, precision = np.reshape(blocks, (-1, 3)).sum(axis=0)
    return Ranking(
        coverage_error=float(coverage / images) if some else np.nan,
        ranking_loss=float(loss / images) if pairs else np.nan,
        average_precision=float(precision / images) if some else np.nan,
    )


def _measure(
    scores: np.ndarray, present: np.ndarray, known: np.ndarray
) -> tuple[float, float, float]:
    """Sums over some images: coverage error, ranking loss, average precision.

    scores, present: [n, C]; unknown labels have the score -inf. known: how many are not, [n].
    """
    images, classes = scores.shape
    image, label = np.nonzero(present)  # M true labels
    labels = present.sum(axis=1)
    # A number for each score, in the same order, and between the numbers of other images: so that
    # one search finds the rank of every true label among all labels of its own image.
    numbers = np.sort(_number(scores), axis=1) + (np.arange(images)[:, None] << 33)
    own = _number(scores[image, label]) + (image << 33)
    rank_of = (image + 1) * classes - np.searchsorted(numbers.ravel(), own)  # [M], 1..C
    ends = np.cumsum(labels)
    true_above = ends[image] - np.searchsorted(np.sort(own), own)

    coverage = np.zeros(images, np.int64)
    np.maximum.at(coverage, image, rank_of)
    wrong_pairs = np.bincount(image, rank_of - true_above, images)
    pairs = labels * (known - labels)
    loss = wrong_pairs / np.maximum(pairs, 1)
    precision = np.bincount(image, true_above / rank_of, images) / np.maximum(labels, 1)
    return float(coverage.sum()), float(loss.sum()), float(precision.sum() + (labels == 0).sum())


def _number(scores: np.ndarray) -> np.ndarray:
    """Whole numbers, int32, in the order of float32 scores; equal for equal ones."""
    bits = (scores.astype(np.float32) + np.float32(0)).view(np.int32)  # no -0.0
    return np.asarray(bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF)))
