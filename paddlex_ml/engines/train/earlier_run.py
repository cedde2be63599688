# SPDX-License-Identifier: Apache-2.0
"""Keeps a new training from overwriting the results of another one. Does not need Paddle, because
the command line checks this before it writes anything."""

from __future__ import annotations

import itertools
import os
from contextlib import suppress
from pathlib import Path

from paddlex_ml import systems
from paddlex_ml.artifacts import sweep_folder
from paddlex_ml.artifacts.run_folder import ExportedFiles, RunFolder
from paddlex_ml.artifacts.train_result import read_metrics
from paddlex_ml.config import load, run_config
from paddlex_ml.config.schema import Config
from paddlex_ml.config.validation import override
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import regular_file
from paddlex_ml.wording import count

AUTO = "auto"
"""Train.resume_path that continues the training in the output folder, or starts a new one."""


def find_conflict(config: Config) -> PaddlexMLError | None:
    """The error of a training whose output folder holds another one, or None.

    Of an evaluation too that is compared with the result it would replace, and of a training in the
    folder of a sweep.

    No conflict where the configuration allows to replace a training, or continues it.
    """
    output, resume = config.Global.output, config.Train.resume_path
    if config.Global.mode == "evaluate":
        return _find_replaced_comparison(config)
    if config.Global.mode != "train":
        return None
    if sweep_folder.is_one(output) and not holds_results(output):
        return PaddlexMLError(
            "the output folder is that of a sweep, which could not go on beside a training there",
            where=str(output),
            fix="repeat the command with its --sweep and --seeds, which goes on with the sweep; "
            f"otherwise write elsewhere: {override('Global.output', str(free_folder(output)))}",
        )
    if config.Global.overwrite or resume == AUTO:
        return None
    if resume is not None and _is_checkpoint_of(output, resume):
        return None
    if not holds_results(output):
        return None
    kept = RunFolder(output).checkpoints()
    has_states = any(each.weights.is_file() and each.states.is_file() for each in kept)
    goes_on = f"{override('Train.resume_path', AUTO)} goes on with the old one, "
    return PaddlexMLError(
        f"the output folder holds another training: {_describe_earlier(output)}; "
        f"this one is {_describe(config)}",
        where=str(output),
        fix=f"{override('Global.output', str(free_folder(output)))} keeps both, "
        + (goes_on if has_states else "")
        + f"{override('Global.overwrite', True)} replaces it",
    )


def holds_results(output: Path) -> bool:
    """Whether a training has left results in `output`, which a new one would replace or mix with.

    A start that was ended before its first checkpoint has left none, nor have other modes.
    """
    run = RunFolder(output)
    scores, curves = (
        path.is_file() and not path.is_symlink() for path in (run.metrics_csv, run.curves)
    )
    return scores or _holds_model(run) or (curves and is_of_training(run))


def is_of_training(run: RunFolder) -> bool:
    """Whether files in a folder are surely those of a training, and not of a user's project."""
    if run.run_json.exists() or run_config.is_saved(run.config_yaml) or _holds_model(run):
        return True
    with suppress(OSError, ValueError):
        read_metrics(run.metrics_csv)
        return True
    return False


def _holds_model(run: RunFolder) -> bool:
    """Whether a part of a checkpoint is there, or an export, or the result of a finished run."""
    for kept in run.checkpoints():
        exports = kept.inference, kept.inference_onnx, kept.inference_pdmodel
        safetensors = kept.weights.with_suffix(".safetensors")
        parts = kept.weights, kept.ema, kept.optimizer, kept.states, safetensors
        if any(path.exists() for path in (*parts, *(each.inference_yml for each in exports))):
            return True
    result = run.result("train")
    return _is_finished(result) or _is_finished(hidden_result(result))


def _is_finished(result: Path) -> bool:
    with suppress(OSError, ValueError, AttributeError, RecursionError):
        return regular_file.read_json(result).get("done_flag") is True
    return False


def _find_replaced_comparison(config: Config) -> PaddlexMLError | None:
    """The error of an evaluation that would replace the result it is compared with, or None."""
    named, own = config.Evaluate.compare_with, RunFolder(config.Global.output).result("evaluate")
    if named is None or ExportedFiles(Path(named)).inference_yml.is_file():
        return None
    if own.resolve() not in (Path(named).resolve(), Path(named, own.name).resolve()):
        return None
    aside = override("Global.output", str(free_folder(config.Global.output)))
    return PaddlexMLError(
        "this evaluation writes its own result there: it cannot be compared with the last one",
        where="Evaluate.compare_with",
        fix=f"write into another folder: {aside} {run_config.name_model(config)}".rstrip(),
    )


def _is_checkpoint_of(output: Path, resume: str) -> bool:
    """Whether `resume` names a checkpoint, or a file in one, that lies in `output` itself.

    One in a folder below it is a copy, or of another run where the output is the working folder.
    """
    named = Path(os.path.abspath(resume))  # a checkpoint may be a link to another disk
    folders = [named] if named.is_dir() else [named, named.parent]
    around = {p for folder in folders for p in (folder.parent.resolve(), folder.resolve().parent)}
    return output.resolve() in around


def hide_result(output: Path, mode: str = "train") -> None:
    """Give train_result.json of a finished run a hidden name, until another has begun there.

    A program that waits for the result of the new run must not see it. `mode` may be another one.
    """
    result = RunFolder(output).result(mode)
    if _is_finished(result):
        with suppress(OSError):
            systems.rename(result, hidden_result(result))


def show_result(output: Path) -> bool:
    """Undo `hide_result` where the new run was refused.

    Returns whether there is the result of a finished run, which a refusal must not replace.
    """
    result = RunFolder(output).result("train")
    with suppress(OSError):
        systems.rename(hidden_result(result), result)
        return True
    return _is_finished(result)


def hidden_result(result: Path) -> Path:
    """That name."""
    return result.with_name(f".{result.name}.old")


def free_folder(output: Path) -> Path:
    """A folder beside `output` that does not exist, for a run that must not touch it."""
    if output.name in ("", ".."):  # "." has no name to count from
        output = output.resolve()
    numbered = (output.parent / f"{output.name}_{number}" for number in itertools.count(2))
    return next(folder for folder in numbered if not folder.exists())


def _describe(config: Config) -> str:
    epochs = config.Train.epochs_iters
    return f"{config.Global.model} on {config.Global.dataset_dir}, {count(epochs, 'epoch')}"


def _describe_earlier(output: Path) -> str:
    files, description = RunFolder(output), "one without a readable config.yaml"
    with suppress(PaddlexMLError):
        description = _describe(load.load(files.config_yaml, to_run=False).config)
    with suppress(OSError, ValueError):
        best_map, epoch = read_metrics(files.metrics_csv)
        description += f" (best mAP {best_map:.4f}, up to epoch {epoch})"
    return description
