# SPDX-License-Identifier: Apache-2.0
"""Global.overwrite: the old run is set aside as a whole, and removed when the new one is safe.

    <output>.old/            the old run, until the first checkpoint of the new one is written
    <output>.old/.set_aside  "moving" while files are moved there, "complete" from then on

So no file of two runs stands together in the output folder, whenever a kill comes. Other files in
the output folder, such as the check of the data set, stay where they are.
"""

from __future__ import annotations

import glob
import logging
import os
import shutil
from contextlib import suppress
from itertools import chain, count
from pathlib import Path

from paddlex_ml import systems
from paddlex_ml.artifacts import checkpoint
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.engines.predict import set_aside as predictions
from paddlex_ml.engines.train import earlier_run
from paddlex_ml.storage import files

_MARK = ".set_aside"
_MOVING, _COMPLETE = "moving", "complete"

logger = logging.getLogger(__name__)


def set_aside(output: Path) -> Path | None:
    """Move the run in `output` to `<output>.old`; returns that folder, None without a run.

    The run may be there already, from an earlier start that was killed before its first checkpoint:
    what that start wrote is removed. Raises OSError as the system does.
    """
    finish_moving(output)
    run, aside = RunFolder(output), find(output)
    has_checkpoint = any(kept.folder.is_dir() for kept in run.checkpoints())
    if aside is not None:
        if not has_checkpoint:
            _remove_run(run)
            return aside
        remove(aside)
    if not any(path.exists() for path in _list_run(run)):  # links may lead to nothing yet
        return None
    aside = _free_place(output)
    aside.mkdir(exist_ok=True)
    files.write_text(aside / _MARK, _MOVING)
    finish_moving(output)
    logger.info("the earlier run is in %s until the first checkpoint of this one", aside)
    return aside


def finish_moving(output: Path) -> None:
    """Go on with moving a run aside where a kill has interrupted it."""
    aside = find(output)
    if aside is None or _read_mark(aside) != _MOVING:
        return
    run = RunFolder(output)
    is_training = earlier_run.is_of_training(run) or earlier_run.is_of_training(RunFolder(aside))
    for path in _list_run(run, is_training=is_training):
        systems.rename(path, aside / path.name)
    result = RunFolder(aside).result("train")
    with suppress(FileNotFoundError):
        systems.rename(earlier_run.hidden_result(result), result)
    files.flush_folder(aside)
    files.write_text(aside / _MARK, _COMPLETE)


def _list_run(run: RunFolder, *, is_training: bool | None = None) -> list[Path]:
    """What belongs to the training in a folder, and not what others have given such a name.

    Without a training in it, its config.yaml, its train.log and so on are those of a user; and so
    is a folder of results with nothing in it that this tool wrote.
    """
    is_training = earlier_run.is_of_training(run) if is_training is None else is_training
    results = [run.result(mode) for mode in ("evaluate", "export", "benchmark", "predict")]
    folders, of_training = _list_results(run), run.of_training()
    others = {folder for folder, own in folders.items() if not own}
    if not is_training:
        others |= {*of_training} - {*results, *folders}
    return [path for path in of_training if path not in others]


def _list_results(run: RunFolder) -> dict[Path, list[Path]]:
    """Folder of results -> the files in it that this tool wrote."""
    files = run.evaluate
    evaluated = files.per_class_csv, files.label_errors_csv, files.val_scores, files.report
    measured = run.benchmark.benchmark_csv, run.benchmark.report
    return {
        run.events: sorted(run.events.glob("events.out.tfevents.*")),
        run.evaluate.folder: [path for path in evaluated if path.is_file()],
        run.benchmark.folder: [path for path in measured if path.is_file()],
        run.predict.folder: predictions.list_own(run.predict),
    }


def find(output: Path) -> Path | None:
    """The folder with the run that was set aside from `output`, or None."""
    for place in _places(output):
        for path in (place, *sorted(place.parent.glob(f"{glob.escape(place.name)}.[0-9]*"))):
            if _read_mark(path) and not path.is_symlink():
                return path
    return None


def remove(aside: Path) -> None:
    """Remove a run that was set aside; what others have put into its folders stays, and is told."""
    _remove_run(RunFolder(aside))
    if all(path.name.startswith((_MARK, f".{_MARK}")) for path in aside.iterdir()):
        shutil.rmtree(aside, ignore_errors=True)
        return
    logger.warning("%s keeps files that this tool has not written", aside)
    (aside / _MARK).unlink(missing_ok=True)


def _remove_run(run: RunFolder) -> None:
    checkpoints, results = {kept.folder for kept in run.checkpoints()}, _list_results(run)
    for path in reversed(_list_run(run)):  # run.json last: after a kill it shows what they are
        if path in results:
            _remove_results(path, results[path])
        elif path in checkpoints:
            checkpoint.remove_own_files(path)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _remove_results(folder: Path, own: list[Path]) -> None:
    """Remove these files, and the folders around them that are empty then."""
    for path in own:
        path.unlink()
    around = {parent for path in own for parent in path.parents if parent.is_relative_to(folder)}
    for empty in sorted({folder, *around}, reverse=True):
        with suppress(OSError):
            empty.rmdir()


def _free_place(output: Path) -> Path:
    """A name that is free: beside `output`, or inside where that is a disk or link of its own."""
    beside, inside = _places(output)
    parent = beside.parent
    is_usable = os.access(parent, os.W_OK) and parent.stat().st_dev == output.stat().st_dev
    place = beside if is_usable else inside
    numbered = (place.with_name(f"{place.name}.{number}") for number in count(1))
    return next(path for path in chain([place], numbered) if _is_free(path))


def _is_free(path: Path) -> bool:
    """Whether nothing is there, or only what a kill before the first move left."""
    if not path.is_dir():
        return not os.path.lexists(path)
    return all(entry.name.startswith(f".{_MARK}") for entry in path.iterdir())


def _places(output: Path) -> tuple[Path, Path]:
    output = output.resolve()
    return output.with_name(f"{output.name}.old"), output / ".old"


def _read_mark(aside: Path) -> str:
    try:
        return files.read_regular(aside / _MARK, 100).decode("utf-8", "replace")
    except OSError:
        return ""
