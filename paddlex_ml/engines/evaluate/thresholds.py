# SPDX-License-Identifier: Apache-2.0
"""Thresholds in use, and better ones: what both are worth."""

from __future__ import annotations

from typing import Any

import numpy as np

from paddlex_ml.config.schema import EvaluateConfig
from paddlex_ml.metrics import decisions, threshold_search
from paddlex_ml.metrics.decisions import Counts
from paddlex_ml.metrics.threshold_search import Goal, Tuned


def tune(
    wanted: EvaluateConfig,
    scores: np.ndarray,
    targets: np.ndarray,
    thresholds_in_use: np.ndarray,
    label_names: list[str],
    *,
    seed: int,
) -> tuple[Tuned, dict[str, Any], list[dict[str, Any]]]:
    """Tune, and tell: the result's `thresholds`, and the `tuned` of every class.

    limits: the thresholds in use [C].
    `before` and `tuned` are measured on the images that were tuned on, `held_out` on halves that
    were tuned on the other one: what new images will give. One image has no other half.
    """
    assert wanted.tune_threshold is not None
    target = None if wanted.tune_threshold == "f1" else wanted.tune_target
    goal = Goal(wanted.tune_threshold, target, wanted.tune_min_positives)
    tuned = threshold_search.tune(scores, targets, goal)
    before = decisions.count(decisions.decide(scores, thresholds_in_use), targets)
    after = decisions.count(decisions.decide(scores, tuned.thresholds), targets)
    told = {
        "method": goal.method,
        "target": goal.target,
        "min_positives": goal.min_positives,
        "shared": tuned.shared,
        "shared_classes": _named(label_names, tuned.is_shared),
        "unreached": _named(label_names, tuned.is_unreached),
        "before": _summarise(before),
        "tuned": _summarise(after),
        "held_out": _hold_out(scores, targets, goal, seed),
    }
    return tuned, told, _rows(tuned.thresholds, after)


def _rows(thresholds_in_use: np.ndarray, counts: Counts) -> list[dict[str, Any]]:
    columns = (thresholds_in_use, counts.precision, counts.recall, counts.f1)
    names = ("threshold", "precision", "recall", "f1")
    return [
        {name: _defined(value) for name, value in zip(names, row, strict=True)}
        for row in zip(*columns, strict=True)
    ]


def _hold_out(
    scores: np.ndarray, targets: np.ndarray, goal: Goal, seed: int
) -> dict[str, float | None]:
    if len(scores) < 2:
        return dict.fromkeys(("macro_f1", "CP", "CR"))
    decided = threshold_search.decide_held_out(scores, targets, goal, seed=seed)
    return _summarise(decisions.count(decided, targets))


def _summarise(counts: Counts) -> dict[str, float | None]:
    means = decisions.average(counts)
    return {
        "macro_f1": _defined(means.macro_f1),
        "CP": _defined(means.class_precision),
        "CR": _defined(means.class_recall),
    }


def _named(label_names: list[str], chosen: np.ndarray) -> list[str]:
    return [label_names[i] for i in np.flatnonzero(chosen)]


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
