# SPDX-License-Identifier: Apache-2.0
"""train_result.json: what a training gave, and where it lies. Every path named exists."""

from __future__ import annotations

from pathlib import Path
from statistics import harmonic_mean
from typing import Any

from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.artifacts.run_folder import CheckpointFiles, RunFolder
from paddlex_ml.training.state import Progress

_RUN = RunFolder(Path())  # its paths are relative to the output folder
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
        "label_dict": _RUN.label_dict.as_posix(),
        "train_log": _RUN.train_log.as_posix(),
        "config": _RUN.config_yaml.as_posix(),
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
    inference = _RUN.best_model.inference
    return {
        **best,
        **_files(_RUN.best_model),
        "inference_config": inference.inference_yml.as_posix(),
        "pdmodel": inference.graph.as_posix(),
        "pdiparams": inference.parameters.as_posix(),
    }


def _last(progress: Progress, output: Path) -> dict[str, dict[str, Any]]:
    run = RunFolder(output)
    epochs = [n for n in reversed(progress.saved_epochs) if run.epoch(n).folder.is_dir()]
    scores = {row["epoch"]: row["raw_map"] for row in progress.history}
    models: dict[str, dict[str, Any]] = {f"last_{k}": {} for k in range(1, LAST + 1)}
    for k, epoch in enumerate(epochs[:LAST], start=1):
        models[f"last_{k}"] = {
            "score": scores[epoch],
            "weights": "raw",
            "epoch": epoch,
            **_files(_RUN.epoch(epoch)),
        }
    return models


def _files(saved: CheckpointFiles) -> dict[str, str]:
    paths = (saved.weights, saved.optimizer, saved.states, saved.ema)
    return {path.suffix[1:]: path.as_posix() for path in paths}
