# SPDX-License-Identifier: Apache-2.0
"""Whether a data set and its lists are there: known before any of them is read, without numpy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from paddlex_ml.data import journal
from paddlex_ml.data.faults import DatasetFault, combine

LABEL_FILE, TRAIN_FILE, VAL_FILE = "label.txt", "train.txt", "val.txt"


def find_folder_fault(root: Path) -> DatasetFault | None:
    """The fault of a data set folder that is none; None where there is one."""
    if root.is_dir():
        return None
    state = "is not a folder" if root.exists() else "does not exist"
    folder = "-o Global.dataset_dir=./dataset/my_set"
    fix = f"{folder} (the folder that holds label.txt, train.txt and val.txt)"
    return DatasetFault("folder missing", "", f"the data set folder {root} {state}", fix)


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
