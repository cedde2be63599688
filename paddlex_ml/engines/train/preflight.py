# SPDX-License-Identifier: Apache-2.0
"""What a training does to its output folder at its end, done once before its first step.

So a disk or a machine on which it cannot work ends the command now, and not after all epochs.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from paddlex_ml import systems
from paddlex_ml.artifacts import checkpoint
from paddlex_ml.artifacts.checkpoint import Checkpoint, ModelInfo
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.export.static import save_static
from paddlex_ml.progress import named
from paddlex_ml.storage import files, folders
from paddlex_ml.training.plan import Plan
from paddlex_ml.training.state import Training

logger = logging.getLogger(__name__)


@named("trying to write a checkpoint and an export")
def check(training: Training, output: Path, plan: Plan) -> None:
    """Write and remove a small checkpoint and an export of the untrained model.

    Nothing stays, and `training` does not change. Raises PaddlexMLError where something cannot
    work.
    """
    begin = time.monotonic()
    refuse_obstacles(RunFolder(output), plan)
    with _trial_folder(output.resolve(), output) as folder:
        try_checkpoint(training.info, folder)
        try_export(training, folder)
    took = time.monotonic() - begin
    logger.info("checked ahead: a checkpoint can be saved, and the model exported (%.1f s)", took)


def refuse_obstacles(run: RunFolder, plan: Plan) -> None:
    """Raise PaddlexMLError where a file stands in the place of a folder that this run writes.

    And where a folder stands in the place of a file. Links are set aside when they are met.
    """
    kept = (run.epoch(number) for number in range(1, plan.epochs + 1) if plan.is_kept(number))
    folders_of_run = [run.latest, run.best_model, *kept]
    written = [run.run_json, run.config_yaml, run.label_dict, run.train_log, run.metrics_csv]
    written.append(run.val_scores)
    wrong = [(f.folder, "a folder") for f in folders_of_run if f.folder.is_file()]
    wrong += [(run.events, "a folder")] if run.events.is_file() else []
    wrong += [(f, "a file") for f in (*written, run.curves, run.result("train")) if f.is_dir()]
    for path, needed in wrong:
        if not path.is_symlink():
            found = "a file" if needed == "a folder" else "a folder"
            raise PaddlexMLError(
                f"{found} stands where this training writes {needed}",
                where=str(path),
                fix=f"give it another name: {systems.join(['mv', str(path), f'{path}.mine'])}; "
                f"otherwise choose another folder: {files.write_elsewhere(path)}",
            )


def try_checkpoint(info: ModelInfo, folder: Path) -> None:
    """Write a small checkpoint, replace it, give it a second name and remove that."""
    one = {"weight": np.zeros(1, np.float32)}
    small = Checkpoint(info, one, one, optimizer={}, progress={}, fingerprint={})
    latest, kept = RunFolder(folder).latest.folder, RunFolder(folder).epoch(1).folder
    for _ in range(2):
        checkpoint.write(latest, small)
    checkpoint.duplicate(latest, kept)
    checkpoint.verify(kept)
    checkpoint.remove(kept)


def try_export(training: Training, folder: Path) -> None:
    """Export the model that evaluates averaged weights, which are random still, and compare."""
    save_static(training.averaged, training.info, folder / "inference")


@contextmanager
def _trial_folder(place: Path, output: Path) -> Iterator[Path]:
    """Yield an empty folder in `place`, and explain what cannot be done there."""
    # The same name at each start of this run removes what a kill has left.
    digest = hashlib.sha256(os.fsencode(output.resolve())).hexdigest()[:8]
    folder = place / f".paddlex_ml-trial-{digest}"
    try:
        folders.discard(folder)
        folder.mkdir(parents=True)
        yield folder
    except OSError as error:
        raise _explain(error, folder) from error
    finally:
        with suppress(OSError):  # the first error is the cause
            folders.discard(folder)


def _explain(error: OSError, folder: Path) -> PaddlexMLError:
    where = Path(error.filename2 or error.filename or folder)
    if folder in (where, *where.parents):
        known = files.explain(OSError(error.errno, error.strerror, str(folder.parent)))
        return known or PaddlexMLError(
            f"checkpoints and exports cannot be written there: {error.strerror or error}",
            where=str(folder.parent),
            fix=f"choose another folder: {files.write_elsewhere(folder)}",
        )
    return PaddlexMLError(
        f"the model could not be exported after the training: {error.strerror or error}",
        where=str(where),
        fix="let the command write there, or set HOME=/tmp TMPDIR=/tmp before it",
    )
