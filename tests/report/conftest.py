# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paddlex_ml.metrics.measures import summarise
from paddlex_ml.report.content import EvaluationPage, Suspected

TUNED = 0.35
_PHOTOGRAPHS = 10


def draw_scores(
    names: Sequence[str], images: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Scores and targets of classes that are easier and easier; half shows the first."""
    rng = np.random.default_rng(seed)
    classes = len(names)
    targets = (rng.random((images, classes)) < 0.3).astype(np.uint8)
    targets[: images // 2, 0] = 1
    logits = rng.normal(size=targets.shape) - 1 + np.linspace(0.5, 4, classes) * targets
    return (1 / (1 + np.exp(-logits))).astype(np.float32), targets, rng


def measure(
    names: Sequence[str], scores: np.ndarray, targets: np.ndarray, *, rounds: int = 0
) -> dict[str, Any]:
    """evaluate_result.json without what is optional."""
    found = summarise(scores, targets, names, np.full(len(names), 0.5), rounds=rounds)
    return {
        "done_flag": True,
        "weight_path": "output/best_model/best_model.pdparams",
        "metrics": found.metrics,
        "per_class": found.per_class,
        "thresholds": None,
        "label_errors": None,
        "comparison": None,
        "report": "evaluate/report.html",
        "per_class_csv": "evaluate/per_class.csv",
    }


def add_tuned(result: dict[str, Any], scores: np.ndarray, targets: np.ndarray) -> None:
    """As if the thresholds had been tuned."""
    names = [row["name"] for row in result["per_class"]]
    tuned = summarise(scores, targets, names, np.full(len(names), TUNED))
    for row, other in zip(result["per_class"], tuned.per_class, strict=True):
        row["tuned"] = {key: other[key] for key in ("threshold", "precision", "recall", "f1")}
    before, after = (
        {key: found[key] for key in ("macro_f1", "CP", "CR")}
        for found in (result["metrics"], tuned.metrics)
    )
    held_out = {key: value and value - 0.01234 for key, value in after.items()}
    result["thresholds"] = {
        "method": "f1", "target": None, "min_positives": 10, "shared": 0.4125,
        "shared_classes": [names[0]], "unreached": [],
        "before": before, "tuned": after, "held_out": held_out, "saved": [],
    }  # fmt: skip


def add_comparison(
    result: dict[str, Any], scores: np.ndarray, others: np.ndarray, targets: np.ndarray
) -> None:
    """As if another model had been measured on the same images."""
    names = [row["name"] for row in result["per_class"]]
    other = summarise(others, targets, names, np.full(len(names), 0.5))

    def row(name: str, this: Any, that: Any) -> dict[str, Any]:
        difference = None if this is None or that is None else this - that
        return {"name": name, "this": this, "other": that, "difference": difference}

    result["comparison"] = {
        "with": "ema", "this": "raw", "same_images": True,
        "MultiLabelMAP_difference_ci95": [-0.01234, 0.0567],
        "metrics": [row(name, value, other.metrics[name])
                    for name, value in result["metrics"].items() if isinstance(value, float)],
        "per_class": [row(a["name"], a["average_precision"], b["average_precision"])
                      for a, b in zip(result["per_class"], other.per_class, strict=True)],
    }  # fmt: skip


def add_suspects(result: dict[str, Any], content: dict[str, Any], most: int) -> list[Suspected]:
    """The cells where score and label are farthest apart."""
    away = np.abs(content["scores"] - content["targets"])
    found = []
    for cell in np.argsort(-away, axis=None)[:most]:
        image, i = np.unravel_index(cell, away.shape)
        found.append(
            Suspected(
                list_name="val",
                path=content["paths"][image],
                shown=content["shown"][image],
                label=content["label_names"][i],
                given=bool(content["targets"][image, i]),
                score=float(content["scores"][image, i]),
                quality=float(1 - away[image, i]),
            )
        )
    wrong = sum(one.given for one in found)
    result["label_errors"] = {
        "csv": "evaluate/label_errors.csv",
        "lists": {"val": {"images": len(away), "suspected": len(found), "wrong": wrong,
                          "missing": len(found) - wrong, "scores": "held out"}},
    }  # fmt: skip
    return found


@pytest.fixture(scope="session")
def evaluate_in() -> Callable[..., EvaluationPage]:
    """Makes an evaluation of drawn photographs in a folder, with all sections or with few."""

    def make(
        folder: Path, names: Sequence[str], images: int = 40, *, whole: bool = True,
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
        suspects = []
        if whole:
            add_tuned(result, scores, targets)
            others = np.clip(scores + rng.normal(size=scores.shape) * 0.05, 0, 1)
            add_comparison(result, scores, others.astype(np.float32), targets)
            suspects = add_suspects(result, content, 70)
        return EvaluationPage(result=result, suspects=suspects, **content)

    return make


@pytest.fixture
def evaluated(
    tmp_path: Path, evaluate_in: Callable[..., EvaluationPage]
) -> Callable[..., EvaluationPage]:
    """The same in a folder of the test's own."""
    return partial(evaluate_in, tmp_path)
