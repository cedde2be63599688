# SPDX-License-Identifier: Apache-2.0
"""Graphs that take batches of one size, run with batches of any size.

A file may have been exported, by this tool or another one, for batches of a fixed size. Larger
batches are divided, and the last part is filled up with zeros, whose scores are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

Network: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""Images float32 [B, 3, H, W] -> scores float32 [B, C], or the attention float32 [B, heads, Q, T].
"""


def divide(run_part: Network, size: int | None) -> Network:
    """A function for any batch, of one for batches of `size`; None: that takes any number."""

    def run(batch: np.ndarray) -> np.ndarray:
        if size is None or len(batch) == size:
            return run_part(batch)
        parts = []
        for start in range(0, len(batch), size):
            part = batch[start : start + size]
            filled = np.zeros((size, *part.shape[1:]), part.dtype)
            filled[: len(part)] = part
            parts.append(run_part(filled)[: len(part)])
        return np.concatenate(parts)

    return run


def find(run_part: Network, first: object, probe: np.ndarray) -> tuple[Network, np.ndarray]:
    """A function for any batch, and its result for `probe`.

    first: side of the graph's input that the file states for the batch; no positive int: any. Some
    tools name it open although the graph takes one image at a time.
    """
    if isinstance(first, int) and first > 0:
        run = divide(run_part, first)
        return run, run(probe)
    run = divide(run_part, None)
    try:
        return run, run(probe)
    except Exception as error:  # engines' errors have no other class in common
        single = divide(run_part, 1)
        try:
            return single, single(probe)
        except Exception:
            raise error from None  # the first reason is the one to tell
