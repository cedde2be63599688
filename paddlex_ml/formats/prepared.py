# SPDX-License-Identifier: Apache-2.0
"""Data sets in a new folder: their images and lists, and the summary for a user."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from paddlex_ml import program
from paddlex_ml.data import annotation
from paddlex_ml.formats.collector import SourceDataset
from paddlex_ml.progress import ReportProgress
from paddlex_ml.storage import files
from paddlex_ml.wording import count, path_override

Watch = Callable[[str], AbstractContextManager[ReportProgress]]
"""Gives a progress for a piece of work, "unpacked images": `terminal.progress`."""


@dataclass(frozen=True)
class Prepared:
    """What was written."""

    folder: Path
    label_names: list[str]
    images: dict[str, int]
    """Images of each list."""
    notes: list[str]
    is_soft: bool = False
    """Whether a list has soft values, which a check and a training read only when they are told."""

    def lines(self) -> list[str]:
        """All of it in lines for a user, with the command that comes next."""
        counts = ", ".join(f"{count:,} {name}" for name, count in self.images.items())
        override = path_override("Global.dataset_dir", self.folder)
        command = f"{program.command()} -c PP-LCNet_x1_0_ML -o Global.mode=check_dataset"
        command += " -o Train.soft_labels=true" * self.is_soft
        return [
            *self.notes,
            f"wrote {self.folder}: {counts} images, "
            f"{count(len(self.label_names), 'class', 'classes')}",
            f"check it: {command} {override}",
        ]


def link(source: Path, target: Path) -> None:
    """Make a hard link, or a copy where the disk has no hard links; `source` stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not a link to a symbolic link: its target may be removed later.
    source = Path(os.path.realpath(source))
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without hard links
        shutil.copyfile(source, target)


def write(folder: Path, source: SourceDataset) -> None:
    """Write label.txt and the lists of `source` into a folder that has none."""
    annotation.write_labels(folder / annotation.LABEL_FILE, source.label_names)
    for name, images in source.lists.items():
        files.write_text(folder / f"{name}.txt", images.text())


def describe(output: Path, source: SourceDataset) -> Prepared:
    """Summarise what was written to `output`."""
    images = {name: len(images) for name, images in source.lists.items()}
    is_soft = any(listed.soft is not None for listed in source.lists.values())
    return Prepared(output, source.label_names, images, source.notes, is_soft)
