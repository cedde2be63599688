# SPDX-License-Identifier: Apache-2.0
"""The folder of an evaluation: every class in a table, doubtful labels in another, and the page."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paddlex_ml.artifacts.run_folder import EvaluateFiles, RunFolder
from paddlex_ml.config.schema import Config
from paddlex_ml.data.annotation import MLClsDataset
from paddlex_ml.report import evaluation_page
from paddlex_ml.report.content import EvaluationPage, Suspected
from paddlex_ml.storage.files import write_text

_NAMES = RunFolder(Path()).evaluate  # relative to the output folder, as the result has them
_PLAIN = (
    "name",
    "positives",
    "average_precision",
    "average_precision_11point",
    "threshold",
    "predicted",
    "precision",
    "recall",
    "f1",
    "expected_calibration_error",
)
_TUNED = ("threshold", "precision", "recall", "f1")


def open_folder(config: Config) -> Path:
    """Make the folder now: better to fail before the images are scored than after."""
    folder = RunFolder(config.Global.output).evaluate.folder
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write(
    config: Config,
    result: dict[str, Any],
    dataset: MLClsDataset,
    scores: np.ndarray,
    suspects: Sequence[Suspected] | None,
) -> None:
    """Write what goes beside the result file, and add the names of the files to the result.

    suspects: doubtful labels, the worst first; None where nobody looked for them. What an earlier
    evaluation made and this one does not goes: it would look as if it belonged to the result.
    """
    files = EvaluateFiles(open_folder(config))
    result["per_class_csv"] = _NAMES.per_class_csv.as_posix()
    _write_table(files.per_class_csv, _class_rows(result["per_class"]))
    if suspects is None:
        files.label_errors_csv.unlink(missing_ok=True)
    else:
        result["label_errors"]["csv"] = _NAMES.label_errors_csv.as_posix()
        _write_table(files.label_errors_csv, _suspect_rows(suspects))
    if not config.Evaluate.report:
        files.report.unlink(missing_ok=True)
        return
    result["report"] = _NAMES.report.as_posix()
    val = dataset.val
    content = EvaluationPage(
        result=result,
        label_names=dataset.label_names,
        scores=scores,
        targets=val.targets,
        paths=[val.path(i) for i in range(len(val))],
        shown=val.paths,
        suspects=suspects or (),
    )
    evaluation_page.write(files.report, content)


def _class_rows(per_class: Sequence[Mapping[str, Any]]) -> Iterable[Sequence[Any]]:
    yield [
        *_PLAIN,
        "average_precision_low",
        "average_precision_high",
        *(f"tuned_{k}" for k in _TUNED),
    ]
    for row in per_class:
        tuned = row.get("tuned") or {}
        bounds = row["average_precision_ci95"] or (None, None)
        yield [*(row[key] for key in _PLAIN), *bounds, *(tuned.get(key) for key in _TUNED)]


def _suspect_rows(suspects: Sequence[Suspected]) -> Iterable[Sequence[Any]]:
    yield ["rank", "list", "image", "class", "problem", "label", "score", "quality"]
    for rank, found in enumerate(suspects, start=1):
        problem = "wrong" if found.given else "missing"
        yield [
            rank, found.list_name, found.shown, found.label, problem, int(found.given),
            f"{found.score:.5f}", f"{found.quality:.5f}",
        ]  # fmt: skip


def _write_table(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file: undefined numbers are empty cells."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())
