# SPDX-License-Identifier: Apache-2.0
"""The table of many runs as one HTML file: sortable, with curves and classes side by side.

It needs no other file. A short script sorts the tables; the page's policy allows it by its hash,
and no other script. Without it everything is readable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paddlex_ml.artifacts.leaderboard import Leaderboard, RankedList, RankedRun
from paddlex_ml.metrics.significance import LEVEL
from paddlex_ml.pictures import pages
from paddlex_ml.report.charts import Frame
from paddlex_ml.report.figures import format_number
from paddlex_ml.report.tradeoff_chart import Tick
from paddlex_ml.wording import count

COLOURS = 6
"""Runs whose curves have a colour of their own."""
_MOST_CURVES = 200
_MOST_ROWS, _MOST_COLUMNS = 60, 40  # of the table of classes
_TEMPLATES = Path(__file__).parent
_SHARED = _TEMPLATES.with_name("pictures")
_FRAME = Frame(left=44, right=690, top=10, bottom=290)


@dataclass(frozen=True)
class CurvesChart:
    """mAP over the epochs, a line for each run; the best run is the last, above all others."""

    lines: list[tuple[str, str, int]]
    """An SVG path, the name of the run, and its place in the ranking from 0 on."""
    across: list[Tick]
    up: list[Tick]
    left_out: int


@dataclass(frozen=True)
class ClassTable:
    """Average precision of each class and run: (text, shade from 0 to 1) of each cell."""

    names: list[str]
    rows: list[tuple[RankedRun, list[tuple[str, str]]]]
    more_classes: int
    more_runs: int


def write(path: Path, board: Leaderboard) -> None:
    """Write the page atomically. Every text of the user's is escaped."""
    styles = (_SHARED / "style.css.j2", _TEMPLATES / "page.css.j2", _TEMPLATES / "board.css.j2")
    text = (
        pages.environment(_TEMPLATES, _SHARED)
        .get_template("leaderboard.html.j2")
        .render(
            **pages.allow_inline("script", (_TEMPLATES / "page.js.j2").read_text("utf-8")),
            **pages.allow_inline("style", "\n".join(each.read_text("utf-8") for each in styles)),
            board=board,
            sections=[
                (ranked, draw_curves(ranked.runs), fill_classes(ranked)) for ranked in board.lists
            ],
            level=LEVEL,
            show=format_number,
            count=count,
            colours=COLOURS,
        )
    )
    pages.write(path, text)


def draw_curves(runs: Sequence[RankedRun]) -> CurvesChart | None:
    """The curves of runs, the best first; None where no run has two evaluated epochs."""
    shown = [run for run in runs[:_MOST_CURVES] if run.history]
    if all(len(run.history) < 2 for run in shown):
        return None
    values = [value for run in shown for _, value in run.history]
    last = max(epoch for run in shown for epoch, _ in run.history)
    low = math.floor(min(values) * 10) / 10
    high = max(math.ceil(max(values) * 10) / 10, low + 0.1)

    def place(epoch: float, value: float) -> tuple[str, str]:
        right = (epoch - 1) / max(last - 1, 1)
        return f"{_FRAME.x(right):.1f}", f"{_FRAME.y((value - low) / (high - low)):.1f}"

    lines = []
    for number, run in enumerate(shown):
        points = [" ".join(place(*point)) for point in run.history]
        lines.append((f"M{'L'.join(points)}", run.name, number))
    step = max(1, -(-last // 10))
    return CurvesChart(
        lines=lines[::-1],
        across=[Tick(place(epoch, low)[0], str(epoch)) for epoch in range(step, last + 1, step)],
        up=[
            Tick(place(1, tenth / 10)[1], f"{tenth / 10:.1f}")
            for tenth in range(round(low * 10), round(high * 10) + 1)
        ],
        left_out=len(runs) - len(shown),
    )


def fill_classes(ranked: RankedList) -> ClassTable | None:
    """The classes that differ most between the runs; None where no run has their figures.

    The shade compares the runs within a class: 0 for the lowest and 1 for the highest.
    """
    scored = [run for run in ranked.runs if run.per_class]
    runs = scored[:_MOST_ROWS]
    if not runs:
        return None
    bounds: dict[int, tuple[float, float]] = {}
    for number in range(len(ranked.label_names)):
        found = [value for run in runs if (value := run.per_class[number]) is not None]
        if found:
            bounds[number] = min(found), max(found)
    widest = sorted(bounds, key=lambda number: bounds[number][0] - bounds[number][1])
    shown = sorted(widest[:_MOST_COLUMNS])

    def cell(value: float | None, number: int) -> tuple[str, str]:
        low, high = bounds[number]
        if value is None:
            return "", "0"
        return f"{value:.2f}", f"{(value - low) / (high - low) if high > low else 0:.2f}"

    return ClassTable(
        names=[ranked.label_names[number] for number in shown],
        rows=[(run, [cell(run.per_class[number], number) for number in shown]) for run in runs],
        more_classes=len(ranked.label_names) - len(shown),
        more_runs=len(ranked.runs) - len(runs),
    )
