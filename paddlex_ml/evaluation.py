# SPDX-License-Identifier: Apache-2.0
"""Scores of one or several models over a list of images, in one pass, and their mAP."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import paddle

from paddlex_ml.data.loader import Batch
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.metrics import bootstrap
from paddlex_ml.metrics.average_precision import average_precision, constant_predictor_map
from paddlex_ml.metrics.ties import NOISE
from paddlex_ml.wording import count

# Images [B, 3, S, S] -> scores [B, C], 0..1
Network = Callable[[paddle.Tensor], paddle.Tensor]
# A layer that gives logits, in evaluation mode -> its scores with the weights that it has now
Scoring = Callable[[paddle.nn.Layer], Network]

LEAST_SPREAD = 1e-5
"""Scores of all images that differ by less are told: hardly more than rounding is left of them."""


@dataclass(frozen=True)
class Evaluation:
    """Quality of one model on one list."""

    map: float
    """Mean average precision, 0..1, over the classes that have a positive."""
    per_class: np.ndarray
    """Average precision [C], of the images where the class is known; NaN where none has it."""
    constant: float
    """The mAP of a predictor that gives every image the same scores."""
    outputs: np.ndarray
    """Scores of the network, float32 [N, C], 0..1, in the order of the list."""
    targets: np.ndarray | None = None
    """0, 1 or UNKNOWN (-1), [N, C]."""

    def interval(self, *, rounds: int, seed: int) -> tuple[float, float] | None:
        """95 % interval of `map`, as mode evaluate gives it; None where it is undefined."""
        if self.targets is None:
            return None
        found = bootstrap.intervals(
            self.outputs, self.targets, rounds=rounds, seed=seed, noise=NOISE
        )
        return None if np.isnan(found.map[0]) else found.map


def scoring(model: Callable[[paddle.Tensor], paddle.Tensor]) -> Network:
    """The scores of a model that gives logits, float32, as its exported graph gives them.

    Training and evaluation both rank these: logits of a network that learned nothing differ in
    digits that its scores do not have. Logits that are not finite give NaN.
    """

    def score(images: paddle.Tensor) -> paddle.Tensor:
        logits = model(images).astype("float32")
        return paddle.nn.functional.sigmoid(logits) + 0 * logits  # 0 * inf is NaN

    return score


def evaluate(
    networks: Sequence[Network],
    batches: Iterable[Batch],
    progress: Callable[[int], None] | None = None,
    gather: Callable[[list[np.ndarray]], list[np.ndarray]] = list,
) -> list[Evaluation]:
    """Run all `networks` over `batches` once; `progress` gets the number of batches done.

    gather: where processes share the batches, turns the arrays of this process into those of all.

    Layers must be in evaluation mode. Gradients are off inside and as they were afterwards.
    No batches give no evaluations: []. Raises PaddlexMLError when a network gives NaN.
    """
    outputs: list[list[np.ndarray]] = [[] for _ in networks]
    targets: list[np.ndarray] = []
    with paddle.no_grad():
        for done, (images, present) in enumerate(batches, start=1):
            for kept, network in zip(outputs, networks, strict=True):
                kept.append(network(images).astype("float32").numpy())
            targets.append(present.numpy())
            if progress is not None:
                progress(done)
    targets = gather(targets)
    outputs = [gather(kept) for kept in outputs]
    if not targets:
        return []
    truth = np.concatenate(targets)
    return [_measure(np.concatenate(kept), truth) for kept in outputs]


def _measure(outputs: np.ndarray, targets: np.ndarray) -> Evaluation:
    if not np.isfinite(outputs).all():
        broken = int((~np.isfinite(outputs)).any(axis=1).sum())
        raise PaddlexMLError(
            f"the model gives NaN or infinite scores for {broken} of "
            f"{count(len(outputs), 'image')}",
            where="evaluation",
            fix="its weights are broken: train again with a smaller -o Train.learning_rate",
        )
    per_class = average_precision(outputs, targets, noise=NOISE)
    defined = per_class[~np.isnan(per_class)]
    return Evaluation(
        map=float(defined.mean()) if len(defined) else 0.0,
        per_class=per_class,
        constant=constant_predictor_map(targets),
        outputs=outputs,
        targets=targets,
    )


def is_constant(outputs: np.ndarray) -> bool:
    """Whether a model gives every image the same scores: the training failed or never happened."""
    return len(outputs) > 1 and bool((np.ptp(outputs, axis=0) < LEAST_SPREAD).all())
