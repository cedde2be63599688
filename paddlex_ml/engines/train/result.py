# SPDX-License-Identifier: Apache-2.0
"""What a training gave and where it lies: the content of train_result.json. Each path exists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import harmonic_mean
from typing import Any

from msgspec import UNSET

from paddlex_ml.artifacts import earlier_export
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.artifacts.run_folder import CheckpointFiles, RunFolder
from paddlex_ml.artifacts.saved_states import Progress
from paddlex_ml.artifacts.train_result import (
    BestModel,
    LastModel,
    TrainedModels,
    TrainMetrics,
    TrainResult,
)
from paddlex_ml.metrics.bootstrap import beats_guessing
from paddlex_ml.progress import named

_LAST = 5  # fields last_1 ... of TrainedModels


@named("drawing the curves")
def draw_curves(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Draw a training to `path`, as `plots.curves`."""
    from paddlex_ml.pictures import plots  # imports matplotlib: 0.4 s, which no start waits for

    plots.curves(path, history)


def build_result(
    info: ModelInfo, progress: Progress, output: Path, *, difference: float | None, constant: float
) -> TrainResult:
    """Sum up a finished training whose files are in `output`.

    difference: largest difference between scores of the static model and of the weights; None
    without an export. constant: mAP of a predictor that gives every image the same scores.
    """
    best, history = progress.best, progress.history
    assert best is not None  # the last epoch is always evaluated
    files, kept = RunFolder(Path()), RunFolder(output)  # the first: paths are relative
    epochs = [n for n in reversed(progress.saved_epochs) if kept.epoch(n).folder.is_dir()]
    raw_maps, last = {row.epoch: row.raw_map for row in history}, {}
    for k, n in enumerate(epochs[:_LAST], start=1):
        paths = _checkpoint_paths(files.epoch(n))
        last[f"last_{k}"] = LastModel(score=raw_maps[n], weights="raw", epoch=n, **paths)
    return TrainResult(
        model_name=info.model,
        label_dict=files.label_dict.as_posix(),
        train_log=files.train_log.as_posix(),
        config=files.config_yaml.as_posix(),
        models=TrainedModels(
            best=BestModel(
                score=best.score,
                weights=best.weights,
                epoch=best.epoch,
                **_checkpoint_paths(files.best_model),
                inference_config=files.best_model.inference.inference_yml.as_posix(),
                pdmodel=files.best_model.inference.graph.as_posix(),
                pdiparams=files.best_model.inference.parameters.as_posix(),
            ),
            **last,
        ),
        metrics=_measure(progress, difference, constant),
        run=info.run,
        started_from=progress.started_from,
        earlier_thresholds=_find_earlier_thresholds(output) or UNSET,
    )


def _measure(progress: Progress, difference: float | None, constant: float) -> TrainMetrics:
    best, history = progress.best, progress.history
    assert best is not None
    speeds = [row.images_per_second for row in history if row.images_per_second]
    return TrainMetrics(
        best_map=best.score,
        epochs=progress.epoch,
        static_difference=difference,
        constant_map=constant,
        seconds=progress.seconds,
        images_per_second=harmonic_mean(speeds) if speeds else 0.0,  # epochs are equally long
        data_wait=progress.waited / max(progress.seconds, 1e-9),
        memory_mib=max(row.memory_mib for row in history),
        history=history,
        MultiLabelMAP_ci95=best.interval,
        better_than_guessing=beats_guessing(best.score, best.interval, constant),
    )


def _find_earlier_thresholds(output: Path) -> list[str]:
    found = earlier_export.find_thresholds(RunFolder(output).best_model.inference.folder)
    return [path.relative_to(output).as_posix() for path in found]


def _checkpoint_paths(files: CheckpointFiles) -> dict[str, str]:
    paths = (files.weights, files.optimizer, files.states, files.ema)
    return {path.suffix.removeprefix("."): path.as_posix() for path in paths}
