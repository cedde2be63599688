# SPDX-License-Identifier: Apache-2.0
"""Keeps a new training from writing over the results of another one. Without Paddle: it is asked
before anything is touched."""

from __future__ import annotations

import csv
from contextlib import suppress
from itertools import count
from pathlib import Path

from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.config import load
from paddlex_ml.config.schema import Config
from paddlex_ml.config.validation import override
from paddlex_ml.errors import PaddlexMLError

AUTO = "auto"
"""Train.resume_path that goes on with what the output folder holds, or starts anew."""


def find_conflict(config: Config) -> PaddlexMLError | None:
    """The error of a training whose output folder holds another one, or None.

    No conflict where the configuration allows to replace it, or goes on with it.
    """
    output, resume = config.Global.output, config.Train.resume_path
    if config.Global.mode != "train" or config.Global.overwrite or not _holds_weights(output):
        return None
    if resume is not None and (resume == AUTO or _is_inside(Path(resume), output)):
        return None
    return PaddlexMLError(
        f"the output folder holds another training: {_describe_earlier(output)}; "
        f"this one is {_describe(config)}",
        where=str(output),
        fix=f"{override('Global.output', _free_name(output))} keeps both, "
        f"{override('Train.resume_path', AUTO)} goes on with the old one, "
        f"{override('Global.overwrite', True)} replaces it",
    )


def _holds_weights(output: Path) -> bool:
    run = RunFolder(output)
    saved = [run.latest, run.best_model, *run.kept_epochs()]
    return any(checkpoint.weights.is_file() for checkpoint in saved)


def _is_inside(path: Path, folder: Path) -> bool:
    return folder.resolve() in path.resolve().parents


def _describe(config: Config) -> str:
    epochs = config.Train.epochs_iters
    return f"{config.Global.model} on {config.Global.dataset_dir}, {epochs} epochs"


def _describe_earlier(output: Path) -> str:
    words = "one without a readable config.yaml"
    with suppress(PaddlexMLError):
        words = _describe(load.load(RunFolder(output).config_yaml, to_run=False).config)
    with suppress(OSError, ValueError, KeyError):
        with RunFolder(output).metrics_csv.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        scores = [float(row[key]) for row in rows for key in ("raw_map", "ema_map") if row[key]]
        words += f" (best mAP {max(scores):.4f}, up to epoch {rows[-1]['epoch']})"
    return words


def _free_name(output: Path) -> str:
    """The folder's name with the first number that no other has."""
    names = (output.with_name(f"{output.name}_{number}") for number in count(2))
    return str(next(name for name in names if not name.exists()))
