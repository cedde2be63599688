# SPDX-License-Identifier: Apache-2.0
"""Images in a folder, or that match a pattern: found while they are asked for, in sorted order.

Held are the names in the folders on the way down to the image at hand, and nothing else: of a
million images in a thousand folders there are a thousand names at a time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from paddlex_ml.data.transforms import SUFFIXES

WILD = re.compile(r"[*?\[]")
_EVERYTHING = ("**", "*")
_ANY_DEPTH = "**"


class _Level(NamedTuple):
    """A folder on the way down, and the names in it that are still to come."""

    prefix: str
    at: frozenset[int]
    """Parts of the pattern that a name in this folder may stand for."""
    names: Iterator[str]
    """Those of folders end in a separator, which sorts them as whole paths would be."""


def split(pattern: str) -> tuple[str, list[str]]:
    """Folder before the first wildcard ("": the one you stand in), and the parts from there on."""
    root, parts = pattern, [""]
    while WILD.search(root):
        root, part = os.path.split(root)
        parts.insert(0, part)
    return root, os.path.normpath(os.path.join(*parts)).split(os.sep)


def find(
    root: str, parts: Sequence[str] = _EVERYTHING, skip: Path | None = None
) -> Iterator[tuple[str, OSError | None]]:
    """Yield the images below `root` that fit the parts of a pattern, in the order of their paths.

    Parts are those of glob: `**` is any number of folders, `*` stands for no hidden name. A folder
    that cannot be listed is yielded with its error. Links to folders are followed only where a
    part other than `**` means them: never in circles. The folder `skip` is not entered.
    """
    if parts[-1] == _ANY_DEPTH:
        parts = [*parts, "*"]
    levels = [_Level("", frozenset(), iter((root + os.sep,)))]
    while levels:
        prefix, at, names = levels[-1]
        name = next(names, None)
        if name is None:
            levels.pop()
        elif not name.endswith(os.sep):
            yield prefix + name, None
        else:
            folder = (prefix + name)[:-1]
            is_root = len(levels) == 1
            inner = _closed([0], parts) if is_root else _enter(folder, at, parts)
            if not inner or (is_same(folder, skip) and not is_root):
                continue
            try:
                listed = _list(folder, parts, inner)
            except OSError as error:
                yield folder, error
            else:
                levels.append(_Level(os.path.join(folder, ""), inner, iter(listed)))


def is_same(folder: str, other: Path | None) -> bool:
    """Whether both are one folder, which `other` need not be yet."""
    try:
        return other is not None and os.path.samefile(folder or os.curdir, other)
    except (OSError, ValueError):  # not there, or no path: it has a zero byte
        return False


def _enter(folder: str, at: Iterable[int], parts: Sequence[str]) -> frozenset[int]:
    """What names in `folder` may stand for, when its own may stand for the parts `at`."""
    name = os.path.basename(folder)
    inner = []
    for part in at:
        if parts[part] == _ANY_DEPTH:
            if not name.startswith(".") and not os.path.islink(folder):
                inner.append(part)
        elif part + 1 < len(parts) and _fits(name, parts[part]):
            inner.append(part + 1)
    return _closed(inner, parts)


def _closed(at: Iterable[int], parts: Sequence[str]) -> frozenset[int]:
    """With the parts behind each `**`, which may stand for no folder at all."""
    closed = set(at)
    for part in range(len(parts)):
        if part in closed and parts[part] == _ANY_DEPTH:
            closed.add(part + 1)
    return frozenset(closed)


def _fits(name: str, part: str) -> bool:
    if name.startswith(".") and not part.startswith("."):
        return False
    return part == "*" or fnmatch(name, part)


def _list(folder: str, parts: Sequence[str], at: frozenset[int]) -> list[str]:
    """Sorted names of the folders in a folder, and of the images that end the pattern."""
    last = parts[-1] if len(parts) - 1 in at else None
    names = []
    with os.scandir(folder or os.curdir) as entries:
        for entry in entries:
            name = entry.name
            if name[name.rfind(".") :].lower() in SUFFIXES and _is_file(entry):
                if last is not None and _fits(name, last):
                    names.append(name)
            elif _is_folder(entry):
                names.append(name + os.sep)
    names.sort()
    return names


def _is_file(entry: os.DirEntry[str]) -> bool:
    """No pipe or device; a link to nowhere counts: reading it raises the error that names it."""
    try:
        return not _is_folder(entry) if entry.is_symlink() else entry.is_file()
    except OSError:
        return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
