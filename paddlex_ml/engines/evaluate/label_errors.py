# SPDX-License-Identifier: Apache-2.0
"""Labels that are probably wrong or missing, in val and, on request, in train.

val    scores of the model, which has not learned these labels
train  features of the model -> scores by linear probes that did not see the label (out of fold)
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import paddle

from paddlex_ml.artifacts.evaluate_result import LabelErrorCounts, LabelErrorResult
from paddlex_ml.artifacts.run_folder import EXAMPLE
from paddlex_ml.config.schema import Config
from paddlex_ml.data import targets
from paddlex_ml.data.annotation import ImageList, MLClsDataset
from paddlex_ml.engines.evaluate import files
from paddlex_ml.engines.evaluate.models import EvaluatedModel
from paddlex_ml.engines.evaluate.scores import score
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.metrics.known import UNKNOWN
from paddlex_ml.metrics.label_quality import review
from paddlex_ml.metrics.out_of_fold import score_out_of_fold
from paddlex_ml.models import zoo
from paddlex_ml.progress import named
from paddlex_ml.report.content import SuspectedLabel

logger = logging.getLogger(__name__)


def refuse_impossible(config: Config, evaluated: EvaluatedModel) -> None:
    """Raise PaddlexMLError where the labels of train cannot be searched: before the evaluation."""
    if config.Evaluate.label_errors == "all" and evaluated.source is None:
        raise PaddlexMLError(
            "a static folder gives scores alone, and the model has learned the wrong labels of "
            "train too: they are found by its features, which only weights give",
            where=str(evaluated.path),
            fix=f"evaluate the weights (-o Evaluate.weight_path={EXAMPLE.best_model.weights}), "
            "or -o Evaluate.label_errors=val",
        )


@named("looking for wrong labels")
def find(
    config: Config, evaluated: EvaluatedModel, dataset: MLClsDataset, scores: np.ndarray
) -> tuple[list[SuspectedLabel], LabelErrorResult]:
    """Doubtful labels, the worst first, and their numbers. `scores` [N, C] are those of val."""
    names = dataset.label_names
    suspects, counts = _find_in_list("val", dataset.val, names, scores, "held out")
    lists = {"val": counts}
    if config.Evaluate.label_errors == "all":
        train = dataset.train
        if (soft := train.soft) is not None:  # nobody is certain of them: none can be wrong
            unknown = np.full(len(soft.ids), UNKNOWN, np.int8)
            cells = (soft.images(), soft.ids.astype(np.int64), unknown)
            train = replace(train, values=targets.put(train.values, *cells))
            logger.info("%d labels with soft values are left out of the search", len(soft.ids))
        features = _extract_features(config, evaluated, train)
        train_scores = score_out_of_fold(features, train.targets, seed=config.Global.seed)
        more, lists["train"] = _find_in_list("train", train, names, train_scores, "out of fold")
        suspects = sorted([*suspects, *more], key=lambda suspect: suspect.quality)
    return suspects, LabelErrorResult(lists=lists, csv=files.NAMES.label_errors_csv.as_posix())


def _find_in_list(
    name: str, images: ImageList, label_names: list[str], scores: np.ndarray, kind: str
) -> tuple[list[SuspectedLabel], LabelErrorCounts]:
    found = review(scores, images.targets)
    suspects = [
        SuspectedLabel(
            list_name=name,
            path=images.path(suspect.image),
            shown=images.paths[suspect.image],
            label=label_names[suspect.class_id],
            given=bool(suspect.given),
            score=suspect.score,
            quality=suspect.quality,
            probability=suspect.probability,
        )
        for suspect in found.suspects
    ]
    wrong = sum(suspect.given for suspect in suspects)
    return suspects, LabelErrorCounts(
        images=len(images),
        suspected=len(suspects),
        missing=len(suspects) - wrong,
        wrong=wrong,
        scores=kind,
        likely_true=found.likely_true,
        is_able=found.is_able,
    )


def _extract_features(config: Config, evaluated: EvaluatedModel, images: ImageList) -> np.ndarray:
    """The input of the head for each image, averaged over the positions: float32 [N, D]."""
    assert evaluated.source is not None
    info = evaluated.source.info
    head: Any = getattr(evaluated.source.model, zoo.find(info.model).head.removesuffix("."))
    features: list[np.ndarray] = []

    def keep(_: paddle.nn.Layer, inputs: tuple[paddle.Tensor]) -> None:
        tokens = head.as_map(inputs[0]).flatten(2)  # [B, D, T]
        features.append(tokens.mean(axis=-1).astype("float32").numpy())

    hook = head.register_forward_pre_hook(keep)
    try:
        score(config, images, [evaluated], title="Train list")
    finally:
        hook.remove()
    return np.concatenate(features)
