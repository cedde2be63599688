# SPDX-License-Identifier: Apache-2.0
"""Mode evaluate: weights or a static folder, and val.txt -> what the model can do, class by class.

model + images -> scores -> metrics, thresholds, comparison, doubtful labels -> files
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np

from paddlex_ml import devices
from paddlex_ml.artifacts import inference_yml
from paddlex_ml.config.schema import Config
from paddlex_ml.data import annotation
from paddlex_ml.data.annotation import ImageList, MLClsDataset
from paddlex_ml.engines.evaluate import (
    comparison,
    files,
    label_errors,
    log,
    models,
    thresholds,
)
from paddlex_ml.engines.evaluate import (
    scores as scoring,
)
from paddlex_ml.engines.evaluate.comparison import Other
from paddlex_ml.engines.evaluate.models import EvaluatedModel
from paddlex_ml.metrics.measures import summarise
from paddlex_ml.metrics.threshold_search import Tuned

_KEY = "Evaluate.weight_path"

logger = logging.getLogger(__name__)


def run(config: Config) -> dict[str, Any]:
    """Evaluate on val.txt; returns the content of evaluate_result.json."""
    devices.select(config.Global.device)
    dataset = _read_lists(config)
    evaluated = models.load(config, config.Evaluate.weight_path, _KEY)
    models.refuse_other_classes(evaluated, dataset.label_names, _KEY)
    label_errors.refuse_impossible(config, evaluated)
    thresholds_in_use = models.find_thresholds(config, evaluated)
    places = models.find_descriptions(evaluated) if config.Evaluate.save_threshold else []
    other = comparison.find(config, evaluated)
    files.open_folder(config)

    scores, other_scores = _score(config, dataset.val, evaluated, other)
    result = _judge(config, dataset, evaluated, scores, thresholds_in_use)
    log.tell_classes(result)
    tuned = None
    if config.Evaluate.tune_threshold is not None:
        tuned = _tune(config, dataset.val, scores, thresholds_in_use, result)
        result["thresholds"]["saved"] = [str(path) for path in places]
        log.tell_thresholds(result["thresholds"])
    if other is not None:
        both = scores, other_scores
        result["comparison"] = comparison.compare(config, result, other, both, dataset.val)
        result["comparison"]["this"] = evaluated.shown
        log.tell_comparison(result["comparison"])
    found = label_errors.find(config, evaluated, dataset, scores)
    if found is not None:
        result["label_errors"] = found.told
        log.tell_label_errors(found.told)
    suspects = None if found is None else found.suspects
    files.write(config, result, dataset, scores, suspects)
    if tuned is not None:
        _save(tuned, places)  # last: a run that fails has changed no model
    return result


def _read_lists(config: Config) -> MLClsDataset:
    assert config.Global.dataset_dir is not None  # the configuration refuses it
    lists = ("train", "val") if config.Evaluate.label_errors == "all" else ("val",)
    return annotation.read(config.Global.dataset_dir, lists=lists)


def _score(
    config: Config, images: ImageList, evaluated: EvaluatedModel, other: Other | None
) -> tuple[np.ndarray, np.ndarray | None]:
    if not isinstance(other, EvaluatedModel):
        return scoring.score(config, images, [evaluated])[0], None
    if other.preprocess == evaluated.preprocess:
        scores, others = scoring.score(config, images, [evaluated, other])
        return scores, others
    scores, others = (scoring.score(config, images, [each])[0] for each in (evaluated, other))
    return scores, others


def _judge(
    config: Config,
    dataset: MLClsDataset,
    evaluated: EvaluatedModel,
    scores: np.ndarray,
    thresholds_in_use: np.ndarray,
) -> dict[str, Any]:
    found = summarise(
        scores,
        dataset.val.targets,
        dataset.label_names,
        thresholds_in_use,
        rounds=config.Evaluate.bootstrap,
        seed=config.Global.seed,
    )
    return {
        "done_flag": True,
        "weight_path": str(evaluated.path),
        "val_digest": _digest(dataset.val),
        "metrics": found.metrics,
        "per_class": found.per_class,
        "thresholds": None,
        "label_errors": None,
        "comparison": None,
    }


def _tune(
    config: Config,
    images: ImageList,
    scores: np.ndarray,
    thresholds_in_use: np.ndarray,
    result: dict[str, Any],
) -> Tuned:
    """Tune thresholds; the result tells what they are worth, in all and class by class."""
    names = [row["name"] for row in result["per_class"]]
    tuned, result["thresholds"], rows = thresholds.tune(
        config.Evaluate, scores, images.targets, thresholds_in_use, names, seed=config.Global.seed
    )
    for row, more in zip(result["per_class"], rows, strict=True):
        row["tuned"] = more
    return tuned


def _save(tuned: Tuned, places: list[Path]) -> None:
    for path in places:
        copy = inference_yml.set_thresholds(path, tuned.thresholds.tolist(), tuned.shared)
        logger.info("thresholds -> %s%s", path, f" (before: {copy})" if copy else "")


def _digest(images: ImageList) -> str:
    """Tells whether two evaluations saw the same list: its images, labels and their order."""
    text = "\0".join(images.paths).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text + images.targets.tobytes()).hexdigest()
