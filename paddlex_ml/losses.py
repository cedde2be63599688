# SPDX-License-Identifier: Apache-2.0
"""Losses: logits and targets in, one float32 number out."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F

_FLOOR = 1e-8  # the published loss stops at log(1e-8); so does this one


def asymmetric_loss(
    logits: paddle.Tensor,
    targets: paddle.Tensor,
    *,
    gamma_neg: float = 4.0,
    gamma_pos: float = 0.0,
    clip: float = 0.05,
) -> paddle.Tensor:
    """Asymmetric loss for multi-label classification (Ridnik et al. 2021, arXiv:2009.14119).

    Logits and targets (0 or 1) are [B, C]; the result is a scalar, summed over batch AND classes
    as published: the recipes' learning rates belong to a sum. Computed in float32 whatever the
    logits are. `clip` shifts the score of absent classes, so that easy ones cost nothing.
    """
    logits = logits.astype("float32")
    targets = targets.astype("float32")
    # From the logits, not from log(sigmoid): sigmoid(-100) is 0 in float32 and has no gradient.
    # The floor bends the value back to the published one; inside it the gradient is zero too.
    log_present = F.log_sigmoid(logits).clip(min=_LOG_FLOOR)
    present = F.sigmoid(logits)
    absent = 1 - present
    if clip:
        absent = (absent + clip).clip(max=1.0)
        log_absent = absent.clip(min=_FLOOR).log()
    else:
        log_absent = F.log_sigmoid(-logits).clip(min=_LOG_FLOOR)
    log_right = targets * log_present + (1 - targets) * log_absent
    loss = -log_right
    if gamma_pos or gamma_neg:
        loss = loss * _focus(present, absent, targets, gamma_neg, gamma_pos)
    return loss.sum()


def _focus(
    present: paddle.Tensor,
    absent: paddle.Tensor,
    targets: paddle.Tensor,
    gamma_neg: float,
    gamma_pos: float,
) -> paddle.Tensor:
    """Weight [B, C] of every term: what is right already counts little. No gradient passes."""
    right = (targets * present + (1 - targets) * absent).detach()
    return (1 - right) ** (targets * gamma_pos + (1 - targets) * gamma_neg)


_LOG_FLOOR = -18.420680743952367  # log(1e-8)
