# SPDX-License-Identifier: Apache-2.0
"""How far the scores of a model have moved, and how many decisions it now takes otherwise.

A mean average precision hides both: it asks only for the order of the images within a class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paddlex_ml.metrics.decisions import decide


@dataclass(frozen=True)
class ScoreChanges:
    """Scores of two models for the same images and classes."""

    mean: float
    """Mean of the absolute differences, 0..1."""
    largest: float
    """The largest of them."""
    changed: np.ndarray
    """Images whose decision is another one, of every class: int64 [C]."""
    images: int

    @property
    def share(self) -> float:
        """Share of all decisions, images x classes, that are other ones: 0..1."""
        decisions = self.images * len(self.changed)
        return float(self.changed.sum()) / decisions if decisions else 0.0


def compare(scores: np.ndarray, others: np.ndarray, thresholds: np.ndarray) -> ScoreChanges:
    """Compare scores [N, C] with others [N, C], both decided at the same thresholds [C].

    Raises ValueError where the shapes differ, or there is no image.
    """
    if scores.shape != others.shape or not len(scores):
        raise ValueError(f"scores {scores.shape} cannot be compared with {others.shape}")
    moved = np.abs(scores.astype(np.float64) - others)
    differs = decide(scores, thresholds) != decide(others, thresholds)
    return ScoreChanges(
        mean=float(moved.mean()),
        largest=float(moved.max()),
        changed=differs.sum(axis=0),
        images=len(scores),
    )
