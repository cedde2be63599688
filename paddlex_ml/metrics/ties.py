# SPDX-License-Identifier: Apache-2.0
"""Which scores count as equal: also those of a crowd that differs by rounding alone.

The same image gets other last digits in a batch of another size, on another machine, or from the
exported graph, because sums of float32 are then added in another order. Where a network tells
images apart, this changes the order of a few pairs at most. But a network that learned nothing
gives many images the same score except for these digits, and the order of a crowd is then chance:
its average precision was seen from 0.50 to 0.75 for the same weights. So the scores of a crowd
count as equal where they lie within the noise, which `benchmarks/score_noise.py` measures; others
count as they are.
"""

from __future__ import annotations

import math

import numpy as np

NOISE = 2e-5
"""Difference of log odds up to which the scores of a crowd count as equal."""
CROWD = 0.25
"""Share of the images that are a crowd."""
WIDEST = 5 * NOISE
"""Largest difference of log odds between the dense part of a crowd and another of its scores."""
_LAST_DIGITS = 2.0**-22  # of a score, relative: next to 1 a float32 has no finer steps


def group_ends(falling: np.ndarray, noise: float) -> np.ndarray:
    """Position of the last score of each group of equals: scores [N] by falling value -> [G].

    noise: difference of log odds within which a crowd is equal; 0: only equal scores are equal.
    A crowd reaches up and down to the next gap that is wider: cut in the midst of close scores,
    rounding would decide which of them belong to it. There are at most 1 / CROWD of them.
    """
    count = len(falling)
    is_last = np.append(falling[1:] != falling[:-1], [True] * (count > 0))
    if noise and count > 1:
        further = max(2, math.ceil(CROWD * count)) - 1
        reach = width(falling, noise)
        begins = np.flatnonzero(falling[:-further] - falling[further:] <= reach[:-further])
        cuts = np.arange(0)
        if len(begins):
            gaps = falling[:-1] - falling[1:] > reach[:-1]
            cuts = np.concatenate([[0], np.flatnonzero(gaps) + 1, [count]])
        end = 0  # of the crowd before, exclusive
        while len(begins := begins[begins >= end]):
            begin = int(begins[0])
            dense = int(np.count_nonzero(falling[begin] - falling[begin:] <= reach[begin]))
            widest = np.flatnonzero(
                np.abs(falling - falling[begin]) <= WIDEST / NOISE * reach[begin]
            )
            first = max(end, int(widest[0]), int(cuts[cuts <= begin][-1]))
            end = min(int(widest[-1]) + 1, int(cuts[cuts >= begin + dense][0]))
            if first:
                is_last[first - 1] = True
            is_last[first : end - 1] = False
            is_last[end - 1] = True
    return np.flatnonzero(is_last)


def width(scores: np.ndarray, noise: float) -> np.ndarray:
    """How far below each score, 0..1, others may lie that differ by this noise of log odds."""
    spread: np.ndarray = scores * (1 - scores) * noise + scores * _LAST_DIGITS
    return spread
