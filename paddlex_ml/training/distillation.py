# SPDX-License-Identifier: Apache-2.0
"""Knowledge distillation: a model learns the scores of a teacher too, for the same images.

Hinton et al. 2015 (arXiv:1503.02531), with one sigmoid for each class in place of the softmax, as
for several labels an image (Yang et al., "Multi-Label Knowledge Distillation", ICCV 2023,
arXiv:2308.06453). Logits x [B, C] of the model, scores of the teacher p [B, C], 0..1:

    q = sigmoid(logit(p) / T)                              what is to be learned
    (1 - w) * loss of the labels + w * T^2 * KL(q || sigmoid(x / T)), summed over images and classes

T is the temperature. T^2 keeps the slope by x in its order of size: T * (sigmoid(x / T) - q). Both
see the same image, after its random changes (Beyer et al., "A Good Teacher Is Patient and
Consistent", CVPR 2022, arXiv:2106.05237). Several teachers: q is the mean of theirs. A teacher has
scores for every class: unknown labels and soft ones are taught as the others are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import paddle
import paddle.nn.functional as F

from paddlex_ml.data.dataset import SampleIndex
from paddlex_ml.evaluation import Network

_CERTAIN = 1e-7
"""Scores of a teacher lie at least so far from 0 and 1, so that they have logits in float32."""


class Teacher:
    """What the images of a batch should score; it learns nothing itself and draws no numbers."""

    def __init__(
        self,
        networks: Sequence[Network],
        digests: Sequence[str] = (),
        *,
        weight: float,
        temperature: float,
        variant: Callable[[SampleIndex], int] | None = None,
    ) -> None:
        """networks: images [B, 3, S, S] -> scores [B, C] of the model's classes, without gradients.

        digests: of the content of the teachers; a resume compares them.
        variant: which of the few forms of an image a draw has, so that what was computed for it can
        be kept; None: random changes make it another image in every epoch.
        """
        self.networks, self.digests = networks, list(digests)
        self.weight, self.temperature = weight, temperature
        self._variant = variant
        self._kept: dict[tuple[int, int], np.ndarray] = {}

    def blend(
        self,
        loss: paddle.Tensor,
        logits: paddle.Tensor,
        images: paddle.Tensor,
        draws: Sequence[SampleIndex],
        *weights: paddle.Tensor,
    ) -> paddle.Tensor:
        """`loss` of the labels and that of the teacher, as the module says; float32, a sum over B.

        logits [B, C] of `images`, which are the `draws`; an image of weight 2 in `weights` [B]
        counts as the same image twice.
        """
        taught = divergence(logits, self.targets(images, draws), self.temperature, *weights)
        return (1 - self.weight) * loss + self.weight * taught

    def targets(self, images: paddle.Tensor, draws: Sequence[SampleIndex]) -> paddle.Tensor:
        """What is to be learned for the images [B, 3, S, S]: q [B, C], above 0 and below 1."""
        if self._variant is None:
            return self._soften(images)
        keys = [(draw.sample, self._variant(draw)) for draw in draws]
        for row, key in enumerate(keys):
            if key not in self._kept:
                # Alone: the last digits depend on the other images of a batch, and after a resume
                # an image meets others when it is scored.
                self._kept[key] = self._soften(images[row : row + 1]).numpy()[0]
        return paddle.to_tensor(np.stack([self._kept[key] for key in keys]))

    def _soften(self, images: paddle.Tensor) -> paddle.Tensor:
        total = paddle.zeros([], "float32")
        with paddle.no_grad():
            for network in self.networks:
                scores = network(images).astype("float32").clip(_CERTAIN, 1 - _CERTAIN)
                logits = scores.log() - (1 - scores).log()
                total = total + F.sigmoid(logits / self.temperature)
        return total / len(self.networks)


def divergence(
    logits: paddle.Tensor,
    targets: paddle.Tensor,
    temperature: float = 1.0,
    weights: paddle.Tensor | None = None,
) -> paddle.Tensor:
    """T^2 * KL(targets || sigmoid(logits / T)), both [B, C], summed over images and classes.

    It is 0 where the scores are equal, and never below but for rounding. targets: above 0 and below
    1, already at the temperature T. `weights` [B]: how much each image counts; None: 1.
    """
    with paddle.amp.auto_cast(enable=False):
        x = logits.astype("float32") / temperature
        own = targets * targets.log() + (1 - targets) * (1 - targets).log()
        cost = own - targets * F.log_sigmoid(x) - (1 - targets) * F.log_sigmoid(-x)
        total: paddle.Tensor = (cost if weights is None else cost * weights.unsqueeze(1)).sum()
        return total * temperature**2
