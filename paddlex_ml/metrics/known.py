# SPDX-License-Identifier: Apache-2.0
"""Cells of targets [N, C] whose value somebody has looked up: present, absent, or unknown.

A target is 1 (the image shows the class), 0 (it does not), a number between (how certain it is), or
UNKNOWN. Measures count known cells only: an unknown one is never taken for an absent one.
"""

from __future__ import annotations

import numpy as np

UNKNOWN = -1
"""The value of a cell that nobody has looked up."""


def is_present(targets: np.ndarray) -> np.ndarray:
    """Cells that are known to be present: [N, C] -> bool [N, C]."""
    return np.asarray(targets > 0.5)


def is_known(targets: np.ndarray) -> np.ndarray:
    """Cells with a value: [N, C] -> bool [N, C]."""
    return np.asarray(targets >= 0)


def is_absent(targets: np.ndarray) -> np.ndarray:
    """Cells that are known to be absent: [N, C] -> bool [N, C]."""
    absent = ~is_present(targets)
    return absent & is_known(targets) if has_unknown(targets) else absent


def has_unknown(targets: np.ndarray) -> bool:
    """Whether any cell is unknown."""
    return bool(targets.size) and bool(targets.min() < 0)
