# SPDX-License-Identifier: Apache-2.0
"""Images in a folder, or that match a pattern: found one by one, in sorted order.

An image is what has the ending of one, and otherwise what its first bytes say. Files that are no
images, and images that cannot be read here, are found too, with their kind; texts, hidden files and
links to folders are only counted.

Only the names in the folders above the present image are in memory: of a million images in a
thousand folders these are about a thousand names.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal, NamedTuple

from paddlex_ml.data import file_kinds
from paddlex_ml.data.file_kinds import FileKind
from paddlex_ml.data.inventory import ANNOTATION_SUFFIXES, is_put_aside
from paddlex_ml.data.transforms import SUFFIXES

WILD = re.compile(r"[*?\[]")
_EVERYTHING = ("**", "*")
_ANY_DEPTH = "**"
_OF_SYSTEM = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini"))  # Windows writes them
_CERTAIN = SUFFIXES - file_kinds.PLUGIN_SUFFIXES.keys()
_NOTES = ANNOTATION_SUFFIXES - {".tar"}
_MOST_NAMED = 5  # of the links that are left out


class Found(NamedTuple):
    """A file, or a folder that cannot be listed."""

    path: str
    error: OSError | None = None
    """Why a folder cannot be listed."""
    has_image_name: bool = True
    """False where the first bytes say what the file is."""
    kind: FileKind | None = None
    """What is known of a file that cannot be read as an image."""


@dataclass
class LeftOut:
    """What was seen beside the images, and is none of `Found`."""

    endings: Counter[str] = field(default_factory=Counter)
    """Texts and files put aside, by their ending; "" for none."""
    hidden: int = 0
    """Files and folders."""
    links: list[str] = field(default_factory=list)
    """Links to folders, the first of them."""
    num_links: int = 0
    special: int = 0
    """Pipes and devices."""

    def add_link(self, path: str) -> None:
        """Count a link to a folder."""
        self.num_links += 1
        if len(self.links) < _MOST_NAMED:
            self.links.append(path)


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
    left_out: LeftOut | None = None,
) -> Iterator[Found]:
    """Yield the files below `root` that fit the parts of a pattern, in the order of their paths.

    Parts are those of glob: `**` is any number of folders, `*` matches no hidden name. A folder
    that cannot be listed is yielded with its error. Links to folders are followed only where a
    part other than `**` matches them: never in circles. The folder `skip` is not entered. What is
    no image by its name or its kind is entered into `left_out`.
    """
    left_out = LeftOut() if left_out is None else left_out
    if parts[-1] == _ANY_DEPTH:
        parts = [*parts, "*"]
    levels = [_Level("", frozenset(), iter((root + os.sep,)))]
    while levels:
        prefix, at, names = levels[-1]
        name = next(names, None)
        if name is None:
            levels.pop()
        elif not name.endswith(os.sep):
            path = prefix + name
            if name[name.rfind(".") :].lower() in _CERTAIN:
                yield Found(path)
            elif found := _recognise(path, left_out):
                yield found
        else:
            folder = (prefix + name)[:-1]
            is_root = len(levels) == 1
            inner = _closed([0], parts) if is_root else _enter(folder, at, parts)
            if not inner or (is_same(folder, skip) and not is_root):
                if not inner and os.path.islink(folder) and not name.startswith("."):
                    left_out.add_link(folder)
                continue
            try:
                listed = _list(folder, parts, inner, left_out)
            except OSError as error:
                yield Found(folder, error)
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


def _list(folder: str, parts: Sequence[str], at: frozenset[int], left_out: LeftOut) -> list[str]:
    """Sorted names of the folders in a folder, and of the files that end the pattern."""
    last = parts[-1] if len(parts) - 1 in at else None
    names = []
    with os.scandir(folder or os.curdir) as entries:
        for entry in entries:
            name, kind = entry.name, _kind(entry)
            if last == "*" and name.startswith("."):
                left_out.hidden += 1
            if kind == "folder":
                names.append(name + os.sep)
            elif last is None or not _fits(name, last):
                continue
            elif kind is None:
                left_out.special += 1
            elif name[name.rfind(".") :].lower() in SUFFIXES:
                names.append(name)
            elif _suffix(name) in _NOTES or is_put_aside(name) or name.lower() in _OF_SYSTEM:
                left_out.endings[_suffix(name)] += 1
            else:
                names.append(name)
    names.sort()
    return names


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _recognise(path: str, left_out: LeftOut) -> Found | None:
    """The file, if it is no text; its first bytes are read where its ending does not say enough."""
    suffix = _suffix(path)
    has_image_name = suffix in SUFFIXES
    if has_image_name and not file_kinds.may_need_package(suffix):
        return Found(path)
    kind = file_kinds.look(path)
    if kind == "text" and not has_image_name:
        left_out.endings[suffix] += 1
        return None
    return Found(path, None, has_image_name, kind if isinstance(kind, FileKind) else None)


def _kind(entry: os.DirEntry[str]) -> Literal["file", "folder"] | None:
    """None for a pipe or device. A broken link is a file: reading it raises the error."""
    try:
        if entry.is_dir():
            return "folder"
        return "file" if entry.is_symlink() or entry.is_file() else None
    except OSError:  # a link to itself
        return "file"
