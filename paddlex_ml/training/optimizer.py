# SPDX-License-Identifier: Apache-2.0
"""AdamW with a factor of the rate for each parameter, and its state by the model's entry names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import paddle

from paddlex_ml.kernels.updates import FastAdamW

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
_MASTER = "fp32_master_0"  # what Paddle appends to the name of a 16-bit weight for its float32 one


def build_optimizer(
    model: paddle.nn.Layer,
    *,
    weight_decay: float,
    lr_mult: Callable[[str], float] = lambda entry: 1.0,
    clip_norm: float | None = None,
) -> paddle.optimizer.AdamW:
    """AdamW (Loshchilov 2019, arXiv:1711.05101) over the trainable parameters.

    One-dimensional parameters (biases, norms) do not decay. The rate is set before every step
    with `set_lr`; each entry of the state_dict learns at `lr_mult(entry)` times it. Gradients
    whose joint norm exceeds `clip_norm` are scaled down to it, all by one factor. Build it before
    parts of the model are frozen for a while: parameters that are frozen now will never learn.
    """
    trainable = {name: p for name, p in model.named_parameters() if not p.stop_gradient}
    decaying = {p.name for p in trainable.values() if p.ndim != 1}
    # Factors by parameter, not by parameter groups: Paddle clips each group by its own norm.
    for name, parameter in trainable.items():
        parameter.optimize_attr["learning_rate"] = lr_mult(name)
    clip = None if clip_norm is None else paddle.nn.ClipGradByGlobalNorm(clip_norm)
    return FastAdamW(
        learning_rate=0.0,
        beta1=BETA1,
        beta2=BETA2,
        epsilon=EPSILON,
        parameters=list(trainable.values()),
        weight_decay=weight_decay,
        apply_decay_param_fun=decaying.__contains__,
        grad_clip=clip,
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
    """Restore what `save_state` gave, bit for bit, into a fresh optimizer of the same model.

    Parameters without moments in `state` were frozen so far and get those of a first step: Paddle
    makes moments at a parameter's first gradient, but after a restore only from what was restored.
    """
    entries = {name: p.name for name, p in model.named_parameters()}
    parameters: list[Any] = optimizer._parameter_list
    learning = {p.name for p in parameters}
    state = dict(state)
    for name, p in model.named_parameters() if state else ():
        if p.name in learning:
            # Of 16-bit weights the float32 masters have the moments.
            master = f"{_MASTER}_" if p.dtype in (paddle.float16, paddle.bfloat16) else ""
            for key, first in (
                ("moment1_0", np.zeros(p.shape, np.float32)),
                ("moment2_0", np.zeros(p.shape, np.float32)),
                ("beta1_pow_acc_0", np.array([BETA1], np.float32)),
                ("beta2_pow_acc_0", np.array([BETA2], np.float32)),
            ):
                state.setdefault(f"{name}/{master}{key}", first)
    renamed = _renamed(state, entries, old="/", new="_")
    for key, value in renamed.get("master_weights", {}).items():
        # Paddle needs tensors here, and finds their moments by their names.
        weight = renamed["master_weights"][key] = paddle.to_tensor(value)
        weight.name = f"{key}_{_MASTER}"
    optimizer.set_state_dict(renamed)


def _renamed(
    state: Mapping[str, Any], names: Mapping[str, str], *, old: str, new: str
) -> dict[str, Any]:
    renamed: dict[str, Any] = {}
    for key, value in state.items():
        if isinstance(value, dict):  # master weights of float16 training
            renamed[key] = _renamed(value, names, old=old, new=new)
            continue
        # The longest match: the name of one parameter may begin with the name of another.
        owners = [name for name in names if key == name or key.startswith(name + old)]
        owner = max(owners, key=len, default=None)
        if owner is None:
            continue  # the rate and similar values: set at every step
        array = value.numpy() if isinstance(value, paddle.Tensor) else np.asarray(value)
        tail = key[len(owner) + len(old) :]
        renamed[names[owner] + (new + tail if tail else "")] = array
    return renamed
