# SPDX-License-Identifier: Apache-2.0
"""The thresholds in use and tuned ones: what both of them reach."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from paddlex_ml.artifacts.evaluate_result import ThresholdQuality, TunedResult
from paddlex_ml.artifacts.inference_yml import THRESHOLD
from paddlex_ml.config.schema import EvaluateConfig
from paddlex_ml.metrics import decisions, threshold_search
from paddlex_ml.metrics.decisions import Counts
from paddlex_ml.metrics.measures import ClassMeasures, TunedMeasures
from paddlex_ml.metrics.threshold_search import Goal, TunedThresholds
from paddlex_ml.progress import named


@named("tuning thresholds")
def tune(
    wanted: EvaluateConfig,
    scores: np.ndarray,
    targets: np.ndarray,
    thresholds_in_use: np.ndarray,
    per_class: Sequence[ClassMeasures],
    *,
    seed: int,
    save_to: Sequence[Path] = (),
    lacking: Sequence[Path] = (),
) -> tuple[TunedThresholds, TunedResult, list[ClassMeasures]]:
    """Tune, and measure: returns the thresholds, the result's `thresholds`, and its `per_class`.

    thresholds_in_use: [C]. per_class: the rows of the classes, returned with `tuned` in them.
    save_to: the inference.yml files that will get the tuned ones, where these are better. lacking:
    those of them that get the thresholds in use where no others are better.
    `before` and `tuned` are measured on the images that were tuned on, `held_out` on halves that
    were tuned on the other one, from Evaluate.threshold or else 0.5: what to expect of new images.
    A single image has no other half.
    What is saved is decided by the images that were tuned on; held-out halves of a small list are
    too few images to decide about it, and where they say otherwise, the log does.
    """
    assert wanted.tune_threshold is not None
    target = None if wanted.tune_threshold == "f1" else wanted.tune_target
    goal = Goal(wanted.tune_threshold, target, wanted.tune_min_positives)
    tuned = threshold_search.tune(scores, targets, goal, thresholds_in_use)
    # Thresholds that an export has may have been tuned on these images.
    start = THRESHOLD if wanted.threshold is None else thresholds_in_use
    held_out = _hold_out(scores, targets, goal, start, seed)
    before = decisions.count(decisions.decide(scores, thresholds_in_use), targets)
    after = decisions.count(decisions.decide(scores, tuned.thresholds), targets)
    in_use, chosen = (each.astype(np.float32) for each in (thresholds_in_use, tuned.thresholds))
    is_better = not np.array_equal(in_use, chosen)  # a class moves only where it reaches more
    result = TunedResult(
        method=goal.method,
        target=goal.target,
        min_positives=goal.min_positives,
        shared=tuned.shared,
        shared_classes=[per_class[i].name for i in np.flatnonzero(tuned.is_shared).tolist()],
        unreached=[per_class[i].name for i in np.flatnonzero(tuned.is_unreached).tolist()],
        before=_measure(before),
        tuned=_measure(after),
        held_out=held_out,
        saved=[str(path) for path in (save_to if is_better else lacking)],
        is_better=is_better,
    )
    return tuned, result, _add_tuned(per_class, tuned, after)


def _hold_out(
    scores: np.ndarray, targets: np.ndarray, goal: Goal, start: np.ndarray | float, seed: int
) -> ThresholdQuality:
    if len(scores) < 2:
        return ThresholdQuality(macro_f1=None, CP=None, CR=None)
    decided = threshold_search.decide_held_out(scores, targets, goal, start, seed=seed)
    return _measure(decisions.count(decided, targets))


def _add_tuned(
    per_class: Sequence[ClassMeasures], tuned: TunedThresholds, counts: Counts
) -> list[ClassMeasures]:
    """The rows of the classes, with what their tuned thresholds reach."""
    columns = tuned.thresholds, counts.precision, counts.recall, counts.f1
    return [
        replace(
            row,
            tuned=TunedMeasures(
                threshold=float(threshold),
                precision=_defined(precision),
                recall=_defined(recall),
                f1=_defined(f1),
            ),
        )
        for row, threshold, precision, recall, f1 in zip(per_class, *columns, strict=True)
    ]


def _measure(counts: Counts) -> ThresholdQuality:
    means = decisions.average(counts)
    return ThresholdQuality(
        macro_f1=_defined(means.macro_f1),
        CP=_defined(means.class_precision),
        CR=_defined(means.class_recall),
    )


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
