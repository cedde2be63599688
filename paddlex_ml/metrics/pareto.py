# SPDX-License-Identifier: Apache-2.0
"""Which of several models nobody would give up: no other one is both faster and better."""

from __future__ import annotations

import numpy as np


def find_front(costs: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """The Pareto front of models with costs [N], lower is better, and gains [N]: bool [N].

    A model is on it unless another one is at least as good in both, and better in one of them. Of
    equal models all are on it.
    """
    no_dearer = costs[None, :] <= costs[:, None]
    no_worse = gains[None, :] >= gains[:, None]
    better = (costs[None, :] < costs[:, None]) | (gains[None, :] > gains[:, None])
    return np.asarray(~(no_dearer & no_worse & better).any(axis=1))
