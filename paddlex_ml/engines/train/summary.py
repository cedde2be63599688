# SPDX-License-Identifier: Apache-2.0
"""The last words of a training: what it reached, what it cost, where it lies. Without Paddle."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from paddlex_ml.artifacts.run_folder import RunFolder

_KINDS = {"raw": "raw", "ema": "averaged (EMA)"}


def summarise(made: Mapping[str, Any], output: Path) -> str:
    """Lines for the terminal; `made` is the content of train_result.json."""
    best = made["models"]["best"]
    lines = {
        "best": _best(best, made["metrics"]),
        "cost": _cost(made["metrics"]),
        "result": RunFolder(output).result("train"),
        "weights": output / best["pdparams"],
        "inference": (output / best["pdmodel"]).parent,
        "log": output / made["train_log"],
        "scores": RunFolder(output).metrics_csv,
        "curves": RunFolder(output).curves,
    }
    return "\n".join(["Training done", *(f"  {k + ':':<10} {v}" for k, v in lines.items())])


def _best(best: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    (row,) = [row for row in metrics["history"] if row["epoch"] == best["epoch"]]
    both = [("raw", row["raw_map"]), ("EMA", row["ema_map"])]
    scores = ", ".join(f"{name} {score:.4f}" for name, score in both if score is not None)
    return (
        f"epoch {best['epoch']} of {metrics['epochs']}, mAP {scores}; kept: "
        f"{_KINDS[best['weights']]} weights (constant predictor {metrics['constant_map']:.4f})"
    )


def _cost(metrics: Mapping[str, Any]) -> str:
    parts = [
        f"{timedelta(seconds=round(metrics['seconds']))}",
        f"{metrics['images_per_second']:.1f} images/s",
        f"{metrics['data_wait']:.0%} of the time lost waiting for data",
    ]
    if metrics["memory_mib"] is not None:
        parts.append(f"at most {metrics['memory_mib'] / 1024:.1f} GiB of memory")
    return ", ".join(parts)
