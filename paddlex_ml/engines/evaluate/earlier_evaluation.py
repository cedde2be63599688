# SPDX-License-Identifier: Apache-2.0
"""The files of an earlier evaluation make room for those of another model, all together.

    evaluate_result.json  evaluate/report.html  per_class.csv  label_errors.csv  val_scores.npz
    -> evaluate/evaluation.bak/ with the same names

No backup is replaced: the second one is evaluation.bak.1. A new evaluation of the same model on the
same list replaces the earlier one. The command line gives the earlier result a hidden name when it
begins, so that a program that waits for the new one does not read it.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from paddlex_ml.artifacts import evaluate_result
from paddlex_ml.artifacts.evaluate_result import EvaluationResult
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.engines.train import earlier_run
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import files as storage

logger = logging.getLogger(__name__)


def set_aside(output: Path, new: EvaluationResult) -> Path | None:
    """Keep an earlier evaluation in a folder of its own, unless it is replaced by its like.

    Returns that folder, or None. Call it before the first file of the new evaluation is written.
    """
    run = RunFolder(output)
    path = run.result("evaluate")
    hidden = earlier_run.hidden_result(path)
    backup = None
    for earlier in (hidden, path):
        with suppress(PaddlexMLError):  # none, or one that failed
            if not _is_of_the_same(evaluate_result.read(earlier), new):
                backup = _keep(run, earlier)
            break
    hidden.unlink(missing_ok=True)
    return backup


def _is_of_the_same(earlier: EvaluationResult, new: EvaluationResult) -> bool:
    """Whether two evaluations are of the same model and the same list, as far as both say it."""
    both = []
    for each in (earlier, new):
        parts = Path(each.weight_path).parts
        # The folder of a training may have been moved, or named from another place.
        place = parts if each.run is None else (each.run.id, *parts[-2:])
        both.append((place, each.epoch, each.val_digest))
    return both[0] == both[1]


def _keep(run: RunFolder, result: Path) -> Path:
    files = run.evaluate
    storage.make_folder(files.folder)
    for name in storage.backup_names("evaluation"):
        backup = files.folder / name
        with suppress(FileExistsError):
            backup.mkdir()
            break
    for path in (files.report, files.per_class_csv, files.label_errors_csv, files.val_scores):
        if path.is_file():
            storage.link(path, backup / path.name)
    storage.link(result, backup / run.result("evaluate").name)
    logger.info("the earlier evaluation, not known to be of this model and list: %s", backup)
    return backup
