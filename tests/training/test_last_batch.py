# SPDX-License-Identifier: Apache-2.0
"""Epochs whose last batch is smaller: 24 images in batches of 7, 7, 7 and 3."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import paddle
import pytest

from paddlex_ml.data import annotation
from paddlex_ml.data.dataset import MultiLabelDataset
from paddlex_ml.data.loader import Loader
from paddlex_ml.data.preprocess import standard
from paddlex_ml.training.interrupt import Interrupt
from paddlex_ml.training.loop import fit
from paddlex_ml.training.state import Training
from tests.training.test_loop import (
    PLAN,
    SIZE,
    assert_same,
    new_training,
    resumed,
    state,
    stop_at_step,
)

SMALLER = replace(PLAN, batch_size=7, epochs=2)


def train(
    toy: Path, output: Path, training: Training, interrupt: Interrupt, **changes: Any
) -> None:
    lists = annotation.read(toy)
    loaders = [
        Loader(MultiLabelDataset(images, standard(SIZE)), 0) for images in (lists.train, lists.val)
    ]
    with closing(loaders[0]), closing(loaders[1]):
        plan = replace(SMALLER, **changes)
        fit(training, plan, loaders[0], loaders[1], output, interrupt)


@pytest.mark.parametrize("step", [3, 4, 7])
def test_a_stop_before_and_after_it_changes_nothing(toy: Path, tmp_path: Path, step: int) -> None:
    unbroken = new_training()
    train(toy, tmp_path / "unbroken", unbroken, Interrupt())
    interrupt = Interrupt()
    stopping = stop_at_step(step, interrupt)
    train(toy, tmp_path, new_training(), interrupt, loss_fn=stopping)
    training = resumed(tmp_path / "latest")
    assert training.progress.epoch * 4 + training.progress.step == step
    train(toy, tmp_path, training, Interrupt())
    assert_same(state(training), state(unbroken))


def test_its_loss_is_told_as_that_of_a_whole_step(
    toy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def two_per_image(logits: paddle.Tensor, targets: paddle.Tensor) -> paddle.Tensor:
        return logits.sum() * 0 + 2.0 * len(targets)

    training = new_training()
    with caplog.at_level(logging.INFO):
        train(toy, tmp_path, training, Interrupt(), loss_fn=two_per_image, epochs=1, log_interval=3)
    assert [row.loss for row in training.progress.history] == pytest.approx([14.0])
    assert training.progress.history[0].step == 4
    lines = [line for line in caplog.messages if "[Iter" in line]
    assert [line.split("loss ")[1].split()[0] for line in lines] == ["14.00", "14.00"]
