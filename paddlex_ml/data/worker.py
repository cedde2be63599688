# SPDX-License-Identifier: Apache-2.0
"""What worker processes run. Never imports Paddle: a worker is to start in an instant."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from paddlex_ml.data.dataset import Draw, MultiLabelDataset
from paddlex_ml.data.mixup import mix
from paddlex_ml.distributed.parent import exit_with_parent


class Arrays(NamedTuple):
    """One batch as workers make it."""

    images: np.ndarray
    """[B, S, S, 3] uint8."""
    targets: np.ndarray
    """[B, C] uint8; float32 where images were mixed."""
    trouble: str | None
    """What the cache of images met: a worker's own log is nobody's."""


_dataset: MultiLabelDataset | None = None  # this process's own, given when it began


def begin(dataset: MultiLabelDataset | None = None) -> None:
    """Leave Ctrl-C to the main process, die with it, and keep `dataset` for `make`."""
    global _dataset
    # Ctrl-C reaches every process of the terminal; the main process saves its state and ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cv2.setNumThreads(1)  # as many workers as cores: more threads would be in each other's way
    exit_with_parent()
    _dataset = dataset


def make(draws: Sequence[Draw]) -> Arrays:
    """Make one batch of the data set that this worker began with."""
    assert _dataset is not None
    return make_batch(_dataset, draws)


def make_batch(dataset: MultiLabelDataset, draws: Sequence[Draw]) -> Arrays:
    """Read, resize and augment the images of one batch."""
    images, targets = zip(*(dataset[draw] for draw in draws), strict=True)
    pixels, labels = np.stack(images), np.stack(targets)
    changes = dataset.augmentation
    if changes is not None and changes.mixup:
        pixels, labels = mix(pixels, labels, changes.mixup, changes.batch_rng(draws[0]))
    trouble = None if dataset.cache is None else dataset.cache.trouble
    return Arrays(pixels, labels, trouble)
