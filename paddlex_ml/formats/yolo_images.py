# SPDX-License-Identifier: Apache-2.0
"""The images of a YOLO data set: in folders or lists that data.yaml or obj.data names, else in
lists beside the names of the classes, else in folders."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from paddlex_ml.data.image_finder import Guess, fold
from paddlex_ml.data.inventory import OWN_VALUES
from paddlex_ml.data.lines import to_utf8
from paddlex_ml.data.transforms import SUFFIXES
from paddlex_ml.data.walk import is_image, join, resolve_inside, walk
from paddlex_ml.formats.collector import Collector
from paddlex_ml.formats.subsets import assign_lists, divide_files, note_unused_test, parse_subset
from paddlex_ml.formats.yolo_labels import LabelFiles, find_subset
from paddlex_ml.formats.yolo_yaml import DataFile, PathEntry

# An image and its label file, as PaddleLabel writes them.
_PAIR = re.compile(
    rf"(.+?(?:{'|'.join(map(re.escape, SUFFIXES))}))[\s,]+(\S.*\.txt)", re.IGNORECASE
)
_OWN_TARGETS = re.compile(rf"\t{OWN_VALUES}$")  # of a list that a conversion has written
_LIST_NAME = re.compile(r"(train|val|valid|validation|test)(?:[_-]?list)?\.txt", re.IGNORECASE)
TEST = "of the test subset"
"""Why an image or its label file is in no list."""


class YoloImage(NamedTuple):
    """An image as the source names it, the folders to look in, and where it is named."""

    name: str
    folders: tuple[str, ...]
    where: str
    label: str = ""
    """The label file that is named with it."""


def resolve(collector: Collector, image: YoloImage) -> str | None:
    """Path of an image as the collector will have it; None where there is none."""
    found = collector.finder.find(image.name, image.folders)
    if isinstance(found, str):
        return found
    guess = collector.finder.guess(image.name, image.folders)
    return guess.path if isinstance(guess, Guess) else None


class ImageSource:
    """Finds the images, and remembers which text files are lists."""

    def __init__(self, collector: Collector, data: DataFile) -> None:
        self._collector = collector
        self._data = data
        self._root = collector.root
        self.list_files: set[str] = set()
        """The lists that are read."""

    def list_named(self) -> dict[str, list[YoloImage]]:
        """The images of each list that a file names; none where no file does."""
        paths = self._data.paths or self._find_list_files()
        lists = assign_lists(paths)
        bases = self._list_bases()
        for entry in paths.get("test", []):
            self._collector.notes.append(note_unused_test(entry.text))
            self._leave_out(entry, bases)
        return {
            name: [image for entry in paths[subset] for image in self._open(entry, bases)]
            for subset, name in lists.items()
        }

    def list_folders(self, labels: LabelFiles) -> dict[str, list[YoloImage]]:
        """The images of images/ and all others that have labels; all, if there is no images/."""
        inventory = self._collector.inventory
        left_out = self._collector.account.left_out
        every = [path for path in inventory.images if path not in left_out]
        if (self._root / "images").is_dir():
            every = [path for path in every if path.startswith("images/") or path in labels.found]
        if self._data.file:
            text = "names neither `train` nor `val`: the images are found by their folders"
            self._collector.notes.append(f"{self._data.file} {text}")
        left_out.update({path: TEST for path in every if find_subset(path) == "test"})
        lists, faults, notes = divide_files(every, find_subset)
        self._collector.faults += faults
        self._collector.notes += notes
        return {
            name: [YoloImage(path, ("",), path) for path in paths] for name, paths in lists.items()
        }

    def _find_list_files(self) -> dict[str, list[PathEntry]]:
        """train.txt, val_list.txt and so on, in the outermost folder that has a list."""
        found: dict[str, dict[str, list[PathEntry]]] = {}
        inventory = self._collector.inventory
        for path in sorted(inventory.find(".txt"), key=lambda path: path.count("/")):
            folder, _, name = path.rpartition("/")
            match = _LIST_NAME.fullmatch(name)
            if not match or not _is_list(inventory.read_head(path)):
                continue
            entries = found.setdefault(folder, {}).setdefault(parse_subset(match[1]), [])
            entries.append(PathEntry(path, path))
        return next(iter(found.values()), {})

    def _list_bases(self) -> list[str]:
        """The folders that paths may be relative to, the most likely first; "" is the data set."""
        data, root = self._data, self._root
        own = os.path.dirname(data.file)
        if data.base is None:
            return list(dict.fromkeys([own, ""]))
        tried = [resolve_inside(root, data.base.text, folder) for folder in (own, "")]
        bases = [path for path in tried if path is not None and os.path.isdir(root / path)]
        if not bases:
            text = f"path {data.base.text} is not a folder of the data set"
            other = "the other paths are relative to the YAML file"
            self._collector.notes.append(f"{data.base.where}: {text}: {other}")
        return list(dict.fromkeys([*bases, own, ""]))

    def _open(self, entry: PathEntry, bases: list[str]) -> Iterator[YoloImage]:
        """The images of one path: a folder or a list."""
        path = self._find_place(entry, bases)
        if path is None:
            return
        if not os.path.isdir(self._root / path):
            yield from self._read_list(path, bases)
            return
        images = [
            YoloImage(join(inner.path, name), ("",), entry.where)
            for inner in walk(self._root, path)
            for name in filter(is_image, inner.files)
        ]
        if not images:
            fix = "put the images there, correct the path, or remove it from the file"
            text = f"{entry.text} has no image"
            self._collector.add_fault("nothing found", entry.where, text, fix)
        yield from images

    def _read_list(self, path: str, bases: list[str]) -> Iterator[YoloImage]:
        self.list_files.add(path)
        folders = tuple(dict.fromkeys([os.path.dirname(path), *bases, ""]))
        for number, line in enumerate(self._collector.read_lines(path, records=False), 1):
            if line and line.strip():
                text = _OWN_TARGETS.sub("", line.rstrip()).strip()
                pair = _PAIR.fullmatch(text)
                name, label = pair.groups() if pair else (text, "")
                yield YoloImage(name, folders, f"{path}:{number}", label)

    def _find_place(self, entry: PathEntry, bases: list[str]) -> str | None:
        """The folder or list that a path means; None, and a fault, where there is none."""
        paths = self._look_up(entry, bases)
        if len(paths) == 1:
            return paths[0]
        if paths:
            text = f"{entry.text} may be {paths[0]} or {paths[1]}"
        else:
            looked = ", ".join(self._list_exact(entry, bases)) or "nowhere: it lies outside"
            text = f"{entry.text} is neither a folder nor a .txt list of the data set"
            text = f"{text} (looked for {looked})"
        own = self._data.file or "the list"
        fix = f"write the path relative to the folder of {own}, or remove it where there is none"
        self._collector.add_fault("nothing found", entry.where, text, fix)
        return None

    def _look_up(self, entry: PathEntry, bases: list[str]) -> list[str]:
        """The folder or list of a path as written, else those that are most like it."""
        for path in self._list_exact(entry, bases):
            if os.path.isdir(self._root / path):  # False, too, for a name that no disk can have
                return [path]
            if path.lower().endswith(".txt") and os.path.isfile(self._root / path):
                return [path]
        similar = self._find_similar(entry.text.replace("\\", "/"))
        if len(similar) == 1:
            text = f"{entry.text} is not there: {similar[0]} is taken for it"
            self._collector.notes.append(f"{entry.where}: {text}")
        return similar

    def _list_exact(self, entry: PathEntry, bases: list[str]) -> list[str]:
        plain = re.sub(r"^(\.\./)+", "", entry.text.replace("\\", "/"))
        tried = [resolve_inside(self._root, text, b) for text in (entry.text, plain) for b in bases]
        return [path for path in dict.fromkeys(tried) if path is not None]

    def _find_similar(self, text: str) -> list[str]:
        """The folders or lists whose path has the longest end in common with `text`, in any
        capitals, and which belong to the same subset."""
        parts = [fold(part) for part in text.split("/") if part not in ("", ".", "..")]
        inventory = self._collector.inventory
        places = [path for path in (*inventory.folders, *inventory.find(".txt")) if path]
        subset = find_subset("/".join(parts) + "/")
        for length in range(len(parts), 0, -1):
            end = "/" + "/".join(parts[-length:])
            found = [path for path in places if f"/{fold(path)}".endswith(end)]
            if found := [path for path in found if find_subset(path + "/") == subset]:
                return found
        return []

    def _leave_out(self, entry: PathEntry, bases: list[str]) -> None:
        """Enter why the images of the test subset are in no list."""
        collector = self._collector
        paths = self._look_up(entry, bases)
        if len(paths) != 1:
            return  # most often there is no such folder
        inside = f"{paths[0]}/"
        if os.path.isdir(self._root / paths[0]):
            images = [path for path in collector.inventory.images if path.startswith(inside)]
        else:
            listed = self._read_list(paths[0], bases)
            images = [path for image in listed if (path := resolve(collector, image))]
        collector.account.left_out.update(dict.fromkeys(images, TEST))


def _is_list(head: bytes) -> bool:
    """Whether the lines at the beginning of a file name images and have no labels."""
    lines = to_utf8(head)[0].decode("utf-8", "replace").split("\n")[:20]
    named = [_PAIR.sub(r"\1", line.strip()) for line in lines if line.strip()]
    return bool(named) and all(map(is_image, named))
