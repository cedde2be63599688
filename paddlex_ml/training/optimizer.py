# SPDX-License-Identifier: Apache-2.0
"""AdamW with its parameter groups, and its state by the model's own entry names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import paddle

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


def build_optimizer(
    model: paddle.nn.Layer,
    *,
    weight_decay: float,
    lr_mult: Callable[[str], float] = lambda entry: 1.0,
) -> paddle.optimizer.AdamW:
    """AdamW (Loshchilov 2019, arXiv:1711.05101) over the trainable parameters.

    One-dimensional parameters (biases, norms) do not decay. The rate is set before every step
    with `set_lr`; each entry of the state_dict learns at `lr_mult(entry)` times it.
    """
    trainable = {name: p for name, p in model.named_parameters() if not p.stop_gradient}
    decaying = {p.name for p in trainable.values() if p.ndim != 1}
    groups: dict[float, list[paddle.Tensor]] = {}
    for name, parameter in trainable.items():
        groups.setdefault(lr_mult(name), []).append(parameter)
    # Paddle takes the "learning_rate" of a group as a factor.
    parameters: list[Any] = [{"params": p, "learning_rate": mult} for mult, p in groups.items()]
    return paddle.optimizer.AdamW(
        learning_rate=0.0,
        beta1=BETA1,
        beta2=BETA2,
        epsilon=EPSILON,
        parameters=parameters,
        weight_decay=weight_decay,
        apply_decay_param_fun=decaying.__contains__,
    )


def save_state(optimizer: paddle.optimizer.AdamW, model: paddle.nn.Layer) -> dict[str, Any]:
    """Moments as arrays under "<entry of the state_dict>/<accumulator>".

    Paddle's own keys count the layers made in this process, so they change from run to run.
    """
    entries = {p.name: name for name, p in model.named_parameters()}
    return _renamed(optimizer.state_dict(), entries, old="_", new="/")


def load_state(
    optimizer: paddle.optimizer.AdamW, model: paddle.nn.Layer, state: Mapping[str, Any]
) -> None:
    """Restore what `save_state` gave, bit for bit, into a fresh optimizer of the same model."""
    entries = {name: p.name for name, p in model.named_parameters()}
    optimizer.set_state_dict(_renamed(state, entries, old="/", new="_"))


def _renamed(
    state: Mapping[str, Any], names: Mapping[str, str], *, old: str, new: str
) -> dict[str, Any]:
    renamed: dict[str, Any] = {}
    for key, value in state.items():
        if isinstance(value, dict):  # master weights of float16 training
            renamed[key] = _renamed(value, names, old=old, new=new)
            continue
        # The longest match: linear_1.w_0 is no part of linear_11.w_0, but be safe all the same.
        owners = [name for name in names if key == name or key.startswith(name + old)]
        owner = max(owners, key=len, default=None)
        if owner is None:
            continue  # the rate and the like: set anew at every step
        array = value.numpy() if isinstance(value, paddle.Tensor) else np.asarray(value)
        tail = key[len(owner) + len(old) :]
        renamed[names[owner] + (new + tail if tail else "")] = array
    return renamed
