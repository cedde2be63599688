# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import paddle
import pytest

from paddlex_ml.export import parity


class Means(paddle.nn.Layer):
    """Logits: the mean of each colour."""

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        return images.mean([2, 3])


def sigmoid_of_means(images: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-images.mean((2, 3))))


def test_the_largest_difference_of_all_batches_is_found() -> None:
    seen = []

    def graph(images: np.ndarray) -> np.ndarray:
        seen.append(images.shape)
        scores = sigmoid_of_means(images)
        scores[-1, -1] += 1e-5 * len(images)
        return scores

    found = parity.measure(Means(), graph, 8, (1, 5, 2))
    assert seen == [(1, 3, 8, 8), (5, 3, 8, 8), (2, 3, 8, 8)]
    assert found == pytest.approx(5e-5, rel=0.01)


@pytest.mark.parametrize("error", [1.1e-4, -1.1e-4, float("nan")])
def test_the_limit_is_1e_4_and_nan_is_above_it(error: float) -> None:
    with pytest.raises(RuntimeError, match="the exported graph differs from the model by "):
        parity.measure(Means(), lambda images: sigmoid_of_means(images) + error, 8)
    assert parity.measure(Means(), lambda images: sigmoid_of_means(images) + 9e-5, 8) < 1e-4


def test_a_graph_with_a_frozen_batch_size_differs_by_infinity() -> None:
    with pytest.raises(RuntimeError, match="by inf"):
        parity.measure(Means(), lambda images: sigmoid_of_means(images[:1]), 8)


def test_the_model_runs_a_few_images_of_a_large_batch() -> None:
    ran = []

    class Counted(Means):
        def forward(self, images: paddle.Tensor) -> paddle.Tensor:
            ran.append(len(images))
            return super().forward(images)

    def graph(images: np.ndarray) -> np.ndarray:
        scores = sigmoid_of_means(images)
        scores[-1] += 1e-5
        return scores

    assert parity.measure(Counted(), graph, 8, (500,)) == pytest.approx(1e-5, rel=0.02)
    assert ran == [8]
