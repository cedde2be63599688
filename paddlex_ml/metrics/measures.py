# SPDX-License-Identifier: Apache-2.0
"""All measures of scores, under their names in evaluate_result.json.

    scores [N, C], targets [N, C], thresholds [C] -> Summary of plain numbers, ready for JSON

N images, C classes. An undefined measure is None, and `Metrics.undefined` holds the reason. All of
them count known cells only (`metrics.known`): the score of an unknown one changes no measure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec
import numpy as np

from paddlex_ml.metrics import average_precision, bootstrap, calibration, decisions, ranking
from paddlex_ml.metrics.bootstrap import Intervals
from paddlex_ml.metrics.decisions import Counts
from paddlex_ml.metrics.known import has_unknown, is_known
from paddlex_ml.metrics.ties import NOISE
from paddlex_ml.wording import first_names

TOP = 3
"""Labels that every image gets for the metrics that need no threshold."""

Interval: TypeAlias = tuple[float, float]
"""The ends of a 95 % interval, the lower one first."""

_NONE_HAS = "no image has a label"
_NONE_GETS = "no score reaches its threshold{where}"
_NO_IMAGE = "no image has {}"
_NOBODY = "nobody has looked for {}"
_NONE_KNOWN = "nobody has looked for any label"
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
    "ranking_loss": "every image has all labels or none, so there is no order to judge",
    "label_ranking_average_precision": _NONE_HAS,
}
_COLUMN_REASONS = {
    "average_precision": (_NO_IMAGE, " (left out of MultiLabelMAP)"),
    "average_precision_ci95": ("most rounds draw no image that has {}", ""),
    "average_precision_11point": (_NO_IMAGE, " (left out of its mean)"),
    "precision": ("no score reaches the threshold of {}{where}", " (left out of CP)"),
    "recall": (_NO_IMAGE, " (left out of CR)"),
    "f1": ("no image has or gets {}", ""),
    f"precision_top{TOP}": (
        f"no image has {{}} among its highest {TOP}",
        f" (left out of CP_top{TOP})",
    ),
    "class_calibration_error": (_NO_IMAGE, ""),
}
"""Why a column is undefined for some classes, and what this changes."""


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """Measures of all classes together: 0..1 except `coverage_error`, None where undefined.

    A measure that is added later needs the default None: results of before must stay readable.
    """

    MultiLabelMAP: float | None
    MultiLabelMAP_ci95: Interval | None
    MultiLabelMAP_11point: float | None
    constant_predictor: float | None
    images: int
    CP: float | None
    CR: float | None
    CF1: float | None
    OP: float | None
    OR: float | None
    OF1: float | None
    macro_f1: float | None
    CP_top3: float | None
    CR_top3: float | None
    CF1_top3: float | None
    OP_top3: float | None
    OR_top3: float | None
    OF1_top3: float | None
    HammingDistance: float | None
    subset_accuracy: float | None
    coverage_error: float | None
    ranking_loss: float | None
    label_ranking_average_precision: float | None
    expected_calibration_error: float | None
    undefined_classes: list[str]
    """Names of the classes that no image has, as far as is known."""
    undefined: dict[str, str]
    """Why a metric, or a number of some classes, is None, and which mean leaves them out."""

    @property
    def better_than_guessing(self) -> bool | None:
        """Whether the mAP is above that of the constant predictor by more than chance."""
        if self.MultiLabelMAP is None or self.constant_predictor is None:
            return None
        interval = self.MultiLabelMAP_ci95
        return bootstrap.beats_guessing(self.MultiLabelMAP, interval, self.constant_predictor)


class TunedMeasures(msgspec.Struct, frozen=True, kw_only=True):
    """A class at its tuned threshold, on the images that it was tuned on."""

    threshold: float
    precision: float | None
    recall: float | None
    f1: float | None


class ClassMeasures(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Measures of one class: 0..1 or None where undefined, and numbers of images."""

    name: str
    positives: int
    """Images that have the label."""
    negatives: int | None = None
    """Images that are known not to have it; None, and not in the file, in results of before. Where
    it is 0, the average precision of a class with a positive is 1 whatever the scores are."""
    average_precision: float | None
    average_precision_ci95: Interval | None
    average_precision_11point: float | None
    threshold: float
    predicted: int
    """Images that get the label, of those where it is known."""
    precision: float | None
    recall: float | None
    f1: float | None
    expected_calibration_error: float | None
    tuned: TunedMeasures | None = None
    """None, and not in the file, where thresholds were not tuned."""


@dataclass(frozen=True)
class Summary:
    """All measures of one evaluation."""

    metrics: Metrics
    per_class: list[ClassMeasures]
    """One row per class, in the order of the labels."""

    @property
    def unknown(self) -> int:
        """Labels that nobody has looked for, of all images and classes."""
        known = sum(row.positives + (row.negatives or 0) for row in self.per_class)
        return self.metrics.images * len(self.per_class) - known


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

    `rounds` of the bootstrap give the 95 % intervals. Without rounds these are None and count as
    not requested, not as undefined. Raises ValueError for scores outside 0..1.
    """
    decided = decisions.decide(scores, thresholds)
    counts = decisions.count(decided, targets)
    ranked = np.where(is_known(targets), scores, -np.inf) if has_unknown(targets) else scores
    top = decisions.count(decisions.decide_top(ranked, TOP), targets)
    sampled = None
    if rounds:
        sampled = bootstrap.intervals(scores, targets, rounds=rounds, seed=seed, noise=NOISE)
    error, class_errors = calibration.calibration_errors(scores, targets)
    columns = _measure_classes(scores, targets, thresholds, counts, sampled)
    columns["expected_calibration_error"] = class_errors
    constant = average_precision.constant_predictor_map(targets)  # 0 where nothing is defined
    order = ranking.rank(scores, targets)
    numbers = {
        "MultiLabelMAP": decisions.mean_defined(columns["average_precision"]),
        "MultiLabelMAP_ci95": np.nan if sampled is None else sampled.map,
        "MultiLabelMAP_11point": decisions.mean_defined(columns["average_precision_11point"]),
        "constant_predictor": constant if counts.positives.any() else np.nan,
        "images": len(scores),
        **_averages(counts),
        "macro_f1": decisions.average(counts).macro_f1,
        **_averages(top, f"_top{TOP}"),
        "HammingDistance": decisions.hamming_distance(decided, targets),
        "subset_accuracy": decisions.subset_accuracy(decided, targets),
        "coverage_error": order.coverage_error,
        "ranking_loss": order.ranking_loss,
        "label_ranking_average_precision": order.average_precision,
        "expected_calibration_error": error,
    }
    plain = {name: _plain(value) for name, value in numbers.items()}
    undefined = _explain_undefined(plain, columns, top, label_names, with_intervals=rounds > 0)
    absent = [label_names[i] for i in np.flatnonzero(counts.positives == 0).tolist()]
    rows = [
        ClassMeasures(name=name, **{key: _plain(column[i]) for key, column in columns.items()})
        for i, name in enumerate(label_names)
    ]
    return Summary(Metrics(**plain, undefined_classes=absent, undefined=undefined), rows)


def _measure_classes(
    scores: np.ndarray,
    targets: np.ndarray,
    thresholds: np.ndarray,
    counts: Counts,
    sampled: Intervals | None,
) -> dict[str, np.ndarray]:
    """Columns of every class by the names of `ClassMeasures`: [C], and [C, 2] for the interval."""
    steps = list(average_precision.descend(scores, targets, noise=NOISE))
    unknown = np.full((scores.shape[1], 2), np.nan)
    return {
        "positives": counts.positives,
        "negatives": counts.negatives,
        "average_precision": np.array([average_precision.area(each) for each in steps]),
        "average_precision_ci95": unknown if sampled is None else sampled.per_class,
        "average_precision_11point": np.array(
            [average_precision.area_11point(each) for each in steps]
        ),
        # As it was written: a float32 of 0.7 would become 0.699999988.
        "threshold": np.array([float(str(each)) for each in thresholds]),
        "predicted": counts.predicted,
        "precision": counts.precision,
        "recall": counts.recall,
        "f1": counts.f1,
    }


def _averages(counts: Counts, suffix: str = "") -> dict[str, float]:
    means = decisions.average(counts)
    return {
        f"CP{suffix}": means.class_precision,
        f"CR{suffix}": means.class_recall,
        f"CF1{suffix}": means.class_f1,
        f"OP{suffix}": means.overall_precision,
        f"OR{suffix}": means.overall_recall,
        f"OF1{suffix}": means.overall_f1,
    }


def _explain_undefined(
    metrics: Mapping[str, Any],
    columns: Mapping[str, np.ndarray],
    top: Counts,
    label_names: Sequence[str],
    *,
    with_intervals: bool,
) -> dict[str, str]:
    """Why each metric is None, and why a column is None for some classes, and which these are.

    A class that no image has is one that some image is known not to have, or nobody has looked for.
    """
    known = columns["positives"] + columns["negatives"]  # images, [C]
    unseen = (known == 0) & (metrics["images"] > 0)
    where_known = " where it is known" * bool((known < metrics["images"]).any())
    general = _NONE_KNOWN if unseen.all() else None
    if not metrics["images"]:
        general = "there are no images"
    reasons = {}
    for name, value in metrics.items():
        if value is None and (with_intervals or name != "MultiLabelMAP_ci95"):
            reasons[name] = general or _REASONS[name].format(where=where_known)
    absent, never_given = columns["positives"] == 0, columns["predicted"] == 0
    unsure = np.isnan(columns["average_precision_ci95"]).any(axis=1) & with_intervals
    for name, where in (
        ("average_precision", absent),
        ("average_precision_ci95", unsure),
        ("average_precision_11point", absent),
        ("precision", never_given),
        ("recall", absent),
        ("f1", absent & never_given),
        (f"precision_top{TOP}", top.predicted == 0),
        ("class_calibration_error", unseen),
    ):
        reason, effect = _COLUMN_REASONS[name]
        parts = []
        for text, chosen in ((reason, where & ~unseen), (_NOBODY, where & unseen)):
            named = first_names([label_names[i] for i in np.flatnonzero(chosen).tolist()])
            parts += [text.format(named, where=where_known)] if chosen.any() else []
        if parts:
            reasons[name] = ", and ".join(parts) + effect
    return reasons


def _plain(value: Any) -> Any:
    """Python's own number, or a pair of them; None for NaN, which JSON does not know."""
    if np.isnan(value).any():
        return None
    number = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return tuple(number) if isinstance(number, list) else number
