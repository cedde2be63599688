# SPDX-License-Identifier: Apache-2.0
"""Everything that scores are worth, under the names of evaluate_result.json.

    scores [N, C], targets [N, C], thresholds [C] -> Summary of plain numbers, ready for JSON

N images, C classes. What is undefined is None, and `metrics["undefined"]` says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paddlex_ml.metrics import average_precision, bootstrap, calibration, decisions, ranking
from paddlex_ml.metrics.bootstrap import Intervals
from paddlex_ml.metrics.decisions import Counts

TOP = 3
"""Labels that every image gets for the metrics that need no threshold."""
NAMED = 10
"""Classes that a reason names before it counts the others."""

_NONE_HAS = "no image has a label"
_NONE_GETS = "no score reaches its threshold"
_REASONS = {
    "MultiLabelMAP": _NONE_HAS,
    "MultiLabelMAP_ci95": "too few images have a label: most rounds draw none of them",
    "MultiLabelMAP_11point": _NONE_HAS,
    "constant_predictor": _NONE_HAS,
    "CP": _NONE_GETS,
    "CR": _NONE_HAS,
    "CF1": "it needs both CP and CR",
    "OP": _NONE_GETS,
    "OR": _NONE_HAS,
    "OF1": f"{_NONE_HAS}, and {_NONE_GETS}",
    "macro_f1": _NONE_HAS,
    f"CR_top{TOP}": _NONE_HAS,
    f"CF1_top{TOP}": f"it needs both CP_top{TOP} and CR_top{TOP}",
    f"OR_top{TOP}": _NONE_HAS,
    "coverage_error": _NONE_HAS,
    "ranking_loss": "every image has all labels or none, which leaves no order to be wrong",
    "label_ranking_average_precision": _NONE_HAS,
}


@dataclass(frozen=True)
class Summary:
    """Numbers of one evaluation: float, int, str, None, and lists of them."""

    metrics: dict[str, Any]
    """Of all classes together. "undefined" says why a metric, or a number of some classes, is None,
    and which mean leaves these classes out."""
    per_class: list[dict[str, Any]]
    """One row per class, in the order of the labels."""


def summarise(
    scores: np.ndarray,
    targets: np.ndarray,
    label_names: Sequence[str],
    thresholds: np.ndarray,
    *,
    rounds: int = 0,
    seed: int = 42,
) -> Summary:
    """Measure scores in 0..1, [N, C], against targets [N, C]; labels are given from thresholds [C].

    `rounds` of the bootstrap give the 95 % intervals. Without rounds they are None, which is not
    undefined but not asked for. Raises ValueError for scores outside 0..1.
    """
    decided = decisions.decide(scores, thresholds)
    counts = decisions.count(decided, targets)
    top = decisions.count(decisions.decide_top(scores, TOP), targets)
    sampled = bootstrap.intervals(scores, targets, rounds=rounds, seed=seed) if rounds else None

    columns = {**_areas(scores, targets, sampled), **_decisions(counts, thresholds)}
    error, columns["expected_calibration_error"] = calibration.calibration_errors(scores, targets)
    metrics = {
        **_mean_areas(columns, targets, sampled),
        "images": len(scores),
        **_averages(counts),
        "macro_f1": decisions.average(counts).macro_f1,
        **{f"{name}_top{TOP}": value for name, value in _averages(top).items()},
        **_of_images(scores, targets, decided),
        "expected_calibration_error": error,
    }
    plain = {name: _plain(value) for name, value in metrics.items()}
    plain["undefined_classes"] = _chosen(label_names, counts.positives == 0)
    plain["undefined"] = {
        **_undefined_metrics(plain, asked=rounds > 0),
        **dict(_undefined_columns(columns, top, label_names, asked=rounds > 0)),
    }
    return Summary(plain, _rows(columns, label_names))


def _areas(
    scores: np.ndarray, targets: np.ndarray, sampled: Intervals | None
) -> dict[str, np.ndarray]:
    """Columns of every class: positives and average precision, [C], and its interval, [C, 2]."""
    steps = list(average_precision.descend(scores, targets))
    unknown = np.full((scores.shape[1], 2), np.nan)
    return {
        "positives": (targets > 0.5).sum(axis=0),
        "average_precision": np.array([average_precision.area(each) for each in steps]),
        "average_precision_ci95": unknown if sampled is None else sampled.per_class,
        "average_precision_11point": np.array(
            [average_precision.area_11point(each) for each in steps]
        ),
    }


def _mean_areas(
    columns: Mapping[str, np.ndarray], targets: np.ndarray, sampled: Intervals | None
) -> dict[str, Any]:
    constant = average_precision.constant_predictor_map(targets)  # 0 where nothing is defined
    return {
        "MultiLabelMAP": decisions.mean_defined(columns["average_precision"]),
        "MultiLabelMAP_ci95": np.array((np.nan, np.nan) if sampled is None else sampled.map),
        "MultiLabelMAP_11point": decisions.mean_defined(columns["average_precision_11point"]),
        "constant_predictor": constant if columns["positives"].any() else np.nan,
    }


def _decisions(counts: Counts, thresholds: np.ndarray) -> dict[str, np.ndarray]:
    return {
        # As it was written: a float32 of 0.7 would become 0.699999988.
        "threshold": np.array([float(str(each)) for each in thresholds]),
        "predicted": counts.predicted,
        "precision": counts.precision,
        "recall": counts.recall,
        "f1": counts.f1,
    }


def _averages(counts: Counts) -> dict[str, float]:
    found = decisions.average(counts)
    return {
        "CP": found.class_precision,
        "CR": found.class_recall,
        "CF1": found.class_f1,
        "OP": found.overall_precision,
        "OR": found.overall_recall,
        "OF1": found.overall_f1,
    }


def _of_images(scores: np.ndarray, targets: np.ndarray, decided: np.ndarray) -> dict[str, float]:
    order = ranking.rank(scores, targets)
    return {
        "HammingDistance": decisions.hamming_distance(decided, targets),
        "subset_accuracy": decisions.subset_accuracy(decided, targets),
        "coverage_error": order.coverage_error,
        "ranking_loss": order.ranking_loss,
        "label_ranking_average_precision": order.average_precision,
    }


def _undefined_metrics(metrics: Mapping[str, Any], *, asked: bool) -> dict[str, str]:
    """Why each metric is None; an interval that nobody asked for has no entry."""
    undefined = [name for name, value in metrics.items() if value is None]
    if not asked:
        undefined.remove("MultiLabelMAP_ci95")
    if not metrics["images"]:
        return dict.fromkeys(undefined, "there are no images")
    return {name: _REASONS[name] for name in undefined}


def _undefined_columns(
    columns: Mapping[str, np.ndarray], top: Counts, label_names: Sequence[str], *, asked: bool
) -> Iterator[tuple[str, str]]:
    """Why a column is None for some classes, and which these are."""
    absent, never_given = columns["positives"] == 0, columns["predicted"] == 0
    unsure = np.isnan(columns["average_precision_ci95"]).any(axis=1) & asked
    for name, where, reason in (
        ("average_precision", absent, "no image has {} (left out of MultiLabelMAP)"),
        ("average_precision_ci95", unsure, "most rounds draw no image that has {}"),
        ("average_precision_11point", absent, "no image has {} (left out of its mean)"),
        ("precision", never_given, "no score reaches the threshold of {} (left out of CP)"),
        ("recall", absent, "no image has {} (left out of CR)"),
        ("f1", absent & never_given, "no image has or gets {}"),
        (
            f"precision_top{TOP}",
            top.predicted == 0,
            f"no image has {{}} among its highest {TOP} (left out of CP_top{TOP})",
        ),
    ):
        if where.any():
            yield name, reason.format(_listed(_chosen(label_names, where)))


def _rows(columns: Mapping[str, np.ndarray], label_names: Sequence[str]) -> list[dict[str, Any]]:
    """Columns [C] -> one row per class, of plain numbers."""
    return [
        {"name": name, **{key: _plain(column[i]) for key, column in columns.items()}}
        for i, name in enumerate(label_names)
    ]


def _plain(value: Any) -> Any:
    """Python's own number, or a list of two; None for NaN, which JSON does not know."""
    if np.isnan(value).any():
        return None
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _chosen(label_names: Sequence[str], where: np.ndarray) -> list[str]:
    return [name for name, chosen in zip(label_names, where, strict=True) if chosen]


def _listed(names: Sequence[str]) -> str:
    text = ", ".join(names[:NAMED])
    return f"{text} and {len(names) - NAMED} more" if len(names) > NAMED else text
