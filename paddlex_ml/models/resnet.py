# SPDX-License-Identifier: Apache-2.0
"""ResNet-50 (He et al. 2015, arXiv:1512.03385) with the stride in the 3x3 convolutions.

    images [B, 3, S, S] -> stem, pool [B, 64, S/4, S/4] -> 16 blocks [B, 2048, S/32, S/32]
        -> head -> logits [B, C]

Names, shapes and initial values are those of the published weights.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn

from paddlex_ml.kernels import layers
from paddlex_ml.models.blocks import ConvNorm

FEATURES = 2048

# of every stage: blocks, width of their inner convolutions, stride of the first block
STAGES = [(3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2)]
_WIDENS = 4  # a block's output is this much wider than its inner convolutions


class ResNet50(nn.Layer):
    """Images [B, 3, S, S] -> output of `head` for the feature map [B, 2048, S/32, S/32]."""

    def __init__(self, head: nn.Layer) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvNorm(3, 64, kernel=7, stride=2, activation=F.relu))
        self.max_pool = nn.MaxPool2D(kernel_size=3, stride=2, padding=1)
        blocks, channels = [], 64
        for count, width, stride in STAGES:
            for i in range(count):
                blocks.append(_Bottleneck(channels, width, stride=stride if i == 0 else 1))
                channels = width * _WIDENS
        self.blocks = nn.Sequential(*blocks)
        self.fc = head

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        """Logits [B, C]."""
        features = layers.max_pool(self.max_pool, self.stem(images))  # [B, 64, S/4, S/4]
        return self.fc(self.blocks(features))  # of [B, 2048, S/32, S/32]


class _Bottleneck(nn.Layer):
    """Fewer channels, a 3x3 convolution, more channels again; the input is added."""

    def __init__(self, channels: int, width: int, *, stride: int) -> None:
        super().__init__()
        out_channels = width * _WIDENS
        self.conv0 = ConvNorm(channels, width, kernel=1, activation=F.relu)
        self.conv1 = ConvNorm(width, width, kernel=3, stride=stride, activation=F.relu)
        self.conv2 = ConvNorm(width, out_channels, kernel=1)
        fits = channels == out_channels and stride == 1
        self.short = None if fits else ConvNorm(channels, out_channels, kernel=1, stride=stride)

    def forward(self, features: paddle.Tensor) -> paddle.Tensor:
        short = features if self.short is None else self.short(features)
        return F.relu(short + self.conv2(self.conv1(self.conv0(features))))
