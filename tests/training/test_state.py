# SPDX-License-Identifier: Apache-2.0
"""Progress as plain values in a checkpoint: what release 0.1.0 wrote is read, and so is ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import paddle
import pytest

from paddlex_ml.artifacts import checkpoint
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.artifacts.saved_states import Progress
from paddlex_ml.artifacts.train_result import Best, EpochRow
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.training.ema import Ema
from paddlex_ml.training.optimizer import build_optimizer
from paddlex_ml.training.state import Training

ROW = {
    "epoch": 1,
    "step": 3,
    "lr": 0.005,
    "loss": 2.5,
    "raw_map": 0.5,
    "ema_map": None,
    "images_per_second": 61.25,
    "data_wait": 0.25,
    "memory_mib": 1024.0,
    "seconds": 12.5,
}
OF_0_1_0: dict[str, Any] = {
    "epoch": 1,
    "step": 2,
    "loss_sum": 4.5,
    "best": {"score": 0.5, "weights": "raw", "epoch": 1},
    "evaluations_since_best": 0,
    "history": [ROW],
    "saved_epochs": [1],
    "seconds": 20.0,
    "waited": 3.0,
    "evaluation_seconds": 1.5,
    "ema_updates": 5,
}
PROGRESS = Progress(
    epoch=1,
    step=2,
    loss_sum=4.5,
    best=Best(0.5, "raw", 1),
    history=[msgspec.convert(ROW, EpochRow)],
    saved_epochs=[1],
    seconds=20.0,
    waited=3.0,
    evaluation_seconds=1.5,
)


def new_training() -> Training:
    model = paddle.nn.Linear(3, 2)
    return Training(
        ModelInfo("linear", ["cat", "dog"], 32), model, paddle.nn.Linear(3, 2), Ema(model, 0.9),
        build_optimizer(model, weight_decay=0.0), paddle.amp.GradScaler(enable=False), {},
    )  # fmt: skip


def test_the_progress_of_the_first_release_is_restored() -> None:
    training = new_training()
    training.restore(replace(training.snapshot(), progress=OF_0_1_0))
    assert training.progress == PROGRESS
    assert training.ema.updates == 5


def test_progress_is_saved_as_plain_values_and_comes_back(tmp_path: Path) -> None:
    training = new_training()
    training.progress, training.ema.updates = PROGRESS, 5
    assert training.snapshot().progress == OF_0_1_0
    checkpoint.write(tmp_path / "latest", training.snapshot())
    other = new_training()
    other.restore(checkpoint.load(tmp_path / "latest"))
    assert other.progress == PROGRESS
    assert list(msgspec.to_builtins(PROGRESS)["history"][0]) == list(ROW)


@pytest.mark.parametrize("damage", ["ema_updates", "history"])
def test_a_record_without_a_part_is_refused_and_changes_nothing(damage: str) -> None:
    training = new_training()
    saved = training.snapshot()
    progress = {key: value for key, value in OF_0_1_0.items() if key != damage}
    if damage == "history":
        progress["history"] = [{k: v for k, v in ROW.items() if k != "memory_mib"}]
    before = [value.numpy() for value in training.model.state_dict().values()]
    with pytest.raises(PaddlexMLError, match=r"damaged(.|\n)*-o Train\.resume_path=null"):
        training.restore(replace(saved, progress=progress))
    for value, old in zip(training.model.state_dict().values(), before, strict=True):
        assert np.array_equal(value.numpy(), old)


@pytest.mark.parametrize(
    "damage",
    [
        {"optimizer": {"moments": {"weight/moment1_0": np.zeros((9, 9), np.float32)}}},
        {"optimizer": {"moments": {"weight/moment1_0": "text"}}},
        {"weights": {"weight": np.zeros((9, 9), np.float32)}},
        {"ema": {"other": np.zeros(1, np.float32)}},
    ],
    ids=["moment of another shape", "moment is text", "weight of another shape", "foreign entry"],
)
def test_values_that_do_not_fit_the_model_are_refused(damage: dict[str, Any]) -> None:
    training = new_training()
    saved = replace(training.snapshot(), progress=OF_0_1_0, **damage)
    with pytest.raises(PaddlexMLError, match="damaged"):
        training.restore(saved)
    assert training.progress == Progress()
