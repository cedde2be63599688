# SPDX-License-Identifier: Apache-2.0
"""Averaged weights: an exponential moving average (EMA) of everything a model saves."""

from __future__ import annotations

import paddle

from paddlex_ml.kernels import updates


class Ema:
    """Average of the model's state_dict over the updates, batch-norm statistics included.

    The decay at update t (1, 2, ...) is min(decay, (1 + t) / (10 + t)): a plain 0.9997 needs
    thousands of updates to forget its start, more than a small data set makes in all its epochs.
    """

    def __init__(self, model: paddle.nn.Layer, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.weights = {
            name: value.detach().astype("float32").clone()
            for name, value in model.state_dict().items()
        }

    @paddle.no_grad()
    def update(self, model: paddle.nn.Layer) -> None:
        """Add the model's current weights to the average; call it after every optimizer step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        share = paddle.full([], 1 - decay, "float32")  # once: a plain number makes a tensor per use
        for name, value in model.state_dict().items():
            average = self.weights[name]
            if value.stop_gradient and "._" not in name:
                continue  # frozen, so far or for the whole training: the average equals it
            updates.average(average, value, share)
