# SPDX-License-Identifier: Apache-2.0
"""The forward pass of a model as one static graph, made at the first batch of each shape.

`paddle.jit.to_static` runs the model once on symbols and keeps the operators, their gradients
included, so that a step calls Python once instead of once an operator. On a GPU whose Paddle has
CINN, its compiler also fuses them (https://www.paddlepaddle.org.cn/documentation, "jit.to_static").
Weights and running statistics stay those of the model, and dropout draws the same numbers, so
that checkpoints, averaged weights, evaluation and resumes know nothing of it.
"""

from __future__ import annotations

import warnings

import paddle

FLAGS: dict[str, bool | str | float] = {
    "FLAGS_use_mkldnn": False,
    "FLAGS_new_executor_serial_run": True,
}
"""Training of a static graph with oneDNN fails in Paddle 3.3.1. And an executor that runs operators
as soon as their inputs are there draws the numbers of dropout in another order than the model."""


class CompiledModel(paddle.nn.Layer):
    """A model whose forward pass is a static graph; the model itself is not changed.

    A graph holds for the parameters that learn, and the layers that work as in training, when it
    is made: make another one when parts of the model are frozen or learn again.
    """

    def __init__(self, model: paddle.nn.Layer) -> None:
        super().__init__()
        self.model = model
        paddle.set_flags(FLAGS)
        paddle.jit.to_static(self, full_graph=True)

    def __call__(self, images: paddle.Tensor) -> paddle.Tensor:
        """As `forward`, without a warning of Paddle about its own code."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Tensor do not have 'place'")
            logits: paddle.Tensor = super().__call__(images)
        return logits

    # Runs as it is written, see `export.static`. Paddle needs the name `self` in a layer.
    @paddle.jit.not_to_static
    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        """Images [B, 3, S, S] -> logits [B, C]."""
        logits: paddle.Tensor = self.model(images)
        return logits


def describe() -> str:
    """What the steps run as on this device, for the log."""
    if paddle.device.get_device() == "cpu":
        return "a static graph of Paddle's own kernels, which are slower than ours on a CPU"
    has_cinn = paddle.device.is_compiled_with_cinn()
    return "a static graph, compiled by CINN" if has_cinn else "a static graph, without CINN"
