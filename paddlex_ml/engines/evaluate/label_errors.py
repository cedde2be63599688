# SPDX-License-Identifier: Apache-2.0
"""Labels that are probably wrong or missing, in val and, if asked for, in train.

val    scores of the model, which has not learned these labels
train  features of the model -> scores by read-outs that did not see the label (out of fold)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import paddle

from paddlex_ml.artifacts.run_folder import EXAMPLE
from paddlex_ml.config.schema import Config
from paddlex_ml.data.annotation import ImageList, MLClsDataset
from paddlex_ml.engines.evaluate import scores as scoring
from paddlex_ml.engines.evaluate.models import EvaluatedModel
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.metrics.label_quality import find_suspects
from paddlex_ml.metrics.out_of_fold import score_out_of_fold
from paddlex_ml.models import zoo
from paddlex_ml.report.content import Suspected


class LabelErrors(NamedTuple):
    """Doubtful labels of one or both lists."""

    suspects: list[Suspected]
    """The worst first."""
    told: dict[str, Any]
    """The result's `label_errors`, without its table."""


def refuse_impossible(config: Config, evaluated: EvaluatedModel) -> None:
    """Raise PaddlexMLError where the labels of train cannot be judged: before the evaluation."""
    if config.Evaluate.label_errors == "all" and evaluated.source is None:
        raise PaddlexMLError(
            "a static folder gives scores alone, and for images that it has learned they prove "
            "nothing: wrong labels in train are found by the features of the weights",
            where=str(evaluated.path),
            fix=f"evaluate the weights (-o Evaluate.weight_path={EXAMPLE.best_model.weights}), "
            "or -o Evaluate.label_errors=val",
        )


def find(
    config: Config, evaluated: EvaluatedModel, dataset: MLClsDataset, scores: np.ndarray
) -> LabelErrors | None:
    """Doubtful labels; None: not asked for. `scores` [N, C] are those of val."""
    if config.Evaluate.label_errors is None:
        return None
    suspects, told = _judge("val", dataset.val, dataset.label_names, scores, "held out")
    lists = {"val": told}
    if config.Evaluate.label_errors == "all":
        features = _extract(config, evaluated, dataset.train)
        outside = score_out_of_fold(features, dataset.train.targets, seed=config.Global.seed)
        more, lists["train"] = _judge(
            "train", dataset.train, dataset.label_names, outside, "out of fold"
        )
        suspects = sorted([*suspects, *more], key=lambda suspect: suspect.quality)
    return LabelErrors(suspects, {"lists": lists})


def _judge(
    name: str, images: ImageList, label_names: list[str], scores: np.ndarray, kind: str
) -> tuple[list[Suspected], dict[str, Any]]:
    suspects = [
        Suspected(
            list_name=name,
            path=images.path(suspect.image),
            shown=images.paths[suspect.image],
            label=label_names[suspect.class_id],
            given=bool(suspect.given),
            score=suspect.score,
            quality=suspect.quality,
        )
        for suspect in find_suspects(scores, images.targets)
    ]
    wrong = sum(suspect.given for suspect in suspects)
    return suspects, {
        "images": len(images),
        "suspected": len(suspects),
        "missing": len(suspects) - wrong,
        "wrong": wrong,
        "scores": kind,
    }


def _extract(config: Config, evaluated: EvaluatedModel, images: ImageList) -> np.ndarray:
    """What the head sees of each image, averaged over the places: float32 [N, D]."""
    kept: list[np.ndarray] = []
    with _watching(evaluated, kept):
        scoring.score(config, images, [evaluated], title="Train list")
    return np.concatenate(kept)


@contextmanager
def _watching(evaluated: EvaluatedModel, kept: list[np.ndarray]) -> Iterator[None]:
    """Add the features of every batch that the model answers meanwhile."""
    assert evaluated.source is not None
    info = evaluated.source.info
    head: Any = getattr(evaluated.source.model, zoo.find(info.model).head.removesuffix("."))

    def keep(_: paddle.nn.Layer, inputs: tuple[paddle.Tensor]) -> None:
        places = head.as_map(inputs[0]).flatten(2)  # [B, D, T]
        kept.append(places.mean(axis=-1).astype("float32").numpy())

    hook = head.register_forward_pre_hook(keep)
    try:
        yield
    finally:
        hook.remove()
