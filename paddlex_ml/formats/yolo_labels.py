# SPDX-License-Identifier: Apache-2.0
"""Which label file belongs to which image of a YOLO data set.

The usual places come first: `labels/` for `images/`, and beside the image. Then the same folders
under other words (`Annotations/`, `train_labels/`), other capitals and `a.jpg.txt` count, and last
the only file of this name, for folders where no image has one yet. A file is never taken from a
folder that says something else: `val` for `train`, `camera2` for `camera1`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from functools import cache

from paddlex_ml.data.image_finder import fold
from paddlex_ml.data.inventory import Inventory
from paddlex_ml.data.walk import join
from paddlex_ml.formats.subsets import parse_subset, parse_subset_of_path

# What a folder holds, or a version of it: no difference between an image and its labels.
_KIND = re.compile(
    r"(jpe?g|png)?images?|annotations?|labels?txt|label(led|s)?|pictures?|photos?|图片|图像|标注|标签"
    r"|(?<![a-z])(annos?|imgs?|txts?|obj|data|dataset|yolo|[ho]bb|bbox(es)?|boxes)(?![a-z])"
    r"|(?<![a-z0-9])v[0-9]+(\.[0-9]+)*"
)
_HOLDS = r"(?:obj|(?:jpe?g|png)?images?|imgs?|photos?|pictures?|labels?|annotations?|data|set)?"
_SUBSET = re.compile(
    rf"{_HOLDS}[_\- ]?(train|val|valid|validation|test)[_\- ]?(?:{_HOLDS}|[0-9]{{2,4}})"
)
_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")  # before the names of files uploaded to Label Studio


class LabelFiles:
    """The label files of a data set, by the images that they belong to."""

    def __init__(self, inventory: Inventory, others: set[str]) -> None:
        """`others` are the text files that have other things: names, lists of images."""
        self._files = {path for path in inventory.find(".txt") if path not in others}
        self._by_stem: dict[str, list[str]] = {}
        self._by_upload: dict[str, list[str]] = {}
        for path in inventory.find(".txt"):
            if path in self._files:
                stem = fold(os.path.splitext(path.rpartition("/")[2])[0])
                self._by_stem.setdefault(stem, []).append(path)
                if plain := _UPLOAD.match(stem):
                    self._by_upload.setdefault(stem[plain.end() :], []).append(path)
        self._taken: set[str] = set()
        self.found: dict[str, list[str]] = {}
        """Image -> its label file; several where more than one may be it."""
        self.unusual: dict[str, str] = {}
        """Image -> its label file, where that does not lie in a usual place under its name."""
        self.disputed: dict[str, list[str]] = {}
        """Label file -> the images of which one may be its own."""

    def __contains__(self, path: str) -> bool:
        return path in self._files

    def match(self, images: Iterable[str]) -> None:
        """Find the label files of all images of the data set, also of those in no list."""
        left = []
        for image in images:
            if usual := [path for path in _list_usual(image) if path in self._files]:
                self.found[image] = usual
                self._taken.update(usual)
            else:
                left.append(image)
        for image, paths in self.found.items():
            candidates = self._list_candidates(image, self._by_stem)
            if len(candidates) > len(paths):
                place = _place(_get_folder(image))
                same = (path for path in candidates if _place(_get_folder(path)) == place)
                paths[:] = dict.fromkeys([*paths, *same])
        self._taken.update(path for paths in self.found.values() for path in paths)
        for index, is_loose in (
            (self._by_stem, False),
            (self._by_stem, True),
            (self._by_upload, True),
        ):
            left = self._match_similar(left, index, is_loose)
            # Where others of a folder have labels, these have none, not those of another place.
            folders = {_get_folder(image) for image in self.found}
            left = [image for image in left if _get_folder(image) not in folders]

    def list_unused(self) -> list[str]:
        """The text files that belong to no image, sorted."""
        return sorted(self._files - self._taken)

    def _match_similar(
        self, images: list[str], index: dict[str, list[str]], is_loose: bool
    ) -> list[str]:
        """Give images the label files of similar paths; return the images that get none.

        The places must be the same, or with `is_loose` one may say less than the other.
        """
        claims: dict[str, list[str]] = {}
        found: dict[str, list[str]] = {}
        for image in images:
            candidates = self._list_candidates(image, index)
            place = _place(_get_folder(image))
            if is_loose:
                paths = [path for path in candidates if _is_nested(place, path)]
            else:
                paths = [path for path in candidates if _place(_get_folder(path)) == place]
            if paths:
                found[image] = paths
                for path in paths:
                    claims.setdefault(path, []).append(image)
        for path, claimants in claims.items():
            if len({os.path.splitext(image)[0] for image in claimants}) > 1:
                self.disputed[path] = claimants
                self._taken.add(path)
        for image, paths in found.items():
            if sure := [path for path in paths if path not in self.disputed]:
                self.found[image] = sure
                self.unusual[image] = sure[0]
                self._taken.update(sure)
        return [image for image in images if image not in found]

    def _list_candidates(self, image: str, index: dict[str, list[str]]) -> list[str]:
        """The label files that no image has, named like this one: a.txt and a.jpg.txt."""
        name = fold(image.rpartition("/")[2])
        stem = os.path.splitext(name)[0]
        paths = [*index.get(name, []), *index.get(stem, [])]
        own = self.found.get(image, [])
        return [path for path in paths if path not in self._taken or path in own]


def find_subset(path: str) -> str:
    """The subset that the folders of a path name, also as `train_images`, `obj_train_data` or
    `train2017`; "" for none."""
    return parse_subset_of_path(path) or next(
        (
            parse_subset(match[1])
            for folder in path.lower().split("/")[:-1]
            if (match := _SUBSET.fullmatch(folder))
        ),
        "",
    )


def _list_usual(image: str) -> Iterator[str]:
    """The usual paths of the label file of an image."""
    folder, _, name = image.rpartition("/")
    file = os.path.splitext(name)[0] + ".txt"
    names = folder.split("/")
    if "images" in names:
        last = len(names) - 1 - names[::-1].index("images")
        yield "/".join([*names[:last], "labels", *names[last + 1 :], file])
    yield join(folder, file)


@cache
def _place(folder: str) -> tuple[str, ...]:
    """The words of a folder's path, sorted, without those that say what it holds."""
    words = re.findall(r"[^\W_]+", _KIND.sub(" ", fold(folder)))
    return tuple(sorted(parse_subset(word) or word for word in words))


def _is_nested(place: tuple[str, ...], path: str) -> bool:
    """Whether one of a place and that of a path says all that the other says, and maybe more."""
    a, b = {*place}, {*_place(_get_folder(path))}
    return a <= b or b <= a


def _get_folder(path: str) -> str:
    return path.rpartition("/")[0]
