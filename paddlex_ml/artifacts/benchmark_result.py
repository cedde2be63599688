# SPDX-License-Identifier: Apache-2.0
"""benchmark_result.json: what each export of a model costs and gives. The fields are the keys.

The table of the terminal, benchmark.csv and the page read this type too.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from paddlex_ml.artifacts.run_record import RunIdentity
from paddlex_ml.storage import regular_file

FORMAT_VERSION = 1


class BatchSpeed(msgspec.Struct, frozen=True, kw_only=True):
    """How fast batches of one size are answered."""

    batch_size: int
    images_per_second: float
    """Of the network alone, at the median of the times of a batch."""
    peak_bytes: int | None
    """Most memory that the process has had until then; None where the system does not tell."""


class BenchmarkRow(msgspec.Struct, frozen=True, kw_only=True):
    """An export in one run mode, measured in processes of its own."""

    format: str
    """And precision, unless it is fp32: "onnx int8"."""
    run_mode: str
    folder: str | None
    """None: it was exported for the benchmark alone, and is gone."""
    bytes: int
    """Of the graph and its weights on the disk."""
    load_seconds: float
    """Import of the runtime, and loading of the model; median of the starts."""
    first_answer_seconds: float
    """From the start of a process to the scores of an image in a file; median of the starts."""
    latency_p50: float
    latency_p95: float
    """Seconds for a single image, of the network alone: median, and 95th percentile."""
    speeds: list[BatchSpeed]
    """Of single images first, then of larger batches."""
    peak_bytes: int | None
    """Most memory of the process that answered single images; None where the system does not tell.
    Of the machine, not of a GPU."""
    map: float
    """Mean average precision; 0 where no class has a positive."""
    changed_decisions: float
    """Share of all decisions, images x classes, that are other ones than the reference's, at the
    thresholds in use: 0..1."""
    largest_movement: float
    """Of a score against the reference, 0..1."""
    keeps_to_budgets: bool
    """Whether mAP and decisions are as near to the reference's as Export.max_map_loss and
    Export.max_changed_decisions ask."""
    is_on_front: bool
    """Whether no other row is both as fast and as accurate, and better in one of the two."""
    is_recommended: bool
    """Whether it is the fastest of those that keep to the budgets, as far as that can be told."""

    @property
    def name(self) -> str:
        """Format and run mode, as messages have them."""
        return f"{self.format} by {self.run_mode}"

    @property
    def best_speed(self) -> BatchSpeed:
        """That of the batch size with the most images per second."""
        return max(self.speeds, key=lambda speed: speed.images_per_second)


class Unmeasured(msgspec.Struct, frozen=True, kw_only=True):
    """What was not measured, and why."""

    format: str
    run_mode: str | None
    """None: the export is not there, in no run mode."""
    reason: str
    fix: str
    """A command or an advice; "" where this machine cannot run it."""

    @property
    def name(self) -> str:
        """Format and run mode, as messages have them."""
        return self.format if self.run_mode is None else f"{self.format} by {self.run_mode}"


class BenchmarkResult(msgspec.Struct, frozen=True, kw_only=True):
    """The content of benchmark_result.json."""

    format_version: int = FORMAT_VERSION
    done_flag: bool = True
    model_name: str | None
    weights: str
    """The weight file whose exports were measured."""
    run: RunIdentity | None = None
    """The training that made them; None: they do not say."""
    epoch: int | None = None
    """Of the best model of that training so far; None: they do not say."""
    device: str
    processor: str
    threads: int
    """Of each engine on a CPU."""
    val_digest: str
    """Hash of the paths and labels of val.txt."""
    val_images: int
    """Of val.txt."""
    images: int
    """Of these, answered by every export."""
    classes: int
    reference: str
    """Name of the row that decisions are compared with."""
    max_changed_decisions: float
    max_map_loss: float
    """The budgets."""
    seconds: float
    """That the benchmark took."""
    rows: list[BenchmarkRow]
    """The fastest first, by the median latency."""
    unmeasured: list[Unmeasured]
    notes: list[str]
    """What was left out for want of time or memory, and what to know of the numbers."""
    benchmark_csv: str
    """The table, relative to the output folder."""
    report: str
    """The page, relative to the output folder."""

    @property
    def recommended(self) -> BenchmarkRow:
        """The export to use: there is always one."""
        return next(row for row in self.rows if row.is_recommended)


def read(path: Path) -> BenchmarkResult:
    """Raises OSError where it cannot be read, and ValueError where it holds another thing."""
    content = regular_file.read(path, regular_file.LARGEST_RESULT)
    found = regular_file.decode_json(content, BenchmarkResult)
    if not any(row.is_recommended for row in found.rows):
        raise ValueError("no export is recommended")
    return found
