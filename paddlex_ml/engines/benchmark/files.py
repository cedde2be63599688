# SPDX-License-Identifier: Apache-2.0
"""The folder of a benchmark, a CSV table and the page; and the table for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from paddlex_ml.artifacts.benchmark_result import BenchmarkResult, BenchmarkRow
from paddlex_ml.artifacts.run_folder import BenchmarkFiles, RunFolder
from paddlex_ml.progress import named
from paddlex_ml.report import benchmark_page
from paddlex_ml.storage import csv_text, folders
from paddlex_ml.storage import files as storage
from paddlex_ml.wording import count

NAMES = RunFolder(Path()).benchmark
"""Relative to the output folder, as the result has them."""
_PLAIN = (
    *("format", "run_mode", "folder", "bytes", "load_seconds", "first_answer_seconds"),
    *("latency_p50", "latency_p95", "peak_bytes", "map", "changed_decisions"),
    *("largest_movement", "keeps_to_budgets", "is_on_front", "is_recommended"),
)


@named("writing the table and the page")
def write(names: BenchmarkFiles, result: BenchmarkResult) -> None:
    """Write the table and the page in one step, in place of those of an earlier benchmark."""
    own = {names.benchmark_csv.name, names.report.name}
    with folders.replacing(names.folder, lambda path: path.name in own) as fresh:
        content = csv_text.encode(csv_text.write(_list_cells(result)))
        storage.write_bytes(fresh / names.benchmark_csv.name, content)
        benchmark_page.write(fresh / names.report.name, result)


def _list_cells(result: BenchmarkResult) -> Iterable[Sequence[Any]]:
    sizes = [speed.batch_size for speed in result.rows[0].speeds]
    measures = ("images_per_second", "peak_bytes")
    yield [*_PLAIN, *(f"{name}_batch_{size}" for size in sizes for name in measures)]
    for row in result.rows:
        speeds = [getattr(speed, name) for speed in row.speeds for name in measures]
        yield [*(getattr(row, name) for name in _PLAIN), *speeds]


def tabulate(result: BenchmarkResult) -> Iterator[str]:
    """The lines of the table for a terminal, with what was not measured below it."""
    cells = [
        (
            "export by run mode",
            "MB",
            "load",
            "first",
            "p50",
            "p95",
            "images/s",
            "memory",
            "mAP",
            "",
        ),
        ("", "", "s", "s", "ms", "ms", "(batch)", "MB", "", "changed"),
        *map(_list_figures, result.rows),
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        parts = (
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(parts).rstrip()
    yield (
        f"{result.images} of {count(result.val_images, 'image')} of val.txt, {result.device}, "
        f"{count(result.threads, 'thread')}; * on the Pareto front of mAP and p50, > recommended"
    )
    yield (
        f"changed: decisions other than those of {result.reference}; ! beyond the budgets "
        f"({result.max_changed_decisions:.1%} of them, {result.max_map_loss:g} mAP)"
    )
    for note in result.notes:
        yield f"note: {note}"
    for each in result.unmeasured:
        yield f"not measured: {each.name}: {each.reason}" + (f": {each.fix}" if each.fix else "")


def _list_figures(row: BenchmarkRow) -> tuple[str, ...]:
    best = row.best_speed
    return (
        f"{'>' if row.is_recommended else '*' if row.is_on_front else ' '} {row.name}",
        f"{row.bytes / 1e6:.1f}",
        f"{row.load_seconds:.2f}",
        f"{row.first_answer_seconds:.2f}",
        f"{1e3 * row.latency_p50:.1f}",
        f"{1e3 * row.latency_p95:.1f}",
        f"{best.images_per_second:.1f} ({best.batch_size})",
        "-" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:.0f}",
        f"{row.map:.4f}",
        f"{row.changed_decisions:.2%}{'' if row.keeps_to_budgets else ' !'}",
    )
