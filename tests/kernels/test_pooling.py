# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn

from paddlex_ml.kernels import layers
from tests.kernels.test_layers import assert_close, needs_numba, ran

POOLS = {
    "stem of PP-HGNetV2": nn.MaxPool2D(2, stride=1, ceil_mode=True, padding="SAME"),
    "stem of ResNet": nn.MaxPool2D(3, stride=2, padding=1),
    "SAME, 3 and 2": nn.MaxPool2D(3, stride=2, padding="SAME"),
    "ceil": nn.MaxPool2D(3, stride=2, padding=1, ceil_mode=True),
    "no padding": nn.MaxPool2D(2, stride=2),
    "large": nn.MaxPool2D(15, stride=2, padding=7),
}


@needs_numba
@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize(("height", "width"), [(15, 15), (16, 17), (19, 40), (33, 16)])
@pytest.mark.parametrize("kind", ["numbers", "ties", "nan"])
def test_max_pooling_and_its_gradient_are_those_of_paddle_bit_for_bit(
    name, height, width, kind, monkeypatch
):
    paddle.seed(8)
    values = paddle.randn([2, 3, height, width])
    if kind == "ties":
        values = F.relu(paddle.round(values))
    elif kind == "nan":
        chosen = paddle.rand(values.shape)
        values = paddle.where(chosen < 0.3, paddle.full([], np.nan), paddle.round(values))
        values = paddle.where(chosen > 0.8, paddle.full([], -np.inf), values)
    calls, pool = ran(monkeypatch, "pool"), POOLS[name]
    dout = paddle.randn(pool(values).shape)

    def run(function, dtype="float32"):
        features = values.astype(dtype)
        features.stop_gradient = False
        out = function(features)
        return [out, *paddle.grad(out, features, dout.astype(dtype))]

    found = run(lambda x: layers.max_pool(pool, x))
    for ours, wanted in zip(found, run(pool), strict=True):
        assert (ours.numpy().view(np.uint32) == wanted.numpy().view(np.uint32)).all()
    if kind != "nan":  # then both -float32's largest value and -float64's stand for nothing
        for ours, wanted in zip(found, run(pool, "float64"), strict=True):
            assert_close(ours, wanted, 1e-6)
    assert len(calls) == 1


@needs_numba
@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2D([2, 3], stride=1),
        nn.MaxPool2D(2, stride=3),
        nn.MaxPool2D(2, stride=[1, 2]),
        nn.MaxPool2D(3, stride=2, padding=[1, 0]),
        nn.MaxPool2D(3, stride=2, padding="VALID"),
        nn.MaxPool2D(2, stride=2, return_mask=True),
        nn.MaxPool2D(17, stride=1),
    ],
)
def test_other_max_pooling_is_left_to_paddle(pool, monkeypatch):
    calls = ran(monkeypatch, "pool")
    layers.max_pool(pool, paddle.randn([1, 2, 20, 20]))
    assert calls == []


@needs_numba
def test_in_evaluation_paddle_pools(monkeypatch):
    calls, pool = ran(monkeypatch, "pool"), nn.MaxPool2D(2, stride=2)
    pool.eval()
    layers.max_pool(pool, paddle.randn([1, 2, 20, 20]))
    assert calls == []
