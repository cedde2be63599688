# SPDX-License-Identifier: Apache-2.0
"""The models, by the names in configurations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import paddle

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.models import clip_vit, head_layout, pp_hgnet_v2, pp_lcnet, resnet
from paddlex_ml.models.head_layout import HeadLayout
from paddlex_ml.models.ml_decoder import MLDecoder


@dataclass(frozen=True)
class ModelSpec:
    """How a model of this name is built."""

    backbone: Callable[..., paddle.nn.Layer]
    """Called with the head, and with `tokens` where there is a choice of them."""
    features: int
    """Channels of the feature map that the head gets from the backbone."""
    head: str = "fc."
    """Prefix of the head's entries in the state_dict."""
    tokens: tuple[str, ...] = ()
    """Choices of the image tokens that the head gets; the first trains best. Empty: no choice."""
    published_tokens: str | None = None
    """The choice that the published weights were trained with."""
    lr_mults: Mapping[str, float] = field(default_factory=dict)
    """End of an entry's name -> factor of its learning rate; all others have 1."""

    def lr_mult(self, entry: str, *, head: float = 1.0, backbone: float = 1.0) -> float:
        """Factor of the learning rate for an entry of the state_dict.

        `head` is that of the head; `backbone` that of all others, times their factor in `lr_mults`.
        """
        if entry.startswith(self.head):
            return head
        own = next((mult for end, mult in self.lr_mults.items() if entry.endswith(end)), 1.0)
        return backbone * own


def _hgnet(size: str) -> ModelSpec:
    slow = {"lab.scale": 0.01, "lab.bias": 0.01} if pp_hgnet_v2.SHAPES[size].affine else {}
    backbone = partial(pp_hgnet_v2.PPHGNetV2, size=size)
    return ModelSpec(backbone, pp_hgnet_v2.FEATURES, lr_mults=slow)


MODEL_SPECS = {
    "PP-LCNet_x1_0_ML": ModelSpec(pp_lcnet.PPLCNet, pp_lcnet.FEATURES),
    "PP-HGNetV2-B0_ML": _hgnet("B0"),
    "PP-HGNetV2-B4_ML": _hgnet("B4"),
    "PP-HGNetV2-B6_ML": _hgnet("B6"),
    "ResNet50_ML": ModelSpec(resnet.ResNet50, resnet.FEATURES),
    "CLIP_vit_base_patch16_448_ML": ModelSpec(
        clip_vit.CLIPViT,
        clip_vit.FEATURES,
        head="head.",
        tokens=clip_vit.TOKENS,
        published_tokens=clip_vit.PUBLISHED_TOKENS,
    ),
}


def find(name: str) -> ModelSpec:
    """Look a model up. Raises PaddlexMLError for a name that is not in MODEL_SPECS."""
    if name not in MODEL_SPECS:
        raise PaddlexMLError(
            f"no model is called {name!r}",
            where="Global.model",
            fix=f"choose one of: {', '.join(MODEL_SPECS)}",
        )
    return MODEL_SPECS[name]


def build(
    name: str,
    num_classes: int,
    num_queries: int | None = None,
    *,
    tokens: str | None = None,
    layout: HeadLayout | None = None,
) -> paddle.nn.Layer:
    """Build a model with random weights: images [B, 3, S, S] -> logits [B, num_classes].

    `tokens` as in `choose_tokens`, the head as in `MLDecoder`. The initial weights depend on
    Paddle's random state: call `paddle.seed` before for repeatable ones.
    """
    spec, tokens = find(name), choose_tokens(name, tokens)
    head = MLDecoder(num_classes, spec.features, num_queries, layout)
    return spec.backbone(head) if tokens is None else spec.backbone(head, tokens=tokens)


def choose_tokens(name: str, wanted: str | None) -> str | None:
    """The tokens that the head of the model gets: `wanted`, or the best; None without a choice.

    Raises PaddlexMLError when the model has no such choice.
    """
    choices = find(name).tokens
    if wanted is None:
        return choices[0] if choices else None
    if wanted in choices:
        return wanted
    raise PaddlexMLError(
        f"the head of {name} cannot use the tokens {wanted!r}",
        where="decoder_tokens",
        fix=f"choose from {', '.join(choices)}" if choices else "leave it out for this model",
    )


def find_layout(name: str, weights: Mapping[str, np.ndarray], where: str) -> HeadLayout:
    """The head that a weight file was made for, from the shapes of its entries.

    Raises PaddlexMLError where it has none. One whose entries contradict each other counts as one
    query per class: it does not fit into a model.
    """
    head = find(name).head
    entry = f"{head}{head_layout.BIAS}"
    if entry not in weights:
        raise PaddlexMLError(
            f"the weights have no classification head of {name} (entry {entry!r} is missing)",
            where=where,
            fix="give the weights of a trained model, and with -c the configuration of that model",
        )
    outputs = int(weights[entry].shape[0])
    return head_layout.read(weights, head) or head_layout.published(outputs, max(outputs, 1))
