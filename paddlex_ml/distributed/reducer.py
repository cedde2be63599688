# SPDX-License-Identifier: Apache-2.0
"""Paddle's reducer: gradients are exchanged in groups while the backward pass still computes.

    backward:  last layers | ... | first layers
    exchange:              | last group | ... | first group

It is `paddle.DataParallel`, whose hook counts the gradients of a group and starts their all-reduce
when the last one is there. A parameter without a gradient would keep its group waiting for ever, so
the reducer is told which parameters have one: those that got one in an earlier step.
"""

from __future__ import annotations

from contextlib import nullcontext

import paddle

from paddlex_ml.distributed.group import PeerLost, ProcessGroup

_LOST = ("gloo", "nccl", "connection", "peer")
"""Words of errors of a network; others are of the backward pass itself."""
_kept: list[Reducer] = []
"""Every reducer of this process: parameters refer to it for ever, without keeping it alive."""


class Reducer:
    """The passes of a network whose gradients become the mean of the ranks' gradients.

    All ranks make it together, between two steps, with equal weights and running statistics: those
    of rank 0 are sent to the others.
    """

    def __init__(self, network: paddle.nn.Layer, group: ProcessGroup) -> None:
        """The parameters that have a gradient now will get one in every step."""
        for parameter in network.parameters():
            has_none = parameter.stop_gradient or parameter.grad is None
            parameter.no_sync = has_none  # the name that Paddle gives to such a mark
        with group.collective():
            self._parallel = paddle.DataParallel(network)
        _kept.append(self)

    def forward(self, images: paddle.Tensor, *, is_last: bool) -> paddle.Tensor:
        """The network's output; gradients of all batches of a step except its last one add up."""
        with nullcontext() if is_last else self._parallel.no_sync():
            output: paddle.Tensor = self._parallel(images)
        return output

    def backward(self, loss: paddle.Tensor) -> None:
        """The backward pass, which ends when the exchange has. Raises PeerLost if a peer is gone.

        To the supervisor this is work, not waiting: nobody knows which of both it is now.
        """
        try:
            loss.backward()
        except (RuntimeError, ValueError) as error:
            # Without the functions of Paddle that were running, whose names have such words too.
            text = str(error).rpartition("Error Message Summary")[2].strip()
            if not any(word in text.lower() for word in _LOST):
                raise
            raise PeerLost(text.splitlines()[-1]) from error
