# SPDX-License-Identifier: Apache-2.0
"""What a search may choose: for each key a list of values, or a range of numbers.

--sweep Train.loss.name=bce,asymmetric            one of the values
--sweep Train.learning_rate=1e-5..1e-2            any number between them, both included
--sweep Train.head_lr_mult=0.1..10:linear         the scale, where it is not the usual one

The usual scale is logarithmic where both ends are above 0 and at least a factor of 10 apart, and
linear elsewhere. A key of whole numbers gets whole numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from paddlex_ml.config import validation
from paddlex_ml.config.values import Refused
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.wording import count

_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"\s*({_NUMBER})\s*\.\.\s*({_NUMBER})\s*(?::\s*(\w*))?\s*")
_SCALES = ("log", "linear")
_DECADE = 10.0
_BETWEEN = 0.381966
"""A share of a range at which no whole number lies, but in ranges that nobody writes."""


@dataclass(frozen=True)
class Choices:
    """One of some values, each as it is written behind -o key=."""

    texts: tuple[str, ...]

    @property
    def probes(self) -> tuple[str, ...]:
        """Values whose configurations are checked before a search begins."""
        return self.texts

    @property
    def size(self) -> int | None:
        """Number of values; None: more than can be counted."""
        return len(self.texts)

    def __str__(self) -> str:
        return f"one of {', '.join(self.texts)}"


@dataclass(frozen=True)
class Numbers:
    """Any number from `low` to `high`, both included."""

    low: float
    high: float
    is_whole: bool
    is_log: bool

    @property
    def probes(self) -> tuple[str, ...]:
        """Values whose configurations are checked before a search begins: both ends."""
        return self.write(self.low), self.write(self.high)

    @property
    def size(self) -> int | None:
        """Number of values; None: more than can be counted."""
        return int(self.high - self.low) + 1 if self.is_whole else None

    def write(self, value: float) -> str:
        """The text behind -o key=: four digits, which tell more than a training can."""
        if self.is_whole:
            return str(int(value))
        rounded = float(f"{value:.4g}")
        inside = min(max(rounded, self.low), self.high)
        return f"{rounded:.4g}" if inside == rounded else repr(inside)

    def __str__(self) -> str:
        kind = "whole numbers from" if self.is_whole else "from"
        scale = "logarithmic" if self.is_log else "linear"
        return f"{kind} {self.write(self.low)} to {self.write(self.high)}, {scale} scale"


Dimension: TypeAlias = Choices | Numbers
Space: TypeAlias = Mapping[str, Dimension]


def is_range(text: str) -> bool:
    """Whether a value has the form of a range."""
    return _RANGE.fullmatch(text) is not None


def parse(values: Mapping[str, Sequence[str]]) -> Space:
    """The space of these keys and values. Raises PaddlexMLError for a range that cannot be meant,
    or that the key does not take as a whole.
    """
    return {key: _parse_one(key, texts) for key, texts in values.items()}


def count_combinations(space: Space) -> int | None:
    """Number of all combinations; None: more than can be counted."""
    sizes = [each.size for each in space.values()]
    return None if None in sizes else math.prod(size or 0 for size in sizes)


def _parse_one(key: str, texts: Sequence[str]) -> Dimension:
    found = [match for text in texts if (match := _RANGE.fullmatch(text))]
    if not found:
        return Choices(tuple(texts))
    if len(texts) > 1:
        raise _refuse(
            key,
            f"a range stands alone, here are {count(len(texts), 'value')}",
            "give one range or a list",
        )
    first, last, scale = found[0].groups()
    low, high = float(first), float(last)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise _refuse(key, f"{texts[0]} has no end", "write finite numbers")
    if low >= high:
        fix = f"--sweep {key}={first}" if low == high else f"--sweep {key}={last}..{first}"
        raise _refuse(key, f"{texts[0]} does not go up", fix)
    if scale is not None and scale not in _SCALES:
        raise _refuse(key, f"there is no scale {scale!r}", f"--sweep {key}={first}..{last}:log")
    if scale == "log" and low <= 0:
        fix = f"begin above 0, or --sweep {key}={first}..{last}:linear"
        raise _refuse(key, f"a logarithmic scale cannot begin at {first}", fix)
    is_log = scale == "log" if scale else low > 0 and high / low >= _DECADE
    return Numbers(low, high, _find_kind(key, low, high), is_log)


def _find_kind(key: str, low: float, high: float) -> bool:
    """Whether the key takes whole numbers alone.

    Raises PaddlexMLError unless it takes every number from `low` to `high`, or every whole one.
    """
    between, ends = low + _BETWEEN * (high - low), (low, high)
    is_whole = _find_rule(key, between) != ""
    tried = [int(end) if end.is_integer() else end for end in (*ends, between)]
    if is_whole and all(end.is_integer() for end in ends):
        middle = int(low + high) // 2
        steps = {int(low), int(low) + 1, middle, middle + 1, int(high) - 1, int(high)}
        tried = [number for number in sorted(steps) if low <= number <= high]
    for number in tried:
        if rule := _find_rule(key, number):
            raise _refuse(
                key,
                f"it does not take every number from {low:g} to {high:g}: {number:g} {rule}",
                f"list the values: --sweep {key}=VALUE,VALUE",
            )
    return is_whole


def _find_rule(key: str, number: float) -> str:
    """The rule that a number breaks as the value of the key; "" where it breaks none."""
    try:
        validation.convert(key, number)
    except Refused as refused:
        return refused.rule
    return ""


def _refuse(key: str, what: str, fix: str) -> PaddlexMLError:
    return PaddlexMLError(f"{key}: {what}", where="the search", fix=fix)
