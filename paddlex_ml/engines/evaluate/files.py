# SPDX-License-Identifier: Apache-2.0
"""The folder of an evaluation: tables of classes and of doubtful labels, scores, and the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddlex_ml.artifacts import saved_scores
from paddlex_ml.artifacts.evaluate_result import EvaluationResult
from paddlex_ml.artifacts.export_report import ExportReport
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.config.schema import Config
from paddlex_ml.data.annotation import MLClsDataset
from paddlex_ml.engines.evaluate.earlier_evaluation import set_aside
from paddlex_ml.metrics.measures import ClassMeasures
from paddlex_ml.progress import named
from paddlex_ml.report import evaluation_page
from paddlex_ml.report.content import EvaluationPage, SuspectedLabel
from paddlex_ml.storage import csv_text
from paddlex_ml.storage import files as storage

NAMES = RunFolder(Path()).evaluate
"""Relative to the output folder, as the result has them."""
_PLAIN = (
    "name",
    "positives",
    "negatives",
    "average_precision",
    "average_precision_11point",
    "threshold",
    "predicted",
    "precision",
    "recall",
    "f1",
    "expected_calibration_error",
)
_BOUNDS = ("average_precision_low", "average_precision_high")
_TUNED = ("threshold", "precision", "recall", "f1")


def make_folder(config: Config) -> None:
    """Make the folder before the images are scored: a failure here costs no time."""
    storage.make_folder(RunFolder(config.Global.output).evaluate.folder)


@named("writing tables, pictures and the page")
def write(
    config: Config,
    result: EvaluationResult,
    dataset: MLClsDataset,
    scores: np.ndarray,
    suspects: Sequence[SuspectedLabel],
    precision: ExportReport | None = None,
) -> None:
    """Write the files that the result names, and remove those of an earlier evaluation.

    A table or page of an earlier evaluation would look as if it belonged to this result. Those of
    another model are kept (`earlier_evaluation`).
    suspects: doubtful labels, the worst first. precision: of an export in lower precision.
    """
    files, val = RunFolder(config.Global.output).evaluate, dataset.val
    make_folder(config)
    set_aside(config.Global.output, result)
    _write_table(files.per_class_csv, _class_rows(result.per_class))
    saved_scores.write(
        files.val_scores,
        scores,
        val.targets,
        val_digest=result.val_digest,
        label_names=dataset.label_names,
    )
    if result.label_errors is None:
        files.label_errors_csv.unlink(missing_ok=True)
    else:
        _write_table(files.label_errors_csv, _suspect_rows(suspects))
    if result.report is None:
        files.report.unlink(missing_ok=True)
        return
    content = EvaluationPage(
        result=result,
        label_names=dataset.label_names,
        scores=scores,
        targets=val.targets,
        paths=[val.path(i) for i in range(len(val))],
        shown=val.paths,
        suspects=suspects,
        precision=precision,
    )
    evaluation_page.write(files.report, content)


def _class_rows(per_class: Sequence[ClassMeasures]) -> Iterable[Sequence[Any]]:
    yield [*_PLAIN, *_BOUNDS, *(f"tuned_{key}" for key in _TUNED)]
    for row in per_class:
        bounds = row.average_precision_ci95 or (None, None)
        tuned = [None if row.tuned is None else getattr(row.tuned, key) for key in _TUNED]
        yield [*(getattr(row, key) for key in _PLAIN), *bounds, *tuned]


def _suspect_rows(suspects: Sequence[SuspectedLabel]) -> Iterable[Sequence[Any]]:
    yield ["rank", "list", "image", "class", "problem", "label", "score", "quality", "probability"]
    for rank, suspect in enumerate(suspects, start=1):
        problem = "wrong" if suspect.given else "missing"
        yield [
            rank, suspect.list_name, suspect.shown, suspect.label, problem, int(suspect.given),
            f"{suspect.score:.5f}", f"{suspect.quality:.5f}", f"{suspect.probability:.2f}",
        ]  # fmt: skip


def _write_table(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file: undefined numbers are empty cells."""
    storage.write_bytes(path, csv_text.encode(csv_text.write(rows)))
