# SPDX-License-Identifier: Apache-2.0
"""Code that runs in worker processes. It never imports Paddle: a worker must start fast."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import cv2
import numpy as np

from paddlex_ml import stop_signals
from paddlex_ml.data import decode_memory
from paddlex_ml.data.dataset import MultiLabelDataset, SampleIndex
from paddlex_ml.data.mixup import mix
from paddlex_ml.distributed.parent import exit_with_parent


class Arrays(NamedTuple):
    """One batch as workers make it."""

    images: np.ndarray
    """[B, S, S, 3] uint8."""
    targets: np.ndarray
    """[B, C] int8; float32 where images were mixed, or the list has soft values."""
    weights: np.ndarray | None
    """[B] float32; None where all images count the same."""
    cache_failure: str | None
    """`ImageCache.failure` of this process, for the main process to log."""


_MANAGER_LIMIT = 0.5
"""Seconds that the thread of a pool has to end after its workers."""

_dataset: MultiLabelDataset | None = None  # this worker's own, set when it starts


def start(
    dataset: MultiLabelDataset | None = None, readers: decode_memory.Readers | None = None
) -> None:
    """Leave Ctrl-C to the main process, exit when it dies, and keep `dataset` for `make_batch`.

    `readers` are this worker and the others of its pool, which share the memory for images.
    """
    global _dataset
    if readers is not None:
        decode_memory.join(readers)
    # They reach every process of a terminal or job; the main process saves its state and ends.
    for number in stop_signals.ALL:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    stop_signals.unblock()
    cv2.setNumThreads(1)  # there are as many workers as cores: more threads would only compete
    exit_with_parent()
    _dataset = dataset


def end(pool: ProcessPoolExecutor) -> None:
    """End the workers of a pool at once, also one that waits for a disk or pipe without answer."""
    processes = list((pool._processes or {}).values())  # kill_workers() of Python 3.14
    manager: Any = pool._executor_manager_thread
    results: Any = pool._result_queue
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()
    if manager is not None:
        # It sees that the futures are cancelled only while the pool exists; else it dies of them.
        manager.join(_MANAGER_LIMIT)
        if manager.is_alive():  # it waits for the rest of a batch whose worker is dead
            pool._pending_work_items.clear()
            results._writer.close()
            manager.join(_MANAGER_LIMIT)


def make_batch(batch: Sequence[SampleIndex], dataset: MultiLabelDataset | None = None) -> Arrays:
    """Read, resize and augment the images of one batch, of the data set of `start` by default."""
    dataset = _dataset if dataset is None else dataset
    assert dataset is not None
    images, targets = zip(*(dataset[index] for index in batch), strict=True)
    pixels, labels = np.stack(images), np.stack(targets)
    weights = None
    if dataset.weights is not None:
        weights = dataset.weights[[index.sample for index in batch]]
    augmentation = dataset.augmentation
    if augmentation is not None and augmentation.mixup:
        rng = np.random.default_rng([augmentation.seed, *batch[0], 1])
        pixels, labels, weights = mix(pixels, labels, augmentation.mixup, rng, weights)
    return Arrays(pixels, labels, weights, None if dataset.cache is None else dataset.cache.failure)
