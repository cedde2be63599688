# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import paddle
import pytest

from paddlex_ml.checkpoint import Card
from paddlex_ml.models import zoo


def draw(count: int, size: int) -> np.ndarray:
    """Images as the models see them: float32 [count, 3, size, size]."""
    return np.random.default_rng(count).standard_normal((count, 3, size, size), np.float32)


@pytest.fixture(scope="session")
def card() -> Card:
    return Card("PP-LCNet_x1_0_ML", ["red square", "green", "蓝"], 64)


@pytest.fixture(scope="session")
def model(card: Card, build: Callable[[Card], paddle.nn.Layer]) -> paddle.nn.Layer:
    return build(card)


@pytest.fixture(scope="session")
def build() -> Callable[[Card], paddle.nn.Layer]:
    """Builds a model whose scores depend on the image."""

    def make(card: Card) -> paddle.nn.Layer:
        paddle.seed(1)
        model = zoo.build(card.model, len(card.label_names), tokens=card.decoder_tokens)
        for layer in model.sublayers():
            if isinstance(layer, paddle.nn.BatchNorm2D):
                layer._momentum = 0.0  # takes the statistics of these images
        model.train()
        with paddle.no_grad():
            model(paddle.to_tensor(draw(16, card.image_size)))
        return model

    return make


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """Three images as the models see them: [3, 3, 64, 64]."""
    return draw(3, 64)


@pytest.fixture
def scores(model: paddle.nn.Layer, images: np.ndarray) -> np.ndarray:
    """What the model says about `images`: [3, 3]."""
    model.eval()
    with paddle.no_grad():
        found: np.ndarray = paddle.nn.functional.sigmoid(model(paddle.to_tensor(images))).numpy()
    assert np.ptp(found, axis=0).max() > 0.01
    return found
