# SPDX-License-Identifier: Apache-2.0
"""What worker processes run. Never imports Paddle: a worker is to start in an instant."""

from __future__ import annotations

import signal
from collections.abc import Sequence

import numpy as np

from paddlex_ml import environment
from paddlex_ml.data.dataset import Draw, MultiLabelDataset

Arrays = tuple[np.ndarray, np.ndarray]  # images [B, S, S, 3] uint8, targets [B, C] uint8

_dataset: MultiLabelDataset | None = None  # this process's own, given when it began


def begin(dataset: MultiLabelDataset | None = None) -> None:
    """Leave Ctrl-C to the main process, die with it, and keep `dataset` for `make`."""
    global _dataset
    # Ctrl-C reaches every process of the terminal; the main process saves its state and ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    environment.die_with_parent()
    _dataset = dataset


def make(draws: Sequence[Draw]) -> Arrays:
    """Make one batch of the data set that this worker began with."""
    assert _dataset is not None
    return make_batch(_dataset, draws)


def make_batch(dataset: MultiLabelDataset, draws: Sequence[Draw]) -> Arrays:
    """Read, resize and augment the images of one batch."""
    images, targets = zip(*(dataset[draw] for draw in draws), strict=True)
    return np.stack(images), np.stack(targets)
