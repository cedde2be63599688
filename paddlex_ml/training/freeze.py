# SPDX-License-Identifier: Apache-2.0
"""Epochs in which only the head learns: the backbone computes and does not change."""

from __future__ import annotations

from collections.abc import Set

import paddle


def backbone_entries(model: paddle.nn.Layer, head: str) -> frozenset[str]:
    """Names of the parameters that learn and are no part of the head, whose prefix is `head`.

    Call it before anything is frozen: parameters that are frozen then never learn and are left out.
    """
    return frozenset(
        name
        for name, parameter in model.named_parameters()
        if not parameter.stop_gradient and not name.startswith(head)
    )


def set_frozen(model: paddle.nn.Layer, names: Set[str], frozen: bool) -> None:
    """Freeze the parameters `names`, or let them learn again. Call it after `model.train()`.

    Frozen ones get no gradient, so the backward pass ends before them and AdamW neither moves nor
    decays them; their moments begin when they thaw. Layers with such parameters and no other that
    learns work as in evaluation, so running statistics stay; dropout, which has no parameters,
    stays on. The result depends on the arguments alone: call it in every epoch with `epoch < N`,
    and a resumed run does the same as an unbroken one.
    """
    for name, parameter in model.named_parameters():
        if name in names:
            parameter.stop_gradient = frozen
    for prefix, layer in model.named_sublayers():
        own = {f"{prefix}.{name}": p for name, p in layer.named_parameters()}
        others_learn = any(not p.stop_gradient for name, p in own.items() if name not in names)
        if not others_learn and not names.isdisjoint(own):
            layer.training = model.training and not frozen
