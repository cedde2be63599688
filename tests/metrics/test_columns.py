# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from paddlex_ml.metrics import columns as module
from paddlex_ml.metrics.columns import columns, map_columns


@pytest.mark.parametrize("classes", [0, 1, 63, 64, 65, 200])
def test_every_column_comes_once_and_contiguous(classes: int) -> None:
    scores = np.random.default_rng(0).random((7, classes), np.float32)
    targets = (scores > 0.5).astype(np.int8)
    found = list(columns(scores, targets))
    assert len(found) == classes
    for i, (score, target) in enumerate(found):
        assert np.array_equal(score, scores[:, i])
        assert np.array_equal(target, targets[:, i])
        assert score.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("large", [0, 1 << 30])
def test_results_come_in_the_order_of_the_classes(
    monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    monkeypatch.setattr(module, "_LARGE", large)
    scores = np.random.default_rng(0).random((5, 1000), np.float32)
    found = list(map_columns(lambda score, other: float((score + other).sum()), scores, 2 * scores))
    assert found == pytest.approx(3 * scores.sum(axis=0))


def test_an_error_of_a_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LARGE", 0)
    with pytest.raises(ZeroDivisionError):
        list(map_columns(lambda score: 1 // 0, np.zeros((2, 200))))
