# SPDX-License-Identifier: Apache-2.0
"""PP-HGNetV2 B0, B4 and B6 (PaddlePaddle 2023, after HGNet): CNNs made for GPUs.

    images [B, 3, S, S] -> stem [B, D0, S/4, S/4] -> stages 0..3 [B, D, S/32, S/32]
        -> last_conv [B, 2048, S/32, S/32] -> head -> logits [B, C]

A block runs several convolutions in a row and concatenates all their outputs. Light blocks split a
convolution into a pointwise and a depthwise one. B0 has a learnable affine block (LAB) after every
activation. Names, shapes and initial values are those of the published weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import paddle
import paddle.nn.functional as F
from paddle import nn

from paddlex_ml.kernels import layers
from paddlex_ml.models.blocks import ConvNorm, LearnableAffine, Padding, plain_conv

FEATURES = 2048


class Stage(NamedTuple):
    """Settings of one stage; `layers` convolutions of `width` channels in each of its blocks."""

    channels: int
    width: int
    out_channels: int
    blocks: int
    kernel: int
    layers: int
    halves: bool = True
    """Whether the stage starts by halving height and width."""
    light: bool = False


class Shape(NamedTuple):
    """Settings in which the members of the family differ."""

    stem: tuple[int, int]
    """Channels inside and after the stem."""
    stages: tuple[Stage, Stage, Stage, Stage]
    affine: bool
    """Whether learnable affine blocks follow the activations."""


SHAPES: Mapping[str, Shape] = {
    "B0": Shape(
        (16, 16),
        (
            Stage(16, 16, 64, blocks=1, kernel=3, layers=3, halves=False),
            Stage(64, 32, 256, blocks=1, kernel=3, layers=3),
            Stage(256, 64, 512, blocks=2, kernel=5, layers=3, light=True),
            Stage(512, 128, 1024, blocks=1, kernel=5, layers=3, light=True),
        ),
        affine=True,
    ),
    "B4": Shape(
        (32, 48),
        (
            Stage(48, 48, 128, blocks=1, kernel=3, layers=6, halves=False),
            Stage(128, 96, 512, blocks=1, kernel=3, layers=6),
            Stage(512, 192, 1024, blocks=3, kernel=5, layers=6, light=True),
            Stage(1024, 384, 2048, blocks=1, kernel=5, layers=6, light=True),
        ),
        affine=False,
    ),
    "B6": Shape(
        (48, 96),
        (
            Stage(96, 96, 192, blocks=2, kernel=3, layers=6, halves=False),
            Stage(192, 192, 512, blocks=3, kernel=3, layers=6),
            Stage(512, 384, 1024, blocks=6, kernel=5, layers=6, light=True),
            Stage(1024, 768, 2048, blocks=3, kernel=5, layers=6, light=True),
        ),
        affine=False,
    ),
}


class PPHGNetV2(nn.Layer):
    """Images [B, 3, S, S] -> output of `head` for the feature map [B, 2048, S/32, S/32]."""

    def __init__(self, head: nn.Layer, size: str) -> None:
        """`size` is a key of SHAPES."""
        super().__init__()
        shape = SHAPES[size]
        self.stem = _Stem(*shape.stem, affine=shape.affine)
        self.stages = nn.LayerList([_Stage(stage, shape.affine) for stage in shape.stages])
        self.last_conv = plain_conv(shape.stages[-1].out_channels, FEATURES)
        self.lab = LearnableAffine() if shape.affine else None
        self.fc = head

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        """Logits [B, C]."""
        features = self.stem(images)  # [B, D0, S/4, S/4]
        for stage in self.stages:
            features = stage(features)  # ends as [B, D, S/32, S/32]
        features = F.relu(layers.convolve(self.last_conv, features))  # [B, 2048, S/32, S/32]
        return self.fc(features if self.lab is None else self.lab(features))


def _conv_norm(
    channels: int,
    out_channels: int,
    *,
    kernel: int,
    affine: bool,
    stride: int = 1,
    groups: int = 1,
    padding: Padding | None = None,
) -> ConvNorm:
    """Convolution, batch norm, ReLU and, where `affine`, a learnable affine block."""
    return ConvNorm(
        channels,
        out_channels,
        kernel=kernel,
        stride=stride,
        groups=groups,
        padding=padding,
        activation=F.relu,
        lab=LearnableAffine() if affine else None,
    )


class _Stem(nn.Layer):
    """Images [B, 3, S, S] -> [B, out_channels, S/4, S/4], with two branches in the middle."""

    def __init__(self, width: int, out_channels: int, *, affine: bool) -> None:
        super().__init__()
        self.stem1 = _conv_norm(3, width, kernel=3, stride=2, affine=affine)
        # SAME: a kernel of 2 keeps the size by a row and a column of padding at the end.
        self.stem2a = _conv_norm(width, width // 2, kernel=2, padding="SAME", affine=affine)
        self.stem2b = _conv_norm(width // 2, width, kernel=2, padding="SAME", affine=affine)
        self.stem3 = _conv_norm(2 * width, width, kernel=3, stride=2, affine=affine)
        self.stem4 = _conv_norm(width, out_channels, kernel=1, affine=affine)
        self.pool = nn.MaxPool2D(kernel_size=2, stride=1, ceil_mode=True, padding="SAME")

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        features = self.stem1(images)  # [B, width, S/2, S/2]
        both = [layers.max_pool(self.pool, features), self.stem2b(self.stem2a(features))]
        features = self.stem3(paddle.concat(both, axis=1))  # [B, width, S/4, S/4]
        return self.stem4(features)


class _Stage(nn.Layer):
    """Halve the map where `halves`, then blocks; all except the first add their input."""

    def __init__(self, stage: Stage, affine: bool) -> None:
        super().__init__()
        self.downsample = (
            ConvNorm(stage.channels, stage.channels, kernel=3, stride=2, groups=stage.channels)
            if stage.halves
            else None
        )
        inputs = [stage.channels] + [stage.out_channels] * (stage.blocks - 1)
        self.blocks = nn.Sequential(
            *(
                _Block(channels, stage, affine=affine, adds_input=i > 0)
                for i, channels in enumerate(inputs)
            )
        )

    def forward(self, features: paddle.Tensor) -> paddle.Tensor:
        return self.blocks(features if self.downsample is None else self.downsample(features))


class _Block(nn.Layer):
    """Convolutions in a row; all their outputs and the input, concatenated and squeezed."""

    def __init__(self, channels: int, stage: Stage, *, affine: bool, adds_input: bool) -> None:
        super().__init__()
        self.adds_input = adds_input
        kernel, width = stage.kernel, stage.width
        self.layers = nn.LayerList()
        for inputs in [channels] + [width] * (stage.layers - 1):
            if stage.light:  # a pointwise convolution mixes the channels, a depthwise one filters
                pointwise = ConvNorm(inputs, width, kernel=1)
                depthwise = _conv_norm(width, width, kernel=kernel, groups=width, affine=affine)
                self.layers.append(nn.Sequential(("conv1", pointwise), ("conv2", depthwise)))
            else:
                self.layers.append(_conv_norm(inputs, width, kernel=kernel, affine=affine))
        joined, out_channels = channels + stage.layers * stage.width, stage.out_channels
        self.aggregation_squeeze_conv = _conv_norm(
            joined, out_channels // 2, kernel=1, affine=affine
        )
        self.aggregation_excitation_conv = _conv_norm(
            out_channels // 2, out_channels, kernel=1, affine=affine
        )

    def forward(self, features: paddle.Tensor) -> paddle.Tensor:
        outputs = [features]
        for layer in self.layers:
            outputs.append(layer(outputs[-1]))
        joined = paddle.concat(outputs, axis=1)  # [B, channels + layers * width, H, W]
        result = self.aggregation_excitation_conv(self.aggregation_squeeze_conv(joined))
        return features + result if self.adds_input else result
