# SPDX-License-Identifier: Apache-2.0
"""The image that an annotation file of one image belongs to: by its own name and by its content.

An image that was renamed with its annotation file keeps the old name inside that file, which may
be the name of another image now. Where both readings lead to images, they must lead to the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from paddlex_ml.data.image_finder import ImageProblem, fold
from paddlex_ml.data.walk import is_image, join
from paddlex_ml.formats.collector import Collector
from paddlex_ml.wording import count, first_names

_FOLDERS = ("JPEGImages", "images", "image", "imgs", "img")
_OPTION = "-o CheckDataset.convert.image_from"
_CHOICE = (
    f"{_OPTION}=stem (the image that has the name of the file) or {_OPTION}=field (the image that "
    "the file names)"
)


class OwnImage(NamedTuple):
    """What `Collector.add` needs to know of the image of a file."""

    name: str
    folders: list[str]


class _Reading(NamedTuple):
    """One way to find the image: a name, and the image that it leads to."""

    name: str
    path: str = ""
    """"" where no image has the name, or several have it."""
    as_written: bool = False
    several: str = ""
    """Images that have the name, in words, where they are several."""

    def locate(self, folders: list[str]) -> OwnImage:
        """The image as `Collector.add` looks for it; a guess is made and told there."""
        return OwnImage(self.path, [""]) if self.as_written else OwnImage(self.name, folders)


class OwnImages:
    """Finds the image of each annotation file; keeps a fault where that is not clear."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._by_fold = {fold(folder): folder for folder in collector.inventory.folders}
        self._stems: dict[str, dict[str, list[str]]] = {}  # folder -> stem or name -> images
        self._folders: dict[str, list[str]] = {}

    def choose(self, fields: Mapping[str, str]) -> dict[str, OwnImage]:
        """Return the image of each file of `fields`, which has the names inside ("" for none).

        A file whose image is in doubt is a fault and left out.
        """
        by_stem = {path: self._read_stem(path) for path in fields}
        own = {reading.path for reading in by_stem.values()}
        chosen: dict[str, OwnImage] = {}
        users: dict[str, list[str]] = {}
        for path, name in fields.items():
            reading = self._choose_reading(path, by_stem[path], self._read_field(path, name), own)
            if reading:
                chosen[path] = reading.locate(self.list_folders(path))
                users.setdefault(reading.path, []).append(path)
        users.pop("", None)
        if self._collector.options.image_from is None:
            for image, paths in users.items():
                if len(paths) > 1:
                    self._explain_shared(image, paths, by_stem)
        return chosen

    def find_by_stem(self, path: str) -> str:
        """The image that has the name of a file; "" for none."""
        return self._read_stem(path).path

    def list_folders(self, path: str) -> list[str]:
        """Where the image of an annotation file may lie, the likeliest folder first.

        Annotations/s/a.xml: Annotations/s, JPEGImages/s, images/s, Annotations, JPEGImages, ...
        """
        own = path.rpartition("/")[0]
        if own not in self._folders:
            parts = own.split("/") if own else []
            likely = [parts]
            for i in reversed(range(len(parts))):
                likely += [[*parts[:i], name, *parts[i + 1 :]] for name in _FOLDERS]
            for i in reversed(range(len(parts) + 1)):
                likely += [[*parts[:i], name, *parts[i:]] for name in _FOLDERS]
            for i in reversed(range(len(parts))):
                likely += [parts[:i], *([*parts[:i], name] for name in _FOLDERS)]
            there = [self._by_fold.get(fold("/".join(folder))) for folder in likely]
            self._folders[own] = list(dict.fromkeys(f for f in there if f is not None))
        return self._folders[own]

    def _read_stem(self, path: str) -> _Reading:
        folders = self.list_folders(path)
        own, _, file = path.rpartition("/")
        stem = os.path.splitext(file)[0]
        for folder in folders:
            if folder not in self._stems:
                index = self._stems.setdefault(folder, {})
                for name in filter(is_image, self._collector.inventory.names(folder)):
                    for key in (os.path.splitext(name)[0], name):
                        index.setdefault(key, []).append(join(folder, name))
            if paths := self._stems[folder].get(stem):
                if len(paths) > 1:
                    return _Reading(stem, several=" or ".join(paths))
                return _Reading(stem, paths[0], as_written=True)
        return self._guess(join(own, stem), folders)

    def _read_field(self, path: str, name: str) -> _Reading:
        if not name:
            return _Reading("")
        folders = self.list_folders(path)
        found = self._collector.finder.find(name, folders)
        if isinstance(found, str):
            return _Reading(name, found, as_written=True)
        return self._guess(name, folders)

    def _guess(self, name: str, folders: list[str]) -> _Reading:
        guess = self._collector.finder.guess(name, folders)
        if isinstance(guess, ImageProblem):
            return _Reading(name, several=guess.text)
        return _Reading(name, guess.path if guess else "")

    def _choose_reading(
        self, path: str, stem: _Reading, field: _Reading, own: set[str]
    ) -> _Reading | None:
        """The reading that counts; None where that is a fault."""
        wanted = self._collector.options.image_from
        if wanted == "field" and field.path:
            return field
        if wanted == "stem" and not (stem.path or stem.several) and field.path in own:
            return stem  # its image is missing: the one that it names has a file of its own
        same = _is_same(path, field)
        names_other = (field.path and field.path != stem.path) or (field.several and not same)
        if wanted == "stem" and stem.path:
            return stem
        if (stem.path or (stem.several and not same)) and names_other and not wanted:
            meant = field.path or field.several
            text = f"by its own name the file belongs to {stem.path or stem.several}, but it names "
            text += field.name if meant == field.name else f"{field.name} ({meant})"
            self._collector.add_fault("image in doubt", path, text, _CHOICE)
            return None
        if stem.several and (not field.path or wanted == "stem"):
            text = f"the file may belong to {stem.several}"
            fix = "remove one of the images, or rename it and its annotations"
            self._collector.add_fault("image in doubt", path, text, fix)
            return None
        return field if field.path or (field.name and not stem.path) else stem

    def _explain_shared(
        self, image: str, paths: list[str], by_stem: Mapping[str, _Reading]
    ) -> None:
        readings = [f"{path} (its own name: {by_stem[path].path or 'no image'})" for path in paths]
        text = (
            f"{count(len(paths), 'file belongs', 'files belong')} to {image}: "
            f"{first_names(readings, 5)}"
        )
        fix = f"remove all but one, or merge their labels: {_OPTION}=field"
        self._collector.add_fault("image in doubt", paths[-1], text, fix)


def _is_same(path: str, field: _Reading) -> bool:
    """Whether a file names an image of its own name."""
    last = fold(field.name.replace("\\", "/").rpartition("/")[2])
    own = fold(os.path.splitext(path.rpartition("/")[2])[0])
    return own in (last, os.path.splitext(last)[0])
