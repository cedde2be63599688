# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from paddlex_ml.models.ml_decoder import MLDecoder
from paddlex_ml.training.ema import Ema


@pytest.fixture
def model():
    paddle.seed(1)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1D(2))


def shift(model, amount):
    """Change every entry, running statistics too, as a step of the training does."""
    for value in model.state_dict().values():
        value.set_value(value + amount)


def arrays(state):
    return {name: value.numpy().astype(np.float64) for name, value in state.items()}


@pytest.mark.parametrize("decay", [0.0, 0.15, 0.9997])
def test_every_entry_follows_the_formula(model, decay):
    # ema.json of the reference has a fixed decay of 0.9997; ours warms up, so count by hand.
    ema = Ema(model, decay)
    expected = arrays(model.state_dict())
    for update in range(1, 21):
        shift(model, 0.1 * update)
        ema.update(model)
        d = min(decay, (1 + update) / (10 + update))
        now = arrays(model.state_dict())
        expected = {name: d * expected[name] + (1 - d) * now[name] for name in now}
    assert ema.updates == 20
    assert set(expected) == set(ema.weights)
    assert {"1._mean", "1._variance"} <= set(expected)
    for name, value in arrays(ema.weights).items():
        assert value.ravel().tolist() == pytest.approx(expected[name].ravel().tolist(), rel=1e-5)


def test_the_first_decays_by_hand(model):
    ema = Ema(model, 0.9997)
    start = model[0].bias.numpy().copy()
    shift(model, 11.0)
    ema.update(model)  # decay 2 / 11
    assert ema.weights["0.bias"].numpy().tolist() == pytest.approx((start + 9.0).tolist(), rel=1e-6)
    shift(model, 0.0)
    ema.update(model)  # decay 3 / 12: 11 - 2 / 4
    assert ema.weights["0.bias"].numpy().tolist() == pytest.approx(
        (start + 10.5).tolist(), rel=1e-6
    )


def test_on_a_short_training_the_start_is_forgotten(model):
    ema = Ema(model, 0.9997)
    start = model[0].bias.numpy().copy()
    shift(model, 1.0)
    for _ in range(60):
        ema.update(model)
    # A fixed 0.9997 would have kept 98 % of the start.
    assert (ema.weights["0.bias"].numpy() - start).tolist() == pytest.approx([1.0, 1.0], abs=1e-4)


def test_decay_zero_is_the_model_itself(model):
    ema = Ema(model, 0.0)
    for _ in range(3):
        shift(model, 0.7)
        ema.update(model)
    for name, value in model.state_dict().items():
        assert np.array_equal(ema.weights[name].numpy(), value.numpy())


def test_the_average_is_a_copy_and_the_model_is_left_alone(model):
    ema = Ema(model, 0.5)
    before = arrays(ema.weights)
    shift(model, 5.0)
    assert all(np.array_equal(arrays(ema.weights)[name], before[name]) for name in before)
    now = arrays(model.state_dict())
    ema.update(model)
    assert all(np.array_equal(arrays(model.state_dict())[name], now[name]) for name in now)
    assert all(value.stop_gradient for value in ema.weights.values())


def test_the_frozen_queries_stay_exactly_as_they_were():
    head = MLDecoder(3, 4)
    before = head.query_pos_embed.weight.numpy()
    ema = Ema(head, 0.9997)
    for _ in range(5):
        ema.update(head)
    assert np.array_equal(ema.weights["query_pos_embed.weight"].numpy(), before)


def test_a_restored_average_goes_on_bit_for_bit(model):
    whole = Ema(model, 0.9)
    for _ in range(4):
        shift(model, 0.3)
        whole.update(model)
    resumed = Ema(model, 0.9)
    for name, value in whole.weights.items():
        resumed.weights[name].set_value(value.numpy())
    resumed.updates = whole.updates
    for _ in range(4):
        shift(model, -0.2)
        whole.update(model)
        resumed.update(model)
    assert resumed.updates == 8
    for name, value in whole.weights.items():
        assert np.array_equal(resumed.weights[name].numpy(), value.numpy())
