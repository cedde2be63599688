# SPDX-License-Identifier: Apache-2.0
"""Images in a folder, or that match a pattern: found one by one, in sorted order.

Only the names in the folders above the present image are in memory: of a million images in a
thousand folders these are about a thousand names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal, NamedTuple

from paddlex_ml.data.transforms import SUFFIXES

WILD = re.compile(r"[*?\[]")
_EVERYTHING = ("**", "*")
_ANY_DEPTH = "**"


class _Level(NamedTuple):
    """A folder above the present image, and the names in it that are still to come."""

    prefix: str
    at: frozenset[int]
    """Positions of the parts of the pattern that a name in this folder may match."""
    names: Iterator[str]
    """Names of folders end in a separator, so that they sort as whole paths do."""


def split(pattern: str) -> tuple[str, list[str]]:
    """Folder before the first wildcard ("": the current one), and the parts from there on."""
    root, parts = pattern, [""]
    while WILD.search(root):
        root, part = os.path.split(root)
        parts.insert(0, part)
    return root, os.path.normpath(os.path.join(*parts)).split(os.sep)


def find(
    root: str,
    parts: Sequence[str] = _EVERYTHING,
    skip: Path | None = None,
    suffixes: frozenset[str] = SUFFIXES,
) -> Iterator[tuple[str, OSError | None]]:
    """Yield the images below `root` that fit the parts of a pattern, in the order of their paths.

    Parts are those of glob: `**` is any number of folders, `*` matches no hidden name. A folder
    that cannot be listed is yielded with its error. Links to folders are followed only where a
    part other than `**` matches them: never in circles. The folder `skip` is not entered. Files
    with one of the `suffixes` are images.
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
                listed = _list(folder, parts, inner, suffixes)
            except OSError as error:
                yield folder, error
            else:
                levels.append(_Level(os.path.join(folder, ""), inner, iter(listed)))


def is_same(folder: str, other: Path | None) -> bool:
    """Whether both are the same folder; `other` may not exist yet."""
    try:
        return other is not None and os.path.samefile(folder or os.curdir, other)
    except (OSError, ValueError):  # it does not exist, or has a zero byte
        return False


def _enter(folder: str, at: Iterable[int], parts: Sequence[str]) -> frozenset[int]:
    """What names in `folder` may match, when its own name may match the parts `at`."""
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
    """Add the part after each `**`, because `**` may match no folder at all."""
    closed = set(at)
    for part in range(len(parts)):
        if part in closed and parts[part] == _ANY_DEPTH:
            closed.add(part + 1)
    return frozenset(closed)


def _fits(name: str, part: str) -> bool:
    if name.startswith(".") and not part.startswith("."):
        return False
    return part == "*" or fnmatch(name, part)


def _list(
    folder: str, parts: Sequence[str], at: frozenset[int], suffixes: frozenset[str]
) -> list[str]:
    """Sorted names of the folders in a folder, and of the images that end the pattern."""
    last = parts[-1] if len(parts) - 1 in at else None
    names = []
    with os.scandir(folder or os.curdir) as entries:
        for entry in entries:
            name, kind = entry.name, _kind(entry)
            is_image = name[name.rfind(".") :].lower() in suffixes
            if kind == "folder":
                names.append(name + os.sep)
            elif kind == "file" and is_image and last is not None and _fits(name, last):
                names.append(name)
    names.sort()
    return names


def _kind(entry: os.DirEntry[str]) -> Literal["file", "folder"] | None:
    """None for a pipe or device. A broken link is a file: reading it raises the error."""
    try:
        if entry.is_dir():
            return "folder"
        return "file" if entry.is_symlink() or entry.is_file() else None
    except OSError:  # a link to itself
        return "file"
