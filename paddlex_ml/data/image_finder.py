# SPDX-License-Identifier: Apache-2.0
"""The name of an image in an annotation -> the file in the data set, as written or by a guess.

As written: the name below one of the folders that the format has for images. By a guess: the file
whose path has the longest end in common with the name, if there is only one such file.
"""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from paddlex_ml import systems
from paddlex_ml.data.inventory import Inventory
from paddlex_ml.data.walk import is_image, join

_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)", re.IGNORECASE)  # Label Studio's name of an upload
_NO_DIGIT = re.compile(r"\D+")
_NUMBER = re.compile(r"0*([0-9]+)(\.0+)?")  # a spreadsheet makes 123 of 000123, pandas 123.0
_ALIKE = 0.8
"""Share of the letters that two names have in common when one is a slip for the other."""
_OUTSIDE = re.compile(r"/|\.\.(/|\Z)")  # a normalised path that leads out of the data set
# On Linux a listing has every name of a file; other systems may accept other spellings of it.
_OTHER_SPELLINGS = systems.IS_WINDOWS or systems.IS_MACOS
LEAVE_OUT = "restore the image, or leave it out: -o CheckDataset.convert.skip_missing=true"
"""The repair of an image that is named but not there."""


class ImageProblem(NamedTuple):
    """Why an image cannot be named in a list: three of the fields of a DatasetFault."""

    kind: str
    text: str
    fix: str


class Guess(NamedTuple):
    """A file that is most likely meant, and how its path differs from the name."""

    path: str
    how: str
    """"in another folder", "with other capitals", ..."""


class ImageFinder:
    """Finds the files that annotations name. Lists every folder once: no system call per image."""

    def __init__(self, root: Path, inventory: Inventory | None = None) -> None:
        self._root = root
        self._real = Path(os.path.realpath(root))
        self._listings: dict[str, set[str]] = {}
        self._opened: dict[str, tuple[str, set[str]]] = {}  # folder -> prefix of its names, names
        self._inventory = inventory
        # Folded name of the file, alone and behind its folder, and the same without the ending ->
        # paths; filled by a guess. Frames of many films may have the same names.
        self._by_name: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        self._by_number: dict[str, list[str]] = {}  # number that is the whole stem -> paths

    def find(self, name: str, folders: Sequence[str]) -> str | ImageProblem:
        """Return the path of image `name` relative to the data set, as a list will have it.

        It is looked for in each of `folders` (relative to the data set; "" is the data set itself).
        Separators may be those of Windows; an absolute path must lie inside the data set.
        """
        if "/" not in name and (path := self._find_plain(name, folders)):
            return path  # nearly every image: only the listings were needed
        if not name or "\0" in name:
            fix = "write the path of the image"
            return ImageProblem("image name", f"{name!r} cannot be the name of an image", fix)
        tried: list[str] = []
        # A backslash is a separator unless a file has it in its name, as Linux allows.
        for spelling in dict.fromkeys((name, name.replace("\\", "/"))):
            tried.clear()
            for path in self._list_candidates(spelling, folders):
                folder, last = os.path.split(path)
                if os.path.normcase(last) in self._list(folder):
                    return path
                if _OTHER_SPELLINGS and os.path.isfile(self._root / path):
                    return path
                tried.append(path)
        if not tried:
            text = f"{name} lies outside the data set"
            fix = "move the image into the data set, and write its path relative to its folder"
            return ImageProblem("path outside the data set", text, fix)
        looked = ", ".join(folder + "/" if folder else "the data set folder" for folder in folders)
        return ImageProblem("image missing", f"{name} is not there (looked in {looked})", LEAVE_OUT)

    def guess(
        self, name: str, folders: Sequence[str], *, by_number: bool = True
    ) -> Guess | ImageProblem | None:
        """Return the only image that `name`, which `find` has not found, may mean; None for none.

        The name may be a path of another computer or a URL. Capitals, the form of Unicode and the
        ending may differ, and the ending may be missing, as may the eight digits that Label Studio
        puts before the name of an upload. With `by_number` 123 and 123.0 may mean 000123.jpg, also
        beside 123.jpg. Of several files the one counts whose path has the longest end in common
        with the name, then the one in the first of `folders`.
        Returns an ImageProblem where two files are equally likely.
        """
        if not self._by_name:
            self._index_images()
        for spelling in dict.fromkeys((name, unquote(name))):
            *above, last = _split_path(spelling) or [""]
            for index, key in self._list_keys(last, by_number and not above):
                places = [f"{fold(above[-1])}/{fold(key)}"] if above else []
                listed = (index.get(place, []) for place in [*places, fold(key)])
                existing = (
                    [p for p in paths if os.path.isfile(self._root / p)] for paths in listed
                )
                paths = next(filter(None, existing), [])
                if not paths:
                    continue
                best = _choose(paths, [*above, last], folders)
                if len(best) == 1:
                    return Guess(best[0], _compare(last, best[0].rpartition("/")[2]))
                text = f"{name} may be {best[0]} or {best[1]}"
                fix = "write its path relative to the data set folder, or remove one of the two"
                if index is self._by_number:
                    fix += "; a spreadsheet takes the zeros from a name without its ending"
                return ImageProblem("image ambiguous", text, fix)
        return None

    def _list_keys(self, last: str, by_number: bool) -> list[tuple[dict[str, list[str]], str]]:
        """Where to look for the last part of a name, the likeliest first."""
        number = plain_number(last) if by_number else ""
        # The whole name first: IMG.0001 has no ending. 123 may be what is left of 000123.
        keys = [(self._by_name, last)]
        keys += [(self._by_stem, last)] if number != last else []
        keys += [(self._by_stem, os.path.splitext(last)[0])] if is_image(last) else []
        if uploaded := _UPLOADED.fullmatch(last):
            keys.append((self._by_name, uploaded[1]))
        return [*keys, (self._by_number, number)] if number else keys

    def find_alike(self, name: str) -> str:
        """Path of the image whose name is `name` but for a slip in its letters; "" for none.

        The digits must agree: of two photographs in a row neither is a slip for the other.
        """
        if not self._by_stem:
            self._index_images()
        last = fold((_split_path(name) or [""])[-1])
        stem = os.path.splitext(last)[0] if is_image(last) else last
        digits = _NO_DIGIT.sub("", stem)
        same = [s for s in self._by_stem if "/" not in s and _NO_DIGIT.sub("", s) == digits]
        alike = difflib.get_close_matches(stem, same, n=1, cutoff=_ALIKE)
        paths = self._by_stem[alike[0]] if alike else []
        return paths[0] if len(paths) == 1 else ""

    def _index_images(self) -> None:
        inventory = self._inventory or Inventory(self._root)
        for path in inventory.images:
            folder, _, name = fold(path).rpartition("/")
            parent, stem = folder.rpartition("/")[2], os.path.splitext(name)[0]
            if stem.isdecimal() and (number := plain_number(stem)):
                self._by_number.setdefault(number, []).append(path)
            for index, last in ((self._by_name, name), (self._by_stem, stem)):
                index.setdefault(last, []).append(path)
                index.setdefault(f"{parent}/{last}", []).append(path)

    def _find_plain(self, name: str, folders: Sequence[str]) -> str:
        """Find a name without folders; "" where no listing has it."""
        key = os.path.normcase(name)
        for folder in folders:
            if folder not in self._opened:
                path = os.path.normpath(folder).replace(os.sep, "/")
                if _OUTSIDE.match(path):
                    self._opened[folder] = "", set()
                elif path == ".":
                    self._opened[folder] = "", self._list("")
                else:
                    self._opened[folder] = f"{path}/", self._list(path)
            prefix, listing = self._opened[folder]
            if key in listing:
                return prefix + name
        return ""

    def _list_candidates(self, name: str, folders: Sequence[str]) -> Iterator[str]:
        """Relative paths that `name` may mean; those outside the data set are left out."""
        if systems.is_anchored(name) or re.match(r"[A-Za-z]:/", name):
            absolute = Path(os.path.normpath(name))
            for start in dict.fromkeys((Path(os.path.abspath(self._root)), self._real)):
                if absolute.is_relative_to(start):
                    yield absolute.relative_to(start).as_posix()
            return
        for folder in folders:
            path = os.path.normpath(join(folder, name)).replace(os.sep, "/")
            if not _OUTSIDE.match(path):
                yield path

    def _list(self, folder: str) -> set[str]:
        """Names of the files of a folder; none where the folder cannot be read."""
        if folder not in self._listings:
            try:
                with os.scandir(self._root / folder) as entries:
                    names = {os.path.normcase(entry.name) for entry in entries if entry.is_file()}
            except (OSError, ValueError):  # ValueError: a name that no file system has, such as NUL
                names = set()
            self._listings[folder] = names
        return self._listings[folder]


def fold(name: str) -> str:
    """One spelling for names that differ only in capitals or in the form of Unicode."""
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def plain_number(text: str) -> str:
    """A whole number without zeros in front and fraction: "123" of "000123" and of "123.0".

    "" for other texts.
    """
    number = _NUMBER.fullmatch(text)
    return number[1] if number else ""


def _split_path(name: str) -> list[str]:
    """Folders and file of a path of any system, or of a URL without its server and query."""
    name = name.replace("\\", "/")
    if url := re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]+://[^/]*/([^?#]*).*", name):
        name = url[1]
    return [part for part in name.split("/") if part not in ("", ".", "..")]


def _choose(paths: list[str], parts: list[str], folders: Sequence[str]) -> list[str]:
    """The paths that are most like the path of `parts`, whose last part they all resemble."""
    if len(paths) == 1:
        return paths
    lengths = {path: count_common_end(path.split("/")[:-1], parts[:-1]) for path in paths}
    best = [path for path in paths if lengths[path] == max(lengths.values())]
    same = [path for path in best if path.rpartition("/")[2] == parts[-1]]
    best = same or best
    for folder in filter(None, folders):
        inside = [path for path in best if path.startswith(f"{folder}/")]
        if len(inside) == 1:
            return inside
    return best


def count_common_end(first: list[str], second: list[str]) -> int:
    """How many folders at the ends of two paths are the same, apart from capitals."""
    pairs = zip(map(fold, reversed(first)), map(fold, reversed(second)), strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def _compare(name: str, found: str) -> str:
    """How the name of a file that was found differs from what was written."""
    if name == found:
        return "in another folder"
    if unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", found):
        return "in another form of Unicode"
    if fold(name) == fold(found):
        return "with other capitals"
    if fold(name) == fold(os.path.splitext(found)[0]):
        return "without the ending"
    if (number := plain_number(name)) and number == plain_number(os.path.splitext(found)[0]):
        return "by the number"
    if (uploaded := _UPLOADED.fullmatch(name)) and fold(uploaded[1]) == fold(found):
        return "without the digits of an upload"
    return "with another ending"
