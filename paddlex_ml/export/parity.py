# SPDX-License-Identifier: Apache-2.0
"""Whether an exported graph gives the scores of the model it was made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import paddle

TOLERANCE = 1e-4  # largest difference of scores between the model and its graph

# Images float32 [B, 3, S, S] -> scores float32 [B, C]
Graph = Callable[[np.ndarray], np.ndarray]


def measure(
    model: paddle.nn.Layer, graph: Graph, image_size: int, batch_sizes: Sequence[int] = (2,)
) -> float:
    """Largest difference between the scores of model and graph on batches of random images.

    Raises RuntimeError above TOLERANCE: a graph with other scores must not be used.
    """
    rng = np.random.default_rng(0)
    shapes = [(size, 3, image_size, image_size) for size in batch_sizes]
    batches = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    differences = []
    for images in batches:
        with paddle.no_grad():
            expected = paddle.nn.functional.sigmoid(model(paddle.to_tensor(images))).numpy()
            scores = graph(images)
        same_shape = scores.shape == expected.shape
        differences.append(np.abs(expected - scores).max() if same_shape else np.inf)
    difference = float(np.max(differences))
    if not difference <= TOLERANCE:  # NaN is above it too
        raise RuntimeError(f"the exported graph differs from the model by {difference}")
    return difference
