# SPDX-License-Identifier: Apache-2.0
"""Section `Benchmark` of the configuration; `schema.py` has the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from paddlex_ml.config import values
from paddlex_ml.config.values import Checked, Range


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Section `Benchmark`."""

    images: Annotated[int, Range(low=10)] = 400
    """Images of val.txt that every export answers, at least 10: of a longer list as many are drawn,
    and fewer where the time is short (minutes)."""
    batch_sizes: Annotated[tuple[int, ...], Checked(values.counts, form="yaml")] = (8, 32)
    """Batches whose speed is measured besides that of single images, each at least 1."""
    minutes: Annotated[float, Range(low=0, above=True, typical=3.0)] = 3.0
    """Minutes that it may take, above 0. Slow models get fewer images and smaller batches then,
    which the log and the results say."""
