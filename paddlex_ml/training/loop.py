# SPDX-License-Identifier: Apache-2.0
"""The training loop: epochs of steps, both kinds of weights evaluated, checkpoints in between.

Nothing here depends on how often or where a run was stopped: the order of the images, their
augmentation, dropout and the learning rate are functions of seed, epoch and step.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from paddlex_ml import checkpoint
from paddlex_ml.checkpoint import Card, Checkpoint
from paddlex_ml.data.dataset import Draw, MultiLabelDataset
from paddlex_ml.data.loader import Batch, Draws, batches, epoch_draws, evaluation_draws
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.evaluation import Evaluation, evaluate, is_constant
from paddlex_ml.models.weights import to_arrays
from paddlex_ml.training.ema import Ema
from paddlex_ml.training.interrupt import Interrupt
from paddlex_ml.training.meter import Meter, write_metrics
from paddlex_ml.training.optimizer import load_state, save_state
from paddlex_ml.training.schedule import WarmupCosine

logger = logging.getLogger(__name__)

LossFn = Callable[[paddle.Tensor, paddle.Tensor], paddle.Tensor]


@dataclass(frozen=True)
class Plan:
    """What a training is to do."""

    epochs: int
    batch_size: int
    grad_accum_steps: int
    schedule: WarmupCosine
    seed: int
    num_workers: int
    log_interval: int
    eval_interval: int
    save_interval: int
    early_stop_patience: int | None
    amp: str


@dataclass
class Progress:
    """How far a training is; saved with every checkpoint."""

    epoch: int = 0
    """Finished epochs."""
    step: int = 0
    """Finished steps of the epoch under way."""
    loss_sum: float = 0.0
    """Sum of those steps' losses."""
    best: dict[str, Any] | None = None
    """score (0..1), weights ("raw" or "ema") and epoch of the best model."""
    evaluations_since_best: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    """One row for every finished epoch, as in metrics.csv."""
    saved_epochs: list[int] = field(default_factory=list)
    """Epochs that have a folder epoch_N."""


@dataclass
class Training:
    """A model with all that changes while it learns."""

    card: Card
    model: paddle.nn.Layer
    averaged: paddle.nn.Layer
    """A second model of the same kind, which shows the averaged weights to the evaluation."""
    ema: Ema
    optimizer: paddle.optimizer.AdamW
    scaler: paddle.amp.GradScaler
    settings: dict[str, Any]
    """Configuration that decides about the numbers; a resume compares it with its own."""
    progress: Progress = field(default_factory=Progress)

    def snapshot(self, *, use_ema: bool = False) -> Checkpoint:
        """Copy the present state into a checkpoint."""
        state: dict[str, Any] = {"moments": save_state(self.optimizer, self.model)}
        state["scaler"] = self.scaler.state_dict() if self.scaler.is_enable() else {}
        return Checkpoint(
            card=self.card,
            weights=to_arrays(self.model.state_dict()),
            ema=to_arrays(self.ema.weights),
            optimizer=state,
            progress={**asdict(self.progress), "ema_updates": self.ema.updates},
            settings=self.settings,
            use_ema=use_ema,
        )

    def restore(self, saved: Checkpoint) -> None:
        """Continue from a checkpoint of the same model, bit for bit."""
        for name, value in self.model.state_dict().items():
            value.set_value(np.asarray(saved.weights[name]).astype(str(value.numpy().dtype)))
        progress = dict(saved.progress)
        self.ema.restore(saved.ema, updates=progress.pop("ema_updates"))
        load_state(self.optimizer, self.model, saved.optimizer["moments"])
        if self.scaler.is_enable() and saved.optimizer["scaler"]:
            self.scaler.load_state_dict(saved.optimizer["scaler"])
        self.progress = Progress(**progress)


def fit(
    training: Training,
    plan: Plan,
    loss_fn: LossFn,
    train: MultiLabelDataset,
    val: MultiLabelDataset,
    output: Path,
    interrupt: Interrupt,
) -> None:
    """Train to the last epoch, or until `interrupt` asks for a stop; saves into `output`."""
    progress = training.progress
    if progress.history:  # a new output folder, or a kill between the checkpoint and this file
        write_metrics(output / "metrics.csv", progress.history)
    while progress.epoch < plan.epochs and not _is_stale(progress, plan):
        meter = train_epoch(training, plan, loss_fn, train, interrupt)
        scores = None
        if interrupt.signal is None and _is_evaluated(progress.epoch + 1, plan):
            scores = _evaluate_both(training, plan, val, interrupt)
        if interrupt.signal is not None:  # the epoch goes on, or is judged, after a resume
            checkpoint.write(output / "latest", training.snapshot())
            return
        _finish_epoch(training, plan, meter, scores, output)


def train_epoch(
    training: Training,
    plan: Plan,
    loss_fn: LossFn,
    dataset: MultiLabelDataset,
    interrupt: Interrupt,
) -> Meter:
    """Do the steps of one epoch that are left; stop early when `interrupt` asks for it."""
    progress = training.progress
    steps = epoch_steps(len(dataset), plan, progress.epoch)[progress.step :]
    meter = Meter(progress.epoch, plan.epochs, progress.step, len(steps), plan.log_interval)
    training.model.train()
    draws = [batch for step in steps for batch in step]
    with closing(batches(dataset, draws, plan.num_workers)) as loader, meter:
        arriving = _until_stopped(loader, interrupt)
        for step in steps:
            group = list(islice(arriving, len(step)))
            if len(group) < len(step):
                break
            meter.data_arrived()
            loss = train_step(training, plan, loss_fn, group)
            if not math.isfinite(loss):
                raise _non_finite(loss, step, dataset)
            progress.step += 1
            progress.loss_sum += loss
            meter.step_done(loss, training.optimizer.get_lr(), images=sum(map(len, step)))
    return meter


def _until_stopped(feed: Iterable[Batch], interrupt: Interrupt) -> Iterator[Batch]:
    """Yield batches until a stop is asked for.

    Cluster managers send SIGTERM to the workers too; that those then die is part of the stop.
    """
    try:
        for batch in feed:
            if interrupt.signal is not None:
                return
            yield batch
    except PaddlexMLError:
        if interrupt.signal is None:
            raise


def train_step(training: Training, plan: Plan, loss_fn: LossFn, group: Sequence[Batch]) -> float:
    """Forward, backward over the batches of one step, then one update. Returns the loss.

    The loss is a sum over samples, so batches that share a step simply add their gradients.
    """
    progress, optimizer, scaler = training.progress, training.optimizer, training.scaler
    step = progress.epoch * 10**6 + progress.step
    paddle.seed(int(np.random.SeedSequence([plan.seed, step]).generate_state(1)[0]))  # dropout
    total = 0.0
    for images, targets in group:
        with paddle.amp.auto_cast(plan.amp != "OFF", level="O2" if plan.amp == "O2" else "O1"):
            logits = training.model(images)
        loss = loss_fn(logits, targets)
        total += float(loss)
        if not math.isfinite(total):
            return total
        scaler.scale(loss).backward()
    optimizer.set_lr(plan.schedule.rate(global_step(progress, plan)))
    scaler.step(optimizer)
    scaler.update()
    optimizer.clear_grad()
    training.ema.update(training.model)
    return total


def global_step(progress: Progress, plan: Plan) -> int:
    """Number of updates before this one, over all epochs."""
    return progress.epoch * (plan.schedule.total_steps // plan.epochs) + progress.step


def steps_per_epoch(size: int, batch_size: int, grad_accum_steps: int) -> int:
    """Updates in one epoch over `size` images; at least one."""
    return max(1, max(1, size // batch_size) // grad_accum_steps)


def epoch_steps(size: int, plan: Plan, epoch: int) -> list[Draws]:
    """Draws of one epoch: a list of steps, each a list of `grad_accum_steps` batches."""
    draws = epoch_draws(size, plan.batch_size, seed=plan.seed, epoch=epoch)
    count = steps_per_epoch(size, plan.batch_size, plan.grad_accum_steps)
    width = plan.grad_accum_steps
    return [draws[k * width : (k + 1) * width] for k in range(count)]


def _evaluate_both(
    training: Training, plan: Plan, val: MultiLabelDataset, interrupt: Interrupt
) -> dict[str, Evaluation] | None:
    """Evaluate raw and averaged weights in one pass; None when asked to stop meanwhile."""
    networks = {"raw": training.model}
    if training.ema.decay > 0:
        for name, value in training.averaged.state_dict().items():
            value.set_value(training.ema.weights[name])
        networks["ema"] = training.averaged
    for network in networks.values():
        network.eval()
    draws = evaluation_draws(len(val), plan.batch_size)
    with closing(batches(val, draws, plan.num_workers)) as feed:
        results = evaluate(list(networks.values()), _until_stopped(feed, interrupt))
    if interrupt.signal is not None:
        return None
    return dict(zip(networks, results, strict=True))


def _finish_epoch(
    training: Training,
    plan: Plan,
    meter: Meter,
    scores: dict[str, Evaluation] | None,
    output: Path,
) -> None:
    """Book the epoch, and save what is due. Every checkpoint holds the finished epoch."""
    progress = training.progress
    maps = {kind: result.map for kind, result in (scores or {}).items()}
    progress.history.append(
        {
            "epoch": progress.epoch + 1,
            "lr": plan.schedule.rate(global_step(progress, plan) - 1),  # of the epoch's last step
            "loss": progress.loss_sum / progress.step,
            "raw_map": maps.get("raw"),
            "ema_map": maps.get("ema"),
            "images_per_second": meter.images_per_second,
            "data_wait": meter.data_share,
        }
    )
    progress.epoch, progress.step, progress.loss_sum = progress.epoch + 1, 0, 0.0
    is_best = scores is not None and _take_best(progress, scores)
    if progress.epoch % plan.save_interval == 0 or progress.epoch == plan.epochs:
        progress.saved_epochs.append(progress.epoch)
    _report(progress, plan, scores, is_best)
    if is_best and progress.best is not None:
        use_ema = progress.best["weights"] == "ema"
        checkpoint.write(output / "best_model", training.snapshot(use_ema=use_ema))
    latest, kept = output / "latest", output / f"epoch_{progress.epoch}"
    if progress.epoch in progress.saved_epochs:
        checkpoint.write(kept, training.snapshot())
        checkpoint.duplicate(kept, latest)
    else:
        checkpoint.write(latest, training.snapshot())
    write_metrics(output / "metrics.csv", progress.history)


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
    if scores and all(is_constant(result.outputs) for result in scores.values()):
        logger.warning(
            "the scores no longer differ between images: the model has died. The likely cause is "
            "a learning rate that is too large; try -o Train.learning_rate=%.0e",
            plan.schedule.peak / 10,
        )


def _is_evaluated(epoch: int, plan: Plan) -> bool:
    return epoch % plan.eval_interval == 0 or epoch == plan.epochs


def _is_stale(progress: Progress, plan: Plan) -> bool:
    patience = plan.early_stop_patience
    if patience is None or progress.evaluations_since_best < patience:
        return False
    logger.info("stopped early: no better score in the last %d evaluations", patience)
    return True


def _non_finite(
    loss: float, step: Sequence[list[Draw]], dataset: MultiLabelDataset
) -> PaddlexMLError:
    paths = [str(dataset.images.path(draw.sample)) for draws in step for draw in draws]
    return PaddlexMLError(
        f"the loss became {loss}; the images of this step were:\n    " + "\n    ".join(paths),
        where="training",
        fix="-o Train.learning_rate=... (ten times smaller), and -o Train.amp=OFF if it is on",
    )
