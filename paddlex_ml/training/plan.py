# SPDX-License-Identifier: Apache-2.0
"""What a training is to do: all that the options decide, composed before the first step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np

from paddlex_ml.artifacts.saved_states import Progress
from paddlex_ml.data import sampling
from paddlex_ml.data.dataset import SampleIndex
from paddlex_ml.data.loader import IndexBatches
from paddlex_ml.distributed.group import ProcessGroup
from paddlex_ml.evaluation import Scoring, scoring
from paddlex_ml.training.distillation import Teacher
from paddlex_ml.training.losses import LossFn
from paddlex_ml.training.schedule import Schedule

Scalars = Callable[[int, Mapping[str, float]], None]
"""Called with the number of updates so far and the values measured there, by name."""

_ONE_PROCESS = ProcessGroup()


@dataclass(frozen=True)
class Saving:
    """When checkpoints are written, in addition to `latest` and `best_model` after every epoch."""

    epoch_interval: int = 1
    keep_last: int | None = None
    """Folders epoch_N that are kept; None: all."""
    steps: int | None = None
    """Steps between two saves of `latest` within an epoch."""
    minutes: float | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that a training does, the same on every rank of its process group."""

    epochs: int
    batch_size: int
    """Images per process; a batch of the group has `group.size` times as many."""
    grad_accum_steps: int
    images: int
    """Images that an epoch draws."""
    order: Callable[[int], np.ndarray]
    """Epoch -> numbers of the images [images], a function of seed and epoch alone."""
    schedule: Schedule
    seed: int
    loss_fn: LossFn
    log_interval: int
    teacher: Teacher | None = None
    """Whose scores are learned beside the labels."""
    eval_interval: int = 1
    start_eval_epoch: int = 1
    early_stop_patience: int | None = None
    saving: Saving = Saving()
    precision: Callable[[], AbstractContextManager[None]] = nullcontext
    """The context that a forward pass runs in: mixed precision, or nothing."""
    begin_epoch: Callable[[int], None] = lambda epoch: None
    """Called with the number 0, 1, ... of every epoch, the model in training mode: freezes it."""
    scoring: Scoring = scoring
    """A model in evaluation mode -> its scores, as validation computes them."""
    group: ProcessGroup = _ONE_PROCESS
    scalars: Scalars = lambda step, numbers: None
    """Gets the numbers of every log line and epoch."""
    after_checkpoint: Callable[[], None] = lambda: None
    """Called in the main process whenever a checkpoint is written."""
    loader_repairs: Sequence[str] = ()
    """Options that would bring data faster, best first."""

    @property
    def steps(self) -> int:
        """Updates in one epoch."""
        return steps_per_epoch(
            self.images, self.batch_size * self.group.size, self.grad_accum_steps, self.group.size
        )

    @property
    def used(self) -> int:
        """Images that the steps of one epoch learn from, of those that it draws."""
        size = self.batch_size * self.group.size
        batches = batches_per_epoch(self.images, size, self.group.size)
        return min(self.images, batches * size)

    def step_images(self, step: int) -> int:
        """Images of step 0, 1, ... of an epoch, in all processes: fewer in the last one."""
        width = self.batch_size * self.group.size * self.grad_accum_steps
        return min(self.used - step * width, width)

    def epoch_steps(self, epoch: int) -> list[IndexBatches]:
        """This process's draws of one epoch: steps of `grad_accum_steps` batches each.

        The last batch, and the last step, may be smaller; see `batches_per_epoch`. What they leave
        out is drawn in other epochs.
        """
        return list(self._draw_steps(epoch, 0))

    def batches_left(self, progress: Progress) -> Iterator[list[SampleIndex]]:
        """This process's draws of the current epoch that are left; none after the last epoch."""
        if progress.epoch < self.epochs:
            yield from chain.from_iterable(self._draw_steps(progress.epoch, progress.step))

    def _draw_steps(self, epoch: int, first: int) -> Iterator[IndexBatches]:
        """The steps of one epoch from the first on, each made when it is asked for."""
        drawn, size = self.order(epoch)[: self.used], self.batch_size * self.group.size
        copies, width = sampling.copies(drawn), size * self.grad_accum_steps
        for begin in range(first * width, len(drawn), width):
            part = slice(begin, begin + width)
            order, copy = drawn[part].tolist(), copies[part].tolist()
            draws = list(map(SampleIndex, repeat(epoch), order, copy))
            yield [
                list(self.group.batch_shard(draws[k : k + size]))
                for k in range(0, len(draws), size)
            ]

    def is_evaluated(self, epoch: int) -> bool:
        """Whether epoch 1, 2, ... ends with an evaluation; the last one always does."""
        due = epoch >= self.start_eval_epoch and epoch % self.eval_interval == 0
        return due or epoch == self.epochs

    def is_kept(self, epoch: int) -> bool:
        """Whether epoch 1, 2, ... gets a folder of its own; the last one always does."""
        return epoch % self.saving.epoch_interval == 0 or epoch == self.epochs


def batches_per_epoch(size: int, batch_size: int, processes: int = 1) -> int:
    """Batches of `batch_size` in one epoch over `size` images; at least one.

    A remainder is a batch of its own when each process gets two images or more: the statistics of
    batch norm need two.
    """
    full, rest = divmod(size, batch_size)
    return full + (not full or rest >= 2 * processes)


def steps_per_epoch(size: int, batch_size: int, grad_accum_steps: int, processes: int = 1) -> int:
    """Updates in one epoch over `size` images, of `grad_accum_steps` batches or what is left."""
    return -(-batches_per_epoch(size, batch_size, processes) // grad_accum_steps)
