# SPDX-License-Identifier: Apache-2.0
"""Whether a data set and its lists are there: known before any of them is read, without numpy."""

from __future__ import annotations

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
    if not root.is_dir():
        state = "is not a folder" if root.exists() else "does not exist"
        near = near_names.find(root)
        folder = path_override(_KEY, near or Path("./dataset/my_set"))
        fix = f"{folder} (the folder that holds label.txt, train.txt and val.txt)"
        return DatasetFault("folder missing", "", f"the data set folder {root} {state}", fix)
    if any((root / name).exists() for name in (LABEL_FILE, TRAIN_FILE, VAL_FILE)):
        return None
    try:
        inside = [each for each in sorted(root.iterdir()) if _has_lists(each)]
    except OSError:  # it may be entered, not listed
        inside = []
    found = [root.parent] if _has_lists(root.parent) else inside
    if len(found) != 1:
        return None
    text = f"the data set folder {root} has no lists: they are in {found[0]}"
    return DatasetFault("folder missing", "", text, path_override(_KEY, found[0]))


def _has_lists(folder: Path) -> bool:
    return all((folder / name).is_file() for name in (LABEL_FILE, VAL_FILE))


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
