# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util

import numpy as np
import paddle
import pytest
from paddle import nn

from paddlex_ml.kernels import layers, updates
from paddlex_ml.training.optimizer import build_optimizer, save_state

HAS_NUMBA = importlib.util.find_spec("numba") is not None
needs_numba = pytest.mark.skipif(not HAS_NUMBA, reason="numba, an optional package, is missing")
SIZES = [7, updates.FEW * 3 + 5]
"""Of a few numbers, and of enough for several threads."""


class Weights(nn.Layer):
    def __init__(self):
        super().__init__()
        paddle.seed(3)
        self.first = self.create_parameter(SIZES[:1])
        self.second = self.create_parameter(
            [1, SIZES[1]], default_initializer=nn.initializer.Normal()
        )


def learn(model, optimizer, steps=4):
    """Update the weights by gradients of very different sizes."""
    for step in range(steps):
        for weights in model.parameters():
            shape, random = weights.shape, np.random.default_rng(5)
            size = random.choice([-1, 1], shape) * 10 ** random.uniform(-9, 3, shape)
            gradient = size * np.random.default_rng(step).uniform(0.5, 1.5, shape)
            (weights * paddle.to_tensor(gradient, "float32")).sum().backward()
        optimizer.set_lr(0.01)
        optimizer.step()
        optimizer.clear_grad()


def train(**options):
    model = Weights()
    optimizer = build_optimizer(model, weight_decay=0.1, **options)
    learn(model, optimizer)
    moments = save_state(optimizer, model)
    return {name: np.asarray(value) for name, value in {**model.state_dict(), **moments}.items()}


def ran(monkeypatch):
    """List of the kernels that run."""
    calls, run = [], updates._run
    monkeypatch.setattr(updates, "_run", lambda name, *a: (calls.append(name), run(name, *a)))
    return calls


@needs_numba
@pytest.mark.parametrize("options", [{}, {"clip_norm": 1.0}, {"lr_mult": lambda name: 0.3}])
def test_updates_and_moments_are_those_of_paddle(options, monkeypatch):
    calls = ran(monkeypatch)
    found = train(**options)
    assert calls == ["adamw"] * 8
    monkeypatch.setattr(layers, "kernels", lambda _: None)
    expected = train(**options)
    assert len(calls) == 8
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        atol = 0 if "moment" in name else 3e-7
        np.testing.assert_allclose(found[name], values, rtol=3e-6, atol=atol, err_msg=name)


@needs_numba
def test_an_update_agrees_with_the_formula_in_float64():
    model = Weights()
    weights = model.second.numpy().astype(np.float64)
    gradient = np.random.default_rng(0).normal(size=weights.shape)
    optimizer = build_optimizer(model, weight_decay=0.1)
    moment1, moment2 = np.zeros_like(weights), np.zeros_like(weights)
    for update in (1, 2, 3):
        given = gradient * update
        (model.second * paddle.to_tensor(given, "float32")).sum().backward()
        optimizer.set_lr(0.01)
        optimizer.step()
        optimizer.clear_grad()
        moment1 = 0.9 * moment1 + 0.1 * given
        moment2 = 0.999 * moment2 + 0.001 * given**2
        steady = np.sqrt(moment2 / (1 - 0.999**update)) + 1e-8
        weights = weights * (1 - 0.01 * 0.1) - 0.01 * moment1 / (1 - 0.9**update) / steady
    assert np.abs(model.second.numpy() - weights).max() < 1e-6


@needs_numba
@pytest.mark.parametrize("size", SIZES)
def test_averages_are_those_of_paddle(size, monkeypatch):
    values, share = paddle.randn([size]), paddle.full([], 0.3)
    calls, start = ran(monkeypatch), paddle.randn([size])
    found, expected = start.clone(), start.clone()
    updates.average(found, values, share)
    assert calls == ["average"]
    expected.lerp_(values, share)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-6, atol=1e-7)


@needs_numba
def test_any_number_of_threads_gives_the_same_bits(monkeypatch):
    results = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(layers, "_threads", lambda threads=threads: threads)
        averages = paddle.linspace(-1, 1, SIZES[1])
        updates.average(averages, paddle.ones([SIZES[1]]), paddle.full([], 0.1))
        arrays = [averages.numpy(), *train().values()]
        results.append(b"".join(array.tobytes() for array in arrays))
    assert results[0] == results[1] == results[2]


@needs_numba
@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_other_numbers_are_left_to_paddle(dtype, monkeypatch):
    calls = ran(monkeypatch)
    averages = paddle.zeros([3])
    updates.average(averages, paddle.ones([3], dtype), paddle.full([], 0.5))
    assert averages.tolist() == [0.5] * 3
    if dtype == "float64":
        model = Weights().to(dtype=dtype)
        learn(model, build_optimizer(model, weight_decay=0.1), steps=1)
    assert calls == []


@needs_numba
def test_a_gradient_that_is_not_finite_is_seen_in_the_weights():
    model = Weights()
    optimizer = build_optimizer(model, weight_decay=0.1)
    (model.first * paddle.to_tensor([np.nan, *[1.0] * 6])).sum().backward()
    optimizer.set_lr(0.01)
    optimizer.step()
    assert np.isnan(model.first.numpy()).tolist() == [True, *[False] * 6]
