# SPDX-License-Identifier: Apache-2.0
"""Paths of the configuration that lead nowhere: refused before Paddle is imported.

Only names are looked at. What a kill may have moved, and what is there but of no use, is left to
the engine, which refuses it in the same words.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from paddlex_ml.artifacts import named_files
from paddlex_ml.artifacts.run_folder import EXPORTS, WEIGHTS, RunFolder
from paddlex_ml.config import options_by_size, shipped
from paddlex_ml.config.rules import TRAINING
from paddlex_ml.config.schema import STARTER, STARTER_MODEL, Config
from paddlex_ml.data import missing_lists
from paddlex_ml.data.missing_lists import LABEL_FILE, TRAIN_FILE, VAL_FILE
from paddlex_ml.engines.train import earlier_run
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import source_path
from paddlex_ml.storage import fetch
from paddlex_ml.wording import path_override

PRETRAINED, RESUME, TEACHER = "Train.pretrain_weight_path", "Train.resume_path", "Train.teacher"
COMPARED = "Evaluate.compare_with"
_OF_MODE = {
    "evaluate": "Evaluate.weight_path",
    "export": "Export.weight_path",
    "benchmark": "Export.weight_path",
}
"""Mode -> the key of its weights; null means the best ones of the output folder."""


def check(config: Config) -> None:
    """Raise PaddlexMLError where a path that the mode surely reads leads nowhere."""
    _check_data(config)
    check_weights(config)


def check_weights(config: Config) -> None:
    """The same, for the paths of weights and checkpoints alone."""
    for text, key in _weights(config):
        _check_weights(config, text, key)
    if config.Global.mode == "train" and config.Train.resume_path not in (None, earlier_run.AUTO):
        _check_checkpoint(str(config.Train.resume_path), config.Global.output)
    if config.Global.mode == "evaluate":
        other = config.Evaluate.compare_with
        if other not in (None, "raw", "ema"):
            refuse_nothing_to_compare(str(other))


def describe_null(key: str, model: str) -> str:
    """What the value null of a key of weights does, for a model of this name."""
    if key == TEACHER:
        return "trains without a teacher"
    if key == COMPARED:
        return "compares with nothing"
    if key != PRETRAINED:
        return "takes the best weights of Global.output"
    null = "trains from random weights"
    if model == STARTER_MODEL:
        null += f", or -o {key}={STARTER}, which takes the weights that come with paddlex_ml"
    return null


def no_model(best: Path, key: str) -> PaddlexMLError:
    """The error of an output folder without the weights `best`, which the key's null means."""
    near, guess = shipped.find_trained().parent, ""
    if RunFolder(near).best_model.weights.is_file():
        guess = f"{path_override('Global.output', near)} holds a training; or "
    return PaddlexMLError(
        f"no trained model there: {best} does not exist",
        where=key,
        fix=f"{guess}train first (-o Global.mode=train), or name a file *{WEIGHTS} or a URL behind "
        f"{key}, or the training's folder behind Global.output",
    )


def refuse_nothing_to_compare(text: str) -> None:
    """Raise PaddlexMLError where Evaluate.compare_with names nothing that is there."""
    if fetch.is_url(text) or named_files.exists(text) or named_files.may_be_restored(text):
        return
    raise PaddlexMLError(
        f"nothing to compare with there: {text}",
        where=COMPARED,
        fix="name a weight file, the folder of an exported model, or that of an evaluated training "
        f"behind {COMPARED}, or -o {COMPARED}=null, which {describe_null(COMPARED, '')}",
    )


def _check_data(config: Config) -> None:
    mode = config.Global.mode
    if mode == "predict" or (mode == "export" and config.Export.precision == "fp32"):
        return
    root = config.Global.dataset_dir
    if root is None:
        return
    if mode == "train" and options_by_size.is_by_reference(config):
        source_path.refuse(root)
        return
    is_of_both = mode in TRAINING or (mode == "evaluate" and config.Evaluate.label_errors == "all")
    if is_of_both or (mode == "export" and config.Export.precision == "int8"):
        missing_lists.refuse(root, (LABEL_FILE, TRAIN_FILE, VAL_FILE))
    elif mode != "check_dataset":
        missing_lists.refuse(root, (LABEL_FILE, VAL_FILE))


def _weights(config: Config) -> Iterator[tuple[str | None, str]]:
    """Weights that the mode surely loads, and their keys; None: those of the output folder."""
    mode, output = config.Global.mode, config.Global.output
    if mode in _OF_MODE:
        section, _, name = _OF_MODE[mode].partition(".")
        yield getattr(getattr(config, section), name), _OF_MODE[mode]
    if mode not in TRAINING:
        return
    resume = config.Train.resume_path
    is_new = mode == "plan" or resume is None
    if resume == earlier_run.AUTO and not RunFolder(output).run_json.exists():
        is_new = is_new or not earlier_run.holds_results(output)
    start = config.Train.pretrain_weight_path
    if is_new and start not in (None, STARTER):
        yield start, PRETRAINED
    yield from ((text, TEACHER) for text in config.Train.teacher or ())


def _check_weights(config: Config, text: str | None, key: str) -> None:
    if text is None:
        best = RunFolder(config.Global.output).best_model
        has_exports = any((best.folder / name).is_dir() for name in EXPORTS.values())
        is_enough = best.weights.is_file() or (config.Global.mode == "benchmark" and has_exports)
        if not is_enough and not named_files.may_be_restored(str(best.weights)):
            raise no_model(best.weights, key)
    elif not (fetch.is_url(text) or named_files.exists(text) or named_files.may_be_restored(text)):
        if config.Global.mode == "benchmark" and os.path.isdir(os.path.dirname(text) or os.curdir):
            return  # the exports beside weights that are gone
        named_files.find_weight_file(text, key, describe_null(key, config.Global.model))


def _check_checkpoint(text: str, output: Path) -> None:
    beside = output.resolve()
    is_aside = any(beside.parent.glob(f"{beside.name}.old*")) or (beside / ".old").exists()
    if not is_aside and not named_files.may_be_restored(text):
        named_files.find_checkpoint(text, RESUME)
