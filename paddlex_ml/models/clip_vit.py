# SPDX-License-Identifier: Apache-2.0
"""Image encoder of CLIP ViT-B/16, a vision transformer (Radford et al. 2021, arXiv:2103.00020).

    images [B, 3, S, S] -> patches [B, P, E], P = (S/16)^2 -> with the class token [B, 1 + P, E]
        -> 12 blocks [B, 1 + P, E] -> tokens for the head -> logits [B, C]

B batch, S image side (padded to a multiple of 16), P patches, E width (768), C classes. The
position embedding is for 14 x 14 patches (224 px) and is resized to the actual grid. Names,
shapes and initial values are those of the published weights.

Which tokens the head gets is a choice. The published model gives it only the first patch, the one
in the top left corner; with all patches the head uses the whole image.
"""

from __future__ import annotations

from typing import Literal, get_args

import paddle
import paddle.nn.functional as F
from paddle import nn

from paddlex_ml.kernels.transformer_layers import add_linear, attend, linear_gelu, norm
from paddlex_ml.models.blocks import batch_size, plain_conv

FEATURES = 768
PATCH = 16
GRID = 14
"""Rows and columns of patches in the position embedding."""
BLOCKS, HEADS, MLP_WIDTH = 12, 12, 3072
PROJECTION = 512

Tokens = Literal["all_patches", "first_patch"]
TOKENS: tuple[Tokens, ...] = get_args(Tokens)
PUBLISHED_TOKENS: Tokens = "first_patch"

_START = nn.initializer.Normal(std=0.02)


class CLIPViT(nn.Layer):
    """Images [B, 3, S, S] -> output of `head` for [B, E] or [B, E, P]."""

    def __init__(self, head: nn.Layer, tokens: Tokens) -> None:
        super().__init__()
        self.tokens = tokens
        shape = [1, 1 + GRID * GRID, FEATURES]
        self.pos_embed = self.create_parameter(shape, default_initializer=_START)
        self.cls_token = self.create_parameter([1, 1, FEATURES], default_initializer=_START)
        # Projects to the text side of CLIP; unused here, but part of the published files.
        width = nn.initializer.Normal(std=FEATURES**-0.5)
        self.proj = self.create_parameter([FEATURES, PROJECTION], default_initializer=width)
        self.patch_embed = nn.Sequential(
            ("proj", plain_conv(3, FEATURES, kernel=PATCH, stride=PATCH))
        )
        self.ln_pre = nn.LayerNorm(FEATURES)
        self.blocks = nn.Sequential(*(_Block() for _ in range(BLOCKS)))
        self.norm = nn.LayerNorm(FEATURES)
        self.head = head

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        """Logits [B, C]."""
        height, width = images.shape[2], images.shape[3]
        if height % PATCH or width % PATCH:  # pad the last patches with zeros
            images = F.pad(images, [0, -width % PATCH, 0, -height % PATCH])
        patches = self.patch_embed(images)  # [B, E, S/16, S/16]
        positions = self._positions(patches.shape[2], patches.shape[3])  # [1, 1 + P, E]
        patches = patches.flatten(2).transpose([0, 2, 1])  # [B, P, E]
        first = self.cls_token.expand([batch_size(patches), -1, -1])  # [B, 1, E]
        tokens = paddle.concat([first, patches], axis=1) + positions  # [B, 1 + P, E]
        tokens = self.blocks(norm(self.ln_pre, tokens))
        if self.tokens == "first_patch":
            return self.head(self.norm(tokens[:, 1]))  # [B, E]
        return self.head(norm(self.norm, tokens[:, 1:]).transpose([0, 2, 1]))  # [B, E, P]

    def _positions(self, rows: int, columns: int) -> paddle.Tensor:
        """Position embedding [1, 1 + rows * columns, E] of this grid of patches."""
        if (rows, columns) == (GRID, GRID):
            return self.pos_embed
        grid = self.pos_embed[:, 1:].transpose([0, 2, 1]).reshape([1, FEATURES, GRID, GRID])
        # Always in float32, also under mixed precision, as for the published results.
        grid = F.interpolate(grid.astype("float32"), size=[rows, columns], mode="bicubic")
        grid = grid.flatten(2).transpose([0, 2, 1]).astype(self.pos_embed.dtype)  # [1, P, E]
        return paddle.concat([self.pos_embed[:, :1], grid], axis=1)


class _Block(nn.Layer):
    """Pre-norm transformer block: tokens [B, T, E] -> [B, T, E]."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(FEATURES)
        self.attn = SelfAttention()
        self.norm2 = nn.LayerNorm(FEATURES)
        self.mlp = _MLP()

    def forward(self, tokens: paddle.Tensor) -> paddle.Tensor:
        tokens = self.attn(norm(self.norm1, tokens), tokens)
        return self.mlp(norm(self.norm2, tokens), tokens)


class SelfAttention(nn.Layer):
    """Self-attention of HEADS heads; queries, keys and values come from one product."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = _linear(FEATURES, 3 * FEATURES)
        self.proj = _linear(FEATURES, FEATURES)

    def forward(self, tokens: paddle.Tensor, residual: paddle.Tensor) -> paddle.Tensor:
        """Tokens [B, T, E] -> residual + attention [B, T, E]."""
        return add_linear(residual, self.proj, attend(self.qkv, HEADS, tokens))


class _MLP(nn.Layer):
    """Two linear layers with the exact GELU: CLIP's own approximation gives other scores."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = _linear(FEATURES, MLP_WIDTH)
        self.fc2 = _linear(MLP_WIDTH, FEATURES)

    def forward(self, tokens: paddle.Tensor, residual: paddle.Tensor) -> paddle.Tensor:
        return add_linear(residual, self.fc2, linear_gelu(self.fc1, tokens))


def _linear(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, weight_attr=_START)
