# SPDX-License-Identifier: Apache-2.0
"""Whether a data set and its lists are there: known before any of them is read, without numpy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from paddlex_ml.data import journal
from paddlex_ml.data.faults import DatasetFault, combine
from paddlex_ml.storage import near_names
from paddlex_ml.wording import path_override

LABEL_FILE, TRAIN_FILE, VAL_FILE = "label.txt", "train.txt", "val.txt"
_KEY = "Global.dataset_dir"


def find_folder_fault(root: Path) -> DatasetFault | None:
    """The fault of a data set folder that is none; None where there is one.

    A folder without any list is none where its parent, or the only such folder in it, has them.
    """
    if not os.path.isdir(root):  # os.path: False where a folder cannot be entered
        state = "is not a folder" if os.path.exists(root) else "does not exist"
        near = near_names.find(root)
        is_folder = near is not None and os.path.isdir(near)
        folder = path_override(_KEY, near if near and is_folder else Path("./dataset/my_set"))
        fix = f"{folder} (the folder that holds label.txt, train.txt and val.txt)"
        return DatasetFault("folder missing", "", f"the data set folder {root} {state}", fix)
    if any(os.path.exists(root / name) for name in (LABEL_FILE, TRAIN_FILE, VAL_FILE)):
        return None
    found = [root.parent] if _has_lists(root.parent) else _find_inside(root)
    if len(found) != 1:
        return None
    text = f"the data set folder {root} has no lists: they are in {found[0]}"
    return DatasetFault("folder missing", "", text, path_override(_KEY, found[0]))


def _find_inside(root: Path) -> list[Path]:
    try:
        with os.scandir(root) as entries:  # it may hold 100,000 images
            folders = [Path(entry.path) for entry in entries if entry.is_dir()]
    except OSError:  # it may be entered, not listed
        return []
    return [each for each in folders if _has_lists(each)]


def _has_lists(folder: Path) -> bool:
    return all(os.path.isfile(folder / name) for name in (LABEL_FILE, VAL_FILE))


def describe(name: str) -> DatasetFault:
    """The fault of a list that is not there."""
    file = name.rpartition("/")[2]
    fix = f"put {file} there, or point Global.dataset_dir at the folder that has it"
    return DatasetFault("file missing", name, f"{name} does not exist", fix)


def refuse(root: Path, names: Sequence[str]) -> None:
    """Raise PaddlexMLError unless the folder and its lists of these names are there."""
    if fault := find_folder_fault(root):
        raise combine([fault], root)
    if all((root / name).exists() for name in names):
        return
    journal.finish_interrupted(root)  # a kill may have left them under other names
    if missing := [describe(name) for name in names if not (root / name).exists()]:
        raise combine(missing, root)
