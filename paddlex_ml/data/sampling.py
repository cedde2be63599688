# SPDX-License-Identifier: Apache-2.0
"""Which images an epoch draws, and in which order: functions of the generator passed in.

Every epoch of a training has the same length, whatever the generator: the learning rate and a
resumed run depend on it.
"""

from __future__ import annotations

import math

import numpy as np

from paddlex_ml.data import targets
from paddlex_ml.data.targets import Targets


def shuffled_order(size: int, rng: np.random.Generator) -> np.ndarray:
    """Every image once, shuffled: numbers 0 to size - 1."""
    return rng.permutation(size)


def repeat_factors(values: Targets, threshold: float) -> np.ndarray:
    """How often an epoch is to draw each image, on average: at least 1 (Gupta et al. 2019).

    Targets [N, C] -> [N] float64 (LVIS, arXiv:1908.03195): a class in a share f of the images
    below `threshold` has the factor sqrt(threshold / f); an image has the largest factor of its
    classes. Images without labels have 1. Of a class the share counts images where it is known.
    """
    counts = targets.count(values)
    shares = counts.present / np.maximum(counts.known, 1)
    wanted = np.ones(values.shape[1])
    rare = (shares > 0) & (shares < threshold)
    wanted[rare] = np.sqrt(threshold / shares[rare])
    factors = np.ones(len(values))
    images, classes = targets.cells(values)
    np.maximum.at(factors, images, wanted[classes])
    return factors


def repeated_size(factors: np.ndarray) -> int:
    """Length of every order that `repeated_order` makes of these factors."""
    return round(math.fsum(factors))


def repeated_order(factors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Numbers of images, each as often as its factor says, shuffled.

    A factor of 2.3 gives two draws in every epoch, and a third one in 3 epochs of 10. Systematic
    sampling chooses the images that get one more draw, so that their number is always the same:
    marks at equal distances on a line of the fractions. The line is in random order, because
    neighbours in the list, which are often alike, would rarely be drawn together.
    """
    certain = np.floor(factors)
    fractions, extra = factors - certain, np.zeros(len(factors), np.int64)
    count, total = repeated_size(factors) - int(certain.sum()), fractions.sum()
    if count and total:
        line = rng.permutation(len(fractions))
        ends = np.cumsum(fractions[line]) * (count / total)
        ends[-1] = count  # exactly, whatever the rounding
        marks = np.floor(np.minimum(ends, count) + rng.random())
        extra[line] = np.diff(marks, prepend=0.0).astype(np.int64)
    order = np.repeat(np.arange(len(factors)), certain.astype(np.int64) + extra)
    return rng.permutation(order)


def copies(order: np.ndarray) -> np.ndarray:
    """For each draw of an order, how often its image was drawn before: 0, 1, ..."""
    by_image = np.argsort(order, kind="stable")
    in_row = order[by_image]
    first = np.searchsorted(in_row, in_row)  # where the run of each image begins
    counts = np.empty(len(order), np.int64)
    counts[by_image] = np.arange(len(order)) - first
    return counts
