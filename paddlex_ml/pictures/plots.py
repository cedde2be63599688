# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402
"""Charts of the toolkit: images per class, and the curves of a training run.

Up to 100 classes are bars with their names; of more, the counts are a curve by rank, with the names
of the most and least frequent.

Drawn with matplotlib's objects, never with pyplot: no global state, no window, no display needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from paddlex_ml.storage import cache, files, user_folders

cache.give_to_library(  # matplotlib looks at it when it is imported
    "MPLCONFIGDIR",
    "matplotlib",
    user_folders.find("config", "matplotlib"),
    user_folders.find("cache", "matplotlib"),
)

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import MaxNLocator

from paddlex_ml.pictures.fonts import find_font, lacks_letters, legible

_TRAIN, _VAL = "#2f6db3", "#f2a03d"  # blue and orange differ for colour-blind eyes too
_RAW, _EMA, _LOSS = "#8a94a6", "#2f6db3", "#c8553d"
_INK, _FAINT, _ALARM = "#2b2f36", "#d9dde3", "#c62828"
_DPI = 120
_ROW = 0.24  # inches: two bars and a name of 8 points
_ROWS = 45  # of one column; with more, there are more columns, for a readable shape
_MOST_NAMED = 100  # classes: the picture of more would be too large to read
_ENDS = 20  # classes named at each end of a curve
_MARKED = 60  # most points of a curve that are marked: more would hide the line
_POINTS: dict[str, Any] = {"marker": "o", "markersize": 3.5}
_LINE: dict[str, Any] = {"linewidth": 1.2}
_LONGEST = 40  # characters of a class name
_SHAPES = matplotlib.__version_info__[:2] >= (3, 11)
"""Whether matplotlib writes Arabic and Hebrew from right to left."""


class _Name(NamedTuple):
    """The name of a class as it is drawn."""

    text: str
    font: Path
    is_number: bool
    """Whether it is replaced by the number of the class: no font has its letters."""

    @classmethod
    def spell(cls, name: str, number: int) -> _Name:
        font = find_font(name)
        if lacks_letters(name, font, shapes=_SHAPES):
            return cls(f"[class {number}]", find_font(""), True)
        text = legible(name, font, shapes=_SHAPES)
        text = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
        # A dollar sign would start a formula in matplotlib.
        return cls(text.replace("$", r"\$"), font, False)


class _Row(NamedTuple):
    """Images of one class."""

    name: _Name
    train: int
    val: int


@contextmanager
def _default_style() -> Iterator[None]:
    """Draw as matplotlib does by itself, and leave its settings to the program.

    A file matplotlibrc in the working folder, which may be that of a stranger's data set, would
    decide how pictures look, and could start LaTeX.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


@_default_style()
def histogram(
    path: Path, label_names: Sequence[str], train_counts: Sequence[int], val_counts: Sequence[int]
) -> None:
    """Draw images per class to `path` (PNG): train beside val, sorted by train count.

    Names may be long and in any language; classes without an image are named in red.
    """
    order = sorted(range(len(label_names)), key=lambda i: (-train_counts[i], -val_counts[i], i))
    train, val = ([counts[i] for i in order] for counts in (train_counts, val_counts))
    named = order
    if len(order) > _MOST_NAMED:
        named = [*order[:_ENDS], *order[-_ENDS:]]
    names = [_Name.spell(label_names[i], i) for i in named]
    rows = [
        _Row(name, train_counts[i], val_counts[i]) for name, i in zip(names, named, strict=True)
    ]
    if len(order) > _MOST_NAMED:
        figure = _draw_ranks(rows, train, val)
    else:
        figure = _draw_columns(rows, max(1, *train, *val))
    complete = all(train) and all(val)
    _add_head(figure, len(order), complete)
    if any(name.is_number for name in names):
        figure.supxlabel(
            "[class 7]: no font of this machine has the letters of its name; see label.txt",
            x=0.01, ha="left", color=_INK, fontsize=8,
        )  # fmt: skip
    _save(figure, path)


@_default_style()
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


def _draw_columns(rows: Sequence[_Row], top: int) -> Figure:
    """A bar for every class, in one to three columns."""
    count = max(math.ceil(len(rows) / _ROWS), 1)
    longest = max(1, math.ceil(len(rows) / count))
    columns = [rows[i : i + longest] for i in range(0, len(rows), longest)] or [[]]
    width = 8.5 if len(columns) == 1 else 6.5 * len(columns)
    height = 1.1 + _ROW * max(longest, 3)  # the head, then the rows
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")
    for i, column in enumerate(columns, 1):
        axes = figure.add_subplot(1, len(columns), i)
        _draw_bars(axes, column)
        axes.set_ylim(longest - 0.4, -0.6)  # all columns share one scale, both ways
        axes.set_xlim(0, top * 1.16)
    return figure


def _draw_ranks(rows: Sequence[_Row], train: Sequence[int], val: Sequence[int]) -> Figure:
    """Counts by rank, sorted by train; below them the classes of both ends with their names."""
    height = 5.2 + _ROW * _ENDS
    figure = Figure(figsize=(13, height), dpi=_DPI, layout="constrained", facecolor="white")
    grid = figure.add_gridspec(2, 2, height_ratios=(3.6, _ROW * _ENDS))
    for k, (title, part) in enumerate(
        (("most frequent in train", rows[:_ENDS]), ("least frequent in train", rows[_ENDS:]))
    ):
        axes = figure.add_subplot(grid[1, k])
        _draw_bars(axes, part)
        axes.set_ylim(_ENDS - 0.4, -0.6)
        axes.set_xlim(0, 1.16 * max(1, *(max(row.train, row.val) for row in part)))
        axes.set_title(f"The {_ENDS} classes {title}", loc="left", color=_INK, fontsize=10)
    axes = figure.add_subplot(grid[0, :])
    ranks = range(1, len(train) + 1)
    axes.plot(ranks, val, ".", color=_VAL, markersize=2.5, zorder=2)
    axes.plot(ranks, train, color=_TRAIN, linewidth=2, zorder=3)
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(-0.15, 1.6 * max(1, *train, *val))
    axes.set_xlim(0, len(train) + 1)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.tick_params(colors=_INK, labelsize=8)
    axes.set_xlabel("rank of the class, by its images in train", color=_INK, fontsize=9)
    absent = ", ".join(
        f"{counts.count(0):,} without an image in {name}"
        for name, counts in (("train", train), ("val", val))
        if 0 in counts
    )
    axes.set_title(f"Images of each class{absent and f' ({absent})'}", loc="left", color=_INK)
    _tidy(axes, "both")
    return figure


def _draw_bars(axes: Axes, rows: Sequence[_Row]) -> None:
    positions = range(len(rows))
    axes.barh([y - 0.19 for y in positions], [row.train for row in rows], 0.36, color=_TRAIN)
    axes.barh([y + 0.19 for y in positions], [row.val for row in rows], 0.36, color=_VAL)
    for y, row in enumerate(rows):
        for count, offset in ((row.train, -0.19), (row.val, 0.19)):
            axes.annotate(
                f"{count:,}",
                (count, y + offset),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=6,
                color=_INK if count else _ALARM,
            )
    axes.set_yticks(list(positions), [row.name.text for row in rows])
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontproperties(FontProperties(fname=str(row.name.font), size=8.5))
        label.set_color(_INK if row.train and row.val else _ALARM)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", colors=_INK, labelsize=7)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    _tidy(axes, "x")


def _add_head(figure: Figure, num_classes: int, complete: bool) -> None:
    classes = f"{num_classes:,} class{'es' if num_classes != 1 else ''}"
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
