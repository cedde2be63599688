# SPDX-License-Identifier: Apache-2.0
"""Batches for training and evaluation, made by worker processes ahead of their use.

Workers send images as uint8, a quarter of the size of float32; they become float32 on the device.
Workers are started from a clean server process, never forked from this one: a fork would inherit
locks of Paddle's threads that nothing ever releases.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from itertools import islice

import numpy as np
import paddle

from paddlex_ml import machine_memory, stop_signals, systems
from paddlex_ml.cores import usable_cores
from paddlex_ml.data import decode_memory, killed_worker, worker, worker_server
from paddlex_ml.data.dataset import MultiLabelDataset, SampleIndex
from paddlex_ml.data.preprocess import Preprocess

logger = logging.getLogger(__name__)

Batch = tuple[paddle.Tensor, ...]
"""Images [B, 3, S, S], targets [B, C], and weights [B] where images have some; float32."""
IndexBatches = list[list[SampleIndex]]

_AHEAD = 2  # batches that every worker prepares in advance


def evaluation_indices(size: int, batch_size: int) -> IndexBatches:
    """Every image once, in the order of the list."""
    return [
        [SampleIndex(0, sample) for sample in range(start, min(start + batch_size, size))]
        for start in range(0, size, batch_size)
    ]


class Loader:
    """Batches of one data set, from workers that stay from epoch to epoch. Close it at the end."""

    def __init__(self, dataset: MultiLabelDataset, num_workers: int) -> None:
        """`num_workers` 0 works in this process; worker processes start with the first epoch."""
        self.dataset = dataset
        self.num_workers = num_workers
        self._pool: ProcessPoolExecutor | None = None
        self._begun: tuple[IndexBatches, deque[Future[worker.Arrays]]] = [], deque()
        self._ends_before = 0

    def begin(self, batches: Iterable[list[SampleIndex]]) -> None:
        """Let workers make the first of these batches, for an `epoch` of the same ones to yield.

        Without workers nothing is made ahead.
        """
        first = list(islice(batches, self.num_workers * _AHEAD))
        if first:
            with suppress(BrokenProcessPool):  # the epoch meets it again, and explains it
                self._begun = first, _submit(self._workers(), first)

    def epoch(self, batches: IndexBatches) -> Generator[Batch, None, None]:
        """Yield `batches` in order.

        Close the generator (contextlib.closing) when its end may not be reached: that cancels
        what the workers have not begun. Raises PaddlexMLError that names the file when an image
        cannot be read, and when a worker is killed.
        """
        if self.num_workers == 0 or not batches:
            arrays = (worker.make_batch(batch, self.dataset) for batch in batches)
        else:
            arrays = self._from_workers(batches)
        with closing(arrays) as arriving:
            for images, targets, weights, failure in arriving:
                if self.dataset.cache is not None:
                    self.dataset.cache.report(failure)
                batch = _to_tensors(images, targets, self.dataset.preprocess)
                yield batch if weights is None else (*batch, paddle.to_tensor(weights))

    def close(self) -> None:
        """End the workers. Another epoch would start new ones."""
        pool, self._pool = self._pool, None
        self._begun = [], deque()
        if pool is not None:
            worker.end(pool)

    def _from_workers(self, batches: IndexBatches) -> Generator[worker.Arrays, None, None]:
        first = batches[: self.num_workers * _AHEAD]
        (begun, waiting), self._begun = self._begun, ([], deque())
        remaining: Iterator[list[SampleIndex]] = iter(batches[len(first) :])
        pool = self._workers()
        try:
            if begun != first:
                _cancel(waiting)
                waiting = _submit(pool, first)
            while waiting:
                ready = waiting.popleft().result()
                waiting += _submit(pool, islice(remaining, 1))
                yield ready
        except BrokenProcessPool as error:
            told = killed_worker.explain(pool, self._describe(batches), "data loader")
            self.close()
            raise told from error
        finally:
            _cancel(waiting)

    def _workers(self) -> ProcessPoolExecutor:
        """The workers, which begin with the first batch that they are asked for."""
        if self._pool is None:
            context = worker_server.start()
            self._ends_before = machine_memory.count_ends()
            readers = decode_memory.Readers(self.num_workers, decode_memory.SharedLock())
            shared = self.dataset, readers
            self._pool = ProcessPoolExecutor(self.num_workers, context, worker.start, shared)
        return self._pool

    def _describe(self, batches: IndexBatches) -> killed_worker.Workers:
        """What takes memory here, and how it takes less."""
        count, kept, largest = self.num_workers, self.dataset.cache, max(map(len, batches))
        width, height = self.dataset.preprocess.size
        takes = f"{count} worker processes, each with up to {_AHEAD} batches of {largest} images"
        takes += f" of {width} x {height} ({largest * width * height * 3 / 1e6:.1f} MB)"
        takes += f" and an image that takes up to {decode_memory.limit() / 1e9:.1f} GB"
        ways = [f"fewer workers: -o Train.num_workers={count // 2}"]
        ways += [f"smaller batches: -o Train.batch_size={largest // 2}"] if largest > 1 else []
        if kept is not None and kept.path is None:
            takes += f"; images kept in memory take up to {kept.length / 1e9:.1f} GB"
            ways.insert(1, "a smaller cache: -o Train.cache=none")
        return killed_worker.Workers(
            "prepares batches", takes, "; or ".join(ways), self._ends_before
        )


def _submit(
    pool: ProcessPoolExecutor, batches: Iterable[list[SampleIndex]]
) -> deque[Future[worker.Arrays]]:
    with stop_signals.postponed():  # a worker that this starts inherits them blocked
        return deque(pool.submit(worker.make_batch, batch) for batch in batches)


def _cancel(waiting: Iterable[Future[worker.Arrays]]) -> None:
    for future in waiting:
        future.cancel()


def batches(
    dataset: MultiLabelDataset, indices: IndexBatches, num_workers: int
) -> Generator[Batch, None, None]:
    """Yield the batches of one epoch, as `Loader.epoch` does, with workers of its own."""
    with closing(Loader(dataset, num_workers)) as loader, closing(loader.epoch(indices)) as epoch:
        yield from epoch


def count_workers(asked: int | None, processes: int = 1) -> int:
    """Worker processes for one of the `processes` trainings that share this machine's cores."""
    most = systems.most_workers()
    if asked is None:
        return min(max(1, usable_cores() // processes), most)
    if asked > most:
        logger.warning("Train.num_workers is %d: this system can have %d, which work", asked, most)
    return min(asked, most)


def _to_tensors(images: np.ndarray, targets: np.ndarray, preprocess: Preprocess) -> Batch:
    """Images [B, H, W, 3] uint8 -> as `preprocess.normalise`, bit for bit on a CPU.

    A GPU gets the uint8, a quarter of the bytes, and does the same arithmetic there.
    """
    labels = paddle.to_tensor(targets.astype(np.float32))
    if labels.place.is_cpu_place():
        # to_tensor would copy, which takes longer than the arithmetic
        return paddle.from_dlpack(preprocess.normalise(images)), labels
    pixels = paddle.to_tensor(images).astype("float32") * preprocess.scale
    mean = paddle.to_tensor(preprocess.mean, "float32")
    pixels = (pixels - mean) / paddle.to_tensor(preprocess.std, "float32")
    return pixels.transpose([0, 3, 1, 2]), labels
