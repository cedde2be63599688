# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from paddlex_ml.metrics import score_changes


def test_movement_and_changed_decisions_are_counted() -> None:
    scores = np.array([[0.9, 0.2], [0.4, 0.6], [0.5, 0.1]], np.float32)
    others = np.array([[0.8, 0.3], [0.6, 0.6], [0.4, 0.1]], np.float32)
    found = score_changes.compare(scores, others, np.array([0.5, 0.25]))
    assert found.changed.tolist() == [2, 1]
    assert found.images == 3
    assert found.share == 0.5
    assert found.largest == pytest.approx(0.2)
    assert found.mean == pytest.approx((0.1 + 0.1 + 0.2 + 0 + 0.1 + 0) / 6)


def test_equal_scores_have_changed_nothing() -> None:
    scores = np.random.default_rng(0).random((5, 3)).astype(np.float32)
    found = score_changes.compare(scores, scores.copy(), np.full(3, 0.5))
    assert (found.mean, found.largest, found.share) == (0, 0, 0)


@pytest.mark.parametrize("shape", [(0, 2), (2, 3)], ids=["no image", "other classes"])
def test_what_cannot_be_compared_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        score_changes.compare(np.zeros((shape[0], 2)), np.zeros(shape), np.zeros(2))
