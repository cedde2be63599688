# SPDX-License-Identifier: Apache-2.0
"""What the kernels of `paddlex_ml.kernels.convolution` must know: places in a map as numbers.

That file says how they see a map. Here everything follows from sizes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Taps(NamedTuple):
    """Taps in the order in which a kernel of `convolution` takes them."""

    places: list[tuple[int, int]]
    """Row and column in the weight."""
    distances: np.ndarray[Any, Any]
    runs: np.ndarray[Any, Any]
    cuts: np.ndarray[Any, Any]


class Grid(NamedTuple):
    """How the kernels for convolutions see a map [H, W]: phases with rows of one pitch."""

    before: tuple[int, ...]
    """Height and width of the input."""
    after: tuple[int, ...]
    """Those of the output."""
    kernel: int
    stride: int
    pitch: int
    size: int
    """Length of a phase."""

    @classmethod
    def of(cls, before: Sequence[int], kernel: int, stride: int) -> Grid:
        """Of an input of this height and width."""
        after = [(size - 1) // stride + 1 for size in before]
        rows, pitch = (
            (max((n - 1) * stride + kernel, m + (kernel - 1) // 2) + stride - 1) // stride
            for m, n in zip(before, after, strict=True)
        )
        return cls((*before,), (*after,), kernel, stride, pitch, rows * pitch + kernel)

    @property
    def pad(self) -> int:
        """Rows of zeros before the first one."""
        return (self.kernel - 1) // 2

    @property
    def margin(self) -> int:
        """Zeros before the first phase, where the gradient by the input begins to read."""
        return (self.kernel // self.stride + 1) * (self.pitch + 1)

    @property
    def length(self) -> int:
        """Length of an output at this pitch."""
        return (self.after[0] - 1) * self.pitch + self.after[1]

    def forward(self, lengths: Sequence[int]) -> Taps:
        """Taps of the convolution, row by row; `lengths` as of `_in_runs`."""
        places = [(i, j) for i in range(self.kernel) for j in range(self.kernel)]
        step = self.stride
        distances = [
            (i % step * step + j % step) * self.size + i // step * self.pitch + j // step
            for i, j in places
        ]
        return _in_runs([places], distances, lengths)

    def backward(self, lengths: Sequence[int]) -> Taps:
        """For each phase of the input, the taps that read it, and from which output."""
        taps, step = range(self.kernel), self.stride
        phases = [
            [(i, j) for i in taps[a::step] for j in taps[b::step]]
            for a in range(step)
            for b in range(step)
        ]
        distances = [
            self.margin - i // step * self.pitch - j // step for phase in phases for i, j in phase
        ]
        return _in_runs(phases, distances, lengths)

    def settings(self, channels: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """`source` and `target` of the convolution."""
        source = (*self.before, self.pad, self.stride, self.pitch, self.size, 0, channels)
        return source, (*self.after, 0, 1, self.pitch, self.after[0] * self.pitch, self.length)

    def settings_back(self, channels: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Those of the gradient by the input."""
        source = (*self.after, 0, 1, self.pitch, self.size, self.margin, channels)
        return source, (*self.before, self.pad, self.stride, self.pitch, self.size, self.size)


def _in_runs(
    phases: Sequence[Sequence[tuple[int, int]]], distances: Sequence[int], lengths: Sequence[int]
) -> Taps:
    """Runs of 1, 2 or 3 taps; a phase that runs of one of `lengths` fill has such runs."""
    runs, cuts = [0], [0]
    for phase in phases:
        left = len(phase)
        fitting = [n for n in lengths if len(phase) % n == 0]
        while left:
            most = fitting[0] if fitting else 2 if left == 4 else min(left, 3)
            runs.append(runs[-1] + most)
            left -= most
        cuts.append(len(runs) - 1)
    places = [place for phase in phases for place in phase]
    return Taps(places, np.array(distances), np.array(runs), np.array(cuts))
