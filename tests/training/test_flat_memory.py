# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import paddle
import psutil
import pytest

from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.data import annotation
from paddlex_ml.data.dataset import Augmentation, MultiLabelDataset
from paddlex_ml.data.loader import Loader
from paddlex_ml.data.preprocess import standard
from paddlex_ml.training.ema import Ema
from paddlex_ml.training.interrupt import Interrupt
from paddlex_ml.training.loop import fit
from paddlex_ml.training.losses import asymmetric_loss
from paddlex_ml.training.optimizer import build_optimizer
from paddlex_ml.training.plan import Plan, Saving
from paddlex_ml.training.schedule import build_schedule
from paddlex_ml.training.state import Training

EPOCHS = 50


def settled_mib() -> float:
    """Resident memory of this process, when all that is free has gone back to the system."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
    if trim is not None:
        trim(0)
    return float(psutil.Process().memory_info().rss / 2**20)


def small_model() -> paddle.nn.Layer:
    return paddle.nn.Sequential(
        paddle.nn.Conv2D(3, 64, 4, stride=4),
        paddle.nn.BatchNorm2D(64),
        paddle.nn.ReLU(),
        paddle.nn.AdaptiveAvgPool2D(1),
        paddle.nn.Flatten(),
        paddle.nn.Dropout(0.1),
        paddle.nn.Linear(64, 3),
    )


@pytest.mark.heavy
def test_memory_stays_flat_from_epoch_5_to_epoch_50(
    draw_set: Callable[..., Path], tmp_path: Path
) -> None:
    lists = annotation.read(draw_set(tmp_path / "set"))
    held: dict[int, float] = {}

    def begin_epoch(epoch: int) -> None:
        if epoch in (5, EPOCHS - 1):
            held[epoch] = settled_mib()

    paddle.seed(0)
    model = small_model()
    training = Training(
        ModelInfo("small", ["red", "green", "blue"], 64),
        model,
        small_model(),
        Ema(model, 0.9),
        build_optimizer(model, weight_decay=1e-4),
        paddle.amp.GradScaler(enable=False),
        {},
    )
    plan = Plan(
        epochs=EPOCHS,
        batch_size=8,
        grad_accum_steps=1,
        images=24,
        order=lambda epoch: np.random.default_rng(epoch).permutation(24),
        schedule=build_schedule("cosine", 1e-3, epochs=EPOCHS, steps_per_epoch=3, warmup_epochs=1),
        seed=0,
        loss_fn=asymmetric_loss,
        log_interval=1,
        saving=Saving(keep_last=1),
        begin_epoch=begin_epoch,
    )
    augmentation = Augmentation(0, cutout=0.5, randaugment=True)
    train = Loader(MultiLabelDataset(lists.train, standard(64), augmentation), 0)
    val = Loader(MultiLabelDataset(lists.val, standard(64)), 0)
    with closing(train), closing(val):
        fit(training, plan, train, val, tmp_path / "out", Interrupt())
    assert training.progress.epoch == EPOCHS
    assert held[EPOCHS - 1] == pytest.approx(held[5], rel=0.02)
