# SPDX-License-Identifier: Apache-2.0
"""ML-Decoder head (Ridnik et al. 2021, arXiv:2111.12933): fixed queries attend to the image.

    feature map [B, D, H, W] -> tokens [B, HW, E] -> decoded [B, Q, E] -> logits [B, C]

B batch, D backbone width, H and W feature map size, E head width (768), Q queries, C classes.
Each query predicts G = ceil(C / Q) classes; with Q = C every class has its own query. Output
q * G + i is the i-th class of query q, and outputs after the last class are cut off. Where
`head_layout` has another order, a gather at the end puts the outputs into the order of the classes.
Names, shapes and initial values are those of the published weights.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn

from paddlex_ml.kernels.transformer_layers import cross_attend, linear_relu, norm
from paddlex_ml.models.blocks import batch_size
from paddlex_ml.models.head_layout import SLOTS, HeadLayout, published

WIDTH = 768
HEADS = 8
FEED_FORWARD = 2048
DROPOUT = 0.1


class MLDecoder(nn.Layer):
    """Feature map [B, D, H, W] (or tokens [B, D, T], or [B, D * T]) -> logits [B, C]."""

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_queries: int | None = None,
        layout: HeadLayout | None = None,
    ) -> None:
        """`num_queries` is kept within 1..num_classes; None gives every class its own.

        layout: of a head that has its classes in another order; in place of `num_queries`.
        """
        super().__init__()
        if layout is None:
            wanted = num_classes if num_queries is None else num_queries
            layout = published(num_classes, min(max(wanted, 1), num_classes))
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.input_proj = nn.Conv2D(in_channels, WIDTH, kernel_size=1)
        self.query_pos_embed = nn.Embedding(layout.queries, WIDTH)
        self.query_pos_embed.weight.stop_gradient = True  # the queries keep their initial values
        self.decoder = _Decoder()
        self.group_conv = nn.Conv2D(
            layout.queries * WIDTH,
            layout.queries * layout.group_size,
            kernel_size=1,
            groups=layout.queries,
            weight_attr=nn.initializer.XavierNormal(),
        )
        self.in_order = layout.slots is None
        if layout.slots is not None:
            self.register_buffer(SLOTS, paddle.to_tensor(layout.slots, "int64"))

    def forward(self, feature_map: paddle.Tensor) -> paddle.Tensor:
        """Logits [B, C], before the sigmoid."""
        feature_map = self.as_map(feature_map)  # [B, D, H, W]
        tokens = F.relu(self.input_proj(feature_map)).flatten(2).transpose([0, 2, 1])  # [B, HW, E]
        queries = self.query_pos_embed.weight.unsqueeze(0)  # [1, Q, E]
        queries = queries.expand([batch_size(tokens), -1, -1])  # [B, Q, E]
        decoded = self.decoder(queries, tokens)  # [B, Q, E]
        stacked = decoded.flatten(1).unsqueeze(-1).unsqueeze(-1)  # [B, QE, 1, 1]
        logits = self.group_conv(stacked).flatten(1)  # [B, QG]
        if not self.in_order:
            return paddle.gather(logits, self.class_slots, axis=1)  # [B, C]
        return logits[:, : self.num_classes]  # [B, C]: the last group may be padded

    def as_map(self, features: paddle.Tensor) -> paddle.Tensor:
        """Features as backbones give them -> [B, D, H, W]; for tokens H is T and W is 1."""
        if features.ndim == 2:  # [B, DT]: one or several tokens side by side
            features = features.reshape([0, self.in_channels, -1])  # [B, D, T]
        return features.unsqueeze(-1) if features.ndim == 3 else features  # [B, D, T, 1]


class _Decoder(nn.Layer):
    """Holds the one decoder layer under the published name `layers.0`."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.LayerList([_DecoderLayer()])

    def forward(self, queries: paddle.Tensor, tokens: paddle.Tensor) -> paddle.Tensor:
        return self.layers[0](queries, tokens)


class _DecoderLayer(nn.Layer):
    """Post-norm transformer decoder layer whose self-attention is the identity, as in the paper."""

    def __init__(self) -> None:
        super().__init__()
        self.cross_attn = nn.MultiHeadAttention(WIDTH, HEADS, dropout=DROPOUT)
        self.linear1 = nn.Linear(WIDTH, FEED_FORWARD)
        self.linear2 = nn.Linear(FEED_FORWARD, WIDTH)
        self.norm1 = nn.LayerNorm(WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.norm3 = nn.LayerNorm(WIDTH)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, queries: paddle.Tensor, tokens: paddle.Tensor) -> paddle.Tensor:
        """Queries [B, Q, E] and tokens [B, T, E] -> [B, Q, E]."""
        # The identity in place of self-attention keeps its residual: 2 q without dropout.
        queries = norm(self.norm1, queries + self.dropout(queries))
        attended = cross_attend(self.cross_attn, queries, tokens)
        queries = norm(self.norm2, queries + self.dropout(attended))
        hidden = self.dropout(linear_relu(self.linear1, queries))  # [B, Q, 2048]
        return norm(self.norm3, queries + self.dropout(self.linear2(hidden)))
