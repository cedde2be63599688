# SPDX-License-Identifier: Apache-2.0
"""Which json files of a folder are the COCO annotations of train and of val.

Only names that say what they are count: a file is never taken for annotations because it is alone.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from paddlex_ml.data.annotation import LISTS
from paddlex_ml.data.faults import SHOWN
from paddlex_ml.data.journal import undo_command
from paddlex_ml.errors import PaddlexMLError

_PLACES = ("annotations", "")
_NAMED = re.compile(r"instances?_((train|val)([0-9]{4})?)\.json")
_ROBOFLOW = "_annotations.coco.json"
_ROBOFLOW_FOLDERS = {"train": "train", "valid": "val", "val": "val"}
_TEST = re.compile(rf"(.*/)?(instances?|image_info)_test.*\.json|test/{re.escape(_ROBOFLOW)}")
_WANTED = (
    "instance_train.json, instances_train2017.json (or another year, or none) in annotations/ and "
    f"in the data set folder, train/{_ROBOFLOW}; and the same for val (valid/{_ROBOFLOW})"
)


class Source(NamedTuple):
    """A json file: the list ("train" or "val") that it fills, and its path in the data set."""

    list_name: str
    path: str
    folders: tuple[str, ...]
    """Where its images are looked for, one after the other; "" is the data set folder."""


def find(root: Path) -> tuple[list[Source], list[str]]:
    """Files of train and val, and notes on what is left alone.

    Raises PaddlexMLError when there is none, or when two files want to fill one list.
    """
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise PaddlexMLError(
            f"the data set folder {what}",
            where=str(root),
            fix="-o Global.dataset_dir=... (the folder that holds annotations/ and the images)",
        )
    sources = [*_find_named(root), *_find_roboflow(root)]
    chosen: dict[str, Source] = {}
    for source in sources:
        if chosen.setdefault(source.list_name, source) != source:
            raise _ambiguous(root, chosen[source.list_name], source)
    if not chosen:
        raise _none_found(root)
    found = [chosen[name] for name in LISTS if name in chosen]
    return found, _tell(root, found)


def _find_named(root: Path) -> list[Source]:
    sources = []
    for place in _PLACES:
        for name in _list(root, place):
            if match := _NAMED.fullmatch(name):
                folders = (f"images/{match[1]}", match[1], "images", "", place)
                # The same folder once: a message that names the places is read by people.
                unique = tuple(dict.fromkeys(folders))
                sources.append(Source(match[2], _join(place, name), unique))
    return sources


def _find_roboflow(root: Path) -> list[Source]:
    return [
        Source(list_name, f"{folder}/{_ROBOFLOW}", (f"images/{folder}", folder, "images", ""))
        for folder, list_name in _ROBOFLOW_FOLDERS.items()
        if _ROBOFLOW in _list(root, folder)
    ]


def _list(root: Path, folder: str) -> list[str]:
    try:
        return sorted(os.listdir(root / folder))
    except OSError:
        return []


def _is_test(path: str) -> bool:
    return _TEST.fullmatch(path) is not None


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _tell(root: Path, found: list[Source]) -> list[str]:
    notes = [
        f"{path} is left alone: test images neither train nor validate"
        for path in _all_json(root)
        if _is_test(path)
    ]
    if len(found) == 1:
        other = "val" if found[0].list_name == "train" else "train"
        notes.append(f"{found[0].path} is alone, there is no {other}: its images are one list")
        retired = [path for path in _all_retired(root) if re.search(rf"(^|[_/]){other}", path)]
        if retired:
            notes.append(f"{retired[0]} may be the missing {other}, from a conversion before")
    return notes


def _all_json(root: Path) -> list[str]:
    """Every json file where annotations may lie."""
    places = [*_PLACES, *_ROBOFLOW_FOLDERS, "test"]
    paths = [_join(place, name) for place in places for name in _list(root, place)]
    return [path for path in paths if path.lower().endswith(".json")]


def _all_retired(root: Path) -> list[str]:
    """Annotations that a conversion has renamed: *.json.bak, *.json.bak.1."""
    retired = []
    for place in (*_PLACES, *_ROBOFLOW_FOLDERS):
        for name in _list(root, place):
            plain = re.sub(r"\.bak(\.[0-9]+)?$", "", name)
            if plain != name and (plain == _ROBOFLOW or _NAMED.fullmatch(plain)):
                retired.append(_join(place, name))
    return retired


def _ambiguous(root: Path, one: Source, other: Source) -> PaddlexMLError:
    return PaddlexMLError(
        f"two files want to be the {one.list_name} list: {one.path} and {other.path}",
        where=str(root),
        fix=f"move one of them out of the data set, or rename it to {other.path}.unused",
    )


def _none_found(root: Path) -> PaddlexMLError:
    retired = _all_retired(root)
    if retired:
        return PaddlexMLError(
            f"the data set was converted already: {', '.join(retired)}",
            where=str(root),
            fix="go on with -o CheckDataset.convert.enable=false,\n"
            f"         or undo it first: {undo_command(root)}",
        )
    others = _all_json(root)
    told = f"; other json files are there: {', '.join(others[:SHOWN])}" if others else ""
    example = next((path for path in others if not _is_test(path)), "the file")
    return PaddlexMLError(
        f"there are no COCO annotations{told}\n  looked for: {_WANTED}",
        where=str(root),
        fix=f"rename {example} to annotations/instance_train.json, if it has the annotations,\n"
        "         or name the format that it is: -o CheckDataset.convert.src_dataset_type=...",
    )
