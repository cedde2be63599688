# SPDX-License-Identifier: Apache-2.0
"""How a source says what trains and what validates: by names of folders and files.

`train` is for training; `val`, `valid` or `validation` for validation; `test` is left alone, and a
note says so. Upper and lower case mean the same. A source that has only one of the first two does
not divide its images: they make one list, and a split is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from paddlex_ml.data.faults import DatasetFault, combine
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats.collector import name_first
from paddlex_ml.formats.walk import join, list_folder, walk

SPELLINGS = {"train": ["train"], "val": ["val", "valid", "validation"], "test": ["test"]}
_PARTS = {word: part for part, words in SPELLINGS.items() for word in words}


class Table(NamedTuple):
    """A file that names many images, and the part that its place says: "" for none."""

    path: str
    part: str


def part_of(word: str) -> str:
    """Return "train", "val" or "test" for a spelling of it; "" for any other word."""
    return _PARTS.get(word.strip().lower(), "")


def part_of_path(path: str) -> str:
    """Part that the folders of a file say, the outermost first; "" where none does."""
    return next(filter(None, map(part_of, path.split("/")[:-1])), "")


def find_parts(root: Path, folder: str = "", suffix: str = "", inside: str = "") -> dict[str, str]:
    """Find `<folder>/<part><suffix><inside>` on the disk: part -> path relative to the data set.

    `find_parts(root, suffix=".csv")` finds train.csv and valid.csv, `inside="/_classes.csv"` finds
    train/_classes.csv. Raises PaddlexMLError where two spellings of one part are there.
    """
    listed = list_folder(root, folder)
    found: dict[str, str] = {}
    for name in listed.files if suffix else listed.folders:
        part = part_of(name[: len(name) - len(suffix)]) if name.lower().endswith(suffix) else ""
        path = join(folder, name) + inside
        if not part or (inside and not (root / path).is_file()):
            continue
        if part in found:
            raise PaddlexMLError(
                f"both {found[part]} and {path} say what is in {part}",
                where=str(root / folder),
                fix="keep one of the two there, and move the other away",
            )
        found[part] = path
    return found


def lists_of(parts: Iterable[str]) -> dict[str, str]:
    """Which list each part becomes, train first; "test" becomes none."""
    named = set(parts)
    usable = [part for part in ("train", "val") if part in named]
    return {usable[0]: "train"} if len(usable) == 1 else {part: part for part in usable}


def tell_test(path: str) -> str:
    """Say that the source has a test part."""
    return f"{path} is left alone: test images are neither trained on nor validated with"


def divide(paths: Iterable[str]) -> tuple[dict[str, list[str]], list[DatasetFault], list[str]]:
    """Divide files by the folders that they lie in: list -> paths, faults, notes.

    With both train/ and val/, a file in neither is a fault. Otherwise there is one list: all files,
    but those below a folder test/.
    """
    parts: dict[str, list[str]] = {"train": [], "val": [], "": [], "test": []}
    for path in paths:
        parts[part_of_path(path)].append(path)
    test, rest = parts.pop("test"), parts[""]
    told = f"{len(test):,} files in test/ are left alone: {name_first(test)}"
    notes = [told] if test else []
    if not (parts["train"] and parts["val"]):
        every = sorted(path for part in parts.values() for path in part)
        return {"train": every}, [], notes
    del parts[""]
    text = "it lies neither in a folder of train nor of val, while others do"
    fix = "move it into one of the two folders, or out of the data set"
    return parts, [DatasetFault("in no list", path, text, fix) for path in rest], notes


def find_tables(root: Path, suffix: str, inside: str) -> tuple[list[Table], list[str]]:
    """Find the tables of a source, and notes; the first of these that is there is taken:

    1. train<suffix> and val<suffix> (or one of them) in the data set folder
    2. <inside> in the folders train/ and val/ (or one of them)
    3. the only file that ends with <suffix> anywhere in the data set

    Raises PaddlexMLError when there is none, or when several files compete for the third place.
    """
    for found in (find_parts(root, suffix=suffix), find_parts(root, inside=f"/{inside}")):
        notes = [tell_test(found["test"])] if "test" in found else []
        if tables := [Table(path, part) for part, path in found.items() if part != "test"]:
            return sorted(tables), notes
    every = [
        join(folder.path, name)
        for folder in walk(root)
        for name in folder.files
        if name.lower().endswith(suffix)
    ]
    # test.csv counts as much as anything in test/
    test = [path for path in every if part_of_path(path[: -len(suffix)] + "/") == "test"]
    others = [Table(path, "") for path in every if path not in test]
    if len(others) != 1:
        raise combine([_explain_tables(others, suffix, inside)], root)
    return others, [tell_test(path) for path in test]


def _explain_tables(tables: list[Table], suffix: str, inside: str) -> DatasetFault:
    names = f"train{suffix} and val{suffix}, or train/{inside} and val/{inside}"
    if not tables:
        text = f"there is no {suffix} file in the data set"
        return DatasetFault("nothing found", "", text, f"put {names}, or one {suffix} file there")
    shown = name_first([table.path for table in tables])
    text = f"{len(tables):,} {suffix} files are there, and it is not clear which to read: {shown}"
    return DatasetFault("several files", "", text, f"name them {names}, or move all but one away")


def image_folders(table: Table, part: str) -> list[str]:
    """Where the images of a table are looked for, in this order: its own folder, images/, the
    folder of the part, images/ in it, and the data set folder."""
    own = table.path.rpartition("/")[0]
    spelt = [folder for word in SPELLINGS.get(part, []) for folder in (word, f"{word}/images")]
    return list(dict.fromkeys([own, "images", *spelt, ""]))
