# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import asdict, replace
from PIL import Image

from paddlex_ml.artifacts.evaluate_result import (
    FORMAT_VERSION,
    Comparison,
    Difference,
    EvaluationResult,
    LabelErrorCounts,
    LabelErrorResult,
    ThresholdQuality,
    TunedResult,
)
from paddlex_ml.metrics.measures import Metrics, TunedMeasures, summarise
from paddlex_ml.report.content import EvaluationPage, SuspectedLabel

TUNED = 0.35
_PHOTOGRAPHS = 10


def draw_scores(
    names: Sequence[str], images: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Scores and targets of classes that are easier and easier; half shows the first."""
    rng = np.random.default_rng(seed)
    classes = len(names)
    targets = (rng.random((images, classes)) < 0.3).astype(np.int8)
    targets[: images // 2, 0] = 1
    logits = rng.normal(size=targets.shape) - 1 + np.linspace(0.5, 4, classes) * targets
    return (1 / (1 + np.exp(-logits))).astype(np.float32), targets, rng


def measure(
    names: Sequence[str], scores: np.ndarray, targets: np.ndarray, *, rounds: int = 0
) -> EvaluationResult:
    """A result without what is optional."""
    summary = summarise(scores, targets, names, np.full(len(names), 0.5), rounds=rounds)
    return EvaluationResult(
        format_version=FORMAT_VERSION,
        done_flag=True,
        weight_path="output/best_model/best_model.pdparams",
        val_digest="0",
        metrics=summary.metrics,
        per_class=summary.per_class,
        thresholds=None,
        label_errors=None,
        comparison=None,
        per_class_csv="evaluate/per_class.csv",
        report="evaluate/report.html",
        unknown_labels=int((targets < 0).sum()),
    )


def quality_of(metrics: Metrics, less: float = 0.0) -> ThresholdQuality:
    values = {key: getattr(metrics, key) for key in ("macro_f1", "CP", "CR")}
    return ThresholdQuality(**{key: value and value - less for key, value in values.items()})


def add_tuned(
    result: EvaluationResult, scores: np.ndarray, targets: np.ndarray
) -> EvaluationResult:
    """As if the thresholds had been tuned."""
    names = [row.name for row in result.per_class]
    tuned = summarise(scores, targets, names, np.full(len(names), TUNED))
    rows = []
    for row, other in zip(result.per_class, tuned.per_class, strict=True):
        keys = ("threshold", "precision", "recall", "f1")
        measures = TunedMeasures(**{key: getattr(other, key) for key in keys})
        rows.append(replace(row, tuned=measures))
    thresholds = TunedResult(
        method="f1", target=None, min_positives=10, shared=0.4125,
        shared_classes=[names[0]], unreached=[], before=quality_of(result.metrics),
        tuned=quality_of(tuned.metrics), held_out=quality_of(tuned.metrics, 0.01234), saved=[],
    )  # fmt: skip
    return replace(result, per_class=rows, thresholds=thresholds)


def add_comparison(
    result: EvaluationResult, scores: np.ndarray, others: np.ndarray, targets: np.ndarray
) -> EvaluationResult:
    """As if another model had been measured on the same images."""
    names = [row.name for row in result.per_class]
    other = summarise(others, targets, names, np.full(len(names), 0.5))

    def row(name: str, this: float | None, that: float | None) -> Difference:
        difference = None if this is None or that is None else this - that
        return Difference(name=name, this=this, other=that, difference=difference)

    comparison = Comparison(
        other="ema", this="raw", same_images=True,
        MultiLabelMAP_difference_ci95=(-0.01234, 0.0567),
        metrics=[row(name, value, getattr(other.metrics, name))
                 for name, value in asdict(result.metrics).items() if isinstance(value, float)],
        per_class=[row(a.name, a.average_precision, b.average_precision)
                   for a, b in zip(result.per_class, other.per_class, strict=True)],
    )  # fmt: skip
    return replace(result, comparison=comparison)


def add_suspects(
    result: EvaluationResult, content: dict[str, Any], most: int
) -> tuple[EvaluationResult, list[SuspectedLabel]]:
    """The known cells where score and label are farthest apart."""
    away = np.abs(content["scores"] - content["targets"]) * (content["targets"] >= 0)
    suspects = []
    for cell in np.argsort(-away, axis=None)[:most]:
        image, i = np.unravel_index(cell, away.shape)
        suspects.append(
            SuspectedLabel(
                list_name="val",
                path=content["paths"][image],
                shown=content["shown"][image],
                label=content["label_names"][i],
                given=bool(content["targets"][image, i]),
                score=float(content["scores"][image, i]),
                quality=float(1 - away[image, i]),
            )
        )
    wrong = sum(one.given for one in suspects)
    counts = LabelErrorCounts(
        images=len(away), suspected=len(suspects), wrong=wrong,
        missing=len(suspects) - wrong, scores="held out", likely_true=0.75,
    )  # fmt: skip
    errors = LabelErrorResult(lists={"val": counts}, csv="evaluate/label_errors.csv")
    return replace(result, label_errors=errors), suspects


@pytest.fixture(scope="session")
def evaluate_in() -> Callable[..., EvaluationPage]:
    """Makes an evaluation of drawn photographs in a folder, with all sections or with few."""

    def make(
        folder: Path, names: Sequence[str], images: int = 40, *, complete: bool = True,
        rounds: int = 0, targets: np.ndarray | None = None,
    ) -> EvaluationPage:  # fmt: skip
        scores, drawn, rng = draw_scores(names, images)
        targets = drawn if targets is None else targets
        for k in range(_PHOTOGRAPHS):
            pixels = rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{k}.png")
        shown = [f"{k % _PHOTOGRAPHS}.png" for k in range(images)]
        content: dict[str, Any] = {
            "label_names": list(names), "scores": scores, "targets": targets, "shown": shown,
            "paths": [folder / name for name in shown],
        }  # fmt: skip
        result = measure(names, scores, targets, rounds=rounds)
        suspects: list[SuspectedLabel] = []
        if complete:
            result = add_tuned(result, scores, targets)
            others = np.clip(scores + rng.normal(size=scores.shape) * 0.05, 0, 1)
            result = add_comparison(result, scores, others.astype(np.float32), targets)
            result, suspects = add_suspects(result, content, 70)
        return EvaluationPage(result=result, suspects=suspects, **content)

    return make


@pytest.fixture
def evaluated(
    tmp_path: Path, evaluate_in: Callable[..., EvaluationPage]
) -> Callable[..., EvaluationPage]:
    """The same in a folder of the test's own."""
    return partial(evaluate_in, tmp_path)
