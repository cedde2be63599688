# SPDX-License-Identifier: Apache-2.0
"""Estimated labels against the formula of the paper, and what their table does and does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import paddle
import pytest

from paddlex_ml.artifacts import checkpoint
from paddlex_ml.data.dataset import SampleIndex
from paddlex_ml.devices import Devices
from paddlex_ml.distributed import launch
from paddlex_ml.distributed.group import ProcessGroup
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.metrics.known import UNKNOWN
from paddlex_ml.training.losses import bce_loss
from paddlex_ml.training.role import LabelEstimates, gradient
from tests.ranks import estimate
from tests.training.test_state import new_training

ONE = ProcessGroup()
K = 1.5


def draws(*rows: int) -> list[SampleIndex]:
    return [SampleIndex(0, row) for row in rows]


def example(images: int = 6, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and targets, of which about half are unknown."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, (images, classes)).astype(np.float32)
    targets[rng.random(targets.shape) < 0.5] = UNKNOWN
    return rng.normal(0, 1.5, targets.shape).astype(np.float32), targets


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def paper(p: np.ndarray, y: np.ndarray, targets: np.ndarray) -> float:
    """L(p | y), times the images and classes that the paper divides by; known cells of y are fixed.

    The half of a known cell's cost that comes from y and the half of its own make one.
    """
    images, classes = p.shape
    cross = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    known = np.where(targets >= 0, cross, 0)
    balance = ((p.sum(axis=1).mean() - K) / classes) ** 2
    return float(cross.sum() + known.sum() + balance * images * classes)


def slopes(function: Any, at: np.ndarray) -> np.ndarray:
    """Central differences in float64."""
    found, step = np.zeros(at.shape), 1e-5
    for place in np.ndindex(*at.shape):
        shift = np.zeros(at.shape)
        shift[place] = step
        found[place] = (function(at + shift) - function(at - shift)) / (2 * step)
    return found


def test_both_gradients_are_those_of_the_formula_of_the_paper() -> None:
    x, targets = example()
    table = LabelEstimates(6, 5, labels=K, seed=1)
    theta = table.logits.astype(np.float64)
    y = np.where(targets < 0, sigmoid(theta), targets)

    logits = paddle.to_tensor(x, stop_gradient=False)
    given = paddle.to_tensor(targets)
    loss = bce_loss(logits, given) + table.loss(logits, given, draws(*range(6)))
    loss.backward()
    whole = x.astype(np.float64)
    expected = slopes(lambda moved: paper(sigmoid(moved), y, targets) / 2, whole)
    assert logits.grad.numpy() == pytest.approx(expected, abs=2e-5)
    assert float(loss) == pytest.approx(paper(sigmoid(whole), y, targets) / 2, rel=1e-5)

    def of_table(moved: np.ndarray) -> float:
        estimated, unknown = sigmoid(moved), targets < 0
        cross = -(sigmoid(whole) * np.log(estimated) + sigmoid(-whole) * np.log(1 - estimated))
        shown = np.where(unknown, estimated, targets).sum(axis=1).mean()
        balance = ((shown - K) / 5) ** 2 * x.size
        return float((np.where(unknown, cross, 0).sum() + balance) / 2)

    found = gradient(table.logits, sigmoid(x), targets, K)
    assert found == pytest.approx(slopes(of_table, theta), abs=2e-5)
    assert (found[targets >= 0] == 0.0).all()


def learn(table: LabelEstimates, x: np.ndarray, targets: np.ndarray, *rows: int) -> None:
    table.loss(paddle.to_tensor(x), paddle.to_tensor(targets), draws(*rows))
    table.update(1e-2, ONE)


def test_the_first_estimates_are_undecided_and_a_function_of_the_seed() -> None:
    tables = [LabelEstimates(500, 8, labels=K, seed=seed) for seed in (3, 3, 4)]
    first = sigmoid(tables[0].logits)
    assert first.min() == pytest.approx(0.4, abs=1e-3)
    assert first.max() == pytest.approx(0.6, abs=1e-3)
    assert first.mean() == pytest.approx(0.5, abs=3e-3)
    assert np.array_equal(tables[0].logits, tables[1].logits)
    assert not np.array_equal(tables[0].logits, tables[2].logits)


def test_known_cells_and_rows_of_absent_images_never_change() -> None:
    x, targets = example()
    table = LabelEstimates(20, 5, labels=K, seed=1)
    before, rows = table.logits.copy(), [3, 7, 0, 12, 19, 8]
    for _ in range(5):
        learn(table, x, targets, *rows)
    others = np.setdiff1d(np.arange(20), rows)
    assert np.array_equal(table.logits[others], before[others])
    assert not table.squares[others].any()
    moved = table.logits[rows] != before[rows]
    assert np.array_equal(moved, targets < 0)


def test_a_step_is_that_of_adam_without_the_first_moment() -> None:
    x, targets = np.zeros((1, 2), np.float32), np.full((1, 2), UNKNOWN, np.float32)
    table = LabelEstimates(2, 2, labels=1.0, seed=1)
    table.logits[:] = np.log([3.0, 1.0])  # 0.75 and 0.5; the model gives 0.5
    theta = table.logits[0, 0]
    learn(table, x, targets, 0)
    first = 0.125 + 0.25 / 2 * 0.75 * 0.25  # of 1.25 labels, 1 is expected
    assert table.squares[0, 0] == pytest.approx(0.001 * first**2, rel=1e-5)
    assert table.logits[0, 0] == pytest.approx(theta - 10 * 1e-2, abs=1e-5)  # ten times the rate
    for _ in range(3):  # the other image: the moment of this one fades meanwhile
        learn(table, x, targets, 1)
    slope = gradient(table.logits[:1], np.full((1, 2), 0.5), targets, 1.0)[0, 0]
    faded = 0.001 * first**2 * 0.999**4 + 0.001 * slope**2
    theta = table.logits[0, 0]
    learn(table, x, targets, 0)
    assert table.squares[0, 0] == pytest.approx(faded, rel=1e-4)
    size = np.sqrt(faded / (1 - 0.999**5))
    assert table.logits[0, 0] == pytest.approx(theta - 0.1 * slope / size, abs=1e-5)


def test_an_image_that_is_drawn_twice_in_a_step_gets_the_sum_of_both_gradients() -> None:
    x, targets = example(2)
    targets[1] = targets[0]  # the copies have other logits: other augmentations
    table = LabelEstimates(1, 5, labels=K, seed=1)
    expected = gradient(table.logits[[0, 0]], sigmoid(x), targets, K).sum(axis=0)
    learn(table, x, targets, 0, 0)
    assert table.squares[0] == pytest.approx(0.001 * expected**2, rel=1e-4)
    apart = LabelEstimates(1, 5, labels=K, seed=1)
    for row in (0, 1):  # two batches of one step
        part = paddle.to_tensor(x[row : row + 1]), paddle.to_tensor(targets[row : row + 1])
        apart.loss(*part, draws(0))
    apart.update(1e-2, ONE)
    assert apart.updates == table.updates == 1
    assert apart.squares == pytest.approx(table.squares, rel=1e-5)


def test_an_image_of_weight_2_counts_as_the_same_image_twice() -> None:
    x, targets = example(2)
    tables, losses, changes = [], [], []
    for rows, weights in (([0, 1], [2.0, 1.0]), ([0, 0, 1], None)):
        table = LabelEstimates(2, 5, labels=K, seed=1)
        logits = paddle.to_tensor(x[rows], stop_gradient=False)
        given = paddle.to_tensor(targets[rows])
        counts = None if weights is None else paddle.to_tensor(weights)
        loss = table.loss(logits, given, draws(*rows), counts)
        loss.backward()
        table.update(0.01, ONE)
        slope = np.zeros_like(x)
        np.add.at(slope, rows, logits.grad.numpy())
        tables.append(table.logits)
        losses.append(float(loss))
        changes.append(slope)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert changes[0] == pytest.approx(changes[1], abs=1e-6)
    assert tables[0] == pytest.approx(tables[1], abs=1e-6)
    assert (tables[0] != LabelEstimates(2, 5, labels=K, seed=1).logits).any()


def test_the_estimates_come_to_show_as_many_labels_as_expected() -> None:
    targets = np.full((40, 10), UNKNOWN, np.float32)
    targets[:, 0] = 1
    for labels in (1.8, 3.0):
        table = LabelEstimates(40, 10, labels=labels, seed=1)
        weight = paddle.create_parameter(
            [40, 10], "float32", default_initializer=paddle.nn.initializer.Constant(0.0)
        )
        optimizer = paddle.optimizer.Adam(0.05, parameters=[weight])
        given = paddle.to_tensor(targets)
        for _ in range(400):
            loss = bce_loss(weight, given) + table.loss(weight, given, draws(*range(40)))
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            table.update(5e-3, ONE)
        estimated = np.where(targets < 0, sigmoid(table.logits), 1)
        assert estimated.sum(axis=1).mean() == pytest.approx(labels, abs=0.15)
        scores = sigmoid(weight.numpy())
        assert scores.sum(axis=1).mean() == pytest.approx(labels, abs=0.15)


def test_extreme_logits_give_finite_numbers() -> None:
    x = np.array([[1e4, -1e4, 90.0]], np.float32)
    targets = np.array([[UNKNOWN, UNKNOWN, UNKNOWN]], np.float32)
    table = LabelEstimates(1, 3, labels=1.0, seed=1)
    table.logits[:] = [-1e4, 1e4, 100]
    logits = paddle.to_tensor(x, stop_gradient=False)
    loss = table.loss(logits, paddle.to_tensor(targets), draws(0))
    loss.backward()
    table.update(1e-2, ONE)
    assert np.isfinite(float(loss))
    assert np.isfinite(logits.grad.numpy()).all()
    assert np.isfinite(table.logits).all()


def test_two_processes_make_the_table_that_one_makes_of_the_same_batches() -> None:
    both = launch.run(estimate, None, Devices("cpu", (0, 1)))
    alone = estimate(None, ONE)
    assert len(both["tables"]) == 2
    for table in both["tables"]:
        assert np.array_equal(table, both["tables"][0])
        assert table == pytest.approx(alone["tables"][0], abs=1e-6)
    assert np.array_equal(both["drawn"], alone["drawn"])


def test_a_checkpoint_brings_the_table_back_bit_for_bit(tmp_path: Any) -> None:
    training, x, targets = new_training(), *example(4, 2)
    training.estimates = LabelEstimates(6, 2, labels=K, seed=1)
    learn(training.estimates, x, targets, 0, 2, 3, 5)
    checkpoint.write(tmp_path / "latest", training.snapshot())
    weights = checkpoint.load(tmp_path / "latest")
    assert {*weights.weights, *weights.ema} == {"weight", "bias"}  # the table is with the moments
    again = new_training()
    again.estimates = LabelEstimates(6, 2, labels=K, seed=2)
    again.restore(weights)
    for rows in ((1, 2, 3, 4), (5, 0, 2, 1)):
        learn(training.estimates, x, targets, *rows)
        learn(again.estimates, x, targets, *rows)
    for name, value in training.estimates.state().items():
        assert np.array_equal(again.estimates.state()[name], value), name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("logits", np.zeros((5, 2), np.float32)),
        ("logits", np.full((6, 2), np.nan, np.float32)),
        ("logits", np.zeros((6, 2), np.float64)),
        ("logits", [[0.0]]),
        ("squares", np.full((6, 2), -1, np.float32)),
        ("drawn", np.full(6, 2, np.int64)),
        ("updates", "1"),
        ("updates", -1),
    ],
)
def test_a_table_that_does_not_fit_is_refused(name: str, value: Any) -> None:
    training = new_training()
    training.estimates = LabelEstimates(6, 2, labels=K, seed=1)
    saved = training.snapshot()
    damaged = {**saved.optimizer, "estimates": {**saved.optimizer["estimates"], name: value}}
    with pytest.raises(PaddlexMLError, match="the checkpoint's record of the training is damaged"):
        training.restore(replace(saved, optimizer=damaged))
