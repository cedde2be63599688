# SPDX-License-Identifier: Apache-2.0
"""What a training gave and where it lies: the content of train_result.json. Each path exists."""

from __future__ import annotations

from pathlib import Path
from statistics import harmonic_mean

from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.artifacts.train_result import (
    BestModel,
    LastModel,
    TrainedModels,
    TrainMetrics,
    TrainResult,
)
from paddlex_ml.training.state import Progress

_LAST = 5  # fields last_1 ... of TrainedModels


def build_result(
    info: ModelInfo,
    progress: Progress,
    output: Path,
    *,
    static_difference: float | None,
    constant_map: float,
) -> TrainResult:
    """Sum up a finished training whose files are in `output`."""
    best, history = progress.best, progress.history
    assert best is not None  # the last epoch is always evaluated
    epochs = [n for n in reversed(progress.saved_epochs) if (output / f"epoch_{n}").is_dir()]
    raw_maps = {row.epoch: row.raw_map for row in history}
    last = {
        f"last_{k}": LastModel(
            score=raw_maps[epoch], weights="raw", epoch=epoch, **_checkpoint_files(f"epoch_{epoch}")
        )
        for k, epoch in enumerate(epochs[:_LAST], start=1)
    }
    speeds = [row.images_per_second for row in history if row.images_per_second]
    return TrainResult(
        model_name=info.model,
        label_dict="label_dict.txt",
        train_log="train.log",
        config="config.yaml",
        models=TrainedModels(
            best=BestModel(
                score=best.score,
                weights=best.weights,
                epoch=best.epoch,
                **_checkpoint_files("best_model"),
                inference_config="best_model/inference/inference.yml",
                pdmodel="best_model/inference/inference.json",
                pdiparams="best_model/inference/inference.pdiparams",
            ),
            **last,
        ),
        metrics=TrainMetrics(
            best_map=best.score,
            epochs=progress.epoch,
            static_difference=static_difference,
            constant_map=constant_map,
            seconds=progress.seconds,
            images_per_second=harmonic_mean(speeds) if speeds else 0.0,  # epochs are equally long
            data_wait=progress.waited / max(progress.seconds, 1e-9),
            memory_mib=max(row.memory_mib for row in history),
            history=history,
        ),
    )


def _checkpoint_files(name: str) -> dict[str, str]:
    return {k: f"{name}/{name}.{k}" for k in ("pdparams", "pdopt", "pdstates", "pdema")}
