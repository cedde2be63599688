# SPDX-License-Identifier: Apache-2.0
"""What the page of an evaluation is made of: the result file, and the scores behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Suspected:
    """A label that is probably wrong, or missing."""

    list_name: str
    """train or val."""
    path: Path
    shown: str
    """The image as its list names it."""
    label: str
    given: bool
    """True: the label is given and looks wrong; False: it looks missing."""
    score: float
    quality: float
    """0..1; the lowest is the most suspicious."""


@dataclass(frozen=True)
class EvaluationPage:
    """N images of val.txt, C classes."""

    result: Mapping[str, Any]
    """As in evaluate_result.json. Every figure that stands there is taken from there."""
    label_names: Sequence[str]
    scores: np.ndarray
    """float32 [N, C], 0..1."""
    targets: np.ndarray
    """[N, C], 0 or 1."""
    paths: Sequence[Path]
    """Files of the images; they may be gone by now."""
    shown: Sequence[str]
    """The images as val.txt names them."""
    suspects: Sequence[Suspected] = ()
    """The most suspicious first."""
