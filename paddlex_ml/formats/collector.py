# SPDX-License-Identifier: Apache-2.0
"""What the readers of foreign formats share: options, the result, and the search for images.

annotations -> Collector.add(list, image, labels) -> Collector.finish(label_names) -> SourceDataset
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paddlex_ml.data.annotation import LISTS, ImageList
from paddlex_ml.data.faults import DatasetFault, combine
from paddlex_ml.data.lines import read_lines
from paddlex_ml.progress import ReportProgress, ignore_progress

CLASS_FILE = "classes.txt"
"""One class name a line, in the order of the ids: for formats that name classes in no order."""

_SHOWN = 5
_NOT_UTF8 = "\ud800-\udfff"  # how Python spells the bytes of a file name that is no UTF-8
_UNFIT = re.compile(rf"[\t\r\n{_NOT_UTF8}]")  # for a line of a list


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a user may choose for a conversion."""

    skip_missing: bool = False
    """Leave images out that are named but not there, instead of refusing them."""
    separator: str | None = None
    """Between the names of one cell of a CSV table; None: found out from the table."""
    progress: ReportProgress = ignore_progress


@dataclass(frozen=True)
class SourceDataset:
    """The content of a source, ready to become label.txt, train.txt and val.txt."""

    label_names: list[str]
    lists: dict[str, ImageList]
    """Keys "train" and "val"; "train" alone where the source does not divide its images."""
    retire: list[Path]
    """Annotation files that become .bak when the lists are written."""
    notes: list[str]
    """What was left out, united or renumbered: a line each, for the user."""


class Absent(NamedTuple):
    """Why an image cannot be named in a list: the parts of a Fault."""

    kind: str
    text: str
    fix: str


class ImageFinder:
    """Finds the files that annotations name. Lists every folder once: no question per image."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._real = Path(os.path.realpath(root))
        self._listings: dict[str, set[str]] = {}
        self._lower: dict[str, dict[str, str]] = {}
        self._places: dict[str, tuple[str, set[str]]] = {}

    def find(self, name: str, folders: Sequence[str]) -> str | Absent:
        """Return the path of image `name` relative to the data set, as it will stand in a list.

        It is looked for in each of `folders` (relative to the data set; "" is the data set itself).
        Separators may be those of Windows; an absolute path must lie inside the data set.
        """
        if "/" not in name and (path := self._find_plain(name, folders)):
            return path  # nearly every image: nothing but the listings was asked
        if not name or "\0" in name:
            fix = "write the path of the image"
            return Absent("image name", f"{name!r} cannot be the name of an image", fix)
        inside: list[str] = []
        # A backslash is a separator unless a file has it in its name, as Linux allows.
        for spelling in dict.fromkeys((name, name.replace("\\", "/"))):
            inside.clear()
            for path in self._candidates(spelling, folders):
                if self._exists(path):
                    return path
                inside.append(path)
        if not inside:
            fix = "move the image into the data set, and write its path relative to its folder"
            return Absent("path outside the data set", f"{name} lies outside the data set", fix)
        return self._explain(name, inside, folders)

    def _find_plain(self, name: str, folders: Sequence[str]) -> str:
        """Find a name without folders; "" where no listing has it."""
        key = os.path.normcase(name)
        for folder in folders:
            if folder not in self._places:
                self._places[folder] = self._open(folder)
            prefix, listing = self._places[folder]
            if key in listing:
                return prefix + name
        return ""

    def _open(self, folder: str) -> tuple[str, set[str]]:
        """What stands before the names of a folder, and the names; none outside the data set."""
        path = os.path.normpath(folder).replace(os.sep, "/")
        if _is_outside(path):
            return "", set()
        return ("", self._list("")) if path == "." else (f"{path}/", self._list(path))

    def _candidates(self, name: str, folders: Sequence[str]) -> Iterator[str]:
        """Relative paths that `name` may mean; those outside the data set are left out."""
        if os.path.isabs(name) or re.match(r"[A-Za-z]:/", name):
            yield from self._relative(name)
            return
        for folder in folders:
            path = os.path.normpath(f"{folder}/{name}" if folder else name).replace(os.sep, "/")
            if not _is_outside(path):
                yield path

    def _relative(self, name: str) -> Iterator[str]:
        """Yield the absolute path `name` relative to the data set; nothing for one outside."""
        path = Path(os.path.normpath(name))
        for start in dict.fromkeys((Path(os.path.abspath(self._root)), self._real)):
            if path.is_relative_to(start):
                yield path.relative_to(start).as_posix()

    def _exists(self, path: str) -> bool:
        folder, name = os.path.split(path)
        listing = self._list(folder)
        return os.path.normcase(name) in listing or self._misses_a_spelling(path)

    def _misses_a_spelling(self, path: str) -> bool:
        # On Linux a listing answers for good; elsewhere the system may know a file by other names.
        return sys.platform in ("win32", "darwin") and os.path.isfile(self._root / path)

    def _list(self, folder: str) -> set[str]:
        if folder not in self._listings:
            self._listings[folder] = _file_names(self._root / folder)
        return self._listings[folder]

    def _explain(self, name: str, tried: list[str], folders: Sequence[str]) -> Absent:
        for path in tried:
            folder, last = os.path.split(path)
            if folder not in self._lower:  # once: a loop per missing image would take hours
                self._lower[folder] = {other.lower(): other for other in self._list(folder)}
            if other := self._lower[folder].get(last.lower()):
                fix = f"rename the file, or write {other}: upper and lower case count"
                there = f"{folder}/{other}" if folder else other
                return Absent("image missing", f"{name} is not there, {there} is", fix)
        places = ", ".join(folder + "/" if folder else "the data set folder" for folder in folders)
        fix = "restore the image, or leave it out: -o CheckDataset.convert.skip_missing=true"
        return Absent("image missing", f"{name} is not there (looked in {places})", fix)


def _is_outside(path: str) -> bool:
    """Whether a normalised path leads out of the data set."""
    return path == ".." or path.startswith(("../", "/"))


def _file_names(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {os.path.normcase(entry.name) for entry in entries if entry.is_file()}
    except (OSError, ValueError):  # ValueError: no file system has such a name, NUL for instance
        return set()


@dataclass
class Collector:
    """Gathers images and labels of a source, and everything that is wrong with it."""

    root: Path
    options: Options
    faults: list[DatasetFault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._finder = ImageFinder(self.root)
        self._rows: dict[str, dict[str, set[Hashable]]] = {}
        self._spelt: dict[str, dict[str, str]] = {}  # normalised path -> path as first named
        self._again = 0
        self._missing: list[str] = []

    def open_list(self, name: str) -> None:
        """Say that the source has this list ("train" or "val"), even if no image comes."""
        assert name in LISTS
        self._rows.setdefault(name, {})
        self._spelt.setdefault(name, {})

    def add(
        self, name: str, image: str, folders: Sequence[str], labels: Iterable[Hashable], where: str
    ) -> None:
        """Add an image to list `name`; an image that comes again keeps all its labels.

        `labels` are keys that `finish` knows; `where` is the place that names the image:
        "instance_train.json images[7]", "train.csv:8".
        """
        self.open_list(name)
        path = self._finder.find(image, folders)
        if isinstance(path, Absent):
            if path.kind == "image missing" and self.options.skip_missing:
                self._missing.append(image)
            else:
                self.fault(path.kind, where, path.text, path.fix)
            return
        if _UNFIT.search(path):
            text = f"the name {path!r} has a tab, a line end, or bytes that are not UTF-8"
            self.fault("image name", where, text, "rename the image file")
            return
        path = self._spelt[name].setdefault(os.path.normcase(path), path)  # normalised already
        row = self._rows[name].get(path)
        if row is None:
            self._rows[name][path] = set(labels)
        else:
            self._again += 1
            row.update(labels)

    def fault(self, kind: str, where: str, text: str, fix: str) -> None:
        """Keep a fault; `finish` raises them all."""
        self.faults.append(DatasetFault(kind, where, text, fix))

    def seen_labels(self) -> set[Hashable]:
        """The labels of all images so far."""
        return {label for rows in self._rows.values() for row in rows.values() for label in row}

    def check(self) -> None:
        """Raise one PaddlexMLError when there are faults."""
        if self.faults:
            raise combine(self.faults, self.root)

    def finish(
        self,
        label_names: Sequence[str],
        keys: Sequence[Hashable] | None = None,
        retire: Sequence[Path] = (),
    ) -> SourceDataset:
        """Make the lists; `keys` are what the images' labels say for each class (None: its name).

        Raises one PaddlexMLError with every fault, also when no image or no class is left.
        """
        if not self.faults and not any(self._rows.values()):
            fix = "look whether this is the folder that the annotations belong to"
            self.fault("nothing found", "", "the source names no image that is there", fix)
        if not self.faults and not label_names:
            self.fault("nothing found", "", "the source names no class", "label the images first")
        self.check()
        order = {key: i for i, key in enumerate(label_names if keys is None else keys)}
        # A list that lost all its images is none: the rest is then one list, to be divided.
        filled = {name: rows for name, rows in self._rows.items() if rows or not self._missing}
        names = filled if len(filled) > 1 else ["train"]
        lists = {
            name: self._list(rows, order) for name, rows in zip(names, filled.values(), strict=True)
        }
        return SourceDataset(list(label_names), lists, list(retire), self._told())

    def _list(self, rows: dict[str, set[Hashable]], order: dict[Hashable, int]) -> ImageList:
        targets = np.zeros((len(rows), len(order)), np.uint8)
        for target, labels in zip(targets, rows.values(), strict=True):
            target[[order[label] for label in labels]] = 1
        return ImageList(self.root, list(rows), targets)

    def _told(self) -> list[str]:
        notes = list(self.notes)
        if self._missing:
            shown = name_first(self._missing)
            notes.append(f"{len(self._missing):,} images are not there, left out: {shown}")
        if self._again:
            notes.append(f"{self._again:,} images were named again: their labels were united")
        return notes


def name_first(names: Sequence[str]) -> str:
    """Name the first few, for a note."""
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def judge_name(name: str, where: str) -> DatasetFault | None:
    """Why a class name, stripped, cannot stand in label.txt; None when it can."""
    # A tab may stand; the other control characters, line ends among them, nobody can see or type.
    if name and not re.search(rf"[\x00-\x08\x0a-\x1f\x7f{_NOT_UTF8}]", name):
        return None
    what = "has a line end, a control character, or no UTF-8 letters" if name else "is empty"
    fix = "give the class a name of one line of text"
    return DatasetFault("class name", where, f"the class name {name!r} {what}", fix)


def order_names(root: Path, seen: Iterable[str]) -> tuple[list[str], list[DatasetFault]]:
    """Class names in the order of the ids, for a format that has no order of its own.

    The order of classes.txt where the data set has one (a class that it lacks is a fault), else
    alphabetical.
    """
    path = root / CLASS_FILE
    if not path.is_file():
        return sorted(seen), []
    lines, faults = read_lines(path)
    first: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        name, where = (line or "").strip(), f"{CLASS_FILE}:{number}"
        if not name:
            continue  # an empty line, or one whose fault is told already
        if fault := judge_name(name, where):
            faults.append(fault)
        if first.setdefault(name, number) != number:
            text = f"the class {name!r} stands in line {first[name]} already"
            faults.append(
                DatasetFault("duplicate class name", where, text, "remove one of the lines")
            )
    names = list(first)
    for name in sorted(set(seen) - set(names)):
        text, fix = f"the class {name!r} is used but not named", f"add a line {name!r}"
        faults.append(DatasetFault("class not named", CLASS_FILE, text, fix))
    return names, faults
