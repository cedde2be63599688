# SPDX-License-Identifier: Apache-2.0
"""What a training reached, what it cost and where its files are, for the terminal. No Paddle."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from paddlex_ml.artifacts import earlier_export
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.artifacts.train_result import TrainResult

_KINDS = {"raw": "raw", "ema": "averaged (EMA)"}


def summarise(result: TrainResult, output: Path) -> str:
    """Lines for the terminal; `output` is the folder that the paths of the result lie in."""
    files, best, metrics = RunFolder(output), result.models.best, result.metrics
    (row,) = [row for row in metrics.history if row.epoch == best.epoch]
    both = [("raw", row.raw_map), ("EMA", row.ema_map)]
    scores = ", ".join(f"{name} {score:.4f}" for name, score in both if score is not None)
    lines = {
        "best": f"epoch {best.epoch} of {metrics.epochs}, mAP {scores}; kept: "
        f"{_KINDS[best.weights]} weights (constant predictor {metrics.constant_map:.4f})"
        + (": not better than guessing" if metrics.better_than_guessing is False else ""),
        "cost": f"{timedelta(seconds=round(metrics.seconds))}, "
        f"{metrics.images_per_second:.1f} images/s, "
        f"{metrics.data_wait:.0%} of the time lost waiting for data, "
        f"at most {metrics.memory_mib / 1024:.1f} GiB of memory",
        "result": files.result("train"),
        "weights": output / best.pdparams,
        "inference": (output / best.pdmodel).parent,
        **_tell_thresholds(result, output),
        "log": output / result.train_log,
        "scores": files.metrics_csv,
        "curves": files.curves,
    }
    return "\n".join(["Training done", *(f"  {k + ':':<10} {v}" for k, v in lines.items())])


def _tell_thresholds(result: TrainResult, output: Path) -> dict[str, str]:
    """The line about tuned thresholds of earlier exports, if there are any."""
    if not isinstance(result.earlier_thresholds, list):
        return {}
    paths = ", ".join(str(output / path) for path in result.earlier_thresholds)
    again = f"to tune them again: {earlier_export.AGAIN}"
    return {"threshold": f"0.5; tuned ones of an earlier export are in {paths}; {again}"}
