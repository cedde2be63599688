# SPDX-License-Identifier: Apache-2.0
"""A data set made anew in a folder of its own: it appears complete, or not at all."""

from __future__ import annotations

import logging
import os
import shlex
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from paddlex_ml.data import annotation
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats.collector import SourceDataset
from paddlex_ml.progress import ReportProgress

Watch = Callable[[str], AbstractContextManager[ReportProgress]]
"""Gives a progress for a piece of work, "unpacked images": `terminal.progress`."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """What was written."""

    folder: Path
    label_names: list[str]
    images: dict[str, int]
    """Images of each list."""
    notes: list[str]

    def told(self) -> list[str]:
        """All of it in lines for a user, with the command that comes next."""
        counts = ", ".join(f"{count:,} {name}" for name, count in self.images.items())
        place = shlex.quote(f"Global.dataset_dir={self.folder}")
        command = "python main.py -c PP-LCNet_x1_0_ML -o Global.mode=check_dataset -o"
        return [
            *self.notes,
            f"wrote {self.folder}: {counts} images, {len(self.label_names)} classes",
            f"check it: {command} {place}",
        ]


@contextmanager
def building(output: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `output` at the end, and vanishes on failure.

    It lies beside `output`, on the same disk. A kill leaves it there, and the next call names it.
    Raises PaddlexMLError as `refuse_full`.
    """
    output = Path(os.path.abspath(output))
    refuse_full(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{output.name}."
    for left in sorted(output.parent.glob(f"{prefix}*.unfinished")):
        _log.warning("%s was left by a run that was killed or is at work still", left)
    with tempfile.TemporaryDirectory(
        prefix=prefix, suffix=".unfinished", dir=output.parent
    ) as aside:
        fresh = Path(aside) / output.name  # messages show its name; the outer folder is private
        fresh.mkdir()
        yield fresh
        if hasattr(os, "sync"):
            os.sync()  # once for all: a flush for each image would take hours
        if output.is_dir():
            output.rmdir()  # known to be empty; Windows does not rename onto a folder
        os.rename(fresh, output)


def write(folder: Path, found: SourceDataset) -> None:
    """Write label.txt and the lists of `found` into a folder that has none."""
    annotation.write_labels(folder / annotation.LABEL_FILE, found.label_names)
    for name, images in found.lists.items():
        annotation.write_list(folder / f"{name}.txt", images.paths, images.targets)


def describe(output: Path, found: SourceDataset) -> Prepared:
    """Say what was written to `output`."""
    images = {name: len(images) for name, images in found.lists.items()}
    return Prepared(output, found.label_names, images, found.notes)


def refuse_full(folder: Path) -> None:
    """Raise PaddlexMLError unless `folder` is empty or not there: nothing is overwritten."""
    if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return
    what = "is a folder with files in it" if folder.is_dir() else "is a file"
    raise PaddlexMLError(
        f"the place for the data set {what}; nothing is overwritten",
        where=str(folder),
        fix="choose another --output, or move it away",
    )
