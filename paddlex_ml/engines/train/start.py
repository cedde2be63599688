# SPDX-License-Identifier: Apache-2.0
"""Where a training begins: random or given weights, or a checkpoint that it resumes from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
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
    """Do the preparations that a single process must do before several start.

    Finishes exchanges of checkpoints that a kill interrupted, and fetches the weights to start
    from: at this point a signal still ends the command at once.
    """
    run = RunFolder(config.Global.output)
    for files in (run.latest, run.best_model):
        checkpoint.finish_interrupted(files.folder)
    resume, weights_url = resumed_folder(config), config.Train.pretrain_weight_path
    if config.Train.resume_path == AUTO:
        logger.info("Train.resume_path=auto: %s", resume or "no checkpoint yet, starting a new run")
    if resume is not None:
        checkpoint.finish_interrupted(RunFolder(resume.parent).best_model.folder)
    elif weights_url is not None and fetch.is_url(weights_url):
        _locate_weights(weights_url)


def resumed_folder(config: Config) -> Path | None:
    """The checkpoint that Train.resume_path means; None: the training starts a new run."""
    resume, latest = config.Train.resume_path, RunFolder(config.Global.output).latest.folder
    if resume == AUTO:
        return latest if checkpoint.is_complete(latest) else None
    return None if resume is None else checkpoint.find_folder(resume, "Train.resume_path")


def load_pretrained(model: paddle.nn.Layer, name: str, text: str) -> None:
    """Load the entries of a weight file (path or URL) that fit, and log the others."""
    if not fetch.is_url(text):
        checkpoint.finish_interrupted(Path(text).resolve().parent)
    path = _locate_weights(text)
    fitted = weights.fit(model, weights.read(path), head=zoo.find(name).head, where=str(path))
    missing = fitted.missing
    total = len(fitted.loaded) + len(missing)
    logger.info("loaded %d of %d entries from %s", len(fitted.loaded), total, path)
    for entry, reason in fitted.skipped.items():
        logger.info("  left out %s: %s", entry, reason)
    if len(missing) > 5:
        logger.info("  random start: %s ... %s (%d)", missing[0], missing[-1], len(missing))
    elif missing:
        logger.info("  random start: %s", ", ".join(missing))


def read_resumed(
    config: Config, info: ModelInfo
) -> tuple[Path, checkpoint.Checkpoint] | tuple[None, None]:
    """The checkpoint of Train.resume_path, and its folder.

    Raises PaddlexMLError when it is a checkpoint of another model than `info`.
    """
    folder = resumed_folder(config)
    if folder is None:
        return None, None
    saved = checkpoint.load(folder)
    for key in ("model", "image_size", "label_names", "decoder_tokens"):
        before, now = getattr(saved.info, key), getattr(info, key)
        if before != now:
            raise PaddlexMLError(
                f"the checkpoint has {key} {before}, this run has {now}",
                where=str(folder),
                fix=(
                    f"-o Train.{key}={before}"
                    if key in ("image_size", "decoder_tokens")
                    else "resume with the same data set and model"
                )
                + ", or start a new run: -o Train.resume_path=null",
            )
    return folder, saved


def log_resume(training: Training, before: Mapping[str, Any]) -> None:
    """Log where the training resumes, and which options differ from those in `before`."""
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
    """Make sure that best_model holds the best model that the checkpoint names.

    In a new output folder it is copied from the folder beside the checkpoint. Raises PaddlexMLError
    when it is lost and no epoch is left to find a new one.
    """
    progress, output = training.progress, RunFolder(config.Global.output).best_model.folder
    beside, recovered = RunFolder(resumed_from.parent).best_model.folder, False
    with group.main_first("best model recovered") as is_main:
        if is_main and progress.best is not None:
            recovered = _is_best_of(progress, output)
            if not recovered and _is_best_of(progress, beside):
                checkpoint.write(output, checkpoint.load(beside))
                recovered = True
            if not recovered:
                logger.warning(
                    "%s does not hold the best model of the resumed run (mAP %.4f, epoch %d): the "
                    "next evaluation starts a new search for the best",
                    output,
                    progress.best.score,
                    progress.best.epoch,
                )
    if group.all_reduce_max([recovered])[0]:
        return
    progress.best, progress.evaluations_since_best = None, 0
    if progress.epoch >= config.Train.epochs_iters:
        raise PaddlexMLError(
            f"all {progress.epoch} epochs are done and their best model is not there",
            where=str(beside),
            fix=f"put that folder back, or train on: -o Train.epochs_iters={progress.epoch + 1}",
        )


def _locate_weights(text: str) -> Path:
    return weights.locate(text, "Train.pretrain_weight_path", null="trains from random weights")


def _is_best_of(progress: Progress, folder: Path) -> bool:
    """Whether `folder` holds the best model of this run: another run may have the same score."""
    saved = checkpoint.read_progress(folder)
    if saved is None or progress.best is None:
        return False
    own = msgspec.to_builtins(progress)
    past = own["history"][: progress.best.epoch]
    return bool(saved["best"] == own["best"] and saved["history"] == past)
