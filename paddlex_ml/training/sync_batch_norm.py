# SPDX-License-Identifier: Apache-2.0
"""Batch norm over the batches of all processes of a group, as if they were one batch.

On GPUs it is Paddle's SyncBatchNorm; on CPUs Paddle has none, so this module implements it.
"""

from __future__ import annotations

from typing import Any

import paddle
from paddle import nn
from paddle.autograd import PyLayer

from paddlex_ml.distributed.group import ProcessGroup

_AXES = [0, 2, 3]  # all except the channels


def synchronise(model: nn.Layer, group: ProcessGroup, *, on_gpu: bool) -> nn.Layer:
    """Let all batch norms of `model` share their statistics; parameters and names stay."""
    if group.size == 1:
        return model
    if on_gpu:
        converted: nn.Layer = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return converted
    for layer in list(model.sublayers(include_self=True)):
        for name, child in list(layer.named_children()):
            if type(child) is nn.BatchNorm2D:
                setattr(layer, name, CpuSyncBatchNorm(child, group))
    return model


class CpuSyncBatchNorm(nn.Layer):
    """Replaces a batch norm and takes over its parameters and entries: [B, D, H, W]."""

    def __init__(self, norm: nn.BatchNorm2D, group: ProcessGroup) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        self._momentum, self._epsilon, self._group = norm._momentum, norm._epsilon, group
        self._mean, self._variance = norm._mean, norm._variance

    def forward(self, features: paddle.Tensor) -> paddle.Tensor:
        """Normalise by the statistics of the group's batch, in evaluation by the running ones."""
        if not self.training:
            return nn.functional.batch_norm(
                features, self._mean, self._variance, self.weight, self.bias,
                epsilon=self._epsilon,
            )  # fmt: skip
        group = self._group
        with paddle.no_grad():
            count = group.all_reduce_sum(features.size / features.shape[1])  # values per channel
            mean = group.all_reduce_sum_tensor(features.sum(_AXES)) / count
            centred = features - _wide(mean)
            variance = group.all_reduce_sum_tensor((centred * centred).sum(_AXES)) / count
            for running, batch in ((self._mean, mean), (self._variance, variance)):
                running.scale_(self._momentum).add_(batch * (1 - self._momentum))
            spread = (variance + self._epsilon).rsqrt()
        result: paddle.Tensor = _Normalise.apply(  # type: ignore[no-untyped-call]
            features, self.weight, self.bias, mean, spread, count, group
        )
        return result


class _Normalise(PyLayer):
    """(x - mean) * spread * weight + bias, with the gradient through mean and spread."""

    @staticmethod
    def forward(
        ctx: Any,
        features: paddle.Tensor,
        weight: paddle.Tensor,
        bias: paddle.Tensor,
        mean: paddle.Tensor,
        spread: paddle.Tensor,
        count: float,
        group: ProcessGroup,
    ) -> paddle.Tensor:
        normal = (features - _wide(mean)) * _wide(spread)
        ctx.save_for_backward(normal, weight, spread)
        ctx.count, ctx.group = count, group
        return normal * _wide(weight) + _wide(bias)

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, gradient: paddle.Tensor
    ) -> tuple[paddle.Tensor | None, ...]:
        normal, weight, spread = ctx.saved_tensor()
        of_bias, of_weight = gradient.sum(_AXES), (gradient * normal).sum(_AXES)
        both = ctx.group.all_reduce_sum_tensor(paddle.concat([of_bias, of_weight])) / ctx.count
        shift, scale = (_wide(half) for half in both.split(2))
        of_features = (gradient - shift - normal * scale) * _wide(weight * spread)
        return of_features, of_weight, of_bias, None, None


def _wide(channels: paddle.Tensor) -> paddle.Tensor:
    """[D] -> [1, D, 1, 1]."""
    return channels.reshape([1, -1, 1, 1])
