# SPDX-License-Identifier: Apache-2.0
"""What a text of the configuration names: a weight file, or the folder of a checkpoint.

Only names are looked at, and neither Paddle nor numpy is imported: a path that leads nowhere is
refused before they are (`engines/named_paths`).
"""

from __future__ import annotations

import os
from pathlib import Path

from paddlex_ml.artifacts.run_folder import (
    CHECKPOINT_SUFFIXES,
    WEIGHT_SUFFIXES,
    CheckpointFiles,
    RunFolder,
    find_weights,
    is_exported,
)
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import near_names
from paddlex_ml.wording import path_override


def find_weight_file(text: str, key: str, null: str) -> Path:
    """The weight file of a path, with or without its suffix.

    `key` is the YAML key and `null` what its value null does, both for errors.
    """
    for candidate in (Path(text), *(Path(text + suffix) for suffix in WEIGHT_SUFFIXES)):
        if os.path.isfile(candidate):
            _refuse_exported(candidate, key)
            return candidate
    if inside := find_weights(Path(text)):
        raise PaddlexMLError(
            f"a folder is no weight file: {text}",
            where=key,
            fix=f"name the weight file: {path_override(key, inside)}",
        )
    near = near_names.find(Path(text))
    guess = f"{path_override(key, near)} is there; or " if near else ""
    raise PaddlexMLError(
        f"{_describe_missing(Path(text))}: {text}",
        where=key,
        fix=f"{guess}name an existing file behind {key}, or -o {key}=null, which {null}",
    )


def _describe_missing(path: Path) -> str:
    if not os.path.isdir(path):
        return "no such weight file"
    if any(is_exported(each) for each in path.glob("*")):
        return "the folder holds an exported model, not weights"
    return "the folder holds no weight file"


def _refuse_exported(path: Path, key: str) -> None:
    if not is_exported(path):
        return
    inside = find_weights(path.parent)
    known = f": {path_override(key, inside)}" if inside else f" behind {key}"
    raise PaddlexMLError(
        "this is a file of an exported model, not weights",
        where=str(path),
        fix=f"name the weights that it was made from{known}",
    )


def exists(text: str) -> bool:
    """Whether a file or a folder has this path, or a weight file with its suffix left out."""
    return any(os.path.exists(f"{text}{suffix}") for suffix in ("", *WEIGHT_SUFFIXES))


def find_checkpoint(text: str, key: str) -> Path:
    """The checkpoint folder that `text` names: as folder, file in it, or file without suffix."""
    path = Path(os.path.abspath(text))  # "." has no name of its own; that of a link counts
    for folder in around(text):
        is_meant = folder in (path, path.resolve()) or path.exists()
        is_meant = is_meant or folder.name in (path.name, path.stem)
        if is_meant and CheckpointFiles(folder).states.is_file():
            return folder
    raise PaddlexMLError(
        f"no checkpoint there: {text}",
        where=key,
        fix=f"name a folder that a training wrote{such_as(path)}; -o {key}=null begins anew",
    )


def around(text: str) -> list[Path]:
    """The folders that a text may mean: the path itself or the one around it, links followed."""
    path = Path(os.path.abspath(text))
    real = path.resolve()
    return [*dict.fromkeys((path, path.parent, real, real.parent))]


def such_as(missed: Path) -> str:
    """A checkpoint that is there, in a folder that the user named or beside it, for a fix line."""
    for output in dict.fromkeys((missed, missed.parent, missed.parent.parent)):
        for each in RunFolder(output).checkpoints():
            if each.folder != missed and is_whole(each.folder):
                return f", such as {each.folder}"
    return ""


def is_whole(folder: Path) -> bool:
    """Whether all files of a checkpoint are there."""
    return all((folder / f"{folder.name}{suffix}").is_file() for suffix in CHECKPOINT_SUFFIXES)


def may_be_restored(text: str) -> bool:
    """Whether a kill has left what a folder there is put together from again.

    As `storage.folders` and version 0.1.0 name it.
    """
    endings = ("new", "old", "new.old")
    folders = [each for each in around(text) if each.name]  # that of all disks has no name
    names = (each.with_name(f".{each.name}.{end}") for each in folders for end in endings)
    return any(os.path.lexists(name) for name in names if name.name != "..")
