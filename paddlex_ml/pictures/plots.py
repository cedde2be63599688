# SPDX-License-Identifier: Apache-2.0
"""Charts of the toolkit: images per class, and the curves of a training run.

Drawn with matplotlib's objects, never with pyplot: no global state, no window, no display needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import MaxNLocator

from paddlex_ml.pictures.fonts import find_font, legible
from paddlex_ml.storage import files

_TRAIN, _VAL = "#2f6db3", "#f2a03d"  # blue and orange differ for colour-blind eyes too
_RAW, _EMA, _LOSS = "#8a94a6", "#2f6db3", "#c8553d"
_INK, _FAINT, _ALARM = "#2b2f36", "#d9dde3", "#c62828"
_DPI = 120
_ROW = 0.24  # inches: two bars and a name of 8 points
_ROWS = 45  # of one column; with more, there are more columns, for a readable shape
_COLUMNS = 4
_MOST_ROWS = 2000  # of one column: Agg draws at most 65,535 pixels
_MARKED = 60  # most points of a curve that are marked: more would hide the line
_POINTS: dict[str, Any] = {"marker": "o", "markersize": 3.5}
_LINE: dict[str, Any] = {"linewidth": 1.2}
_LONGEST = 40  # characters of a class name


def histogram(
    path: Path, label_names: Sequence[str], train_counts: Sequence[int], val_counts: Sequence[int]
) -> None:
    """Draw images per class to `path` (PNG): train beside val, sorted by train count.

    Names may be long and in any language; classes without an image are named in red.
    """
    font_file = find_font("".join(label_names))
    rows = []
    for i in sorted(range(len(label_names)), key=lambda i: (-train_counts[i], -val_counts[i], i)):
        name = legible(label_names[i], font_file)
        name = name if len(name) <= _LONGEST else name[: _LONGEST - 3] + "..."
        # A dollar sign would start a formula in matplotlib.
        rows.append((name.replace("$", r"\$"), train_counts[i], val_counts[i]))
    wanted = min(_COLUMNS, math.ceil(len(rows) / _ROWS))
    count = max(wanted, math.ceil(len(rows) / _MOST_ROWS), 1)
    longest = max(1, math.ceil(len(rows) / count))
    columns = [rows[i : i + longest] for i in range(0, len(rows), longest)] or [[]]
    longest = len(columns[0])
    width = 8.5 if len(columns) == 1 else 6.5 * len(columns)
    height = 1.1 + _ROW * max(longest, 3)  # the head, then the rows
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")
    top = max(1, *train_counts, *val_counts)
    for i, column in enumerate(columns, 1):
        axes = figure.add_subplot(1, len(columns), i)
        _draw_bars(axes, column, FontProperties(fname=str(font_file), size=8.5))
        axes.set_ylim(longest - 0.4, -0.6)  # all columns share one scale, both ways
        axes.set_xlim(0, top * 1.16)
    _add_head(figure, len(rows), all(train and val for _, train, val in rows))
    _save(figure, path)


def curves(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Draw a training run to `path` (PNG): validation mAP above, loss and learning rate below.

    `history` has one mapping per epoch, at least one: epoch, loss, lr, and raw_map and ema_map in
    0..1 (None where the epoch was not evaluated).
    """
    figure = Figure(figsize=(8, 7), dpi=_DPI, layout="constrained", facecolor="white")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    _draw_map(above, history)
    _draw_loss(below, history)
    below.set_xlabel("epoch", color=_INK)
    below.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    below.set_xlim(history[0]["epoch"] - 0.5, history[-1]["epoch"] + 0.5)
    _save(figure, path)


def _draw_bars(axes: Axes, rows: list[tuple[str, int, int]], font: FontProperties) -> None:
    positions = range(len(rows))
    axes.barh([y - 0.19 for y in positions], [row[1] for row in rows], 0.36, color=_TRAIN)
    axes.barh([y + 0.19 for y in positions], [row[2] for row in rows], 0.36, color=_VAL)
    for y, (_, train, val) in enumerate(rows):
        for count, offset in ((train, -0.19), (val, 0.19)):
            axes.annotate(
                f"{count:,}",
                (count, y + offset),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=6,
                color=_INK if count else _ALARM,
            )
    axes.set_yticks(list(positions), [row[0] for row in rows], fontproperties=font)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_color(_INK if row[1] and row[2] else _ALARM)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", colors=_INK, labelsize=7)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    _tidy(axes, "x")


def _add_head(figure: Figure, num_classes: int, complete: bool) -> None:
    classes = f"{num_classes} class{'es' if num_classes != 1 else ''}"
    note = "" if complete else "; red: no image in train or in val"
    figure.suptitle(f"Images per class ({classes}{note})", x=0.01, ha="left", color=_INK)
    bars = figure.axes[0].containers
    figure.legend(
        handles=[bars[0], bars[1]],
        labels=["train", "val"],
        loc="outside upper right",
        ncols=2,
        frameon=False,
        fontsize=9,
    )


def _draw_map(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    best: tuple[float, int, str] | None = None
    for key, name, colour in (("raw_map", "raw", _RAW), ("ema_map", "EMA", _EMA)):
        points = [(h["epoch"], h[key]) for h in history if h[key] is not None]
        if not points:
            continue
        epochs, scores = zip(*points, strict=True)
        style = _POINTS if len(points) <= _MARKED else _LINE
        axes.plot(epochs, scores, color=colour, label=f"{name} weights", **style)
        for epoch, score in points:
            if best is None or score > best[0]:
                best = (score, epoch, name)
    if best:
        score, epoch, name = best
        # Hollow, so that the point below it stays visible.
        axes.plot([epoch], [score], "*", color=_ALARM, fillstyle="none", markersize=17, zorder=5)
        title = f"best: {score:.4f}, {name} weights, epoch {epoch}"
        axes.set_title(title, loc="right", color=_ALARM, fontsize=10)
        axes.margins(y=0.08)
        axes.legend(loc="lower right", frameon=False)
    axes.set_title("Validation mAP", loc="left", color=_INK)
    _tidy(axes, "both")


def _draw_loss(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    epochs = [h["epoch"] for h in history]
    style = _POINTS if len(epochs) <= _MARKED else _LINE
    axes.plot(epochs, [h["loss"] for h in history], color=_LOSS, **style)
    axes.set_title("Training loss", loc="left", color=_LOSS)
    _tidy(axes, "both")
    rate = axes.twinx()
    marker = "_" if len(epochs) == 1 else None  # one point has no line
    rate.plot(epochs, [h["lr"] for h in history], "--", color=_RAW, linewidth=1, marker=marker)
    rate.set_title("learning rate (dashed)", loc="right", color=_RAW, fontsize=10)
    rate.set_ylim(bottom=0)
    rate.tick_params(colors=_RAW, labelsize=8)
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    rate.spines[:].set_visible(False)


def _tidy(axes: Axes, grid: Literal["x", "both"]) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_FAINT)
    axes.set_axisbelow(True)
    axes.grid(axis=grid, color=_FAINT, linewidth=0.6)


def _save(figure: Figure, path: Path) -> None:
    with files.replacing(path) as temporary:
        figure.savefig(temporary, format="png")  # by Agg, whatever backend the user has set
