# SPDX-License-Identifier: Apache-2.0
"""train_result.json: what a training gave, and where it lies. Every path named exists."""

from __future__ import annotations

from pathlib import Path
from statistics import harmonic_mean
from typing import Any

from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.training.state import Progress

LAST = 5  # epoch checkpoints that are listed, as in PaddleX


def describe(
    info: ModelInfo,
    progress: Progress,
    output: Path,
    *,
    static_difference: float | None,
    constant_map: float,
) -> dict[str, Any]:
    """Content of train_result.json; paths are relative to `output`.

    `constant_map` is the mAP of a predictor that says the same for every image.
    """
    best = progress.best
    assert best is not None  # the last epoch is always evaluated
    return {
        "done_flag": True,
        "model_name": info.model,
        "label_dict": "label_dict.txt",
        "train_log": "train.log",
        "config": "config.yaml",
        "models": {"best": _best(best), **_last(progress, output)},
        "metrics": {
            "MultiLabelMAP": best["score"],
            "epochs": progress.epoch,
            "static_difference": static_difference,
            "constant_map": constant_map,
            **_cost(progress),
            "history": progress.history,
        },
    }


def _cost(progress: Progress) -> dict[str, float | None]:
    """Time, speed and memory over all runs; None where only older rows could have said it."""
    speeds = [row["images_per_second"] for row in progress.history if row["images_per_second"]]
    return {
        "seconds": progress.seconds,
        "images_per_second": harmonic_mean(speeds) if speeds else 0.0,  # epochs are equally long
        "data_wait": progress.waited / max(progress.seconds, 1e-9),
        "memory_mib": max(row.get("memory_mib") or 0.0 for row in progress.history) or None,
    }


def _best(best: dict[str, Any]) -> dict[str, Any]:
    inference = "best_model/inference"
    return {
        **best,
        **_files("best_model"),
        "inference_config": f"{inference}/inference.yml",
        "pdmodel": f"{inference}/inference.json",
        "pdiparams": f"{inference}/inference.pdiparams",
    }


def _last(progress: Progress, output: Path) -> dict[str, dict[str, Any]]:
    epochs = [n for n in reversed(progress.saved_epochs) if (output / f"epoch_{n}").is_dir()]
    scores = {row["epoch"]: row["raw_map"] for row in progress.history}
    models: dict[str, dict[str, Any]] = {f"last_{k}": {} for k in range(1, LAST + 1)}
    for k, epoch in enumerate(epochs[:LAST], start=1):
        models[f"last_{k}"] = {
            "score": scores[epoch],
            "weights": "raw",
            "epoch": epoch,
            **_files(f"epoch_{epoch}"),
        }
    return models


def _files(name: str) -> dict[str, str]:
    return {k: f"{name}/{name}.{k}" for k in ("pdparams", "pdopt", "pdstates", "pdema")}
