# SPDX-License-Identifier: Apache-2.0
"""Regularised online label estimation (ROLE): unknown labels are estimated while the model trains.

Cole et al., "Multi-Label Learning from Single Positive Labels", CVPR 2021, arXiv:2106.09708. N
images, C classes. A table of logits [N, C], one row for each image of train.txt, holds the
estimated labels y = sigmoid(table). Model (scores p) and table learn together, each from the other:

    (L(p | y) + L(y | p)) / 2,    L(p | y) = BCE(p, y as it is) + BCE of the known cells + R(p)
    R(p) = ((mean over the batch of the labels an image shows, the sum of its p) - k)^2 / C^2

Known cells of y are 1 or 0 and never change; the paper knows present cells alone. The means over B
images and C classes are sums here, as in `losses`, so that R is multiplied by B * C. It compares
the images of one batch: two batches are not one of twice the size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import paddle
import paddle.nn.functional as F

from paddlex_ml.data.dataset import SampleIndex
from paddlex_ml.distributed.group import ProcessGroup

RATE = 10.0
"""The table learns at this multiple of the rate of the model, as in the paper."""
BYTES = 8
"""Of a cell in memory and in a checkpoint: the logit and its second moment, float32."""
_SPREAD = math.log(0.6 / 0.4)  # the first estimates lie between 0.4 and 0.6
_BETA2, _EPSILON = 0.999, 1e-8


class _Seen(NamedTuple):
    """A batch of a step, for the update of the table."""

    rows: np.ndarray
    logits: paddle.Tensor
    targets: paddle.Tensor
    weights: paddle.Tensor | None


class LabelEstimates:
    """The table of estimated labels, and its optimizer: Adam by rows.

    A row changes only in steps that draw its image. Its second moment fades with the steps between,
    as Adam's does. The first moment, which Adam would spread over the next ten steps, is applied at
    once: it has faded before the image is drawn again. All ranks of a process group hold the same
    table. It lies in the memory of the machine, not of the GPU.
    """

    def __init__(self, images: int, classes: int, *, labels: float, seed: int) -> None:
        """`labels` is k, the number of labels that an image is expected to show."""
        rng = np.random.default_rng([seed, images, classes])
        self.labels = labels
        self.logits = rng.random((images, classes), np.float32)
        self.logits *= 2 * _SPREAD
        self.logits -= _SPREAD
        self.squares = np.zeros((images, classes), np.float32)
        """Second moment of each cell's gradient, as of the step that drew its image last."""
        self.drawn = np.zeros(images, np.int64)
        """Number of that step, from 1."""
        self.updates = 0
        self._seen: list[_Seen] = []

    def loss(
        self,
        logits: paddle.Tensor,
        targets: paddle.Tensor,
        draws: Sequence[SampleIndex],
        weights: paddle.Tensor | None = None,
    ) -> paddle.Tensor:
        """What the unknown cells cost the model, and half of R(p); no known cell but in R.

        Logits and targets [B, C] of the images `draws`; the batch waits for `update`. An image of
        weight 2 in `weights` [B] counts as the same image twice; None: each counts once.
        """
        rows = np.array([draw.sample for draw in draws], np.int64)
        with paddle.amp.auto_cast(enable=False):
            x = logits.astype("float32")
            self._seen.append(_Seen(rows, x.detach(), targets, weights))
            estimated = paddle.to_tensor(_sigmoid(self.logits[rows]))
            right = estimated * F.log_sigmoid(x) + (1 - estimated) * F.log_sigmoid(-x)
            unknown = (targets < 0).astype("float32")
            counts = F.sigmoid(x).sum(axis=1)
            images = float(len(rows))
            if weights is None:
                excess = counts.mean() - self.labels
            else:
                images, unknown = float(weights.sum()), unknown * weights.unsqueeze(1)
                excess = (counts * weights).sum() / max(images, _EPSILON) - self.labels
            balance = excess * excess * (images / targets.shape[1])
            loss: paddle.Tensor = (balance - (right * unknown).sum()) / 2
            return loss

    def update(self, rate: float, group: ProcessGroup) -> None:
        """One step of the rows whose images the batches since the last one had.

        `rate` is that of the model. An image that was drawn twice has the sum of both gradients,
        whichever rank drew it.
        """
        own = []
        for rows, logits, targets, weights in self._seen:
            scores = _sigmoid(logits.numpy())
            counts = None if weights is None else weights.numpy()
            slope = gradient(self.logits[rows], scores, targets.numpy(), self.labels, counts)
            own.append((rows, slope))
        self._seen.clear()
        batches = group.all_gather(own)
        self.updates += 1
        if not batches:
            return
        drawn = np.concatenate([rows for rows, _ in batches])
        order = np.argsort(drawn, kind="stable")
        rows, starts = np.unique(drawn[order], return_index=True)
        total = np.add.reduceat(np.concatenate([slope for _, slope in batches])[order], starts)
        faded = _BETA2 ** (self.updates - self.drawn[rows]).astype(np.float32)
        squares = self.squares[rows] * faded[:, None] + np.float32(1 - _BETA2) * total**2
        unbiased = np.sqrt(squares / np.float32(1 - _BETA2**self.updates))
        self.logits[rows] -= np.float32(RATE * rate) * total / (unbiased + np.float32(_EPSILON))
        self.squares[rows], self.drawn[rows] = squares, self.updates

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs: the arrays themselves, so save them before the next step."""
        arrays = {"logits": self.logits, "squares": self.squares, "drawn": self.drawn}
        return {**arrays, "updates": self.updates}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave. Raises KeyError or ValueError for anything else."""
        updates = state["updates"]
        if not isinstance(updates, int) or not 0 <= updates < 1 << 50:
            raise ValueError("the steps of the estimated labels are no number")
        for name in ("logits", "squares", "drawn"):
            found, own = state[name], getattr(self, name)
            if not isinstance(found, np.ndarray) or (found.shape, found.dtype) != (
                own.shape,
                own.dtype,
            ):
                raise ValueError(f"the {name} of the estimated labels do not fit train.txt")
            if not np.isfinite(found).all() or (name != "logits" and (found < 0).any()):
                raise ValueError(f"the {name} of the estimated labels are not finite")
        if (state["drawn"] > updates).any():
            raise ValueError("a row of the estimated labels is ahead of its steps")
        for name in ("logits", "squares", "drawn"):  # arrays of a file cannot be written to
            np.copyto(getattr(self, name), state[name])
        self.updates = updates


def gradient(
    logits: np.ndarray,
    scores: np.ndarray,
    targets: np.ndarray,
    labels: float,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Slope of the cost by the logits of the table, all [B, C]: exactly 0 in known cells.

    `weights` [B] as in `LabelEstimates.loss`.
    """
    unknown = targets < 0
    estimated = np.where(unknown, _sigmoid(logits), targets)
    counts = estimated.sum(axis=1)
    mean = counts.mean() if weights is None else counts @ weights / max(weights.sum(), _EPSILON)
    excess = mean - labels
    slope = (estimated - scores) / 2
    slope += excess / logits.shape[1] * estimated * (1 - estimated)
    slope = slope if weights is None else slope * weights[:, None]
    return np.where(unknown, slope, 0.0).astype(np.float32)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    """Sigmoid [...]; beyond logits of 80 it no longer changes, where float32 would overflow."""
    return np.asarray(1 / (1 + np.exp(-logits.clip(-80, 80))))
