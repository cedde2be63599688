# SPDX-License-Identifier: Apache-2.0
"""The training loop: epochs of steps, both kinds of weights evaluated, checkpoints in between.

Nothing here depends on how often or where a run was stopped: the order of the images, their
augmentation, dropout and the learning rate are functions of seed, epoch and step. No option appears
here: what the options decide is in the plan. All ranks of a process group run this module
together, step by step; only the main process writes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from itertools import islice
from pathlib import Path

import numpy as np
import paddle

from paddlex_ml import terminal
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.artifacts.saved_states import Progress
from paddlex_ml.artifacts.train_result import WeightsKind, write_metrics
from paddlex_ml.data.loader import Batch, IndexBatches, Loader, evaluation_indices
from paddlex_ml.distributed.group import PeerLost
from paddlex_ml.errors import Lines, PaddlexMLError
from paddlex_ml.evaluation import Evaluation, evaluate
from paddlex_ml.progress import ignore_progress, ticking
from paddlex_ml.safe_text import one_line
from paddlex_ml.training import saving
from paddlex_ml.training.diagnostics import Diagnostics
from paddlex_ml.training.interrupt import DataStalled, Interrupt
from paddlex_ml.training.meter import GUIDE, Meter
from paddlex_ml.training.plan import Plan
from paddlex_ml.training.state import Training

logger = logging.getLogger(__name__)


def fit(
    training: Training,
    plan: Plan,
    train_loader: Loader,
    val_loader: Loader,
    output: Path,
    interrupt: Interrupt,
) -> None:
    """Train to the last epoch, or until `interrupt` asks for a stop; saves into `output`."""
    progress, keeper = training.progress, saving.Keeper(output, plan)
    diagnostics = Diagnostics(plan.loader_repairs)
    if progress.history and plan.group.is_main:  # the output is new, or a kill came before this
        write_metrics(RunFolder(output).metrics_csv, progress.history)
    for line in GUIDE if plan.group.is_main else ():
        logger.info(line)
    while progress.epoch < plan.epochs and not saving.should_stop_early(progress, plan):
        meter = train_epoch(training, plan, train_loader, interrupt, keeper)
        scores = None
        if not interrupt.stopped and plan.is_evaluated(progress.epoch + 1):
            with meter.evaluating():
                scores = evaluate_both(training, plan, val_loader, interrupt)
        if interrupt.stopped:  # a resume finishes the steps or the evaluation of this epoch
            is_saved = keeper.save_latest(training)
            interrupt.raise_error(is_saved)
            return
        saving.finish_epoch(training, plan, meter, scores, diagnostics)
        keeper.save_epoch(training, scores)
    diagnostics.at_end(progress.history, training.ema.decay, training.ema.updates)
    diagnostics.check_best(progress.best, val_loader.dataset.images.targets)


def train_epoch(
    training: Training,
    plan: Plan,
    loader: Loader,
    interrupt: Interrupt,
    keeper: saving.Keeper,
) -> Meter:
    """Do the steps of one epoch that are left; stop early when `interrupt` asks for it."""
    progress = training.progress
    steps = plan.epoch_steps(progress.epoch)[progress.step :]
    meter = Meter(progress, plan)
    training.model.train()
    plan.begin_epoch(progress.epoch)
    training.passes.begin_epoch()
    draws = [batch for step in steps for batch in step]
    with closing(loader.epoch(draws)) as feed, ticking(meter.bar):
        arriving = _while_readable(feed, interrupt)
        for step in steps:
            batches = list(islice(arriving, len(step)))
            meter.data_arrived()  # at once: what follows is not time spent on loading
            (save_now,) = interrupt.agree(keeper.on_step())
            if interrupt.stopped:
                break
            if save_now:
                keeper.save_latest(training)
            own, loss = train_step(training, plan, batches, step)
            if not math.isfinite(loss):
                if math.isfinite(own):
                    raise PeerLost("the loss of another process is not finite")
                samples = [draw.sample for batch in step for draw in batch]
                paths = [one_line(str(loader.dataset.images.path(sample))) for sample in samples]
                listed = "".join(f"\n    {path}" for path in paths)
                raise PaddlexMLError(
                    Lines(f"the loss became {own}; the images of this step were:{listed}"),
                    where="training",
                    fix=f"-o Train.learning_rate={plan.schedule.peak / 10:g}, and -o Train.amp=OFF "
                    "if it is on",
                )
            # As of a whole step, so that the last, smaller one of an epoch can be compared.
            loss *= plan.step_images(0) / plan.step_images(progress.step)
            progress.step += 1
            progress.loss_sum += loss
            meter.step_done(loss, training.optimizer.get_lr(), images=sum(map(len, step)))
    return meter


def train_step(
    training: Training, plan: Plan, batches: Sequence[Batch], draws: IndexBatches | None = None
) -> tuple[float, float]:
    """Forward and backward over the batches of one step, then one update.

    `draws` says which images they have; only estimated labels and a teacher need it.

    Returns the loss of this process and that of the group. It is a sum over samples, so batches
    of one step, and those of other processes, simply add their gradients. A loss that is not finite
    leaves the weights as they were.
    """
    progress, scaler, group = training.progress, training.scaler, plan.group
    passes, last = training.passes, len(batches) - 1
    # The masks of dropout must not depend on where a run was stopped.
    entropy = [plan.seed, progress.epoch * 10**6 + progress.step, group.rank]
    paddle.seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))
    losses = []
    for number, (images, targets, *weights) in enumerate(batches):
        with plan.precision():
            logits = passes.forward(images, group, is_last=number == last)
        loss = plan.loss_fn(logits, targets, *weights)
        if training.estimates is not None:
            assert draws is not None
            loss = loss + training.estimates.loss(logits, targets, draws[number], *weights)
        if plan.teacher is not None:
            assert draws is not None
            loss = plan.teacher.blend(loss, logits, images, draws[number], *weights)
        scaled = scaler.scale(loss * group.size)  # times size: the group takes the mean
        passes.backward(scaled, group, is_last=number == last)
        losses.append(loss.detach())
    own = float(sum(losses))  # the only wait for the device in a step
    total = group.all_reduce_sum(own)
    if math.isfinite(total):
        rate = plan.schedule.rate(global_step(progress, plan))
        training.optimizer.set_lr(rate)
        scaler.step(training.optimizer)
        scaler.update()
        group.all_reduce_mean(training.statistics)
        training.ema.update(training.model)
        if training.estimates is not None:
            training.estimates.update(rate, group)
    training.optimizer.clear_grad()
    return own, total


def evaluate_both(
    training: Training, plan: Plan, loader: Loader, interrupt: Interrupt
) -> dict[WeightsKind, Evaluation] | None:
    """Evaluate raw and averaged weights in one pass; None when a stop was asked for meanwhile."""
    networks: dict[WeightsKind, paddle.nn.Layer] = {"raw": training.model}
    if training.ema.decay > 0:
        for name, value in training.averaged.state_dict().items():
            value.set_value(training.ema.weights[name].astype(value.dtype))
        networks["ema"] = training.averaged
    for network in networks.values():
        network.eval()
    draws = evaluation_indices(len(loader.dataset), plan.batch_size)
    rounds = -(-len(draws) // plan.group.size)
    with closing(loader.epoch(list(plan.group.shard(draws)))) as feed:
        arriving = _until_stopped(_while_readable(feed, interrupt), rounds, interrupt)
        scored = [plan.scoring(network) for network in networks.values()]
        title = f"epoch {training.progress.epoch + 1}: validation batches"
        bar = terminal.progress(title, always=False)
        with bar if plan.group.is_main else nullcontext(ignore_progress) as show:
            results = evaluate(
                scored,
                arriving,
                progress=lambda done: show(done, rounds),
                gather=plan.group.all_gather,
            )
    if interrupt.stopped:
        return None
    return dict(zip(networks, results, strict=True))


def global_step(progress: Progress, plan: Plan) -> int:
    """Number of updates before this one, over all epochs."""
    return progress.epoch * plan.steps + progress.step


def _while_readable(feed: Iterable[Batch], interrupt: Interrupt) -> Iterator[Batch]:
    """Yield batches until one cannot be read; `interrupt` records the reason.

    Cluster managers send SIGTERM to the data workers too; their death is then part of the stop. So
    is a disk that does not answer.
    """
    arriving = iter(feed)
    while True:
        try:
            with interrupt.reading():
                batch = next(arriving, None)
        except DataStalled:
            logger.warning("the data do not arrive: stopping without them")
            return
        except PaddlexMLError as error:
            if interrupt.signal is None:
                interrupt.error = error
            return
        if batch is None:
            return
        yield batch


def _until_stopped(feed: Iterator[Batch], rounds: int, interrupt: Interrupt) -> Iterator[Batch]:
    """Yield the batches of `feed` until any rank must stop; shards may differ by one batch."""
    for _ in range(rounds):
        batch = next(feed, None)
        interrupt.agree()
        if interrupt.stopped:
            return
        if batch is not None:
            yield batch
