# SPDX-License-Identifier: Apache-2.0
"""Blocks that the models share."""

from __future__ import annotations

from typing import Literal

import paddle
from paddle import nn

from paddlex_ml.kernels import layers, winograd_layers
from paddlex_ml.kernels.layers import Activation, identity

Padding = int | Literal["SAME"]


class LearnableAffine(nn.Layer):
    """scale * x + bias, two numbers for the whole map."""

    def __init__(self) -> None:
        super().__init__()
        constant = nn.initializer.Constant
        self.scale = self.create_parameter([1], default_initializer=constant(1.0))
        self.bias = self.create_parameter([1], default_initializer=constant(0.0))

    def forward(self, features: paddle.Tensor) -> paddle.Tensor:
        """The map with the same shape."""
        return self.scale * features + self.bias


class ConvNorm(nn.Layer):
    """Convolution, batch norm, activation: [B, D, H, W] -> [B, out_channels, H/stride, W/stride].

    Its parameters are named `conv.*` and `bn.*`, as in the published weights.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        *,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        padding: Padding | None = None,
        activation: Activation = identity,
        lab: LearnableAffine | None = None,
    ) -> None:
        """With `padding` None and an odd kernel, only the stride changes the size of the map.

        `lab` is applied after the activation and has this name in the state_dict.
        """
        super().__init__()
        self.conv = plain_conv(
            channels,
            out_channels,
            kernel=kernel,
            stride=stride,
            groups=groups,
            padding=(kernel - 1) // 2 if padding is None else padding,
        )
        self.bn = nn.BatchNorm2D(out_channels)
        self.activation = activation
        self.lab = lab

    def forward(self, features: paddle.Tensor) -> paddle.Tensor:
        """Feature map after the activation."""
        features = winograd_layers.convolve(self.conv, features)
        affine = None if self.lab is None else (self.lab.scale, self.lab.bias)
        return layers.norm_activate(self.bn, self.activation, features, affine)


def plain_conv(
    channels: int,
    out_channels: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    padding: Padding = 0,
) -> nn.Conv2D:
    """Convolution without bias, initialised as in He et al. 2015 (arXiv:1502.01852)."""
    return nn.Conv2D(
        channels,
        out_channels,
        kernel,
        stride=stride,
        padding=padding,
        groups=groups,
        weight_attr=nn.initializer.KaimingNormal(),
        bias_attr=False,
    )


def batch_size(x: paddle.Tensor) -> int | paddle.Tensor:
    """B of x [B, ...]; in a graph for batches of any size, the operation that computes it."""
    size = x.shape[0]
    return size if size >= 0 else paddle.shape(x)[0]
