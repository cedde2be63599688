# SPDX-License-Identifier: Apache-2.0
"""An evaluation beside another one: of a second model, or of a file that an earlier run wrote."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from paddlex_ml.artifacts.run_folder import ExportedFiles, RunFolder
from paddlex_ml.config.schema import Config
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.engines.evaluate import models
from paddlex_ml.engines.evaluate.models import EvaluatedModel
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.metrics import bootstrap
from paddlex_ml.metrics.measures import summarise

KEY = "Evaluate.compare_with"


@dataclass(frozen=True)
class Recorded:
    """What an earlier evaluation wrote."""

    path: Path
    result: Mapping[str, Any]


Other: TypeAlias = EvaluatedModel | Recorded


def find(config: Config, evaluated: EvaluatedModel) -> Other | None:
    """What `evaluated` is compared with; None where nothing is asked for."""
    text = config.Evaluate.compare_with
    if text is None:
        return None
    if text in ("raw", "ema"):
        return models.load_other_weights(evaluated, "raw" if text == "raw" else "ema", KEY)
    path = _find_result(Path(text))
    if path is None:
        other = models.load(config, text, KEY, any_model=True)
        models.refuse_other_classes(other, evaluated.label_names, KEY)
        return other
    return Recorded(
        path, _read(path, evaluated.label_names, RunFolder(config.Global.output).result("evaluate"))
    )


def compare(
    config: Config,
    result: Mapping[str, Any],
    other: Other,
    both: tuple[np.ndarray, np.ndarray | None],
    images: ImageList,
) -> dict[str, Any]:
    """The result's `comparison`: measures, classes, and an interval of the difference in mAP.

    both: the scores [N, C] of the model judged and of the other one; None where that is Recorded.
    """
    rounds, seed = config.Evaluate.bootstrap, config.Global.seed
    scores, other_scores = both
    between = None
    if isinstance(other, Recorded):
        beside, same = other.result, other.result.get("val_digest") == result["val_digest"]
    else:
        assert other_scores is not None
        thresholds_in_use = models.find_thresholds(config, other)
        found = summarise(other_scores, images.targets, other.label_names, thresholds_in_use)
        beside, same = {"metrics": found.metrics, "per_class": found.per_class}, True
        if rounds:
            low, high = bootstrap.difference(
                scores, other_scores, images.targets, rounds=rounds, seed=seed
            )
            between = None if math.isnan(low) else [low, high]
    return {
        "with": str(other.path) if isinstance(other, Recorded) else other.shown,
        "same_images": same,
        "MultiLabelMAP_difference_ci95": between,
        "metrics": _compare_metrics(result["metrics"], beside["metrics"]),
        "per_class": [
            _difference(row["name"], row["average_precision"], twin["average_precision"])
            for row, twin in zip(result["per_class"], beside["per_class"], strict=True)
        ],
    }


def _compare_metrics(this: Mapping[str, Any], other: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every measure that is a number in both."""
    return [
        _difference(name, value, other[name])
        for name, value in this.items()
        if name not in ("images", "constant_predictor") and _is_number(value, other.get(name))
    ]


def _find_result(path: Path) -> Path | None:
    """The file of an earlier evaluation that the user means: itself, or its folder."""
    if path.suffix == ".json":
        return path
    is_graph = ExportedFiles(path).inference_yml.is_file()
    return RunFolder(path).result("evaluate") if path.is_dir() and not is_graph else None


def _read(path: Path, label_names: list[str], own: Path) -> Mapping[str, Any]:
    if path.absolute() == own.absolute():
        raise PaddlexMLError(
            "this evaluation writes its own result there: it cannot be compared with the last one",
            where=KEY,
            fix="write into another folder: -o Global.output=..., with -o Evaluate.weight_path=...",
        )
    fix = "name the evaluate_result.json of an evaluation, its folder, or a weight file"
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        told = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise PaddlexMLError(
            f"the evaluation to compare with cannot be read: {told}", where=str(path), fix=fix
        ) from error
    if not _is_evaluation(result):
        raise PaddlexMLError("this is not the result of an evaluation", where=str(path), fix=fix)
    names = [row["name"] for row in result["per_class"]]
    if names != label_names:
        raise PaddlexMLError(
            f"the evaluation to compare with has other classes: {_first_other(names, label_names)}",
            where=str(path),
            fix=f"compare evaluations of the same data set, or -o {KEY}=null",
        )
    return dict(result)


def _is_evaluation(result: Any) -> bool:
    if not isinstance(result, dict) or not isinstance(result.get("metrics"), dict):
        return False
    rows = result.get("per_class")
    return isinstance(rows, list) and all(
        isinstance(row, dict)
        and isinstance(row.get("name"), str)
        and "average_precision" in row
        and (row["average_precision"] is None or _is_number(row["average_precision"]))
        for row in rows
    )


def _first_other(names: list[str], wanted: list[str]) -> str:
    if len(names) != len(wanted):
        return f"{len(names)} of them, the model has {len(wanted)}"
    pairs = enumerate(zip(names, wanted, strict=True))
    return next(f"class {i} is {a!r} there and {b!r} here" for i, (a, b) in pairs if a != b)


def _difference(name: str, this: float | None, other: float | None) -> dict[str, Any]:
    difference = None if this is None or other is None else this - other
    return {"name": name, "this": this, "other": other, "difference": difference}


def _is_number(*values: Any) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
