# SPDX-License-Identifier: Apache-2.0
"""Finds the files of a data set by the names in its lists, which may lack folder and ending."""

from __future__ import annotations

import os
from collections.abc import Iterable

from paddlex_ml.data.image_finder import count_common_end, fold
from paddlex_ml.data.walk import is_image

_ENDINGS = (".xml", ".json")  # besides those of images, what a name in a list may end with


class NameIndex:
    """Files by their names. Capitals and the form of Unicode do not count, nor does the ending."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._exact = set(paths)
        self._by_name: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        for path in sorted(self._exact):
            name = fold(path.rpartition("/")[2])
            self._by_name.setdefault(name, []).append(path)
            self._by_stem.setdefault(os.path.splitext(name)[0], []).append(path)

    def find(self, name: str) -> list[str]:
        """The files whose paths have the longest end in common with a name: one, if it is clear
        which is meant, and none, if no file has the name."""
        path = os.path.normpath(name.replace("\\", "/")).replace(os.sep, "/").lstrip("/")
        if path in self._exact:
            return [path]
        *folders, last = path.split("/")
        key = fold(last)
        paths = self._by_name.get(key) or self._by_stem.get(key) or []
        if not paths and (is_image(key) or key.endswith(_ENDINGS)):
            paths = self._by_stem.get(os.path.splitext(key)[0], [])
        lengths = [count_common_end(folders, found.split("/")[:-1]) for found in paths]
        best = [found for found, n in zip(paths, lengths, strict=True) if n == max(lengths)]
        # Of names that differ in capitals the one as written.
        written = {last, os.path.splitext(last)[0]}
        names = [os.path.splitext(found.rpartition("/")[2]) for found in best]
        same = [
            p for p, (stem, end) in zip(best, names, strict=True) if {stem, stem + end} & written
        ]
        return same or best
