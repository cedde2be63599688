# SPDX-License-Identifier: Apache-2.0
"""The command that a user most likely wants after the one that has just ended.

It is printed behind `next:` and works when it is pasted into the shell that ran the first one.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from paddlex_ml import program
from paddlex_ml.artifacts.export_result import ExportResult
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.config.schema import Config

if TYPE_CHECKING:  # numpy must not be imported before the number of its threads is set
    from paddlex_ml.artifacts.evaluate_result import EvaluationResult


def after_check(config_file: str, overrides: Sequence[str]) -> str:
    """Training. `config_file` and `overrides` are those of the command that ended, as typed."""
    return _write(config_file, "train", overrides)


def after_training(config: Config) -> str:
    """Prediction: the saved config.yaml holds all options of the training."""
    saved = str(RunFolder(config.Global.output).config_yaml)
    return _write(saved, "predict", ["Predict.input=photo.jpg"])


def after_evaluation(
    config: Config, config_file: str, overrides: Sequence[str], result: EvaluationResult
) -> str:
    """Export of the evaluated weights, or prediction with an exported model.

    A model whose thresholds were saved predicts too: a new export would remove them.
    """
    model = config.Evaluate.weight_path
    if model and result.thresholds is not None and result.thresholds.saved:
        model = str(Path(result.thresholds.saved[0]).parent)
    elif model and not Path(result.weight_path).is_dir():
        return _write(config_file, "export", [*overrides, f"Export.weight_path={model}"])
    chosen = [f"Predict.model_dir={model}"] if model else []
    return _write(config_file, "predict", [*overrides, *chosen, "Predict.input=photo.jpg"])


def after_export(
    config: Config, config_file: str, overrides: Sequence[str], result: ExportResult
) -> str | None:
    """Prediction with the exported model; None after an export of weights alone."""
    if not isinstance(result.inference_dir, str):
        return None
    chosen = []
    if config.Export.weight_path or config.Export.format != "paddle":
        chosen = [f"Predict.model_dir={result.inference_dir}"]
    return _write(config_file, "predict", [*overrides, *chosen, "Predict.input=photo.jpg"])


def _write(config_file: str, mode: str, overrides: Sequence[str]) -> str:
    """A command line that can be pasted; `mode` replaces the mode in `overrides`.

    Options of CheckDataset are left out: the check has converted or split the data set already.
    """
    done = ("Global.mode=", "CheckDataset.")
    kept = [text for text in overrides if not text.replace(" ", "").startswith(done)]
    options = [part for text in (f"Global.mode={mode}", *kept) for part in ("-o", text)]
    return f"{program.command()} {shlex.join(['-c', config_file, *options])}"
