# SPDX-License-Identifier: Apache-2.0
"""The threshold as users write it -> one number per class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Integral, Real
from typing import TypeAlias

import numpy as np

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.metrics.class_relations import ClassRelations
from paddlex_ml.safe_text import one_line
from paddlex_ml.wording import count, first_names

_NAMED = 6  # classes with thresholds of their own, in a line

Threshold: TypeAlias = float | Sequence[float] | Mapping[str | int, float] | np.ndarray
"""A number, one number per class, or a mapping with "default" and class ids or names."""


def resolve(
    threshold: Threshold, label_names: Sequence[str], *, where: str = "threshold"
) -> np.ndarray:
    """Return the threshold of each class: float32 [C], 0..1.

    float32 because scores are: 0.7 as a float64 would lie above a score of 0.7. Raises
    PaddlexMLError for numbers outside 0..1, a wrong count, and classes that do not exist.
    """
    if isinstance(threshold, np.ndarray) and not threshold.ndim:
        threshold = threshold.item()
    if isinstance(threshold, Mapping):
        return _resolve_mapping(threshold, label_names, where)
    if not isinstance(threshold, Sequence | np.ndarray) or isinstance(threshold, str):
        return np.full(len(label_names), _check_number(threshold, where), np.float32)
    if len(threshold) != len(label_names):
        raise PaddlexMLError(
            f"{count(len(threshold), 'threshold is', 'thresholds are')} given, the model has "
            f"{count(len(label_names), 'class', 'classes')}",
            where=where,
            fix=f"give one number per class, or a mapping: {{default: 0.5, {label_names[0]}: 0.3}}",
        )
    numbers = [_check_number(number, f"{where}[{i}]") for i, number in enumerate(threshold)]
    return np.array(numbers, np.float32)


def _resolve_mapping(
    numbers: Mapping[str | int, float], label_names: Sequence[str], where: str
) -> np.ndarray:
    if "default" not in numbers:
        raise PaddlexMLError(
            "the thresholds have no default for the classes that they do not name",
            where=where,
            fix="add the key default: {default: 0.5, ...}",
        )
    default = _check_number(numbers["default"], f"{where}.default")
    thresholds = np.full(len(label_names), default, np.float32)
    for key, number in numbers.items():
        if key != "default":
            checked = _check_number(number, f"{where}.{key}")
            thresholds[_find_classes(key, label_names, where)] = checked
    return thresholds


def _find_classes(key: str | int, label_names: Sequence[str], where: str) -> list[int]:
    """Class ids that `key` means. A name goes before an id: YAML keys may be digits in quotes."""
    named = [i for i, name in enumerate(label_names) if name == key]
    if named:
        return named
    if not isinstance(key, bool) and str(key).isdecimal():
        if len(str(key)) < 10 and int(key) < len(label_names):  # Python refuses long numbers
            return [int(key)]
        fix = f"class ids go from 0 to {len(label_names) - 1}"
    else:
        near = get_close_matches(str(key), label_names, n=1)
        fix = f"write {near[0]}" if near else f"choose from {first_names(label_names)}"
    raise PaddlexMLError(f"the model has no class {key!r}", where=where, fix=fix)


def _check_number(value: object, where: str) -> float:
    if isinstance(value, Real) and not isinstance(value, bool):
        with suppress(OverflowError):  # a whole number of 400 digits
            number = float(value)
            if math.isfinite(number) and 0 <= number <= 1:
                return number
    raise PaddlexMLError(
        f"a threshold must be a number from 0 to 1, got {value!r}"[:200],
        where=where,
        fix="write a number such as 0.5",
    )


def describe(thresholds: np.ndarray, label_names: Sequence[str]) -> str:
    """Thresholds [C] in a few words: the most frequent one, and classes that have another one."""
    numbers = np.asarray(thresholds, np.float32)
    values, counts = np.unique(numbers, return_counts=True)
    usual = values[np.argmax(counts)]
    is_shared = len(numbers) == 1 or counts.max() > 1
    others = [
        f"{name} {number:.4g}"
        for name, number in zip(label_names, numbers, strict=True)
        if not is_shared or number != usual
    ]
    if not others:
        return f"{usual:.4g} for every class"
    named = one_line(first_names(others, _NAMED))
    return f"{usual:.4g}, but {named}" if is_shared else named


@dataclass(frozen=True)
class LabelSelection:
    """Which labels an image gets. Raises PaddlexMLError for counts that are not possible."""

    thresholds: np.ndarray
    """Score from which a class counts, float32 [C]."""
    min_labels: int = 0
    """Labels that every image gets, even below the thresholds."""
    max_labels: int | None = None
    """None: as many as there are classes."""
    relations: ClassRelations | None = None
    """What the labels keep, whatever the other fields say; None: nothing."""

    def __post_init__(self) -> None:
        check_count(self.min_labels, "min_labels", least=0)
        if self.max_labels is not None:
            check_count(self.max_labels, "max_labels", least=1)
        classes = len(self.thresholds)
        most = classes if self.max_labels is None else min(self.max_labels, classes)
        if self.min_labels > most:
            what = f"the {classes} classes" if most == classes else f"max_labels {most}"
            raise PaddlexMLError(
                f"min_labels {self.min_labels} is more than {what}",
                where="min_labels",
                fix=f"lower it to {most} at most",
            )


def choose(scores: np.ndarray, selection: LabelSelection) -> np.ndarray:
    """Ids of the classes that an image with `scores` [C] gets, by falling score.

    With relations, fewer than min_labels where no other class fits; see `ClassRelations.choose`.
    """
    if selection.relations is not None:
        least, most = selection.min_labels, selection.max_labels
        return selection.relations.choose(scores, selection.thresholds, least, most)
    order = np.argsort(-scores, kind="stable")
    reached = scores[order] >= selection.thresholds[order]
    missing = selection.min_labels - np.count_nonzero(reached)
    if missing > 0:
        reached[np.flatnonzero(~reached)[:missing]] = True
    return order[reached][: selection.max_labels]


def check_count(number: object, where: str, *, least: int) -> int:
    """The whole number, also of numpy. Raises PaddlexMLError unless it is one from `least`."""
    if isinstance(number, Integral) and not isinstance(number, bool) and int(number) >= least:
        return int(number)
    raise PaddlexMLError(
        f"{where} must be a whole number from {least}, it is {number!r}",
        where=where,
        fix=f"write {where}={max(1, least)}, or more",
    )
