# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from paddlex_ml.metrics.columns import columns


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
