# SPDX-License-Identifier: Apache-2.0
"""The columns of tables [N, C], one class after the other, each contiguous in memory.

A column of a table lies in as many places as there are images. Reading it there takes several times
as long as the arithmetic; a copy of the whole table would take its memory again.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_AT_ONCE = 64  # classes: as many float32 as a few cache lines hold


def columns(*tables: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield, for each class, its column of every table: arrays [N]."""
    for start in range(0, tables[0].shape[1], _AT_ONCE):
        blocks = [np.ascontiguousarray(table[:, start : start + _AT_ONCE].T) for table in tables]
        yield from zip(*blocks, strict=True)
