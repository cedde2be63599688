# SPDX-License-Identifier: Apache-2.0
"""evaluate_result.json: every number of an evaluation. The fields are the keys of the file.

The log, the tables, the page and a later comparison read this type too. Undefined numbers are None.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from paddlex_ml.artifacts.run_record import RunIdentity
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.metrics import per_class_threshold
from paddlex_ml.metrics.measures import ClassMeasures, Interval, Metrics
from paddlex_ml.metrics.threshold_search import Method
from paddlex_ml.storage import regular_file

FORMAT_VERSION = 1
"""Of the files that this version writes. 0: files of paddlex_ml 0.1.0, with the same keys."""
WORTHWHILE_GAIN = 0.005
"""Gain in held-out macro F1 from which tuned thresholds are worth saving."""


class ThresholdQuality(msgspec.Struct, frozen=True, kw_only=True):
    """What a set of thresholds reaches, as means over the classes."""

    macro_f1: float | None
    CP: float | None
    """Mean precision of the classes."""
    CR: float | None
    """Mean recall of the classes."""


class TunedResult(msgspec.Struct, frozen=True, kw_only=True):
    """How thresholds were tuned, and what the old and the new ones reach."""

    method: Method
    target: float | None
    """The precision or recall to reach; None for F1."""
    min_positives: int
    """Classes with fewer positive images share one threshold."""
    shared: float
    """That threshold."""
    shared_classes: list[str]
    unreached: list[str]
    """Classes in which no threshold reaches the target."""
    before: ThresholdQuality
    """The thresholds in use."""
    tuned: ThresholdQuality
    """The tuned ones, on the images that they were tuned on: optimistic."""
    held_out: ThresholdQuality
    """The tuned ones, on halves that they were not tuned on: what to expect of new images."""
    saved: list[str]
    """The inference.yml files that the tuned thresholds are written into."""
    is_better: bool = True
    """Whether the tuned ones reach more than those in use on the images that they were tuned on. If
    not, they are the ones in use, and only exports that have others get them."""

    @property
    def gain(self) -> float | None:
        """Held-out gain in macro F1; None where unknown, or where F1 was not the aim."""
        before, held_out = self.before.macro_f1, self.held_out.macro_f1
        if self.method != "f1" or before is None or held_out is None:
            return None
        return held_out - before

    @property
    def is_worth_saving(self) -> bool:
        """Whether new images gain F1. A wanted precision or recall that is nearer is worth it."""
        if not self.is_better:
            return False
        return self.method != "f1" or (self.gain is not None and self.gain >= WORTHWHILE_GAIN)


class LabelErrorCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of doubtful labels in one list of images."""

    images: int
    suspected: int
    missing: int
    wrong: int
    scores: str
    """Where the scores come from: "held out" or "out of fold"."""
    likely_true: float | None = None
    """Share of the suspected labels that is probably wrong, 0.5..1, as estimated from the scores;
    None where none is suspected."""
    is_able: bool = True
    """Whether the model knows enough to find errors: if not, an empty list means nothing."""


class LabelErrorResult(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of doubtful labels, by list: val, and train where it was searched."""

    lists: dict[str, LabelErrorCounts]
    csv: str
    """The table of them, relative to the output folder."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One measure of two evaluations."""

    name: str
    """Of the measure, or of the class."""
    this: float | None
    other: float | None
    difference: float | None
    """this - other; None where one of them is."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """This evaluation compared with another one."""

    other: str = msgspec.field(name="with")
    """The other model, or its result file."""
    same_images: bool
    """Whether both saw the same images and labels."""
    MultiLabelMAP_difference_ci95: Interval | None
    metrics: list[Difference]
    """Measures that are defined in both."""
    per_class: list[Difference]
    """Average precision of each class."""
    this: str
    """The evaluated model."""


class EvaluationResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The content of evaluate_result.json."""

    format_version: int
    done_flag: bool
    weight_path: str
    val_digest: str
    """Hash of the paths and labels of val.txt: the same for the same list."""
    metrics: Metrics
    per_class: list[ClassMeasures]
    """In the order of label.txt."""
    unknown_labels: int = 0
    """Labels of val.txt that nobody has looked for, of all images and classes: no measure counts
    them. 0, and not in the file: all are known."""
    thresholds: TunedResult | None
    """None: not tuned."""
    label_errors: LabelErrorResult | None
    """None: not searched."""
    comparison: Comparison | None
    per_class_csv: str
    """The table of the classes, relative to the output folder."""
    report: str | None = None
    """The page, relative to the output folder. None, and not in the file: no page was made."""
    run: RunIdentity | None = None
    """The training that made the model; None, and not in the file: not known."""
    better_than_guessing: bool | None = None
    """Whether the interval of the mAP, or without one the mAP, lies above the constant predictor's.
    None, and not in the file: no image has a label, or the file is older than this key."""
    thresholds_from: str | None = None
    """What holds the thresholds in use: the folder of an export, or Evaluate.threshold. None, and
    not in the file: there is no export of the evaluated weights, or the file is older than this
    key."""

    epoch: int | None = None
    """Epochs that the checkpoint had finished whose weights were evaluated. None, and not in the
    file: it is none of a training, or the file is older than this key."""

    @property
    def thresholds_in_use(self) -> str:
        """The thresholds in use in a few words, and what holds them."""
        numbers = np.array([row.threshold for row in self.per_class], np.float32)
        names = [row.name for row in self.per_class]
        return describe_thresholds(numbers, names, self.thresholds_from)


def describe_thresholds(numbers: np.ndarray, label_names: Sequence[str], place: str | None) -> str:
    """Thresholds [C] in a few words, and what holds them, as `EvaluationResult.thresholds_from`."""
    held = (
        "no export of these weights in float32 is beside them" if place is None else f"of {place}"
    )
    return f"{per_class_threshold.describe(numbers, label_names)} ({held})"


def read(path: Path) -> EvaluationResult:
    """Read the file. Raises PaddlexMLError unless it holds a finished evaluation.

    Files of version 0, those of paddlex_ml 0.1.0, are read; files of a newer version are refused.
    """
    fix = "name the evaluate_result.json of an evaluation, its folder, or a weight file"
    try:
        text = regular_file.read(path, regular_file.LARGEST_RESULT).decode("utf-8")
        content = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (OSError, ValueError, RecursionError) as error:
        message = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise PaddlexMLError(
            f"the result of the evaluation cannot be read: {message}", where=str(path), fix=fix
        ) from error
    version: Any = content.setdefault("format_version", 0) if isinstance(content, dict) else None
    if type(version) is int and version > FORMAT_VERSION:
        raise PaddlexMLError(
            f"this result was written by a newer version of paddlex_ml: its format_version is "
            f"{version}, this version reads up to {FORMAT_VERSION}",
            where=str(path),
            fix="upgrade paddlex_ml, or evaluate again with this version",
        )
    if isinstance(content, dict) and content.get("done_flag") is False:
        raise PaddlexMLError(
            f"this evaluation failed: {content.get('err_msg')}",
            where=str(path),
            fix=f"evaluate again; or {fix}",
        )
    try:
        return msgspec.convert(content, EvaluationResult)
    except ValueError as error:  # of msgspec, also for a text that is not Unicode
        raise PaddlexMLError(
            f"this is not the result of an evaluation: {error}", where=str(path), fix=fix
        ) from error


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not a finite number")
    return number
