# SPDX-License-Identifier: Apache-2.0
"""Which json files of a folder are the COCO annotations of train and of val.

Files are recognised by their names alone: a file is never taken for annotations because it is the
only one.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from paddlex_ml.data.annotation import LISTS
from paddlex_ml.data.faults import SHOWN
from paddlex_ml.data.journal import undo_command
from paddlex_ml.data.walk import join
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats.subsets import note_unused_test
from paddlex_ml.wording import first_names

_FOLDERS = ("annotations", "")
_NAMED = re.compile(r"instances?_((train|val)([0-9]{4})?)\.json")
_ROBOFLOW = "_annotations.coco.json"
_ROBOFLOW_FOLDERS = {"train": "train", "valid": "val", "val": "val"}
_TEST = re.compile(rf"(.*/)?(instances?|image_info)_test.*\.json|test/{re.escape(_ROBOFLOW)}")
_EXPECTED = (
    "instance_train.json, instances_train2017.json (or another year, or none) in annotations/ and "
    f"in the data set folder, train/{_ROBOFLOW}; and the same for val (valid/{_ROBOFLOW})"
)


class CocoSource(NamedTuple):
    """A json file: the list ("train" or "val") that it fills, and its path in the data set."""

    list_name: str
    path: str
    folders: tuple[str, ...]
    """Where its images are looked for, one after the other; "" is the data set folder."""


def find(root: Path) -> tuple[list[CocoSource], list[str]]:
    """Files of train and val, and notes on files that are not used.

    Raises PaddlexMLError when there is none, or when two files could fill one list.
    """
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise PaddlexMLError(
            f"the data set folder {what}",
            where=str(root),
            fix="-o Global.dataset_dir=... (the folder that holds annotations/ and the images)",
        )
    chosen: dict[str, CocoSource] = {}
    for source in list_sources(root):
        first = chosen.setdefault(source.list_name, source)
        if first != source:
            raise PaddlexMLError(
                f"two files could be the {source.list_name} list: {first.path} and {source.path}",
                where=str(root),
                fix=f"move one of them out of the data set, or rename it to {source.path}.unused",
            )
    if not chosen:
        raise _explain_nothing(root)
    notes = [note_unused_test(path) for path in _list_json(root) if _TEST.fullmatch(path)]
    if len(chosen) == 1:
        (source,) = chosen.values()
        other = "val" if source.list_name == "train" else "train"
        notes.append(f"there is {source.path}, but no {other}: its images become one list")
        retired = [path for path in _list_retired(root) if re.search(rf"(^|[_/]){other}", path)]
        if retired:
            notes.append(f"{retired[0]} may be the missing {other}, from an earlier conversion")
    return [chosen[name] for name in LISTS if name in chosen], notes


def list_sources(root: Path) -> list[CocoSource]:
    """All files with a name of train or val: those of PaddleX and COCO, then those of Roboflow."""
    sources = []
    for folder in _FOLDERS:
        for name in _list_names(root, folder):
            if match := _NAMED.fullmatch(name):
                folders = (f"images/{match[1]}", match[1], "images", "", folder)
                # Each folder once, because a message lists them.
                unique = tuple(dict.fromkeys(folders))
                sources.append(CocoSource(match[2], join(folder, name), unique))
    for folder, list_name in _ROBOFLOW_FOLDERS.items():
        if _ROBOFLOW in _list_names(root, folder):
            path = f"{folder}/{_ROBOFLOW}"
            searched = (f"images/{folder}", folder, "images", "")
            sources.append(CocoSource(list_name, path, searched))
    return sources


def _list_names(root: Path, folder: str) -> list[str]:
    try:
        return sorted(os.listdir(root / folder))
    except OSError:
        return []


def _list_json(root: Path) -> list[str]:
    """Every json file where annotations may lie."""
    folders = [*_FOLDERS, *_ROBOFLOW_FOLDERS, "test"]
    paths = [join(folder, name) for folder in folders for name in _list_names(root, folder)]
    return [path for path in paths if path.lower().endswith(".json")]


def _list_retired(root: Path) -> list[str]:
    """Annotations that a conversion has renamed: *.json.bak, *.json.bak.1."""
    retired = []
    for folder in (*_FOLDERS, *_ROBOFLOW_FOLDERS):
        for name in _list_names(root, folder):
            plain = re.sub(r"\.bak(\.[0-9]+)?$", "", name)
            if plain != name and (plain == _ROBOFLOW or _NAMED.fullmatch(plain)):
                retired.append(join(folder, name))
    return retired


def _explain_nothing(root: Path) -> PaddlexMLError:
    if retired := _list_retired(root):
        return PaddlexMLError(
            f"the data set was converted already: {', '.join(retired)}",
            where=str(root),
            fix="go on with -o CheckDataset.convert.enable=false,\n"
            f"         or undo it first: {undo_command(root)}",
        )
    others = _list_json(root)
    shown = f"; other json files are there: {first_names(others, SHOWN)}" if others else ""
    example = next((path for path in others if not _TEST.fullmatch(path)), "the file")
    return PaddlexMLError(
        f"there are no COCO annotations{shown}\n  looked for: {_EXPECTED}",
        where=str(root),
        fix=f"rename {example} to annotations/instance_train.json, if it has the annotations,\n"
        "         or name its format: -o CheckDataset.convert.src_dataset_type=...",
    )
