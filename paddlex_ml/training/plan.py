# SPDX-License-Identifier: Apache-2.0
"""What a training is to do: all that the options decide, composed before the first step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from paddlex_ml.data import sampling
from paddlex_ml.data.dataset import SampleIndex
from paddlex_ml.data.loader import IndexBatches
from paddlex_ml.distributed.group import ProcessGroup
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
    eval_interval: int = 1
    start_eval_epoch: int = 1
    early_stop_patience: int | None = None
    saving: Saving = Saving()
    precision: Callable[[], AbstractContextManager[None]] = nullcontext
    """The context that a forward pass runs in: mixed precision, or nothing."""
    begin_epoch: Callable[[int], None] = lambda epoch: None
    """Called with the number 0, 1, ... of every epoch, the model in training mode: freezes it."""
    group: ProcessGroup = _ONE_PROCESS
    scalars: Scalars = lambda step, numbers: None
    """Gets the numbers of every log line and evaluation."""
    after_checkpoint: Callable[[], None] = lambda: None
    """Called in the main process whenever a checkpoint is written."""
    loader_repairs: Sequence[str] = ()
    """Options that would bring data faster, best first."""

    @property
    def steps(self) -> int:
        """Updates in one epoch."""
        return steps_per_epoch(
            self.images, self.batch_size * self.group.size, self.grad_accum_steps
        )

    def epoch_steps(self, epoch: int) -> list[IndexBatches]:
        """This process's draws of one epoch: steps of `grad_accum_steps` batches each.

        A remainder of a few images would disturb batch norm and is left out; other epochs draw its
        images. A list shorter than one batch is one batch.
        """
        drawn, size = self.order(epoch), self.batch_size * self.group.size
        order, copies = drawn.tolist(), sampling.copies(drawn).tolist()
        draws = list(map(SampleIndex, repeat(epoch), order, copies))
        batches = [
            list(self.group.batch_shard(draws[k * size : (k + 1) * size]))
            for k in range(max(1, self.images // size))
        ]
        width = self.grad_accum_steps
        return [batches[k * width : (k + 1) * width] for k in range(self.steps)]

    def is_evaluated(self, epoch: int) -> bool:
        """Whether epoch 1, 2, ... ends with an evaluation; the last one always does."""
        due = epoch >= self.start_eval_epoch and epoch % self.eval_interval == 0
        return due or epoch == self.epochs

    def is_kept(self, epoch: int) -> bool:
        """Whether epoch 1, 2, ... gets a folder of its own; the last one always does."""
        return epoch % self.saving.epoch_interval == 0 or epoch == self.epochs


def steps_per_epoch(size: int, batch_size: int, grad_accum_steps: int) -> int:
    """Updates in one epoch over `size` images; at least one."""
    return max(1, max(1, size // batch_size) // grad_accum_steps)
