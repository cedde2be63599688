# SPDX-License-Identifier: Apache-2.0
"""Global.overwrite: the old run is set aside as a whole, and removed when the new one is safe.

    <output>.old/            the old run, until the first checkpoint of the new one is written
    <output>.old/.set_aside  "moving" while files are moved there, "complete" from then on

A checkpoint folder that is a link, as to a larger disk, stays one: what it leads to is set aside
there, as <target>.old, with a link to it in <output>.old.

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

from paddlex_ml.artifacts import checkpoint
from paddlex_ml.artifacts.run_folder import RunFolder
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
            _remove_run(run, keep_links=True)
            return aside
        remove(aside)
    if not any(path.exists() for path in run.of_training()):  # links may lead to nothing yet
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
    checkpoints = {kept.folder for kept in run.checkpoints()}
    for path in run.of_training():
        if path in checkpoints and path.is_symlink():
            _move_target(path, aside / path.name)
        else:
            path.rename(aside / path.name)
    result = RunFolder(aside).result("train")
    with suppress(FileNotFoundError):
        earlier_run.hidden_result(result).rename(result)
    files.flush_folder(aside)
    files.write_text(aside / _MARK, _COMPLETE)


def _move_target(link: Path, kept: Path) -> None:
    """Rename the folder that `link` leads to, and make `kept` a link to it; `link` stays."""
    target = link.resolve()
    if not target.is_dir():
        return
    if not os.path.lexists(kept):  # else a kill came between these two steps
        kept.symlink_to(_choose_free(target.with_name(f"{target.name}.old")))
    target.rename(kept.readlink())


def find(output: Path) -> Path | None:
    """The folder with the run that was set aside from `output`, or None."""
    for place in _places(output):
        for path in (place, *sorted(place.parent.glob(f"{glob.escape(place.name)}.[0-9]*"))):
            if _read_mark(path):
                return path
    return None


def remove(aside: Path) -> None:
    """Remove a run that was set aside; what others have put into its folders stays, and is told."""
    _remove_run(RunFolder(aside), keep_links=False)
    if all(path.name.startswith((_MARK, f".{_MARK}")) for path in aside.iterdir()):
        shutil.rmtree(aside, ignore_errors=True)
        return
    logger.warning("%s keeps files that this tool has not written", aside)
    (aside / _MARK).unlink(missing_ok=True)


def _remove_run(run: RunFolder, *, keep_links: bool) -> None:
    checkpoints = {kept.folder for kept in run.checkpoints()}
    for path in run.of_training():
        if path in checkpoints:
            checkpoint.remove_own_files(path)
            if path.is_symlink() and not path.exists() and not keep_links:
                path.unlink()
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _free_place(output: Path) -> Path:
    """A name that is free: beside `output`, or inside where that is a disk or link of its own."""
    beside, inside = _places(output)
    parent = beside.parent
    is_usable = os.access(parent, os.W_OK) and parent.stat().st_dev == output.stat().st_dev
    place = beside if is_usable else inside
    return _choose_free(place)


def _choose_free(place: Path) -> Path:
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
        return (aside / _MARK).read_text(encoding="utf-8")
    except OSError:
        return ""
