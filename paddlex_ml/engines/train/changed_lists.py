# SPDX-License-Identifier: Apache-2.0
"""Train.rescore_best: a run goes on with lists that changed since its checkpoint was written."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec

from paddlex_ml.artifacts import checkpoint, weights
from paddlex_ml.artifacts.checkpoint import Checkpoint
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.artifacts.train_result import Best
from paddlex_ml.data import annotation
from paddlex_ml.data.loader import Loader, evaluation_indices
from paddlex_ml.engines.train.resume import find_changed_lists
from paddlex_ml.evaluation import evaluate
from paddlex_ml.training.plan import Plan
from paddlex_ml.training.state import Training

logger = logging.getLogger(__name__)


def adopt(
    training: Training, saved: Checkpoint, plan: Plan, val_loader: Loader, output: Path
) -> None:
    """Let a restored training go on with the lists of today.

    With another train.txt an interrupted epoch begins again, because the order of the images is
    another one. With another val.txt the best model so far gets its score on the new list, which
    later scores are compared with.
    """
    changed, progress = find_changed_lists(saved, training.info), training.progress
    if annotation.TRAIN_FILE in changed and progress.step:
        logger.warning(
            "train.txt changed: epoch %d, of which %d steps were done, begins again",
            progress.epoch + 1,
            progress.step,
        )
        progress.step, progress.loss_sum = 0, 0.0
    if annotation.VAL_FILE in changed and progress.best is not None:
        _rescore_best(training, progress.best, plan, val_loader, output)
    if changed:
        with plan.group.main_first("lists adopted") as is_main:
            if is_main:
                checkpoint.write(RunFolder(output).latest.folder, training.snapshot())


def _rescore_best(
    training: Training, best: Best, plan: Plan, val_loader: Loader, output: Path
) -> None:
    files = RunFolder(output).best_model
    entries = weights.read(files.weights)
    for name, value in training.averaged.state_dict().items():
        value.set_value(entries[name].astype(str(value.numpy().dtype)))
    training.averaged.eval()
    draws = evaluation_indices(len(val_loader.dataset), plan.batch_size)
    with closing(val_loader.epoch(list(plan.group.shard(draws)))) as feed:
        [result] = evaluate([training.averaged], feed, gather=plan.group.all_gather)
    logger.warning(
        "val.txt changed: the best model (epoch %d) had mAP %.4f on the old list and has %.4f on "
        "the new one; rows of metrics.csv up to epoch %d are about the old list",
        best.epoch,
        best.score,
        result.map,
        training.progress.epoch,
    )
    training.progress.best = Best(result.map, best.weights, best.epoch)
    with plan.group.main_first("best model scored again") as is_main:
        if is_main:
            kept = checkpoint.load(files.folder)
            progress = {**kept.progress, "best": msgspec.to_builtins(training.progress.best)}
            checkpoint.write(files.folder, replace(kept, info=training.info, progress=progress))
