# SPDX-License-Identifier: Apache-2.0
"""Batches for training and evaluation, made by worker processes ahead of their use."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle.io import DataLoader

from paddlex_ml.data import worker
from paddlex_ml.data.dataset import Draw, MultiLabelDataset
from paddlex_ml.errors import PaddlexMLError

Batch = tuple[paddle.Tensor, paddle.Tensor]  # images [B, 3, S, S], targets [B, C]
Draws = list[list[Draw]]  # one inner list per batch

_AHEAD = 2  # batches that every worker prepares in advance


def epoch_draws(size: int, batch_size: int, *, seed: int, epoch: int) -> Draws:
    """Order of one training epoch: shuffled by seed and epoch, the incomplete last batch dropped.

    A remainder of a few images would disturb batch norm; every image comes again in other epochs.
    A list shorter than one batch is one batch.
    """
    order = np.random.default_rng([seed, epoch]).permutation(size).tolist()
    batches = max(1, size // batch_size)
    return [
        [Draw(epoch, index) for index in order[k * batch_size : (k + 1) * batch_size]]
        for k in range(batches)
    ]


def evaluation_draws(size: int, batch_size: int) -> Draws:
    """Every image once, in the order of the list."""
    return [
        [Draw(0, index) for index in range(start, min(start + batch_size, size))]
        for start in range(0, size, batch_size)
    ]


def batches(
    dataset: MultiLabelDataset, draws: Draws, num_workers: int
) -> Generator[Batch, None, None]:
    """Yield the batches of `draws` in order; `num_workers` 0 works in this process.

    Close the generator (contextlib.closing) when its end may not be reached: that ends the
    workers. Raises PaddlexMLError that names the file when an image cannot be read, and when a
    worker is killed.
    """
    if not draws:
        return
    order = _Order(draws)
    loader = DataLoader(
        dataset,
        batch_sampler=order,  # type: ignore[arg-type]  # it asks for iter and len alone
        num_workers=min(num_workers, len(draws)),
        collate_fn=_collate,  # type: ignore[arg-type]
        prefetch_factor=_AHEAD,
        use_shared_memory=_shared_memory_suffices(dataset, len(draws[0]), num_workers),
        worker_init_fn=worker.begin,
    )
    ready = iter(loader)
    try:
        for images, targets, *error in ready:
            if error:
                what, where, fix = error
                raise PaddlexMLError(what, where=where, fix=fix)
            yield images, targets
    except SystemError as error:  # so Paddle reports a worker that died
        raise PaddlexMLError(
            "a process that prepares batches was killed, most often because memory ran out",
            where=f"data loader with {num_workers} worker processes",
            fix="-o Train.num_workers=0, or a smaller -o Train.batch_size",
        ) from error
    finally:
        order.stop()
        with suppress(RuntimeError, SystemError):  # a worker that was killed leaves nothing to read
            for _ in ready:  # at its regular end Paddle lets its workers go; at exit it complains
                pass


class _Order:
    """The batches still to be made, as Paddle's loader asks for them; can be cut short."""

    def __init__(self, draws: Draws) -> None:
        self.draws = draws
        self.stopped = False

    def __iter__(self) -> Iterator[list[Draw]]:
        return (batch for batch in self.draws if not self.stopped)

    def __len__(self) -> int:
        return len(self.draws)

    def stop(self) -> None:
        """Hand out nothing more."""
        self.stopped = True


def _collate(samples: Sequence[Any]) -> list[Any]:
    for sample in samples:
        if isinstance(sample, PaddlexMLError):
            nothing = np.zeros(1, np.float32)
            return [nothing, nothing, sample.what, sample.where, sample.fix]
    images, targets = zip(*samples, strict=True)
    return [np.stack(images), np.stack(targets)]


def _shared_memory_suffices(
    dataset: MultiLabelDataset, batch_size: int, num_workers: int, folder: Path = Path("/dev/shm")
) -> bool:
    """Whether all batches in flight fit; containers often give 64 MB, and too little is a crash."""
    needed = 4 * 3 * dataset.image_size**2 * batch_size * (num_workers * _AHEAD + 2)
    try:
        free = os.statvfs(folder)
    except (OSError, AttributeError):
        return False
    return free.f_bavail * free.f_frsize > 2 * needed
