# SPDX-License-Identifier: Apache-2.0
"""The input of the page of an evaluation: the result, and the scores that it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddlex_ml.artifacts.evaluate_result import EvaluationResult
from paddlex_ml.artifacts.export_report import ExportReport


@dataclass(frozen=True)
class SuspectedLabel:
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
    probability: float = 1.0
    """That the label is wrong, 0.5..1."""


@dataclass(frozen=True)
class EvaluationPage:
    """N images of val.txt, C classes."""

    result: EvaluationResult
    """The source of every figure that it holds: the page does not compute them again."""
    label_names: Sequence[str]
    scores: np.ndarray
    """float32 [N, C], 0..1."""
    targets: np.ndarray
    """[N, C]: 0, 1 or UNKNOWN."""
    paths: Sequence[Path]
    """Files of the images; they may be missing by now."""
    shown: Sequence[str]
    """The images as val.txt names them."""
    suspects: Sequence[SuspectedLabel] = ()
    """The most suspicious first."""
    precision: ExportReport | None = None
    """What the precision of the evaluated export has cost; None: it is none in lower precision."""
