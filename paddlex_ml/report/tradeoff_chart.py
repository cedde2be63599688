# SPDX-License-Identifier: Apache-2.0
"""Coordinates of the picture of a benchmark: mAP upwards, latency to the right, logarithmic.

Names stand beside their points where there is room, else with a line to them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from paddlex_ml.artifacts.benchmark_result import BenchmarkResult, BenchmarkRow

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 62.0, 740.0, 16.0, 370.0
_LETTER, _LINE = 7.1, 17.0  # width and height of a letter of the text, roughly, on the wide side
_LEAST_SPAN = 0.02  # of the mAP: less would make rounding look like a difference
_STEPS = (1, 2, 5)
_WIDE, _WIDEST = 6, 300  # times: axes on which fewer numbers have room


@dataclass(frozen=True)
class Tick:
    """A line of a chart's grid: where it is, and the number beside it."""

    at: str
    text: str


@dataclass(frozen=True)
class Dot:
    """A measured export."""

    x: str
    y: str
    kind: str
    """`recommended`, `front`, `other`, or `beyond` the budgets."""
    name: str
    text_x: str
    text_y: str
    line: str
    """An SVG path from the point to its name; '' where it stands beside."""
    title: str


@dataclass(frozen=True)
class TradeoffChart:
    """The picture."""

    dots: list[Dot]
    front: str
    """An SVG path along the Pareto front; '' for a single point."""
    across: list[Tick]
    up: list[Tick]
    floor: str
    """Height of the lowest mAP within the budget; '' where it is below the picture."""


def draw(result: BenchmarkResult) -> TradeoffChart:
    """Return the picture of a result."""
    rows = result.rows
    low, high = _spread([1e3 * row.latency_p50 for row in rows])
    worst, best = min(row.map for row in rows), max(row.map for row in rows)
    reach = max(_LEAST_SPAN, 1.3 * (best - worst))
    middle = (worst + best) / 2
    bottom, top = middle - reach / 2, middle + reach / 2

    def x(milliseconds: float) -> float:
        share = math.log(milliseconds / low) / math.log(high / low)
        return LEFT + (RIGHT - LEFT) * share

    def y(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (value - bottom) / (top - bottom)

    points = [(x(1e3 * row.latency_p50), y(row.map)) for row in rows]
    front = [point for point, row in zip(points, rows, strict=True) if row.is_on_front]
    reference = next(row for row in rows if row.name == result.reference)
    floor = y(reference.map - result.max_map_loss)
    digits = 3 if reach < 0.05 else 2
    step = _find_step(reach / 5)
    first = math.ceil(bottom / step)
    return TradeoffChart(
        dots=_place(rows, points),
        front=_join(front) if len(front) > 1 else "",
        across=[Tick(_short(x(value)), f"{value:g}") for value in _list_decades(low, high)],
        up=[
            Tick(_short(y(number * step)), f"{number * step:.{digits}f}")
            for number in range(first, math.floor(top / step) + 1)
        ],
        floor=_short(floor) if TOP < floor < BOTTOM else "",
    )


def _place(rows: Sequence[BenchmarkRow], points: Sequence[tuple[float, float]]) -> list[Dot]:
    """The points with their names, each at the nearest free place."""
    taken = [(px - 9, py - 9, px + 9, py + 9) for px, py in points]
    dots = []
    for row, (px, py) in zip(rows, points, strict=True):
        width = _LETTER * len(row.name)
        for left, middle in _list_places(px, py, width):
            box = left, middle - _LINE / 2, left + width, middle + _LINE / 2
            is_inside = box[0] > LEFT and box[2] < RIGHT and box[1] > TOP and box[3] < BOTTOM
            if is_inside and not any(_overlap(box, other) for other in taken):
                break
        taken.append(box)
        nearest = min(max(px, left), left + width)
        is_far = math.hypot(nearest - px, middle - py) > 1.2 * _LINE
        dots.append(
            Dot(
                x=_short(px),
                y=_short(py),
                kind="recommended"
                if row.is_recommended
                else "beyond"
                if not row.keeps_to_budgets
                else "front"
                if row.is_on_front
                else "other",
                name=row.name,
                text_x=_short(left),
                text_y=_short(middle + 4.5),
                line=_join([(px, py), (nearest, middle)]) if is_far else "",
                title=f"{row.name}: {1e3 * row.latency_p50:.1f} ms, mAP {row.map:.4f}, "
                f"{row.changed_decisions:.2%} of the decisions changed",
            )
        )
    return dots


def _list_places(px: float, py: float, width: float) -> Iterator[tuple[float, float]]:
    """Left end and middle of a name: right, left, above and below its point, then farther away."""
    for number in range(12):
        for sign in (-1, 1):
            middle = py + sign * number * _LINE
            yield px + 13, middle
            yield px - 13 - width, middle
            if number:
                yield px - width / 2, middle


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _spread(values: Sequence[float]) -> tuple[float, float]:
    """Both ends of a logarithmic axis, with room beside the points."""
    low, high = min(values), max(values)
    factor = max(1.25, (high / low) ** 0.12)
    return low / factor, high * factor


def _list_decades(low: float, high: float) -> list[float]:
    """Round numbers on a logarithmic axis."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    digits: tuple[float, ...] = (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
    if high / low > _WIDE:
        digits = _STEPS if high / low < _WIDEST else (1,)
    values = [digit * 10.0**exponent for exponent in exponents for digit in digits]
    return [value for value in values if low <= value <= high]


def _find_step(least: float) -> float:
    """The lowest of 1, 2, 5, 10, ... times a power of ten that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(digit * power for digit in (*_STEPS, 10) if digit * power >= least * 0.999)


def _join(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{_short(px)} {_short(py)}" for px, py in points)


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
