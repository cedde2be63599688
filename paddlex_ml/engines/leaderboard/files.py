# SPDX-License-Identifier: Apache-2.0
"""A Leaderboard as lines for a terminal, as a CSV table and as a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from paddlex_ml.artifacts import leaderboard
from paddlex_ml.artifacts.leaderboard import (
    Leaderboard,
    RankedConfigurations,
    RankedList,
    RankedRun,
    Standing,
)
from paddlex_ml.metrics.significance import LEVEL
from paddlex_ml.report import leaderboard_page
from paddlex_ml.safe_text import one_line, visible
from paddlex_ml.storage import csv_text, files
from paddlex_ml.wording import count, first_names, text_width

_MOST = 30
"""Rows of a table on the terminal."""
_HEADS = ("rank", "run", "mAP", "95 % interval", "to the best", "weights", "epoch", "time",
          "memory", "model")  # fmt: skip


def write(board: Leaderboard, folder: Path) -> tuple[Path, Path]:
    """Write the table and the page into the folder; returns their paths. Raises OSError."""
    table, page = folder / leaderboard.CSV, folder / leaderboard.PAGE
    files.write_bytes(table, csv_text.encode(csv_text.write(_list_cells(board))))
    leaderboard_page.write(page, board)
    return table, page


def render(board: Leaderboard) -> list[str]:
    """Lines of text in a font of fixed width; no name in them steers a terminal."""
    lines = []
    if len(board.lists) > 1:
        lines += [
            f"the runs were scored on {len(board.lists)} different lists of images: their mAP is "
            "not comparable, so each list has a table of its own",
            "",
        ]
    for each in board.lists:
        lines += [*_render_list(each), ""]
    for group in board.configurations:
        lines += [*_render_configurations(group), ""]
    if board.others:
        lines.append(f"{len(board.others)} without a place in the table:")
        lines += [f"  {other.name}: {other.problem}" for other in board.others[:_MOST]]
        lines += _count_rest(board.others)
    lines = lines[:-1] if lines and not lines[-1] else lines
    return [visible(one_line(line)) for line in lines]


def _render_list(ranked: RankedList) -> list[str]:
    images = "" if ranked.images is None else f"{count(ranked.images, 'image')}, "
    names = ranked.label_names
    classes = f"{count(len(names), 'class', 'classes')}, " if names else ""
    lines = [f"val list {ranked.digest[:8]}: {images}{classes}{count(len(ranked.runs), 'run')}"]
    are_told = all(
        value in run.name for run in ranked.runs for value in run.options.values() if value
    )
    measured = [run.latency for run in ranked.runs if run.latency]
    more = [*(["latency"] if measured else []), *([] if are_told else ["options"])]
    rows = [[*_HEADS, *more]]
    for run in ranked.runs[:_MOST]:
        latency = f"{1e3 * run.latency.seconds:.1f} ms" if run.latency else ""
        cells = {"latency": latency, "options": shorten_options(run.options)}
        rows.append([*_cells(run), *(cells[name] for name in more)])
    lines += _align(rows, left={1, *([len(rows[0]) - 1] if "options" in more else [])})
    lines += _count_rest(ranked.runs)
    machines = list(dict.fromkeys(each.machine for each in measured))
    if machines:
        lines.append(
            f"latency: median for one image by the recommended export, on {machines[0]}"
            if len(machines) == 1
            else f"latency was measured on {len(machines)} kinds of machines and is not "
            f"comparable between them; {leaderboard.CSV} has the machine of each run"
        )
    if len(ranked.runs) > 1:
        lines.append(explain(ranked))
    missing = [run for run in ranked.runs if run.evaluate]
    if missing:
        lines.append(
            f"? no scores of val.txt are kept for {len(missing)} of the runs; to compare them: "
            f"{missing[0].evaluate}"
        )
    return lines


def explain(ranked: RankedList) -> str:
    """What the marks of a table mean."""
    runs = len(ranked.runs)
    how = (
        f"the paired bootstrap, {count(ranked.rounds, 'round')}"
        if ranked.rounds
        else "the paired influence of each image"
    )
    return (
        f"* the difference to the best holds for images like these (p < {LEVEL:g} by {how}, Holm's "
        f"correction for {count(runs * (runs - 1) // 2, 'pair')}); without *, it may be chance"
    )


def _cells(run: RankedRun) -> list[str]:
    interval = "" if run.interval is None else f"{run.interval[0]:.4f}-{run.interval[1]:.4f}"
    size = "" if run.model_bytes is None else f"{run.model_bytes / 2**20:.1f} MiB"
    return [
        str(run.standing.rank), run.name, f"{run.map:.4f}", interval, mark(run.standing),
        run.weights, f"{run.epoch}/{run.epochs}", _show_time(run.seconds),
        f"{run.memory_mib:,.0f} MiB", size,
    ]  # fmt: skip


def mark(standing: Standing) -> str:
    """The difference to the best, `*` where it holds, `?` where that is not known."""
    if standing.rank == 1:
        return "best"
    sign = {"worse": " *", "unknown": " ?"}.get(standing.verdict, "  ")
    return f"{standing.difference:+.4f}{sign}"


def shorten_options(options: Mapping[str, str]) -> str:
    """The options that differ, their keys without the section: `loss.name=bce`."""
    return " ".join(f"{key.partition('.')[2] or key}={value}" for key, value in options.items())


def _show_time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _render_configurations(ranked: RankedConfigurations) -> list[str]:
    rows = [["rank", "configuration", "runs", "mean mAP", "deviation", "to the best"]]
    for each in ranked.configurations[:_MOST]:
        deviation = "" if each.deviation is None else f"{each.deviation:.4f}"
        name = shorten_options(each.options) or first_names(each.runs, 1)
        rows.append(
            [str(each.standing.rank), name, str(len(each.runs)), f"{each.mean:.4f}", deviation,
             mark(each.standing)]
        )  # fmt: skip
    lists = ", ".join(digest[:8] for digest in ranked.digests[:5])
    many = "s" if len(ranked.digests) > 1 else ""
    lines = [f"configurations over seeds and folds, val list{many} {lists}"]
    lines += [*_align(rows, left={1}), *_count_rest(ranked.configurations)]
    others = "folds" if len(ranked.digests) > 1 else "seeds"
    lines.append(f"* the difference of the means holds also for other {others}")
    if any(each.standing.verdict == "unknown" for each in ranked.configurations):
        lines.append("? the scores of one of its runs are not kept")
    return lines


def _count_rest(rows: Sequence[Any]) -> list[str]:
    rest = len(rows) - _MOST
    return [f"... and {rest:,} more: {leaderboard.CSV} has all of them"] if rest > 0 else []


def _align(rows: Sequence[Sequence[str]], left: set[int]) -> list[str]:
    widths = [max(map(text_width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for number, (cell, width) in enumerate(zip(row, widths, strict=True)):
            gap = " " * (width - text_width(cell))
            cells.append(cell + gap if number in left else gap + cell)
        lines.append("  ".join(cells).rstrip())
    return lines


def _list_cells(board: Leaderboard) -> Iterable[Sequence[Any]]:
    names = {tuple(each.label_names) for each in board.lists if each.label_names}
    classes = next(iter(names)) if len(names) == 1 else ()
    yield [
        "list", "rank", "run", "mAP", "low", "high", "verdict", "difference", "p_value", "weights",
        "best_epoch", "epochs", "seconds", "memory_mib", "model_bytes", "latency_seconds",
        "latency_export", "latency_machine", "seed", "fold",
        *board.options, *(f"AP {name}" for name in classes),
    ]  # fmt: skip
    for ranked in board.lists:
        for run in ranked.runs:
            standing = run.standing
            per_class = run.per_class if classes else []
            latency = msgspec.structs.astuple(run.latency) if run.latency else (None, "", "")
            yield [
                ranked.digest, standing.rank, run.name, run.map, *(run.interval or (None, None)),
                standing.verdict, standing.difference, standing.p_value, run.weights, run.epoch,
                run.epochs, run.seconds, run.memory_mib, run.model_bytes, *latency, run.seed,
                run.fold,
                *(run.options[key] for key in board.options), *per_class,
            ]  # fmt: skip
    for other in board.others:
        yield ["", None, other.name, None, None, None, other.problem]
