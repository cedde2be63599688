# SPDX-License-Identifier: Apache-2.0
"""What files a data set folder holds: images, what may be annotations, and the rest, listed once.

Files are told apart by their names; only `read_head` opens one.
"""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path

from paddlex_ml.data import missing_lists
from paddlex_ml.data.transforms import SUFFIXES
from paddlex_ml.data.walk import Folder, join, walk
from paddlex_ml.storage import regular_file

LABEL_FILE, TRAIN_FILE = missing_lists.LABEL_FILE, missing_lists.TRAIN_FILE
VAL_FILE = missing_lists.VAL_FILE
"""The lists of a data set, which `annotation` reads and writes."""
RELATIONS_FILE = "relations.yaml"
"""What holds between the classes; `relations` reads it, and no format has it."""
ANNOTATION_SUFFIXES = frozenset(
    (
        *(".csv", ".json", ".jsonl", ".manifest", ".mat", ".names", ".ndjson", ".parquet"),
        *(".tab", ".tar", ".tsv", ".txt", ".vott", ".xls", ".xlsx", ".xml", ".yaml", ".yml"),
    )
)
"""Endings, in lower case, of files that may have labels or lists."""

# Each space has one place: others would take exponential time.
_SMALL = r"(?:[0-9]{1,4}(?:\.[0-9]*)?[eE]-[0-9]{1,4}|\.[0-9]+(?:[eE][-+]?[0-9]{1,4})?)"
_ONE = rf" *(?:(?:-1(?:\.0*)?|0*[01](?:\.[0-9]*)?|{_SMALL}) *)?"
_SEVERAL = rf"(?:{_ONE}(?:,{_ONE})+|@[-+0-9,:.eE ]*(?:[?!][0-9, ]*)?)"
_WEIGHT = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,4})?"
OWN_VALUES = rf"(?=\S)(?:{_SEVERAL}(?:\t *{_WEIGHT} *)?|{_ONE})"
"""Regular expression of the values of a line of our lists, as of `data/target_lines.py` and
`data/soft_targets.py`, with the weight of the image."""
_OWN_LINE = rb"(\xef\xbb\xbf)?[^\t\n]+\t\s*" + OWN_VALUES.encode() + rb"\s*(\n|\Z)"
HEAD = 2**16
"""Bytes of a file that are enough to see what it is."""
_ANY = 1 << 62  # bytes
_FEW = 200  # files, all of which can be looked into
# Notes for people, which lie in many exports, whatever their ending.
_PROSE = re.compile(r"(read.?me|licen[cs]e|copying|changelog|requirements|citation)\b.*", re.I)


class Inventory:
    """The files below a data set folder, by their paths relative to it, sorted by folder.

    Left out are hidden entries, output folders of commands, and what a conversion or its undoing
    has put aside (`*.bak`, `*.bak.1`, `*.undone`).
    """

    def __init__(self, root: Path, only: str | None = None) -> None:
        """`only`: the one file that counts as annotations; None: all that may be some."""
        self.root, self._only = root, only
        self.unreadable: dict[str, str] = {}
        """Folders that cannot be listed: path -> why."""
        self.outputs: list[str] = []
        """Output folders of commands, which are not looked into."""
        self.folders: dict[str, Folder] = {
            folder.path: folder if only is None else _leave_others(folder, only)
            for folder in walk(root, unreadable=self.unreadable, outputs=self.outputs)
        }
        for path in self.outputs:
            above, _, name = path.rpartition("/")
            self.folders[above].folders.remove(name)

    @cached_property
    def files(self) -> list[str]:
        """Every file."""
        return self._sorted[0]

    @cached_property
    def images(self) -> list[str]:
        """The files with the ending of an image."""
        return self._sorted[1]

    @cached_property
    def annotations(self) -> list[str]:
        """The files that may have labels or lists, by their endings."""
        return self._sorted[2]

    @cached_property
    def _sorted(self) -> tuple[list[str], list[str], list[str]]:
        """All files, the images, and what may be annotations, in one pass over the names."""
        files: list[str] = []
        images: list[str] = []
        annotations: list[str] = []
        for folder in self.folders.values():
            for name in folder.files:
                path = join(folder.path, name)
                suffix = name[name.rfind(".") :].lower()
                if suffix in SUFFIXES:
                    images.append(path)
                elif suffix in ANNOTATION_SUFFIXES:
                    is_meant = is_annotation(path) if self._only is None else path == self._only
                    annotations += [path] if is_meant else []
                elif is_put_aside(name):
                    continue
                files.append(path)
        return files, images, annotations

    @cached_property
    def own_lists(self) -> list[str]:
        """Those of label.txt, train.txt and val.txt that are in our own layout."""
        layouts = {LABEL_FILE: rb"\s*0\s+\S", TRAIN_FILE: _OWN_LINE, VAL_FILE: _OWN_LINE}
        there = self.names("")
        return [
            name
            for name, layout in layouts.items()
            if name in there and re.match(layout, self.read_head(name))
        ]

    @cached_property
    def image_stems(self) -> set[str]:
        """The names of the images, without folder and ending."""
        return {os.path.splitext(path.rpartition("/")[2])[0] for path in self.images}

    def find(self, *suffixes: str) -> list[str]:
        """The files that may have annotations and end with one of `suffixes`, in any case."""
        return [path for path in self.annotations if path.lower().endswith(suffixes)]

    def find_tables(self, *suffixes: str) -> list[str]:
        """The files of `find` that may describe many images: where there are many files, those
        that are named like an image are left out, since each describes that image."""
        files = self.find(*suffixes)
        if len(files) <= _FEW:
            return files
        names = (os.path.splitext(path.rpartition("/")[2])[0] for path in files)
        return [
            path for path, name in zip(files, names, strict=True) if name not in self.image_stems
        ]

    def read_head(self, path: str) -> bytes:
        """The first 64 KiB of a file; b"" where it cannot be read, and for pipes and devices."""
        try:
            with regular_file.open_regular(self.root / path, _ANY, is_text=False) as file:
                return file.read(HEAD)
        except OSError:
            return b""

    def names(self, folder: str) -> list[str]:
        """Names of the files of a folder, sorted; none where there is no such folder."""
        return self.folders[folder].files if folder in self.folders else []


def is_annotation(path: str) -> bool:
    """Whether the name of a file is one of labels or lists."""
    name = path.rpartition("/")[2]
    if path == RELATIONS_FILE or _PROSE.fullmatch(name):
        return False
    return os.path.splitext(name)[1].lower() in ANNOTATION_SUFFIXES


def is_put_aside(name: str) -> bool:
    """Whether a conversion has renamed this file, or the undoing of one."""
    return bool(re.search(r"\.(bak|undone)(\.[0-9]+)?$", name))


def _leave_others(folder: Folder, only: str) -> Folder:
    """The folder without what may be annotations, unless `only`, or what explains it, lies there.

    A data set of another kind, deep below the folder of a table, says nothing about that table.
    """
    if folder.path in ("", os.path.dirname(only)):
        return folder
    kept = [name for name in folder.files if not is_annotation(name)]
    return folder._replace(files=kept)
