# SPDX-License-Identifier: Apache-2.0
"""Which compiled functions a part of a network trains with on the CPU. Imports nothing large."""

from __future__ import annotations

from collections.abc import Collection, Mapping

_HERE = "paddlex_ml.kernels"
PIXELS = f"{_HERE}.pixel_loops"
"""Module of the loops over pixels, which every training reads its images with."""
_OF_PIXELS = ("shear_rows", "blend_rows")

FAMILIES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "norm": (f"{_HERE}.batch_norm", ("norm", "norm_gradients")),
    "dense": (f"{_HERE}.convolution", ("dense", "dense_weight_gradient")),
    "depthwise": (f"{_HERE}.convolution", ("depthwise", "depthwise_weight_gradient")),
    "pool": (f"{_HERE}.pooling", ("pool", "pool_gradient")),
}
"""Module and functions by the name of the family."""


def names(families: Collection[str]) -> list[str]:
    """Names (package.module.function) of all that a training with these families compiles.

    In the order in which it needs them: forward, then backward.
    """
    modules = [FAMILIES[family] for family in families]
    images = [f"{PIXELS}.{function}" for function in _OF_PIXELS]
    forward = [f"{module}.{functions[0]}" for module, functions in modules]
    backward = [f"{module}.{functions[1]}" for module, functions in reversed(modules)]
    return [*forward, *backward, *images]
