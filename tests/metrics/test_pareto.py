# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from paddlex_ml.metrics.pareto import find_front


@pytest.mark.parametrize(
    ("costs", "gains", "front"),
    [
        ([3, 2, 1], [0.9, 0.8, 0.7], [True, True, True]),
        ([3, 2, 1], [0.7, 0.8, 0.9], [False, False, True]),
        ([2, 1, 1], [0.8, 0.8, 0.7], [False, True, False]),
        ([1, 1], [0.5, 0.5], [True, True]),
        ([1], [0.0], [True]),
        ([], [], []),
    ],
)
def test_the_front_is_of_those_that_no_other_one_replaces(costs, gains, front):
    assert find_front(np.array(costs), np.array(gains)).tolist() == front


def test_a_model_off_the_front_is_replaced_by_one_on_it():
    rng = np.random.default_rng(0)
    costs, gains = rng.integers(0, 5, (2, 40))
    front = find_front(costs, gains)
    for cost, gain in zip(costs[~front], gains[~front], strict=True):
        assert ((costs[front] <= cost) & (gains[front] >= gain)).any()
