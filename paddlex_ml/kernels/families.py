# SPDX-License-Identifier: Apache-2.0
"""Which compiled functions a part of a network trains with on the CPU. Imports nothing large."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

_HERE = "paddlex_ml.kernels"
PIXELS = f"{_HERE}.pixel_loops"
"""Module of the loops over pixels, which every training reads its images with."""
_OF_PIXELS = ("shear_rows", "blend_rows")


class Family(NamedTuple):
    """Functions of one module that are needed together."""

    module: str
    forward: tuple[str, ...]
    backward: tuple[str, ...]
    """And for the updates after it."""


FAMILIES: Mapping[str, Family] = {
    "updates": Family(f"{_HERE}.update_loops", (), ("adamw", "average")),
    "norm": Family(f"{_HERE}.batch_norm", ("norm",), ("norm_gradients",)),
    "dense": Family(f"{_HERE}.convolution", ("dense",), ("dense_weight_gradient",)),
    "depthwise": Family(f"{_HERE}.convolution", ("depthwise",), ("depthwise_weight_gradient",)),
    "winograd": Family(
        f"{_HERE}.winograd", ("tile_inputs", "join_outputs"), ("tile_gradients",)
    ),
    "pool": Family(f"{_HERE}.pooling", ("pool",), ("pool_gradient",)),
    "attention": Family(
        f"{_HERE}.transformer", ("add_rows", "gelu", "softmax_rows"),
        ("gelu_gradients", "softmax_rows_gradient"),
    ),
    "head": Family(
        f"{_HERE}.transformer", ("norm_rows", "split_heads", "relu"),
        ("norm_rows_gradients", "relu_gradients", "column_sums", "merge_heads"),
    ),
}  # fmt: skip
"""By the name of the family. Every model has updates and an ML-Decoder as its head."""
CONVOLUTIONAL = ("updates", "norm", "dense", "winograd", "depthwise", "pool", "head")
"""Families of a network that has all kinds of convolutions."""


def names(families: Collection[str]) -> list[str]:
    """Names (package.module.function) of all that a training with these families compiles.

    In the order in which it needs them: forward, then backward, from the last family to the first.
    """
    chosen = [FAMILIES[family] for family in families]
    forward = [f"{each.module}.{name}" for each in chosen for name in each.forward]
    backward = [f"{each.module}.{name}" for each in reversed(chosen) for name in each.backward]
    return [*forward, *backward, *(f"{PIXELS}.{function}" for function in _OF_PIXELS)]
