# SPDX-License-Identifier: Apache-2.0
"""Losses: logits and targets [B, C] in, one float32 number out.

The number is a sum over the samples, so batches that share a step, and processes that share a
training, simply add their gradients. Targets are 0 or 1, between where they are soft or after
`smoothed` and mixup, or UNKNOWN. Everything is computed in float32, also with mixed precision.

Every loss takes `unknown_weight`, what an unknown cell counts as an absent one: at 0 it costs
nothing, and its gradient is exactly 0. None says that no cell is unknown, and nothing is masked.
And `weights` [B], how much each image counts: one of weight 2 as the same image twice. None: 1.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, TypeVar, cast

import numpy as np
import paddle
import paddle.nn.functional as F

from paddlex_ml.data import targets as data_targets
from paddlex_ml.data.targets import Targets
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.wording import count

LossFn: TypeAlias = Callable[..., paddle.Tensor]
"""Logits [B, C], targets [B, C], weights [B] where images have some -> a sum over the batch, so
that batches simply add up."""
_Loss = TypeVar("_Loss", bound=Callable[..., paddle.Tensor])

MOST_WEIGHT = 100.0
"""Largest weight of present labels that `auto` gives: more, for rarer classes, only adds noise."""

_FLOOR = 1e-8  # the published loss stops at log(1e-8); so does this one
_LOG_FLOOR = -18.420680743952367  # log(1e-8)
_TINY = 1e-30  # in place of a weight of 0 where a logarithm or a division needs more
_NOWHERE = -1e9  # logit of a term that a sum of exponentials leaves out; infinity has no gradient


def _in_float32(loss: _Loss) -> _Loss:
    """Compute in float32, whatever the input is: float16 has no logarithm of a small score."""

    @functools.wraps(loss)
    def compute(*tensors: paddle.Tensor, **options: Any) -> paddle.Tensor:
        with paddle.amp.auto_cast(enable=False):
            return loss(*(tensor.astype("float32") for tensor in tensors), **options)

    return cast(_Loss, compute)


@_in_float32
def asymmetric_loss(
    logits: paddle.Tensor,
    targets: paddle.Tensor,
    weights: paddle.Tensor | None = None,
    *,
    gamma_neg: float = 4.0,
    gamma_pos: float = 0.0,
    clip: float = 0.05,
    unknown_weight: float | None = 0.0,
) -> paddle.Tensor:
    """Asymmetric loss for multi-label classification (Ridnik et al. 2021, arXiv:2009.14119).

    Summed over batch AND classes as published: the shipped learning rates belong to a sum.
    `clip` shifts the score of absent classes, so that easy ones cost nothing.

    A target t between 0 and 1 divides the logarithms of both sides, and ONE weight with the power
    gamma_pos * t + gamma_neg * (1 - t) reduces the result. So the slope is zero at the score
    t * (1 + clip), or at `clip` when that is more; a weight for each side would move it far up.
    """
    targets, weight = _split(targets, unknown_weight, weights)
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
        # Weight of every term: a score that is right already counts little. No gradient passes.
        right = (targets * present + (1 - targets) * absent).detach()
        loss = loss * (1 - right) ** (targets * gamma_pos + (1 - targets) * gamma_neg)
    return (loss if weight is None else loss * weight).sum()


@_in_float32
def bce_loss(
    logits: paddle.Tensor,
    targets: paddle.Tensor,
    weights: paddle.Tensor | None = None,
    *,
    pos_weight: paddle.Tensor | None = None,
    unknown_weight: float | None = 0.0,
) -> paddle.Tensor:
    """Binary cross-entropy, summed over batch and classes.

    `pos_weight` [C] multiplies the loss of present labels; None: 1. There is no floor: the slope of
    a confident mistake stays 1.
    """
    targets, weight = _split(targets, unknown_weight, weights)
    present = targets if pos_weight is None else targets * pos_weight
    right = present * F.log_sigmoid(logits) + (1 - targets) * F.log_sigmoid(-logits)
    return -(right if weight is None else right * weight).sum()


@_in_float32
def two_way_loss(
    logits: paddle.Tensor,
    targets: paddle.Tensor,
    weights: paddle.Tensor | None = None,
    *,
    temperature: float = 4.0,
    unknown_weight: float | None = 0.0,
) -> paddle.Tensor:
    """Two-way multi-label loss (Kobayashi, "Two-Way Multi-Label Loss", CVPR 2023).

    Every present label is to have a higher logit than every absent one: among the classes of each
    sample, and among the samples of each class. The cost of one such comparison is

        softplus(logsumexp(x of the absent) + T * logsumexp(-x / T of the present))

    with T = `temperature`: at 1 the lowest present logit dominates, above 1 all of them count.
    Samples without a present label, and classes without one in the batch, are left out; what
    has no absent label costs nothing. The two means are added and multiplied by B, so that the
    result scales as a sum over samples. The samples of a batch are compared with each other: the
    sum over two batches is not the loss of the two as one batch, and a batch of one has nothing to
    compare among its samples. Targets above 0.5 count as present, all other known ones as absent,
    so smoothing changes nothing here. `unknown_weight` multiplies the exponential of a logit.
    """
    present, absent = targets > 0.5, logits
    if unknown_weight is not None:
        unknown = paddle.full_like(logits, _NOWHERE)  # no path back: the slope is exactly 0
        if unknown_weight:
            unknown = logits + math.log(unknown_weight)
        absent = paddle.where(targets < 0, unknown, logits)
    samples = _comparison(logits, absent, present, 1, temperature, weights)
    classes = _comparison(logits, absent, present, 0, temperature, weights)
    images = targets.shape[0] if weights is None else weights.sum()
    total: paddle.Tensor = (samples + classes) * images
    return total


def _comparison(
    logits: paddle.Tensor,
    absent: paddle.Tensor,
    present: paddle.Tensor,
    axis: int,
    temperature: float,
    weights: paddle.Tensor | None,
) -> paddle.Tensor:
    """Mean cost over the rows (axis 1) or columns (axis 0) that have a present label, or 0.

    `absent` are the logits as absent labels are compared. The mean over rows is weighted by
    `weights` [B]; in a column the exponentials of the logits are.
    """
    nowhere, shown = paddle.full_like(logits, _NOWHERE), -logits / temperature
    if weights is not None and axis == 0:
        counts = (weights > 0).unsqueeze(1)
        shift = paddle.where(counts, weights.clip(min=_TINY).log().unsqueeze(1), nowhere)
        present, absent, shown = present & counts, absent + shift, shown + shift
    highest = paddle.where(present, nowhere, absent).logsumexp(axis)
    lowest = paddle.where(present, shown, nowhere).logsumexp(axis) * temperature
    some = present.any(axis)
    # Left out before the softplus: a cost of 1e9 times 0 is 0, but its slope may not be.
    difference = paddle.where(some, highest + lowest, paddle.full_like(highest, _NOWHERE))
    cost = -F.log_sigmoid(-difference)  # softplus, exact for very small costs too
    if weights is not None and axis == 1:
        return (cost * weights).sum() / (some.astype("float32") * weights).sum().clip(min=_TINY)
    return cost.sum() / some.astype("float32").sum().clip(min=1.0)


def smoothed(
    logits: paddle.Tensor,
    targets: paddle.Tensor,
    *weights: paddle.Tensor,
    loss_fn: LossFn,
    smoothing: float,
) -> paddle.Tensor:
    """The loss for targets that are less certain: t becomes t * (1 - smoothing) + smoothing / 2.

    An unknown target stays unknown.
    """
    with paddle.amp.auto_cast(enable=False):
        targets = targets.astype("float32")
        softer = targets * (1 - smoothing) + smoothing / 2
        return loss_fn(logits, paddle.where(targets < 0, targets, softer), *weights)


def entropy_maximised(
    logits: paddle.Tensor,
    targets: paddle.Tensor,
    *weights: paddle.Tensor,
    loss_fn: LossFn,
    alpha: float,
) -> paddle.Tensor:
    """The loss of the known cells, and -alpha * H(p) for each unknown one (Zhou et al. 2022).

    H is the entropy of the score p, in nats ("Acknowledging the Unknown for Multi-label Learning
    with Single Positive Labels", ECCV 2022, arXiv:2203.16219, without its pseudo-labels). The slope
    alpha * p * (1 - p) * logit draws a score to 0.5, and hardly where p is near 0.5, 0 or 1: known
    labels decide there. The result may be negative, at least -alpha * log 2 for an unknown cell.
    """
    known = loss_fn(logits, targets, *weights)
    with paddle.amp.auto_cast(enable=False):
        x = logits.astype("float32")
        information = F.sigmoid(x) * F.log_sigmoid(x) + F.sigmoid(-x) * F.log_sigmoid(-x)
        unknown = (targets < 0).astype("float32")
        for weight in weights:
            unknown = unknown * weight.unsqueeze(1)
        return known + alpha * (information * unknown).sum()


def _split(
    targets: paddle.Tensor, unknown_weight: float | None, weights: paddle.Tensor | None
) -> tuple[paddle.Tensor, paddle.Tensor | None]:
    """Targets with unknown cells as absent ones, and the weight of every cell, [B, C] or [B, 1];
    None: all 1."""
    if unknown_weight is None:
        return targets, None if weights is None else weights.unsqueeze(1)
    unknown = targets < 0
    weight = paddle.where(
        unknown, paddle.full_like(targets, unknown_weight), paddle.ones_like(targets)
    )
    weight = weight if weights is None else weight * weights.unsqueeze(1)
    return targets.clip(min=0.0), weight


def positive_weight(
    setting: list[float] | Literal["auto"] | None, values: Targets
) -> np.ndarray | None:
    """Weight [C] that Train.loss.pos_weight stands for; `values` [N, C] of train.txt.

    `auto` is absent over present images of the class, where it is known, at most MOST_WEIGHT. It is
    1 for a class that no image has, and for one that all images have, which a weight of 0 would
    never teach. Raises PaddlexMLError when a list has not one number per class.
    """
    if setting is None:
        return None
    if setting == "auto":
        counts = data_targets.count(values)
        present, absent = counts.present, counts.absent
        balance: np.ndarray = np.minimum(absent / np.maximum(present, 1), MOST_WEIGHT)
        balance[(present == 0) | (absent == 0)] = 1.0
        return balance.astype(np.float32)
    classes = values.shape[1]
    if len(setting) != classes:
        raise PaddlexMLError(
            f"Train.loss.pos_weight has {len(setting)} numbers, the data set "
            f"{count(classes, 'class', 'classes')}",
            where="Train.loss.pos_weight",
            fix="write one number per line of label.txt, in its order, or "
            "-o Train.loss.pos_weight=auto",
        )
    return np.array(setting, np.float32)
