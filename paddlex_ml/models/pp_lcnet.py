# SPDX-License-Identifier: Apache-2.0
"""PP-LCNet x1.0 (Cui et al. 2021, arXiv:2109.15099): a light CNN for CPUs.

    images [B, 3, S, S] -> conv1 [B, 16, S/2, S/2] -> blocks2..6 [B, 512, S/32, S/32]
        -> last_conv [B, 1280, S/32, S/32] -> head -> logits [B, C]

A block is a depthwise convolution, squeeze-and-excitation in the last two, and a pointwise
convolution. Names, shapes and initial values are those of the published weights.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn

from paddlex_ml.kernels import layers
from paddlex_ml.models.blocks import ConvNorm

FEATURES = 1280

# stage name -> blocks of (kernel, in channels, out channels, stride, squeeze-and-excitation)
STAGES: dict[str, list[tuple[int, int, int, int, bool]]] = {
    "blocks2": [(3, 16, 32, 1, False)],
    "blocks3": [(3, 32, 64, 2, False), (3, 64, 64, 1, False)],
    "blocks4": [(3, 64, 128, 2, False), (3, 128, 128, 1, False)],
    "blocks5": [(3, 128, 256, 2, False)] + 5 * [(5, 256, 256, 1, False)],
    "blocks6": [(5, 256, 512, 2, True), (5, 512, 512, 1, True)],
}


class PPLCNet(nn.Layer):
    """Images [B, 3, S, S] -> output of `head` for the feature map [B, 1280, S/32, S/32]."""

    def __init__(self, head: nn.Layer) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, 16, kernel=3, stride=2, activation=F.hardswish)
        for name, blocks in STAGES.items():
            setattr(self, name, nn.Sequential(*(_Block(*block) for block in blocks)))
        self.last_conv = nn.Conv2D(512, FEATURES, kernel_size=1, bias_attr=False)
        # In evaluation this mode multiplies by 0.8 instead of scaling up in training: the
        # published weights were trained in this way; with another mode the logits are wrong.
        self.dropout = nn.Dropout(0.2, mode="downscale_in_infer")
        self.fc = head

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        """Logits [B, C]."""
        features = self.conv1(images)  # [B, 16, S/2, S/2]
        for name in STAGES:
            features = getattr(self, name)(features)  # ends as [B, 512, S/32, S/32]
        features = self.dropout(
            F.hardswish(layers.convolve(self.last_conv, features))
        )  # [B, 1280, S/32, S/32]
        return self.fc(features)


class _Block(nn.Layer):
    """Depthwise convolution, optional squeeze-and-excitation, pointwise convolution."""

    def __init__(
        self, kernel: int, channels: int, out_channels: int, stride: int, excite: bool
    ) -> None:
        super().__init__()
        self.dw_conv = ConvNorm(
            channels,
            channels,
            kernel=kernel,
            stride=stride,
            groups=channels,
            activation=F.hardswish,
        )
        self.se = _SqueezeExcite(channels) if excite else None
        self.pw_conv = ConvNorm(channels, out_channels, kernel=1, activation=F.hardswish)

    def forward(self, features: paddle.Tensor) -> paddle.Tensor:
        features = self.dw_conv(features)
        if self.se is not None:
            features = self.se(features)
        return self.pw_conv(features)


class _SqueezeExcite(nn.Layer):
    """Multiply each channel by a weight computed from the means of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2D(channels, channels // 4, kernel_size=1)
        self.conv2 = nn.Conv2D(channels // 4, channels, kernel_size=1)

    def forward(self, features: paddle.Tensor) -> paddle.Tensor:
        mean = F.adaptive_avg_pool2d(features, 1)  # [B, D, 1, 1]
        weight = F.hardsigmoid(self.conv2(F.relu(self.conv1(mean))))  # [B, D, 1, 1]
        return features * weight
