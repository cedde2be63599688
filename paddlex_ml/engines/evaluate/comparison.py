# SPDX-License-Identifier: Apache-2.0
"""Comparison with another evaluation: of a second model, or in a file that an earlier run wrote."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from msgspec.structs import asdict

from paddlex_ml import program, systems
from paddlex_ml.artifacts import evaluate_result
from paddlex_ml.artifacts.evaluate_result import Comparison, Difference, EvaluationResult
from paddlex_ml.artifacts.run_folder import ExportedFiles, RunFolder, find_weights
from paddlex_ml.config.schema import Config
from paddlex_ml.config.validation import override
from paddlex_ml.data import annotation
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.engines import named_paths
from paddlex_ml.engines.evaluate import models
from paddlex_ml.engines.evaluate.models import EvaluatedModel
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.metrics import bootstrap
from paddlex_ml.metrics.measures import Metrics, Summary, summarise
from paddlex_ml.metrics.ties import NOISE
from paddlex_ml.progress import named
from paddlex_ml.wording import literal_path

KEY = named_paths.COMPARED


@dataclass(frozen=True)
class EarlierResult:
    """What an earlier evaluation wrote."""

    path: Path
    result: EvaluationResult


Other: TypeAlias = EvaluatedModel | EarlierResult


def find(config: Config, evaluated: EvaluatedModel) -> Other | None:
    """What `evaluated` is compared with; None where nothing is asked for."""
    text = config.Evaluate.compare_with
    if text is None:
        return None
    if text in ("raw", "ema"):
        return models.load_other_weights(evaluated, "raw" if text == "raw" else "ema", KEY)
    named_paths.refuse_nothing_to_compare(text)
    path = Path(text)
    if path.is_dir() and not ExportedFiles(path).inference_yml.is_file():
        _refuse_not_evaluated(path)
        path = RunFolder(path).result("evaluate")
    if path.suffix == ".json":
        return _read_earlier(path, evaluated.label_names)
    return models.load(config, text, KEY, evaluated.label_names, any_model=True)


def _refuse_not_evaluated(folder: Path) -> None:
    """Raise PaddlexMLError where the folder has trained weights and no evaluation of them."""
    inside = find_weights(folder)
    if inside is None or RunFolder(folder).result("evaluate").is_file():
        return
    fix, saved = override(KEY, str(inside)), RunFolder(folder).config_yaml
    if saved.is_file():
        file = systems.quote(literal_path(saved))
        command = f"{program.command()} -c {file} -o Global.mode=evaluate"
        fix = f"evaluate it first: {command} (or {fix} here)"
    raise PaddlexMLError(
        "the folder holds a training that was not evaluated", where=str(folder), fix=fix
    )


def _read_earlier(path: Path, label_names: list[str]) -> EarlierResult:
    result = evaluate_result.read(path)
    names = [row.name for row in result.per_class]
    if names == label_names:
        return EarlierResult(path, result)
    if len(names) != len(label_names):
        difference = f"{len(names)} of them, the model has {len(label_names)}"
    else:
        pairs = enumerate(zip(names, label_names, strict=True))
        i, (there, here) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
        difference = f"class {i} is {there!r} there and {here!r} here"
    raise PaddlexMLError(
        f"the evaluation to compare with has other classes: {difference}",
        where=str(path),
        fix=f"compare evaluations of the same data set, or -o {KEY}=null",
    )


@named("comparing the two models")
def compare(
    config: Config,
    evaluated: EvaluatedModel,
    other: Other,
    summary: Summary,
    both: tuple[np.ndarray, np.ndarray | None],
    images: ImageList,
) -> Comparison:
    """Compare measures and classes, with an interval of the difference in mAP.

    summary: of the evaluated model. both: the scores [N, C] of the evaluated model and of the other
    one; None where the other one is an EarlierResult.
    """
    rounds, seed = config.Evaluate.bootstrap, config.Global.seed
    scores, other_scores = both
    interval = None
    if isinstance(other, EarlierResult):
        shown, other_metrics, other_rows = (
            str(other.path),
            other.result.metrics,
            other.result.per_class,
        )
        same_images = other.result.val_digest == annotation.digest(images)
    else:
        assert other_scores is not None
        in_use = models.resolve_thresholds(config, other)
        measured = summarise(other_scores, images.targets, other.label_names, in_use)
        shown, other_metrics, other_rows = other.shown, measured.metrics, measured.per_class
        same_images = True
        if rounds:
            low, high = bootstrap.difference(
                scores, other_scores, images.targets, rounds=rounds, seed=seed, noise=NOISE
            )
            interval = None if math.isnan(low) else (low, high)
    return Comparison(
        other=shown,
        same_images=same_images,
        MultiLabelMAP_difference_ci95=interval,
        metrics=_compare_metrics(summary.metrics, other_metrics),
        per_class=[
            _difference(row.name, row.average_precision, other_row.average_precision)
            for row, other_row in zip(summary.per_class, other_rows, strict=True)
        ],
        this=evaluated.shown,
    )


def _compare_metrics(this: Metrics, other: Metrics) -> list[Difference]:
    """Every measure that is a number in both."""
    others = asdict(other)
    return [
        _difference(name, value, others[name])
        for name, value in asdict(this).items()
        if name not in ("images", "constant_predictor")
        and isinstance(value, float)
        and isinstance(others.get(name), float)
    ]


def _difference(name: str, this: float | None, other: float | None) -> Difference:
    difference = None if this is None or other is None else this - other
    return Difference(name=name, this=this, other=other, difference=difference)
