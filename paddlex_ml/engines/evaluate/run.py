# SPDX-License-Identifier: Apache-2.0
"""Mode evaluate: weights or a static folder, and val.txt -> the quality of the model.

model + images -> scores -> metrics, thresholds, comparison, doubtful labels -> files
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from paddlex_ml import devices
from paddlex_ml.artifacts import inference_yml, run_lock
from paddlex_ml.artifacts.evaluate_result import (
    FORMAT_VERSION,
    EvaluationResult,
    TunedResult,
)
from paddlex_ml.config.schema import Config
from paddlex_ml.data import annotation
from paddlex_ml.data.annotation import MLClsDataset
from paddlex_ml.engines import tracked_run
from paddlex_ml.engines.evaluate import comparison, files, label_errors, log, models, thresholds
from paddlex_ml.engines.evaluate.models import EvaluatedModel
from paddlex_ml.engines.evaluate.scores import score_both
from paddlex_ml.metrics.measures import ClassMeasures, summarise
from paddlex_ml.metrics.threshold_search import TunedThresholds
from paddlex_ml.progress import named
from paddlex_ml.tracking import tracker

_KEY = "Evaluate.weight_path"

logger = logging.getLogger(__name__)


def run(config: Config) -> EvaluationResult:
    """Evaluate on val.txt; returns the content of evaluate_result.json."""
    tracker.require(tracked_run.of_evaluation(config))
    result = evaluate(config)
    tracked_run.upload_evaluation(config, result)
    return result


def evaluate(config: Config) -> EvaluationResult:
    """The evaluation itself, and its files."""
    wanted, seed = config.Evaluate, config.Global.seed
    devices.select(config.Global.device)
    dataset = _read_lists(config)
    val, names = dataset.val, dataset.label_names
    # Whatever can be refused is refused before the images are scored.
    evaluated = models.load(config, wanted.weight_path, _KEY, names)
    label_errors.refuse_impossible(config, evaluated)
    in_use = models.resolve_thresholds(config, evaluated)
    place = models.tell_thresholds(config, evaluated, in_use)
    save_to = models.find_exports(evaluated) if wanted.save_threshold else []
    other = comparison.find(config, evaluated)
    files.make_folder(config)
    scores, theirs = score_both(config, val, evaluated, other)
    with named("computing measures and their intervals"):
        summary = summarise(scores, val.targets, names, in_use, rounds=wanted.bootstrap, seed=seed)
    log.log_classes(summary, rounds=wanted.bootstrap)
    tuned, tuned_result, per_class = _tune(
        config, evaluated, (scores, val.targets), (in_use, summary.per_class), save_to
    )
    compared = suspects = doubtful = None
    if other is not None:
        compared = comparison.compare(config, evaluated, other, summary, (scores, theirs), val)
        log.log_comparison(compared)
    if wanted.label_errors is not None:
        suspects, doubtful = label_errors.find(config, evaluated, dataset, scores)
        log.log_label_errors(doubtful)
    result = EvaluationResult(
        format_version=FORMAT_VERSION,
        done_flag=True,
        weight_path=str(evaluated.path),
        val_digest=annotation.digest(val),
        metrics=summary.metrics,
        per_class=per_class,
        unknown_labels=summary.unknown,
        thresholds=tuned_result,
        label_errors=doubtful,
        comparison=compared,
        per_class_csv=files.NAMES.per_class_csv.as_posix(),
        report=files.NAMES.report.as_posix() if wanted.report else None,
        run=evaluated.made_by,
        better_than_guessing=summary.metrics.better_than_guessing,
        thresholds_from=place,
        epoch=evaluated.epoch,
    )
    files.write(config, result, dataset, scores, suspects or [], evaluated.precision)
    if tuned is not None and tuned_result is not None and tuned_result.saved:
        _save_thresholds(tuned, tuned_result.saved)  # last: a run that fails has changed no model
    return result


def _tune(
    config: Config,
    evaluated: EvaluatedModel,
    measured: tuple[np.ndarray, np.ndarray],
    before: tuple[np.ndarray, list[ClassMeasures]],
    save_to: list[Path],
) -> tuple[TunedThresholds | None, TunedResult | None, list[ClassMeasures]]:
    """Tune the thresholds in use [C], `before`, whose rows come with it, where that is asked for.

    measured: scores and targets [N, C].
    """
    if config.Evaluate.tune_threshold is None:
        return None, None, before[1]
    lacking = models.find_lacking(config, evaluated, save_to)
    tuned, result, rows = thresholds.tune(
        config.Evaluate, *measured, *before,
        seed=config.Global.seed, save_to=save_to, lacking=lacking,
    )  # fmt: skip
    log.log_thresholds(result)
    return tuned, result, rows


def _read_lists(config: Config) -> MLClsDataset:
    assert config.Global.dataset_dir is not None  # the configuration refuses it
    lists = ("train", "val") if config.Evaluate.label_errors == "all" else ("val",)
    soft = config.Train.soft_labels
    return annotation.read(config.Global.dataset_dir, lists=lists, soft_labels=soft)


def _save_thresholds(tuned: TunedThresholds, paths: Iterable[str]) -> None:
    for path in map(Path, paths):
        copy = inference_yml.set_thresholds(path, tuned.thresholds.tolist(), tuned.shared)
        logger.info("thresholds -> %s%s", path, f" (before: {copy})" if copy else "")
        run_lock.warn_of_training(path.parent)
