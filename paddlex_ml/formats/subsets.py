# SPDX-License-Identifier: Apache-2.0
"""The subsets of a source, train, val and test, by the names of its folders and files.

`train` is for training; `val`, `valid` or `validation` for validation; `test` is not used, and a
note says so. Upper and lower case mean the same. A source that has only one of the first two does
not divide its images: they make one list, and a split is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from paddlex_ml.data.faults import DatasetFault, combine
from paddlex_ml.data.walk import join, list_folder, walk
from paddlex_ml.errors import Lines, PaddlexMLError
from paddlex_ml.safe_text import one_line
from paddlex_ml.systems import quote
from paddlex_ml.wording import count, first_names

SPELLINGS = {"train": ["train"], "val": ["val", "valid", "validation"], "test": ["test"]}
_SUBSETS = {word: subset for subset, words in SPELLINGS.items() for word in words}


class SourceTable(NamedTuple):
    """A file that names many images, and the subset that its path names: "" for none."""

    path: str
    subset: str


def parse_subset(word: str) -> str:
    """Return "train", "val" or "test" for a spelling of it; "" for any other word."""
    return _SUBSETS.get(word.strip().lower(), "")


def parse_subset_of_path(path: str) -> str:
    """Return the subset that the folders of a file name, the outermost first; "" for none."""
    return next(filter(None, map(parse_subset, path.split("/")[:-1])), "")


def parse_subset_of_file(path: str) -> str:
    """Return the subset that a word in the name of a file tells, else its folders; "" for none.

    "instances_Train.json" and "train2017.json" are of train, "train_val.json" is of none.
    """
    stem = path.rpartition("/")[2].rpartition(".")[0]
    found = set(filter(None, map(parse_subset, re.findall(r"[^\W\d_]+", stem))))
    if found:
        return found.pop() if len(found) == 1 else ""
    return parse_subset_of_path(path)


def choose_files(root: Path, paths: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Choose the files of train and of val, or the only file of neither: list -> path.

    Also returns the files of test. Raises PaddlexMLError where two files could be one list.
    """
    groups: dict[str, list[str]] = {}
    for path in paths:
        groups.setdefault(parse_subset_of_file(path), []).append(path)
    test = groups.pop("test", [])
    for subset, group in groups.items():
        if len(group) > 1:
            raise explain_several(root, f"could be the {subset} list" if subset else "", group)
    if "" in groups and len(groups) > 1:
        raise explain_several(root, "", [path for group in groups.values() for path in group])
    lists = {"": "train", **assign_lists(groups)}
    return {lists[subset]: group[0] for subset, group in groups.items()}, test


def explain_several(root: Path, what: str, paths: Sequence[str]) -> PaddlexMLError:
    """The error for files of which only one can be read; its repair puts the others aside."""
    names = " and ".join(paths) if len(paths) == 2 else first_names(paths, 5)
    count = "two" if len(paths) == 2 else f"{len(paths):,}"
    what = what or "have annotations, and it is not clear which to read"
    whole = [one_line(f"{root / path}") for path in paths[:5]]
    moves = [f"mv {quote(path)} {quote(f'{path}.unused')}" for path in whole]
    return PaddlexMLError(
        f"{count} files {what}: {names}",
        where=str(root),
        fix=Lines("put all but one aside:\n         " + "   or\n         ".join(moves)),
    )


def find_subsets(
    root: Path, folder: str = "", suffix: str = "", inside: str = ""
) -> dict[str, str]:
    """Find `<folder>/<subset><suffix><inside>`: subset -> path relative to the data set.

    `find_subsets(root, suffix=".csv")` finds train.csv and valid.csv, `inside="/_classes.csv"`
    finds train/_classes.csv. Raises PaddlexMLError where a subset is there in two spellings.
    """
    listed = list_folder(root, folder)
    paths: dict[str, str] = {}
    for name in listed.files if suffix else listed.folders:
        stem = name[: len(name) - len(suffix)]
        subset = parse_subset(stem) if name.lower().endswith(suffix) else ""
        path = join(folder, name) + inside
        if not subset or (inside and not (root / path).is_file()):
            continue
        if subset in paths:
            raise PaddlexMLError(
                f"both {paths[subset]} and {path} are there for {subset}",
                where=str(root / folder),
                fix="keep one of the two there, and move the other away",
            )
        paths[subset] = path
    return paths


def assign_lists(subsets: Iterable[str]) -> dict[str, str]:
    """Return the list that each subset becomes, train first; "test" becomes none."""
    named = set(subsets)
    usable = [subset for subset in ("train", "val") if subset in named]
    return {usable[0]: "train"} if len(usable) == 1 else {subset: subset for subset in usable}


def note_unused_test(path: str) -> str:
    """Write the note that the test subset at `path` is not used."""
    return f"{path} is not used: test images are neither for training nor for validation"


def divide_files(
    paths: Iterable[str], find_subset: Callable[[str], str] = parse_subset_of_path
) -> tuple[dict[str, list[str]], list[DatasetFault], list[str]]:
    """Divide files by the folders that they lie in: list -> paths, faults, notes.

    `find_subset` tells the subset of a path: "" for none.

    With both train/ and val/, a file in neither is a fault. Otherwise there is one list: all files,
    except those below a folder test/.
    """
    lists: dict[str, list[str]] = {"train": [], "val": [], "": [], "test": []}
    for path in paths:
        lists[find_subset(path)].append(path)
    test, rest = lists.pop("test"), lists[""]
    unused = count(len(test), "file in test/ is", "files in test/ are")
    notes = [f"{unused} not used: {first_names(test, 5)}"] if test else []
    if not (lists["train"] and lists["val"]):
        return {"train": sorted(path for listed in lists.values() for path in listed)}, [], notes
    del lists[""]
    text = "the file is neither in a train nor in a val folder, but others are"
    fix = "move it into one of the two folders, or out of the data set"
    return lists, [DatasetFault("in no list", path, text, fix) for path in rest], notes


def find_tables(root: Path, suffix: str, inside: str) -> tuple[list[SourceTable], list[str]]:
    """Find the tables of a source, and notes; the first of these that is there is taken:

    1. train<suffix> and val<suffix> (or one of them) in the data set folder
    2. <inside> in the folders train/ and val/ (or one of them)
    3. the only file that ends with <suffix> anywhere in the data set

    Raises PaddlexMLError when there is none, or when several files are candidates for the third.
    """
    for paths in (find_subsets(root, suffix=suffix), find_subsets(root, inside=f"/{inside}")):
        tables = [SourceTable(path, subset) for subset, path in paths.items() if subset != "test"]
        if tables:
            return sorted(tables), [note_unused_test(paths["test"])] if "test" in paths else []
    every = [
        join(folder.path, name)
        for folder in walk(root)
        for name in folder.files
        if name.lower().endswith(suffix)
    ]
    # test.csv counts as much as anything in test/
    test = [path for path in every if parse_subset_of_path(path[: -len(suffix)] + "/") == "test"]
    others = [path for path in every if path not in test]
    if len(others) == 1:
        return [SourceTable(others[0], "")], [note_unused_test(path) for path in test]
    names = f"train{suffix} and val{suffix}, or train/{inside} and val/{inside}"
    if others:
        text = f"there are {len(others):,} {suffix} files, and it is not clear which to read"
        text = f"{text}: {first_names(others, 5)}"
        fix = f"name them {names}, or move all but one away"
        raise combine([DatasetFault("several files", "", text, fix)], root)
    text, fix = f"there is no {suffix} file in the data set", f"put {names}, or one {suffix} file"
    raise combine([DatasetFault("nothing found", "", text, f"{fix} there")], root)


def list_image_folders(table: SourceTable, subset: str) -> list[str]:
    """List the folders where the images of a table are looked for, in this order: its own folder,
    images/, the folder of the subset, images/ in it, and the data set folder."""
    own = table.path.rpartition("/")[0]
    spelt = [folder for word in SPELLINGS.get(subset, []) for folder in (word, f"{word}/images")]
    return list(dict.fromkeys([own, "images", *spelt, ""]))
