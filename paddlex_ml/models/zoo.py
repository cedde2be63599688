# SPDX-License-Identifier: Apache-2.0
"""The models by the names that configurations use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import paddle

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.models import pp_lcnet
from paddlex_ml.models.ml_decoder import MLDecoder


@dataclass(frozen=True)
class Recipe:
    """How a model of this name is built."""

    backbone: Callable[[MLDecoder], paddle.nn.Layer]
    features: int
    """Channels of the feature map that the backbone gives to the head."""
    head: str = "fc."
    """Prefix of the head's entries in the state_dict."""


RECIPES = {"PP-LCNet_x1_0_ML": Recipe(pp_lcnet.PPLCNet, pp_lcnet.FEATURES)}


def find(name: str) -> Recipe:
    """Look a model up. Raises PaddlexMLError for a name that is not in RECIPES."""
    if name not in RECIPES:
        raise PaddlexMLError(
            f"no model is called {name!r}",
            where="Global.model",
            fix=f"choose one of: {', '.join(RECIPES)}",
        )
    return RECIPES[name]


def build(name: str, num_classes: int, num_queries: int | None = None) -> paddle.nn.Layer:
    """Build a model with random start: images [B, 3, S, S] -> logits [B, num_classes].

    The start depends on Paddle's random state: call `paddle.seed` before for a repeatable one.
    """
    recipe = find(name)
    return recipe.backbone(MLDecoder(num_classes, recipe.features, num_queries))


def count_classes(name: str, weights: Mapping[str, np.ndarray], where: str) -> int:
    """Number of classes that a weight file was made for, from the shape of its head."""
    entry = f"{find(name).head}group_conv.bias"
    if entry not in weights:
        raise PaddlexMLError(
            f"the weights have no classification head (entry {entry!r} is missing)",
            where=where,
            fix="name the weights of a trained model; a bare backbone only serves training",
        )
    return int(weights[entry].shape[0])
