# SPDX-License-Identifier: Apache-2.0
"""Where a training begins: random or given weights, or the checkpoint that it goes on from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import paddle

from paddlex_ml.artifacts import checkpoint, weights
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.config.schema import Config
from paddlex_ml.distributed.group import ProcessGroup
from paddlex_ml.engines.train.earlier_run import AUTO
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.models import zoo
from paddlex_ml.storage import fetch
from paddlex_ml.training.state import Progress, Training

logger = logging.getLogger(__name__)


def finish_interrupted(config: Config) -> None:
    """Do what one process must do before several begin.

    Finishes exchanges of checkpoints that a kill interrupted, and fetches the weights to start from
    while a signal still ends the command.
    """
    run = RunFolder(config.Global.output)
    for files in (run.latest, run.best_model):
        checkpoint.finish_interrupted(files.folder)
    resume, weights_url = resumed_folder(config), config.Train.pretrain_weight_path
    if config.Train.resume_path == AUTO:
        logger.info("Train.resume_path=auto: %s", resume or "no checkpoint yet, starting anew")
    if resume is not None:
        checkpoint.finish_interrupted(RunFolder(resume.parent).best_model.folder)
    elif weights_url is not None and fetch.is_url(weights_url):
        _locate_start(weights_url)


def resumed_folder(config: Config) -> Path | None:
    """The checkpoint that Train.resume_path means; None: the training starts anew."""
    resume, latest = config.Train.resume_path, RunFolder(config.Global.output).latest.folder
    if resume == AUTO:
        return latest if checkpoint.is_complete(latest) else None
    return None if resume is None else checkpoint.find_folder(resume, "Train.resume_path")


def _locate_start(text: str) -> Path:
    return weights.locate(text, "Train.pretrain_weight_path", null="trains from random weights")


def load_pretrained(model: paddle.nn.Layer, name: str, text: str) -> None:
    """Start from a weight file or its URL, as far as it fits, and say what was left out."""
    if not fetch.is_url(text):
        checkpoint.finish_interrupted(Path(text).resolve().parent)
    path = _locate_start(text)
    fitted = weights.fit(model, weights.read(path), head=zoo.find(name).head, where=str(path))
    total = len(fitted.loaded) + len(fitted.missing)
    logger.info("loaded %d of %d entries from %s", len(fitted.loaded), total, path)
    for entry, reason in fitted.skipped.items():
        logger.info("  left out %s: %s", entry, reason)
    if fitted.missing:
        logger.info("  random start: %s", _shorten(fitted.missing))


def _shorten(names: list[str]) -> str:
    return ", ".join(names) if len(names) < 6 else f"{names[0]} ... {names[-1]} ({len(names)})"


def read_resumed(
    config: Config, info: ModelInfo
) -> tuple[Path, checkpoint.Checkpoint] | tuple[None, None]:
    """The checkpoint of Train.resume_path, and its folder."""
    key, folder = "Train.resume_path", resumed_folder(config)
    if folder is None:
        return None, None
    saved = checkpoint.load(folder)
    for what in ("model", "image_size", "label_names", "decoder_tokens"):
        was, now = getattr(saved.info, what), getattr(info, what)
        if was != now:
            raise PaddlexMLError(
                f"the checkpoint has {what} {was}, this run has {now}",
                where=str(folder),
                fix=f"-o Train.{what}={was}, or start anew: -o {key}=null"
                if what in ("image_size", "decoder_tokens")
                else f"resume with the same data set and model, or start anew: -o {key}=null",
            )
    return folder, saved


def report_resume(training: Training, before: Mapping[str, Any]) -> None:
    """Say where the training goes on, and which settings are others than before."""
    progress = training.progress
    logger.info("resumed after %d epochs and %d steps", progress.epoch, progress.step)
    for key, now in training.fingerprint.items():
        if key in before and before[key] != now:
            logger.warning(
                "%s was %s before the stop and is %s now: the numbers will differ from those of "
                "an unbroken run",
                key,
                before[key],
                now,
            )


def recover_best(
    training: Training, resumed_from: Path, config: Config, group: ProcessGroup
) -> None:
    """Make sure that best_model holds the best that the checkpoint speaks of.

    In a new output folder it is copied from beside the checkpoint. Raises PaddlexMLError when it is
    lost and no epoch is left to find a new one.
    """
    progress, found = training.progress, False
    with group.main_first("best model recovered") as is_main:
        if is_main and progress.best is not None:
            found = _recover(
                progress, RunFolder(config.Global.output).best_model.folder, resumed_from
            )
    if group.all_reduce_max([found])[0]:
        return
    progress.best, progress.evaluations_since_best = None, 0
    if progress.epoch >= config.Train.epochs_iters:
        raise PaddlexMLError(
            f"all {progress.epoch} epochs are done and their best model is not there",
            where=str(RunFolder(resumed_from.parent).best_model.folder),
            fix=f"put that folder back, or train on: -o Train.epochs_iters={progress.epoch + 1}",
        )


def _recover(progress: Progress, here: Path, resumed_from: Path) -> bool:
    for folder in (here, RunFolder(resumed_from.parent).best_model.folder):
        if _is_record_of(progress, folder):
            if folder is not here:
                checkpoint.write(here, checkpoint.load(folder))
            return True
    assert progress.best is not None
    logger.warning(
        "%s does not hold the best model of the resumed run (mAP %.4f, epoch %d): the next "
        "evaluation begins a new count",
        here,
        progress.best["score"],
        progress.best["epoch"],
    )
    return False


def _is_record_of(progress: Progress, folder: Path) -> bool:
    """Whether `folder` holds the best of this very run: another may have the same score."""
    record = checkpoint.read_progress(folder)
    if record is None or progress.best is None:
        return False
    past = progress.history[: progress.best["epoch"]]
    return bool(record["best"] == progress.best and record["history"] == past)
