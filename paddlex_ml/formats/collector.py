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
from paddlex_ml.formats.walk import join
from paddlex_ml.progress import ReportProgress, ignore_progress
from paddlex_ml.wording import first_names

CLASS_FILE = "classes.txt"
"""One class name a line, in the order of the ids: for formats that do not order their classes."""

_SHOWN = 5
_NOT_UTF8 = "\ud800-\udfff"  # how Python spells the bytes of a file name that is not UTF-8
_UNFIT = re.compile(rf"[\t\r\n{_NOT_UTF8}]")  # for a line of a list
_OUTSIDE = re.compile(r"/|\.\.(/|\Z)")  # a normalised path that leads out of the data set
# On Linux a listing has every name of a file; other systems may accept other spellings of it.
_OTHER_SPELLINGS = sys.platform in ("win32", "darwin")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a user may choose for a conversion."""

    skip_missing: bool = False
    """Leave images out that are named but not there, instead of refusing them."""
    separator: str | None = None
    """Between the names of one cell of a CSV table; None: detected from the table."""
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
    """What was left out, merged or renumbered: a line each, for the user."""


class ImageProblem(NamedTuple):
    """Why an image cannot be named in a list: three of the fields of a DatasetFault."""

    kind: str
    text: str
    fix: str


class ImageFinder:
    """Finds the files that annotations name. Lists every folder once: no system call per image."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._real = Path(os.path.realpath(root))
        self._listings: dict[str, set[str]] = {}
        self._lower: dict[str, dict[str, str]] = {}
        self._opened: dict[str, tuple[str, set[str]]] = {}  # folder -> prefix of its names, names

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
        return self._explain_missing(name, tried, folders)

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
        if os.path.isabs(name) or re.match(r"[A-Za-z]:/", name):
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

    def _explain_missing(self, name: str, tried: list[str], folders: Sequence[str]) -> ImageProblem:
        for path in tried:
            folder, last = os.path.split(path)
            if folder not in self._lower:  # once: a loop per missing image would take hours
                self._lower[folder] = {other.lower(): other for other in self._list(folder)}
            if other := self._lower[folder].get(last.lower()):
                text = f"{name} is not there, {join(folder, other)} is"
                fix = f"rename the file, or write {other}: upper and lower case count"
                return ImageProblem("image missing", text, fix)
        looked = ", ".join(folder + "/" if folder else "the data set folder" for folder in folders)
        fix = "restore the image, or leave it out: -o CheckDataset.convert.skip_missing=true"
        return ImageProblem("image missing", f"{name} is not there (looked in {looked})", fix)


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
        """Make the list `name` ("train" or "val") exist, even if it gets no image."""
        assert name in LISTS
        self._rows.setdefault(name, {})
        self._spelt.setdefault(name, {})

    def add(
        self, name: str, image: str, folders: Sequence[str], labels: Iterable[Hashable], where: str
    ) -> None:
        """Add an image to list `name`; an image that comes again keeps all its labels.

        `labels` are the keys given to `finish`; `where` is the position that names the image:
        "instance_train.json images[7]", "train.csv:8".
        """
        self.open_list(name)
        path = self._finder.find(image, folders)
        if isinstance(path, ImageProblem):
            if path.kind == "image missing" and self.options.skip_missing:
                self._missing.append(image)
            else:
                self.add_fault(path.kind, where, path.text, path.fix)
            return
        if _UNFIT.search(path):
            text = f"the name {path!r} has a tab, a line end, or bytes that are not UTF-8"
            self.add_fault("image name", where, text, "rename the image file")
            return
        path = self._spelt[name].setdefault(os.path.normcase(path), path)  # normalised already
        row = self._rows[name].get(path)
        if row is None:
            self._rows[name][path] = set(labels)
        else:
            self._again += 1
            row.update(labels)

    def add_fault(self, kind: str, where: str, text: str, fix: str) -> None:
        """Keep a fault; `finish` raises them all."""
        self.faults.append(DatasetFault(kind, where, text, fix))

    def raise_faults(self) -> None:
        """Raise one PaddlexMLError when there are faults."""
        if self.faults:
            raise combine(self.faults, self.root)

    def finish(
        self,
        label_names: Sequence[str],
        keys: Sequence[Hashable] | None = None,
        retire: Sequence[Path] = (),
    ) -> SourceDataset:
        """Make the lists; `keys` are the labels given to `add` for each class (None: its name).

        Raises one PaddlexMLError with every fault, also when no image or no class is left.
        """
        if not self.faults and not any(self._rows.values()):
            fix = "look whether this is the folder that the annotations belong to"
            self.add_fault("nothing found", "", "the source names no image that is there", fix)
        if not self.faults and not label_names:
            fix = "label the images first"
            self.add_fault("nothing found", "", "the source names no class", fix)
        self.raise_faults()
        order = {key: i for i, key in enumerate(label_names if keys is None else keys)}
        # A list that lost all its images does not count: the rest is then one list, to be divided.
        filled = {name: rows for name, rows in self._rows.items() if rows or not self._missing}
        names = filled if len(filled) > 1 else ["train"]
        lists: dict[str, ImageList] = {}
        for name, rows in zip(names, filled.values(), strict=True):
            targets = np.zeros((len(rows), len(order)), np.uint8)
            for target, labels in zip(targets, rows.values(), strict=True):
                target[[order[label] for label in labels]] = 1
            lists[name] = ImageList(self.root, list(rows), targets)
        notes = list(self.notes)
        if self._missing:
            shown = first_names(self._missing, 5)
            notes.append(f"{len(self._missing):,} images are not there, left out: {shown}")
        if self._again:
            text = "images are named more than once: their labels were merged"
            notes.append(f"{self._again:,} {text}")
        return SourceDataset(list(label_names), lists, list(retire), notes)


def check_class_name(name: str, where: str) -> DatasetFault | None:
    """Return why a class name, stripped, cannot be in label.txt; None when it can."""
    # A tab is allowed; the other control characters, such as line ends, are invisible.
    if name and not re.search(rf"[\x00-\x08\x0a-\x1f\x7f{_NOT_UTF8}]", name):
        return None
    what = "has a line end, a control character, or letters that are not UTF-8"
    text = f"the class name {name!r} {what if name else 'is empty'}"
    return DatasetFault("class name", where, text, "give the class a name of one line of text")


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
            continue  # an empty line, or one that is a fault already
        if fault := check_class_name(name, where):
            faults.append(fault)
        if first.setdefault(name, number) != number:
            text, fix = f"the class {name!r} is in line {first[name]} already", "remove one line"
            faults.append(DatasetFault("duplicate class name", where, text, fix))
    names = list(first)
    for name in sorted(set(seen) - set(names)):
        text, fix = f"the class {name!r} is used but not named", f"add a line {name!r}"
        faults.append(DatasetFault("class not named", CLASS_FILE, text, fix))
    return names, faults
