# SPDX-License-Identifier: Apache-2.0
"""Scores of one or several models over a list of images, in one pass, and their mAP."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import paddle

from paddlex_ml.data.loader import Batch
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.metrics.average_precision import average_precision, constant_predictor_map

# Images [B, 3, S, S] -> logits or scores [B, C]
Network = Callable[[paddle.Tensor], paddle.Tensor]


@dataclass(frozen=True)
class Evaluation:
    """Quality of one model on one list."""

    map: float
    """Mean average precision, 0..1, over the classes that have a positive."""
    per_class: np.ndarray
    """Average precision [C]; NaN where no image has the class."""
    constant: float
    """The mAP of a predictor that gives every image the same scores."""
    outputs: np.ndarray
    """Outputs of the network, float32 [N, C], in the order of the list."""


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
            f"the model gives NaN or infinite scores for {broken} of {len(outputs)} images",
            where="evaluation",
            fix="its weights are broken: train again with a smaller -o Train.learning_rate",
        )
    per_class = average_precision(outputs, targets)
    defined = per_class[~np.isnan(per_class)]
    return Evaluation(
        map=float(defined.mean()) if len(defined) else 0.0,
        per_class=per_class,
        constant=constant_predictor_map(targets),
        outputs=outputs,
    )


def is_constant(outputs: np.ndarray) -> bool:
    """Whether a model gives every image the same scores: the training failed or never happened."""
    return len(outputs) > 1 and bool((np.ptp(outputs, axis=0) < 1e-6).all())
