# SPDX-License-Identifier: Apache-2.0
"""Which images an epoch draws, and in which order: functions of the generator handed in.

Every epoch of a training has the same length, whatever the generator: the learning rate and a
resumed run count on it.
"""

from __future__ import annotations

import math

import numpy as np


def shuffled_order(size: int, rng: np.random.Generator) -> np.ndarray:
    """Every image once, shuffled: numbers 0 to size - 1."""
    return rng.permutation(size)


def repeat_factors(targets: np.ndarray, threshold: float) -> np.ndarray:
    """How often an epoch is to draw each image, on average: at least 1 (Gupta et al. 2019).

    Targets [N, C] -> [N] float64 (LVIS, arXiv:1908.03195): a class in a share f of the images
    below `threshold` asks for sqrt(threshold / f); an image takes the most that its classes ask
    for. Images without labels have 1.
    """
    present = targets > 0.5
    shares = present.mean(axis=0)
    wanted = np.ones(targets.shape[1])
    rare = (shares > 0) & (shares < threshold)
    wanted[rare] = np.sqrt(threshold / shares[rare])
    factors = np.ones(len(targets))
    for number in np.flatnonzero(rare):  # never [N, C] numbers of 8 bytes: lists may be long
        factors[present[:, number]] = np.maximum(factors[present[:, number]], wanted[number])
    return factors


def repeated_size(factors: np.ndarray) -> int:
    """Length of every order that `repeated_order` makes of these factors."""
    return round(math.fsum(factors))


def repeated_order(factors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Numbers of images, each as often as its factor says, shuffled.

    A factor of 2.3 gives two draws in every epoch, and a third one in 3 epochs of 10: which images
    get one more is drawn by systematic sampling, so that their number is the same every time.
    """
    whole = np.floor(factors)
    extra = _some(factors - whole, repeated_size(factors) - int(whole.sum()), rng)
    order = np.repeat(np.arange(len(factors)), whole.astype(np.int64) + extra)
    return rng.permutation(order)


def copies(order: np.ndarray) -> np.ndarray:
    """For each draw of an order, how often its image was drawn before in it: 0, 1, ..."""
    by_image = np.argsort(order, kind="stable")
    in_row = order[by_image]
    first = np.searchsorted(in_row, in_row)  # where the run of each image begins
    counts = np.empty(len(order), np.int64)
    counts[by_image] = np.arange(len(order)) - first
    return counts


def _some(shares: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` draws [N] in proportion to the shares: marks at equal distances on a line of them.

    The line is in random order: neighbours in the list, which marks rarely meet together, are often
    alike.
    """
    drawn = np.zeros(len(shares), np.int64)
    total = shares.sum()
    if count == 0 or total == 0:
        return drawn
    line = rng.permutation(len(shares))
    ends = np.cumsum(shares[line]) * (count / total)
    ends[-1] = count  # exactly, whatever the rounding
    marks = np.floor(np.minimum(ends, count) + rng.random())
    drawn[line] = np.diff(marks, prepend=0.0).astype(np.int64)
    return drawn
