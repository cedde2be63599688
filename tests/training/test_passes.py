# SPDX-License-Identifier: Apache-2.0
"""Steps that are compiled, and steps that exchange gradients within the backward pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from paddlex_ml.devices import Devices
from paddlex_ml.distributed import launch
from paddlex_ml.distributed.group import ProcessGroup
from paddlex_ml.training.compiled import CompiledModel
from paddlex_ml.training.passes import Passes
from tests.ranks import Lesson, learn

TWO = Devices("cpu", (0, 1))


def difference(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """The largest one of weights and averaged weights."""
    return max(
        float(np.abs(found[kind][key] - value).max())
        for kind in ("weights", "ema")
        for key, value in expected[kind].items()
    )


def test_a_plain_pass_is_that_of_the_model() -> None:
    model, group = paddle.nn.Linear(2, 1), ProcessGroup()
    passes, images = Passes(model, overlaps=True), paddle.ones([3, 2])
    for _ in range(2):  # one process has nothing to exchange
        passes.backward(passes.forward(images, group).sum(), group)
    assert model.weight.grad.numpy().tolist() == [[6.0], [6.0]]
    assert passes.forward(images, group).numpy().tolist() == model(images).numpy().tolist()


def test_a_new_graph_is_made_when_parts_are_frozen_or_learn_again() -> None:
    model = paddle.nn.Sequential(paddle.nn.Linear(2, 2), paddle.nn.Linear(2, 1))
    passes, group = Passes(model, compiles=True), ProcessGroup()
    first = passes._network
    assert isinstance(first, CompiledModel)
    model.eval()
    model.train()
    passes.begin_epoch()
    assert passes._network is first
    model[0].weight.stop_gradient = True
    passes.begin_epoch()
    assert passes._network is not first
    passes.backward(passes.forward(paddle.ones([3, 2]), group).sum(), group)
    assert model[0].weight.grad is None
    assert model[0].bias.grad is not None


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_compiled_training_learns_what_a_plain_one_learns(
    toy: Path, tmp_path: Path, accumulate: int
) -> None:
    lesson = Lesson(toy, tmp_path / "plain", accumulate=accumulate)
    plain = learn(lesson, ProcessGroup())
    compiled = learn(lesson._replace(output=tmp_path / "compiled", compiles=True), ProcessGroup())
    assert difference(compiled, plain) < 1e-5
    for row, other in zip(compiled["history"], plain["history"], strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-5)


@pytest.mark.story
@pytest.mark.parametrize(
    ("options", "bound"),
    [
        ({}, 0.0),
        ({"accumulate": 2}, 0.0),
        ({"sync_bn": True}, 0.0),
        ({"frozen": 1}, 0.0),
        ({"compiles": True}, 1e-5),
    ],
    ids=["plain", "accumulated", "sync_bn", "frozen for an epoch", "compiled"],
)
def test_two_processes_that_overlap_learn_what_they_learn_without(
    toy: Path, tmp_path: Path, options: dict[str, Any], bound: float
) -> None:
    lesson = Lesson(toy, tmp_path / "plain", unused=True)._replace(**options)
    after = launch.run(learn, lesson._replace(compiles=False), TWO)
    within = launch.run(learn, lesson._replace(output=tmp_path / "o", overlaps=True), TWO)
    assert within["reducers"] == 1 + lesson.frozen
    assert after["reducers"] == 0
    assert difference(within, after) <= bound
    assert "unused" in after["weights"]
