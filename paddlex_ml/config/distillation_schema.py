# SPDX-License-Identifier: Apache-2.0
"""Section `Train.distillation` of the configuration; `schema.py` has the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from paddlex_ml.config.values import Range


@dataclass(frozen=True, kw_only=True)
class DistillationConfig:
    """Section `Train.distillation`: how much the scores of Train.teacher count."""

    weight: Annotated[float, Range(low=0, high=1, above=True)] = 0.5
    """Share of the teacher in the loss, above 0 to 1; the labels have the rest. 1: only the teacher
    decides what is learned. Raise it when labels are noisy or few."""
    temperature: Annotated[float, Range(low=0, above=True, typical=1.0)] = 1.0
    """The logits of teacher and model are divided by this number before they are compared, above 0.
    Above 1, scores near 0 and 1 tell more of what the teacher has learned."""
