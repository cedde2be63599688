# SPDX-License-Identifier: Apache-2.0
"""What was measured -> the rows of the result: accuracy, changes, Pareto front, recommendation."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from paddlex_ml.artifacts.benchmark_result import BenchmarkRow
from paddlex_ml.config.schema import Config
from paddlex_ml.engines.benchmark.candidates import Candidate
from paddlex_ml.engines.benchmark.turns import MeasuredExport
from paddlex_ml.metrics import pareto, per_class_threshold, score_changes
from paddlex_ml.metrics.average_precision import mean_average_precision
from paddlex_ml.metrics.decisions import decide
from paddlex_ml.metrics.ties import NOISE

DIGITS = 4
"""Of a mAP: what differs behind them is rounding, and not better."""
EQUAL = 1.05
"""Times the fastest: so much slower may be chance, and other reasons decide."""


def make(
    config: Config, measured: Sequence[MeasuredExport], targets: np.ndarray
) -> list[BenchmarkRow]:
    """A row for each, the fastest first; the first one given is the reference. targets: [N, C]."""
    usual, thresholds = np.concatenate(measured[0].scores), find_thresholds(measured)
    usual_map = mean_average_precision(usual, targets, noise=NOISE)
    rows = []
    for each in measured:
        scores = np.nan_to_num(np.concatenate(each.scores), nan=0.0, posinf=0.0, neginf=0.0)
        changes = score_changes.compare(usual, scores, thresholds)
        found = mean_average_precision(scores, targets, noise=NOISE)
        is_near = changes.share <= config.Export.max_changed_decisions
        candidate, loaded = each.candidate, each.loaded
        assert loaded is not None
        rows.append(
            BenchmarkRow(
                format=candidate.format,
                run_mode=candidate.run_mode,
                folder=None if candidate.is_temporary else str(candidate.folder),
                bytes=candidate.bytes,
                load_seconds=statistics.median(each.loads),
                first_answer_seconds=statistics.median(each.first_answers),
                latency_p50=float(np.percentile(each.seconds, 50)),
                latency_p95=float(np.percentile(each.seconds, 95)),
                speeds=each.speeds,
                peak_bytes=loaded.peak_bytes,
                map=found,
                changed_decisions=changes.share,
                largest_movement=changes.largest,
                keeps_to_budgets=is_near and usual_map - found <= config.Export.max_map_loss,
                is_on_front=False,
                is_recommended=False,
            )
        )
    return _compare(sorted(rows, key=lambda row: row.latency_p50))


def _compare(rows: Sequence[BenchmarkRow]) -> list[BenchmarkRow]:
    """The rows, with the Pareto front and the recommended one."""
    front = pareto.find_front(
        np.array([row.latency_p50 for row in rows]),
        np.array([round(row.map, DIGITS) for row in rows]),
    )
    able = [row for row in rows if row.keeps_to_budgets]  # the reference always does
    near = [row for row in able if row.latency_p50 <= EQUAL * able[0].latency_p50]
    best = min(near, key=lambda row: (row.folder is None, row.latency_p50))
    return [
        msgspec.structs.replace(row, is_on_front=bool(is_on), is_recommended=row is best)
        for row, is_on in zip(rows, front, strict=True)
    ]


def find_thresholds(measured: Sequence[MeasuredExport]) -> np.ndarray:
    """Those in use, float32 [C]: of the first export that was there, else the usual ones."""
    there = [each.candidate for each in measured if not each.candidate.is_temporary]
    return _resolve(there[0] if there else measured[0].candidate)


def find_notes(measured: Sequence[MeasuredExport]) -> Iterator[str]:
    """A line for each export with thresholds of its own, which change decisions too."""
    usual = find_thresholds(measured)
    before = decide(np.concatenate(measured[0].scores), usual)
    for each in measured:
        own = usual if each.candidate.is_temporary else _resolve(each.candidate)
        if not np.array_equal(own, usual):
            share = float((decide(np.concatenate(each.scores), own) != before).mean())
            yield (
                f"{each.candidate.name} has thresholds of its own in inference.yml: with them "
                f"{share:.2%} of the decisions are other ones"
            )


def _resolve(candidate: Candidate) -> np.ndarray:
    """The thresholds of an inference.yml."""
    described, where = candidate.described, str(candidate.folder)
    return per_class_threshold.resolve(described.threshold, described.label_names, where=where)
