# SPDX-License-Identifier: Apache-2.0
"""The columns of tables [N, C], one class after the other, each contiguous in memory.

A column of a table lies in as many places as there are images. Reading it there takes several times
as long as the arithmetic; a copy of the whole table would take its memory again.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

_AT_ONCE = 64  # classes: as many float32 as a few cache lines hold
_LARGE = 1 << 25  # cells from which threads save more than they cost
_Result = TypeVar("_Result")


def columns(*tables: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield, for each class, its column of every table: arrays [N]."""
    for start in range(0, tables[0].shape[1], _AT_ONCE):
        blocks = [np.ascontiguousarray(table[:, start : start + _AT_ONCE].T) for table in tables]
        yield from zip(*blocks, strict=True)


def map_columns(work: Callable[..., _Result], *tables: np.ndarray) -> Iterator[_Result]:
    """Yield what `work` makes of the columns of each class, in the order of the classes.

    Large tables are worked on by threads: numpy sorts and searches without the interpreter.
    """
    if tables[0].size < _LARGE:
        for each in columns(*tables):
            yield work(*each)
        return

    def work_on(start: int) -> list[_Result]:
        part = (table[:, start : start + _AT_ONCE] for table in tables)
        return [work(*each) for each in columns(*part)]

    threads = os.cpu_count() or 1
    waiting: deque[Future[list[_Result]]] = deque()
    with ThreadPoolExecutor(threads, "columns") as pool:
        for start in range(0, tables[0].shape[1], _AT_ONCE):
            waiting.append(pool.submit(work_on, start))
            if len(waiting) > 2 * threads:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
