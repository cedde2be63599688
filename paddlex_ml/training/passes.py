# SPDX-License-Identifier: Apache-2.0
"""The forward and the backward passes of a step, and the exchange of their gradients.

Plain: the model itself, and one exchange after the last backward pass. Compiled: a static graph in
place of the model. Overlapped: the exchange runs while the last backward pass still computes. All
of them give the same numbers, to rounding.
"""

from __future__ import annotations

import logging

import paddle

from paddlex_ml.distributed.group import ProcessGroup
from paddlex_ml.distributed.reducer import Reducer
from paddlex_ml.training import compiled
from paddlex_ml.training.compiled import CompiledModel

logger = logging.getLogger(__name__)


class Passes:
    """How the batches of a step go through a model; made once for a training."""

    def __init__(
        self, model: paddle.nn.Layer, *, compiles: bool = False, overlaps: bool = False
    ) -> None:
        """`overlaps` matters in a group of several processes alone."""
        self._model, self._compiles, self._overlaps = model, compiles, overlaps
        self._layers = list(model.sublayers(include_self=True))
        self._parameters = list(model.parameters())
        self._learning: list[bool] = []
        self._network = model
        self._reducer: Reducer | None = None
        self._steps = 0  # since the present network was made
        if compiles:
            logger.info("the steps run as %s", compiled.describe())
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Call it when parts of the model may have been frozen, or may learn again.

        A compiled network and a reducer hold for one such state alone.
        """
        learning = [not parameter.stop_gradient for parameter in self._parameters]
        learning += [layer.training for layer in self._layers]
        if learning != self._learning:
            self._learning, self._reducer, self._steps = learning, None, 0
            self._network = CompiledModel(self._model) if self._compiles else self._model

    def forward(
        self, images: paddle.Tensor, group: ProcessGroup, *, is_last: bool = True
    ) -> paddle.Tensor:
        """Logits [B, C] of images [B, 3, S, S]; `is_last`: no batch of this step follows."""
        if self._overlaps and group.size > 1 and self._steps and self._reducer is None:
            # Now all ranks have the same running statistics, and it is known which parameters
            # get a gradient: those of the first step, whose exchange was a plain one.
            self._reducer = Reducer(self._network, group)
        if self._reducer is not None:
            return self._reducer.forward(images, is_last=is_last)
        logits: paddle.Tensor = self._network(images)
        return logits

    def backward(self, loss: paddle.Tensor, group: ProcessGroup, *, is_last: bool = True) -> None:
        """Add the gradients of `loss`; after the last batch they are the mean of the ranks'."""
        if self._reducer is not None:
            self._reducer.backward(loss)
            return
        loss.backward()
        if is_last:
            group.all_reduce_gradients(self._parameters)
            self._steps += 1
