# SPDX-License-Identifier: Apache-2.0
"""What a finished epoch leaves behind: its row, the best score, its checkpoints."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from paddlex_ml.artifacts import checkpoint, saved_scores
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.artifacts.saved_states import Progress
from paddlex_ml.artifacts.train_result import Best, EpochRow, WeightsKind, write_metrics
from paddlex_ml.data import annotation
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.evaluation import LEAST_SPREAD, Evaluation, is_constant
from paddlex_ml.progress import named
from paddlex_ml.training import memory
from paddlex_ml.training.diagnostics import Diagnostics
from paddlex_ml.training.meter import Meter
from paddlex_ml.training.plan import Plan
from paddlex_ml.training.state import Training

logger = logging.getLogger(__name__)

ROUNDS = 200
"""Of the bootstrap that gives the interval of the best mAP: the default of Evaluate.bootstrap."""


class Keeper:
    """Writes the checkpoints of one run into its output folder, when they are due.

    All ranks of a group call it together; the main process writes while the others wait.
    """

    def __init__(self, output: Path, plan: Plan) -> None:
        self.files, self.plan = RunFolder(output), plan
        self._steps, self._written = 0, time.monotonic()  # since `latest` was written

    def on_step(self) -> bool:
        """Count a step that is about to run; returns whether `latest` is to be saved before it."""
        saving = self.plan.saving
        self._steps += 1
        by_steps = saving.steps is not None and self._steps > saving.steps
        passed = time.monotonic() - self._written
        return by_steps or (saving.minutes is not None and passed > saving.minutes * 60)

    @named("saving a checkpoint")
    def save_latest(self, training: Training) -> bool:
        """Write `latest` in the middle of an epoch; returns whether there was a step to save."""
        progress = training.progress
        if (progress.epoch, progress.step) == (0, 0):
            return False
        with self.plan.group.main_first(f"latest {progress.epoch} {progress.step}") as is_main:
            if is_main:
                checkpoint.write(self.files.latest.folder, training.snapshot())
                self.plan.after_checkpoint()
        self._steps, self._written = 0, time.monotonic()
        return True

    def save_epoch(
        self, training: Training, scores: Mapping[WeightsKind, Evaluation] | None = None
    ) -> None:
        """Write all that is due after a finished epoch; each checkpoint holds the whole epoch.

        scores: of its evaluation. Those of the best model come before its weights: whenever a kill
        comes, weights without their scores are not there.
        """
        progress = training.progress
        with self.plan.group.main_first(f"epoch {progress.epoch}") as is_main:
            if is_main:
                if scores and progress.best is not None and progress.best.epoch == progress.epoch:
                    self._write_scores(training, scores[progress.best.weights], progress.best)
                self._write_epoch(training)
        self._steps, self._written = 0, time.monotonic()

    def complete_epoch(self, training: Training) -> None:
        """Write what a kill left unwritten of the epoch after which this run goes on, if anything.

        `latest` is the last checkpoint of an epoch that is written. So it is behind where the run
        goes on from another one, and after the last epoch nothing else would write it.
        """
        progress, latest = training.progress, self.files.latest.folder
        with self.plan.group.main_first(f"rest of epoch {progress.epoch}") as is_main:
            if is_main and not progress.step and _count_epochs(latest) < progress.epoch:
                self._write_epoch(training)

    def _write_scores(self, training: Training, found: Evaluation, best: Best) -> None:
        info = training.info
        if found.targets is None or info.run is None:
            return
        saved_scores.write(
            self.files.val_scores,
            found.outputs,
            found.targets,
            val_digest=info.run.digests[annotation.VAL_FILE],
            label_names=info.label_names,
            weights=best.weights,
            epoch=best.epoch,
        )

    @named("saving a checkpoint")
    def _write_epoch(self, training: Training) -> None:
        progress, files = training.progress, self.files
        if progress.best is not None and progress.best.epoch == progress.epoch:
            snapshot = training.snapshot(use_ema=progress.best.weights == "ema")
            checkpoint.write(files.best_model.folder, snapshot)
        latest, kept = files.latest.folder, files.epoch(progress.epoch).folder
        if progress.epoch in progress.saved_epochs:
            checkpoint.write(kept, training.snapshot())
            checkpoint.duplicate(kept, latest)
        else:
            checkpoint.write(latest, training.snapshot())
        self.plan.after_checkpoint()
        write_metrics(files.metrics_csv, progress.history)
        keep = self.plan.saving.keep_last
        for epoch in progress.saved_epochs[:-keep] if keep else ():
            checkpoint.remove(files.epoch(epoch).folder)


def _count_epochs(folder: Path) -> int:
    """Finished epochs of the checkpoint in a folder; -1 where there is none, or a damaged one."""
    with suppress(PaddlexMLError):
        saved = checkpoint.read_progress(folder)
        if saved is not None:
            return int(saved["epoch"])
    return -1


def finish_epoch(
    training: Training,
    plan: Plan,
    meter: Meter,
    scores: dict[WeightsKind, Evaluation] | None,
    diagnostics: Diagnostics,
) -> None:
    """Record the epoch that has just ended: its row, its place among the best, its log line."""
    progress, scores = training.progress, scores or {}
    updates = progress.epoch * plan.steps + progress.step
    row = EpochRow(
        epoch=progress.epoch + 1,
        step=updates,
        lr=plan.schedule.rate(updates - 1),
        loss=progress.loss_sum / progress.step,
        raw_map=scores["raw"].map if "raw" in scores else None,
        ema_map=scores["ema"].map if "ema" in scores else None,
        images_per_second=meter.images_per_second,
        data_wait=meter.data_share,
        memory_mib=max(meter.memory_mib, memory.resident_mib()),
        seconds=progress.seconds,
    )
    progress.history.append(row)
    progress.epoch, progress.step, progress.loss_sum = row.epoch, 0, 0.0
    plan.scalars(updates, row.scalars)
    line = f"[Epoch {row.epoch}/{plan.epochs}] loss {row.loss:.2f}"
    if scores:
        maps = ", ".join(f"{kind} {result.map:.4f}" for kind, result in scores.items())
        constant = next(iter(scores.values())).constant
        is_best = _update_best(progress, scores, plan.seed)
        line += f" mAP {maps} (constant predictor {constant:.4f})"
        line += _describe_best(progress, scores) if is_best else ""
    if plan.is_kept(row.epoch):
        progress.saved_epochs.append(row.epoch)
    logger.info(line)
    diagnostics.after_epoch(
        row,
        losses=meter.losses,
        waited=meter.waited,
        peak_rate=plan.schedule.peak,
        is_constant=bool(scores) and all(is_constant(s.outputs) for s in scores.values()),
    )


def should_stop_early(progress: Progress, plan: Plan) -> bool:
    """Whether `early_stop_patience` evaluations have passed without a better score; logs it."""
    patience = plan.early_stop_patience
    if patience is None or progress.evaluations_since_best < patience:
        return False
    logger.info("stopped early: no better score in the last %d evaluations", patience)
    return True


def _describe_best(progress: Progress, scores: dict[WeightsKind, Evaluation]) -> str:
    """The end of the log line of an epoch that is the best so far."""
    assert progress.best is not None
    if not is_constant(scores[progress.best.weights].outputs):
        return ", best so far"
    return (
        ", best so far, but a guess: the scores of a class differ by less than "
        f"{LEAST_SPREAD:g} between images"
    )


@named("computing the interval of the mAP")
def _update_best(progress: Progress, scores: dict[WeightsKind, Evaluation], seed: int) -> bool:
    """Record the better of both weights if it is at least as good as the best so far.

    An equal score takes the later weights, but does not reset the count of early stopping.
    """
    kind = max(scores, key=lambda k: (scores[k].map, k == "ema"))
    score = scores[kind].map
    before = -1.0 if progress.best is None else progress.best.score
    progress.evaluations_since_best = 0 if score > before else progress.evaluations_since_best + 1
    if score < before:
        return False
    interval = scores[kind].interval(rounds=ROUNDS, seed=seed)
    progress.best = Best(score, kind, progress.epoch, interval)
    return True
