# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from paddlex_ml.metrics import known


@pytest.mark.parametrize("dtype", [np.int8, np.float32])
def test_every_cell_is_present_absent_or_unknown(dtype: type) -> None:
    targets = np.array([[1, 0, known.UNKNOWN]], dtype)
    assert known.is_present(targets).tolist() == [[True, False, False]]
    assert known.is_absent(targets).tolist() == [[False, True, False]]
    assert known.is_known(targets).tolist() == [[True, True, False]]
    assert known.has_unknown(targets)
    assert not known.has_unknown(targets[:, :2])
    assert not known.has_unknown(targets[:0])


def test_a_mixed_target_is_present_above_one_half() -> None:
    targets = np.array([0.5, 0.51, 0.0], np.float32)
    assert known.is_present(targets).tolist() == [False, True, False]
    assert known.is_absent(targets).tolist() == [True, False, True]
