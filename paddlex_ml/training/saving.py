# SPDX-License-Identifier: Apache-2.0
"""What a finished epoch leaves behind: its row, its place among the best, its checkpoints."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from paddlex_ml.artifacts import checkpoint
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.evaluation import Evaluation, is_constant
from paddlex_ml.training.diagnostics import Diagnostics, Epoch
from paddlex_ml.training.meter import Meter, write_metrics
from paddlex_ml.training.plan import Plan
from paddlex_ml.training.state import Progress, Training

logger = logging.getLogger(__name__)


class Keeper:
    """Writes the checkpoints of one run into its output folder, when they are due.

    All members of a team call it together; the leader writes while the others wait.
    """

    def __init__(self, output: Path, plan: Plan) -> None:
        self.output, self.plan = output, plan
        self._steps = 0  # since `latest` was written
        self._written = time.monotonic()

    def on_step(self) -> bool:
        """Called before every step: whether `latest` is to be written now."""
        saving = self.plan.saving
        self._steps += 1
        by_steps = saving.steps is not None and self._steps > saving.steps
        passed = time.monotonic() - self._written
        return by_steps or (saving.minutes is not None and passed > saving.minutes * 60)

    def save_latest(self, training: Training) -> bool:
        """Write `latest` in the middle of an epoch; returns whether there was a step to save."""
        progress = training.progress
        if (progress.epoch, progress.step) == (0, 0):
            return False
        with self.plan.group.main_first(f"latest {progress.epoch} {progress.step}") as is_main:
            if is_main:
                checkpoint.write(RunFolder(self.output).latest.folder, training.snapshot())
        self._restart()
        return True

    def save_epoch(self, training: Training) -> None:
        """Write all that is due after a finished epoch; each checkpoint holds the whole epoch."""
        with self.plan.group.main_first(f"epoch {training.progress.epoch}") as is_main:
            if is_main:
                self._write(training)
        self._restart()

    def _write(self, training: Training) -> None:
        progress, run = training.progress, RunFolder(self.output)
        if progress.best is not None and progress.best["epoch"] == progress.epoch:
            use_ema = progress.best["weights"] == "ema"
            checkpoint.write(run.best_model.folder, training.snapshot(use_ema=use_ema))
        latest, kept = run.latest.folder, run.epoch(progress.epoch).folder
        if progress.epoch in progress.saved_epochs:
            checkpoint.write(kept, training.snapshot())
            checkpoint.duplicate(kept, latest)
        else:
            checkpoint.write(latest, training.snapshot())
        write_metrics(run.metrics_csv, progress.history)
        self._make_room(progress)

    def _make_room(self, progress: Progress) -> None:
        """Remove the epoch folders of this run that its policy no longer keeps."""
        keep = self.plan.saving.keep_last
        for epoch in progress.saved_epochs[:-keep] if keep else ():
            checkpoint.remove(RunFolder(self.output).epoch(epoch).folder)

    def _restart(self) -> None:
        self._steps, self._written = 0, time.monotonic()


def finish_epoch(
    training: Training,
    plan: Plan,
    meter: Meter,
    scores: dict[str, Evaluation] | None,
    diagnostics: Diagnostics,
) -> None:
    """Book the epoch that has just ended, and tell about it."""
    progress = training.progress
    maps = {kind: result.map for kind, result in (scores or {}).items()}
    last_step = progress.epoch * plan.steps + progress.step - 1
    progress.history.append(
        {
            "epoch": progress.epoch + 1,
            "step": last_step + 1,
            "lr": plan.schedule.rate(last_step),
            "loss": progress.loss_sum / progress.step,
            "raw_map": maps.get("raw"),
            "ema_map": maps.get("ema"),
            "images_per_second": meter.images_per_second,
            "data_wait": meter.data_share,
            "memory_mib": meter.measure_memory(),
            "seconds": progress.seconds,
        }
    )
    plan.scalars(last_step + 1, {f"mAP/{kind}": score for kind, score in maps.items()})
    progress.epoch, progress.step, progress.loss_sum = progress.epoch + 1, 0, 0.0
    is_best = scores is not None and _take_best(progress, scores)
    if plan.is_kept(progress.epoch):
        progress.saved_epochs.append(progress.epoch)
    _report(progress, plan, scores, is_best)
    diagnostics.after_epoch(
        Epoch(
            number=progress.epoch,
            peak_rate=plan.schedule.peak,
            losses=meter.losses,
            data_share=meter.data_share,
            waited=meter.waited,
            died=bool(scores) and all(is_constant(s.outputs) for s in (scores or {}).values()),
        )
    )


def should_stop_early(progress: Progress, plan: Plan) -> bool:
    """Whether the training stops early, for want of a better score."""
    patience = plan.early_stop_patience
    if patience is None or progress.evaluations_since_best < patience:
        return False
    logger.info("stopped early: no better score in the last %d evaluations", patience)
    return True


def _take_best(progress: Progress, scores: dict[str, Evaluation]) -> bool:
    """Book the better of both weights when it is as good as the best so far.

    An equal score takes the later weights, but is no progress: early stopping counts on.
    """
    kind = max(scores, key=lambda k: (scores[k].map, k == "ema"))
    score = scores[kind].map
    before = -1.0 if progress.best is None else progress.best["score"]
    progress.evaluations_since_best = 0 if score > before else progress.evaluations_since_best + 1
    if score < before:
        return False
    progress.best = {"score": score, "weights": kind, "epoch": progress.epoch}
    return True


def _report(
    progress: Progress, plan: Plan, scores: dict[str, Evaluation] | None, is_best: bool
) -> None:
    row = progress.history[-1]
    line = f"[Epoch {progress.epoch}/{plan.epochs}] loss {row['loss']:.2f}"
    if scores:
        values = [f"{kind} {result.map:.4f}" for kind, result in scores.items()]
        constant = next(iter(scores.values())).constant
        line += f" mAP {', '.join(values)} (constant predictor {constant:.4f})"
        line += ", best so far" if is_best else ""
    logger.info(line)
