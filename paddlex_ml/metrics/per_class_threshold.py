# SPDX-License-Identifier: Apache-2.0
"""The threshold as users write it -> one number per class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from numbers import Real
from typing import NamedTuple, TypeAlias

import numpy as np

from paddlex_ml.errors import PaddlexMLError

Threshold: TypeAlias = float | Sequence[float] | Mapping[str | int, float] | np.ndarray
"""A number, one number per class, or a mapping with "default" and class ids or names."""


def resolve(
    threshold: Threshold, label_names: Sequence[str], *, where: str = "threshold"
) -> np.ndarray:
    """Return the threshold of each class: float32 [C], 0..1.

    float32 because scores are: 0.7 as a float64 would lie above a score of 0.7. Raises
    PaddlexMLError for numbers outside 0..1, a wrong count, and classes that do not exist.
    """
    if isinstance(threshold, Mapping):
        return _by_class(threshold, label_names, where)
    if isinstance(threshold, Sequence | np.ndarray) and not isinstance(threshold, str):
        return _one_each(list(threshold), label_names, where)
    return np.full(len(label_names), _number(threshold, where), np.float32)


def _one_each(numbers: list[object], label_names: Sequence[str], where: str) -> np.ndarray:
    if len(numbers) != len(label_names):
        raise PaddlexMLError(
            f"{len(numbers)} thresholds are given, the model has {len(label_names)} classes",
            where=where,
            fix=f"give one number per class, or a mapping: {{default: 0.5, {label_names[0]}: 0.3}}",
        )
    checked = [_number(number, f"{where}[{i}]") for i, number in enumerate(numbers)]
    return np.array(checked, np.float32)


def _by_class(
    numbers: Mapping[str | int, float], label_names: Sequence[str], where: str
) -> np.ndarray:
    if "default" not in numbers:
        raise PaddlexMLError(
            "the thresholds have no default, for the classes that they do not name",
            where=where,
            fix="add the key default: {default: 0.5, ...}",
        )
    limits = np.full(len(label_names), _number(numbers["default"], f"{where}.default"), np.float32)
    for key, number in numbers.items():
        if key != "default":
            limits[_find(key, label_names, where)] = _number(number, f"{where}.{key}")
    return limits


def _find(key: str | int, label_names: Sequence[str], where: str) -> list[int]:
    """Class ids that `key` means. A name goes before an id: YAML keys may be digits in quotes."""
    named = [i for i, name in enumerate(label_names) if name == key]
    if named:
        return named
    if not isinstance(key, bool) and str(key).isdecimal():
        if int(key) < len(label_names):
            return [int(key)]
        fix = f"class ids go from 0 to {len(label_names) - 1}"
    else:
        near = get_close_matches(str(key), label_names, n=1)
        fix = f"write {near[0]}" if near else f"choose from {_listed(label_names)}"
    raise PaddlexMLError(f"the model has no class {key!r}", where=where, fix=fix)


def _listed(label_names: Sequence[str]) -> str:
    text = ", ".join(label_names[:10])
    return f"{text}, ... ({len(label_names)} classes)" if len(label_names) > 10 else text


def _number(value: object, where: str) -> float:
    if isinstance(value, Real) and not isinstance(value, bool):
        number = float(value)
        if math.isfinite(number) and 0 <= number <= 1:
            return number
    raise PaddlexMLError(
        f"a threshold must be a number from 0 to 1, got {value!r}",
        where=where,
        fix="write a number such as 0.5",
    )


class Limits(NamedTuple):
    """Which labels an image gets."""

    each: np.ndarray
    """Score from which a class counts, float32 [C]."""
    least: int
    """Labels that every image gets."""
    most: int


def limit(each: np.ndarray, min_labels: int, max_labels: int | None) -> Limits:
    """Join thresholds [C] and counts. Raises PaddlexMLError for counts that cannot be kept."""
    classes = len(each)
    check_count(min_labels, "min_labels", least=0)
    if max_labels is not None:
        check_count(max_labels, "max_labels", least=1)
    most = classes if max_labels is None else max_labels
    if min_labels > min(most, classes):
        what = f"the {classes} classes" if most >= classes else f"max_labels {max_labels}"
        raise PaddlexMLError(
            f"min_labels {min_labels} is more than {what}",
            where="min_labels",
            fix=f"lower it to {min(most, classes)} at most",
        )
    return Limits(each, min_labels, most)


def choose(scores: np.ndarray, limits: Limits) -> np.ndarray:
    """Ids of the classes that an image with `scores` [C] gets, by falling score."""
    order = np.argsort(-scores, kind="stable")
    reached = scores[order] >= limits.each[order]
    missing = limits.least - np.count_nonzero(reached)
    if missing > 0:
        reached[np.flatnonzero(~reached)[:missing]] = True
    return order[reached][: limits.most]


def check_count(number: object, where: str, *, least: int) -> None:
    """Raise PaddlexMLError unless `number` is a whole number from `least`."""
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        raise PaddlexMLError(
            f"{where} must be a whole number from {least}, it is {number!r}",
            where=where,
            fix=f"write {where}={max(1, least)}, or more",
        )
