# SPDX-License-Identifier: Apache-2.0
"""What the losses make of unknown labels."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import paddle
import pytest

from paddlex_ml.data import targets as data_targets
from paddlex_ml.metrics.known import UNKNOWN
from paddlex_ml.training.losses import (
    asymmetric_loss,
    bce_loss,
    entropy_maximised,
    positive_weight,
    smoothed,
    two_way_loss,
)
from tests.training.test_losses import (
    LOSSES,
    example,
    numpy_asymmetric,
    numpy_bce,
    numpy_softplus,
    value_and_gradient,
)


def some_unknown(seed, shape=(6, 8)):
    """Logits, targets of which a third is unknown, and where."""
    logits, targets = example(seed, shape)
    hidden = np.random.default_rng(seed + 100).random(shape) < 0.35
    return logits, np.where(hidden, np.float32(UNKNOWN), targets), hidden


def numpy_known(x, t, unknown_weight=0.0):
    """Binary cross-entropy over the known cells alone, and weighted over the unknown ones."""
    known = t >= 0
    return numpy_bce(x[known], t[known]) + unknown_weight * numpy_bce(x[~known], 0 * x[~known])


def numpy_two_way_known(x, t, temperature=4.0):
    def mean_cost(rows, targets):
        costs = [
            numpy_softplus(
                np.logaddexp.reduce(row[(now >= 0) & (now <= 0.5)], initial=-np.inf)
                + temperature * np.logaddexp.reduce(-row[now > 0.5] / temperature)
            )
            for row, now in zip(rows, targets, strict=True)
            if (now > 0.5).any()
        ]
        return np.mean(costs) if costs else 0.0

    return len(x) * (mean_cost(x, t) + mean_cost(x.T, t.T))


@pytest.mark.parametrize("loss_fn", LOSSES)
@pytest.mark.parametrize("smoothing", [0.0, 0.3, 0.9])
def test_unknown_cells_have_no_gradient_and_their_logits_no_effect(loss_fn, smoothing):
    if smoothing:
        loss_fn = partial(smoothed, loss_fn=loss_fn, smoothing=smoothing)
    logits, targets, hidden = some_unknown(1)
    value, gradient = value_and_gradient(logits, targets, loss_fn)
    assert (gradient[hidden] == 0.0).all()
    assert (gradient[~hidden] != 0.0).sum() > 20
    moved = np.where(hidden, np.float32(77), logits)
    assert value_and_gradient(moved, targets, loss_fn)[0] == pytest.approx(value, rel=1e-6)


def test_the_value_is_that_of_the_known_cells():
    logits, targets, hidden = some_unknown(2)
    known, x = ~hidden, logits.astype("float64")
    value, _ = value_and_gradient(logits, targets, bce_loss)
    assert value == pytest.approx(numpy_bce(x[known], targets[known]), rel=2e-6)
    value, _ = value_and_gradient(logits, targets, asymmetric_loss)
    assert value == pytest.approx(numpy_asymmetric(x[known], targets[known]), rel=2e-6)
    value, _ = value_and_gradient(logits, targets, two_way_loss)
    assert value == pytest.approx(numpy_two_way_known(x, targets), rel=2e-6)
    weights = np.linspace(0.5, 5, 8).astype("float32")
    value, _ = value_and_gradient(logits, targets, bce_loss, pos_weight=paddle.to_tensor(weights))
    weighted = np.broadcast_to(weights, x.shape)[known]
    assert value == pytest.approx(numpy_bce(x[known], targets[known], weighted), rel=2e-6)


@pytest.mark.parametrize("loss_fn", LOSSES)
def test_without_unknown_cells_masking_changes_no_bit(loss_fn):
    logits, targets = example(3)
    soft = np.random.default_rng(3).random(targets.shape).astype("float32")
    for given in (targets, soft):
        masked = value_and_gradient(logits, given, loss_fn)
        plain = value_and_gradient(logits, given, loss_fn, unknown_weight=None)
        assert masked[0] == plain[0]
        assert np.array_equal(masked[1], plain[1])


@pytest.mark.parametrize("loss_fn", LOSSES)
def test_a_batch_without_a_known_cell_costs_and_teaches_nothing(loss_fn):
    logits, _ = example(4)
    value, gradient = value_and_gradient(logits, np.full_like(logits, UNKNOWN), loss_fn)
    assert value == 0.0
    assert (gradient == 0.0).all()


@pytest.mark.parametrize("loss_fn", LOSSES)
def test_unknown_cells_of_full_weight_are_absent_ones(loss_fn):
    logits, targets, _ = some_unknown(5)
    weighted = value_and_gradient(logits, targets, loss_fn, unknown_weight=1.0)
    absent = value_and_gradient(logits, targets.clip(0), loss_fn)
    assert weighted[0] == absent[0]
    assert np.array_equal(weighted[1], absent[1])


def test_weakly_absent_cells_cost_a_share():
    logits, targets, _ = some_unknown(6)
    value, _ = value_and_gradient(logits, targets, bce_loss, unknown_weight=1 / 7)
    assert value == pytest.approx(numpy_known(logits.astype("float64"), targets, 1 / 7), rel=2e-6)
    # One image: softplus(log(e^x0 + e^x1 / 4) + 4 * (-x2 / 4)); no class has something to compare.
    value, _ = value_and_gradient(
        [[0.3, -0.2, 1.0]], [[0, UNKNOWN, 1]], two_way_loss, unknown_weight=0.25
    )
    highest = math.log(math.exp(0.3) + math.exp(-0.2) / 4)
    assert value == pytest.approx(math.log1p(math.exp(highest - 1.0)), abs=1e-6)


@pytest.mark.parametrize("loss_fn", LOSSES)
def test_masking_is_finite_at_the_extremes(loss_fn):
    logits = np.array([[100, -100, 0, 100], [-100, 100, 0, -100]], "float32")
    targets = np.array([[1, UNKNOWN, 0, UNKNOWN], [UNKNOWN, UNKNOWN, UNKNOWN, 1]], "float32")
    for fn in (loss_fn, partial(entropy_maximised, loss_fn=loss_fn, alpha=0.2)):
        value, gradient = value_and_gradient(logits, targets, fn)
        assert math.isfinite(value)
        assert np.isfinite(gradient).all()


def test_entropy_of_unknown_cells_is_maximised():
    # p = sigmoid(1) = 0.731059: H = 0.582203; the slope of -0.2 * H is 0.2 * p (1 - p) * 1.
    loss_fn = partial(entropy_maximised, loss_fn=bce_loss, alpha=0.2)
    value, gradient = value_and_gradient([[1.0, 0.0, 1.0]], [[UNKNOWN, UNKNOWN, 1]], loss_fn)
    assert value == pytest.approx(-0.2 * (0.582203 + math.log(2)) + 0.313262, abs=1e-6)
    assert gradient[0].tolist() == pytest.approx([0.2 * 0.196612, 0.0, -0.268941], abs=1e-6)


def test_entropy_adds_nothing_to_known_cells():
    logits, targets = example(7)
    loss_fn = partial(entropy_maximised, loss_fn=asymmetric_loss, alpha=0.2)
    for both in zip(
        value_and_gradient(logits, targets, loss_fn),
        value_and_gradient(logits, targets),
        strict=True,
    ):
        assert np.array_equal(*both)


@pytest.mark.parametrize("loss_fn", LOSSES)
def test_a_mixture_with_an_unknown_cell_is_masked_beside_a_partial_target(loss_fn):
    logits, _ = example(8, (3, 4))
    targets = np.array([[0.75, UNKNOWN, 0, 1], [UNKNOWN, 0.25, 1, 0], [0, 0, 0.6, UNKNOWN]])
    value, gradient = value_and_gradient(logits, targets, loss_fn)
    assert value > 0
    assert (gradient[targets < 0] == 0.0).all()


def test_smoothing_leaves_unknown_targets_unknown():
    seen = []

    def spy(logits, targets):
        seen.append(targets)
        return bce_loss(logits, targets)

    smoothed(
        paddle.zeros([1, 3]), paddle.to_tensor([[1.0, UNKNOWN, 0.0]]), loss_fn=spy, smoothing=0.9
    )
    assert seen[0].numpy()[0].tolist() == pytest.approx([0.55, UNKNOWN, 0.45])


def test_automatic_weights_count_known_labels_alone():
    targets = np.zeros((100, 2), np.int8)
    targets[:20, 0], targets[20:60, 0] = 1, UNKNOWN  # 40 absent over 20 present
    targets[:50, 1], targets[50:, 1] = 1, UNKNOWN  # no absent one
    assert positive_weight("auto", targets).tolist() == [2.0, 1.0]
    assert positive_weight("auto", data_targets.to_sparse(targets)).tolist() == [2.0, 1.0]
