# SPDX-License-Identifier: Apache-2.0
"""Learning rate of every step: linear warm-up, then half a cosine down to almost nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

START = 1e-6  # rate of the very first step
FLOOR = 1e-10  # rate that the cosine ends at


class Schedule(Protocol):
    """Rate of every step, 0 to total_steps - 1."""

    @property
    def peak(self) -> float:
        """The largest rate."""

    @property
    def total_steps(self) -> int:
        """Updates of the whole training."""

    def rate(self, step: int) -> float:
        """Rate of one update."""


@dataclass(frozen=True)
class WarmupCosine:
    """Rate as a function of the step alone, so that a resumed run needs no state for it.

    Equal to the published schedule inside the training; past its end the rate stays at the floor,
    where Paddle's own cosine climbs again.
    """

    peak: float
    total_steps: int
    warmup_steps: int
    """Length of the warm-up in steps (updates)."""

    def rate(self, step: int) -> float:
        """Rate of step 0, 1, ...; the peak is reached at step `warmup_steps`."""
        if step < self.warmup_steps:
            return START + (self.peak - START) * step / self.warmup_steps
        length = self.total_steps - self.warmup_steps
        progress = min((step - self.warmup_steps) / length, 1.0) if length > 0 else 0.0
        return FLOOR + (self.peak - FLOOR) * (1 + math.cos(math.pi * progress)) / 2


def warmup_cosine(
    peak: float, *, epochs: int, steps_per_epoch: int, warmup_epochs: float
) -> WarmupCosine:
    """Build the schedule from epochs, the unit of the configuration."""
    return WarmupCosine(
        peak=peak,
        total_steps=epochs * steps_per_epoch,
        warmup_steps=round(warmup_epochs * steps_per_epoch),
    )
