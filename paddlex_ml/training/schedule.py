# SPDX-License-Identifier: Apache-2.0
"""Learning rate of every step: a function of the step alone, so a resumed run needs no state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

START = 1e-6  # rate of the very first step
FLOOR = 1e-10  # rate that the cosine ends at
ONE_CYCLE_START = 25  # the peak over the rate of the very first step
ONE_CYCLE_END = 1e4  # the peak over the rate of the very last step

Kind: TypeAlias = Literal["cosine", "one_cycle"]


@dataclass(frozen=True)
class WarmupCosine:
    """Linear warm-up, then half a cosine down to almost nothing.

    Equal to the published schedule inside the training; past its end the rate stays at the floor,
    where Paddle's own cosine climbs again.
    """

    peak: float
    """Highest rate, reached at step `warmup_steps`."""
    total_steps: int
    """Steps (updates) of the whole training."""
    warmup_steps: int

    def rate(self, step: int) -> float:
        """Rate of step 0, 1, ..."""
        if step < self.warmup_steps:
            return START + (self.peak - START) * step / self.warmup_steps
        length = self.total_steps - self.warmup_steps
        progress = min((step - self.warmup_steps) / length, 1.0) if length > 0 else 0.0
        return _half_cosine(self.peak, FLOOR, progress)


@dataclass(frozen=True)
class OneCycle:
    """Half a cosine up to the peak, and one down (Smith and Topin 2017, arXiv:1708.07120).

    From peak / 25 at step 0 to the peak at step `warmup_steps`, then to peak / 10,000 at the last
    step, and no further. Without a warm-up it begins at the peak.
    """

    peak: float
    """Highest rate, reached at step `warmup_steps`."""
    total_steps: int
    """Steps (updates) of the whole training."""
    warmup_steps: int

    def rate(self, step: int) -> float:
        """Rate of step 0, 1, ..."""
        if step < self.warmup_steps:
            return _half_cosine(self.peak / ONE_CYCLE_START, self.peak, step / self.warmup_steps)
        length = self.total_steps - 1 - self.warmup_steps
        progress = min((step - self.warmup_steps) / length, 1.0) if length > 0 else 0.0
        return _half_cosine(self.peak, self.peak / ONE_CYCLE_END, progress)


Schedule: TypeAlias = WarmupCosine | OneCycle

_KINDS: dict[Kind, type[Schedule]] = {"cosine": WarmupCosine, "one_cycle": OneCycle}


def build_schedule(
    kind: Kind, peak: float, *, epochs: int, steps_per_epoch: int, warmup_epochs: float
) -> Schedule:
    """Build a schedule from epochs, the unit of the configuration."""
    return _KINDS[kind](peak, epochs * steps_per_epoch, round(warmup_epochs * steps_per_epoch))


def _half_cosine(start: float, end: float, progress: float) -> float:
    """From `start` (progress 0) to `end` (progress 1)."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
