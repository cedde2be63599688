# SPDX-License-Identifier: Apache-2.0
"""Whether an exported graph gives the scores of the model it was made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import paddle

TOLERANCE = 1e-4  # largest difference of scores between the model and its graph
_DIFFERENT = 8  # random images; larger batches repeat them

# Images float32 [B, 3, S, S] -> scores float32 [B, C]
Graph = Callable[[np.ndarray], np.ndarray]


def measure(
    model: paddle.nn.Layer, graph: Graph, image_size: int, batch_sizes: Sequence[int] = (2,)
) -> float:
    """Largest difference between the scores of model and graph on random images.

    batch_sizes: in which the graph gets the images; two show whether one was frozen into it.
    Raises RuntimeError above TOLERANCE: a graph with other scores must not be used.
    """
    most = max(batch_sizes)
    shape = (min(most, _DIFFERENT), 3, image_size, image_size)
    images = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    with paddle.no_grad():
        expected = paddle.nn.functional.sigmoid(model(paddle.to_tensor(images))).numpy()
    if most > _DIFFERENT:  # the model need not have the memory for so many
        rows = np.arange(most) % _DIFFERENT
        images, expected = images[rows], expected[rows]
    differences = []
    for size in batch_sizes:
        with paddle.no_grad():
            scores = graph(images[:size])
        same_shape = scores.shape == expected[:size].shape
        differences.append(np.abs(expected[:size] - scores).max() if same_shape else np.inf)
    difference = float(np.max(differences))
    if not difference <= TOLERANCE:  # NaN is above it too
        raise RuntimeError(f"the exported graph differs from the model by {difference}")
    return difference
