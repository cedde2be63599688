# SPDX-License-Identifier: Apache-2.0
"""The folders and files of a source, each folder listed once, always in the same order.

Hidden entries (their name begins with a dot) and `__MACOSX` are left out, as are the output folders
of commands: their pictures are no images of the source. Links to folders are followed, but never in
circles.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from paddlex_ml import systems
from paddlex_ml.data.transforms import SUFFIXES
from paddlex_ml.errors import PaddlexMLError

_MODES = ("check_dataset", "train", "evaluate", "export", "benchmark", "predict")
_OUTPUT = frozenset(
    form.format(mode) for form in (".{}.lock", ".{}.json", "{}_result.json") for mode in _MODES
)
"""Files of an output folder, of which it has one from its first second on."""


class Folder(NamedTuple):
    """A folder by its path relative to the data set ("" is the data set), and what it holds."""

    path: str
    folders: list[str]
    files: list[str]
    """Everything that is not a folder, links to nowhere included."""
    hidden: int
    is_output: bool
    """Whether a command has written its results there."""


def list_folder(root: Path, path: str = "") -> Folder:
    """List one folder, names sorted. Raises PaddlexMLError where it cannot be read."""
    folders: list[str] = []
    files: list[str] = []
    hidden, is_output = 0, False
    try:
        with os.scandir(root / path) as entries:
            for entry in entries:
                is_output |= entry.name in _OUTPUT
                if entry.name.startswith(".") or entry.name == "__MACOSX":
                    hidden += 1
                else:
                    (folders if entry.is_dir() else files).append(entry.name)
    except OSError as error:
        raise PaddlexMLError(
            f"the folder cannot be read: {error.strerror}",
            where=str(root / path),
            fix="name the folder of the data set, and give yourself permission to read it",
        ) from error
    return Folder(path, sorted(folders), sorted(files), hidden, is_output)


def walk(
    root: Path,
    start: str = "",
    unreadable: dict[str, str] | None = None,
    outputs: list[str] | None = None,
) -> Iterator[Folder]:
    """Yield the folder `start` and all folders below it but the output folders of commands.

    Raises PaddlexMLError for a folder that cannot be read; with `unreadable`, such folders below
    `start` are entered there instead: path -> why. Output folders are entered in `outputs`.
    """
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [(start, frozenset())]
    while waiting:
        path, above = waiting.pop()
        try:
            status = (root / path).stat()
            identity = status.st_dev, status.st_ino
        except OSError:
            identity = -1, -1  # list_folder raises the error with its reason
        if identity in above:
            continue  # a link that leads back up
        try:
            folder = list_folder(root, path)
        except PaddlexMLError as error:
            if unreadable is None or path == start:
                raise
            unreadable[path] = error.what
            continue
        if folder.is_output and path != start:
            if outputs is not None:
                outputs.append(path)
            continue
        yield folder
        waiting += [(join(path, name), above | {identity}) for name in reversed(folder.folders)]


def join(folder: str, name: str) -> str:
    """Path of `name` in `folder`, where "" is the data set itself."""
    return f"{folder}/{name}" if folder else name


def is_image(name: str) -> bool:
    """Whether the ending, in upper or lower case, is one of an image."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


class StemIndex:
    """Finds images by their name without the ending."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[str, dict[str, str]] = {}  # folder -> stem -> name

    def find_name(self, stem: str, folders: Sequence[str]) -> str | None:
        """Name, with its ending, of the image in the first folder that has one of this stem.

        Where it is there with several endings, the first by alphabet.
        """
        for folder in folders:
            if folder not in self._names:
                is_there = (self._root / folder).is_dir()
                files = list_folder(self._root, folder).files if is_there else []
                images = filter(is_image, reversed(files))
                self._names[folder] = {os.path.splitext(name)[0]: name for name in images}
            if name := self._names[folder].get(stem):
                return name
        return None


def resolve_inside(root: Path, text: str, folder: str = "") -> str | None:
    """Path, relative to the data set, of what `text` means in `folder`; None outside of it.

    "" is the data set itself. Separators may be those of Windows.
    """
    text = text.replace("\\", "/")
    candidates: list[str | None]
    if systems.is_anchored(text):
        starts = (os.path.abspath(root), os.path.realpath(root))
        candidates = [systems.relative(text, start) for start in starts]
    else:
        candidates = [os.path.normpath(join(folder, text))]
    for candidate in filter(None, candidates):
        path = candidate.replace(os.sep, "/")
        if path.split("/", 1)[0] != "..":
            return "" if path == "." else path
    return None
