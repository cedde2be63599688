# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from paddlex_ml.kernels import layers

pytest.importorskip("numba")


@pytest.mark.parametrize("shift", [0.0, 1e4, 1e6])
@pytest.mark.parametrize("size", [7, 20])
def test_statistics_keep_their_digits_where_the_mean_is_far_above_the_spread(shift, size):
    values = np.random.default_rng(0).normal(shift, size=(8, 3, size, size)).astype(np.float32)
    features, values = paddle.to_tensor(values), values.astype(np.float64)
    layer = nn.BatchNorm2D(3)
    layers.norm_activate(layer, layers.identity, features)
    share = 1 - layer._momentum
    variance = (layer._variance.numpy() - np.float64(layer._momentum)) / share
    assert variance == pytest.approx(values.var((0, 2, 3)), rel=3e-6)
    mean = layer._mean.numpy() / share
    assert mean == pytest.approx(values.mean((0, 2, 3)), rel=3e-7, abs=1e-6)
