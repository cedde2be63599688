# SPDX-License-Identifier: Apache-2.0
"""Formats that describe one image a record: files of records -> records -> lists.

files -> choose_tables: which file is for which subset -> the format's reader: ImageRecord ->
finish_records: texts and numbers become class names, images are found, lists are made
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from paddlex_ml.data.faults import DatasetFault, combine
from paddlex_ml.data.image_finder import Guess
from paddlex_ml.formats.class_files import read_class_names
from paddlex_ml.formats.collector import (
    CLASS_FILE,
    Collector,
    SourceDataset,
    check_class_name,
    order_names,
)
from paddlex_ml.formats.record_labels import (
    DIGITS,
    ColumnValues,
    Labels,
    UnusableRecord,
    check_others,
    list_shown,
)
from paddlex_ml.formats.record_texts import TextReader
from paddlex_ml.formats.subsets import (
    SourceTable,
    assign_lists,
    list_image_folders,
    note_unused_test,
    parse_subset,
    parse_subset_of_path,
)
from paddlex_ml.wording import count, first_names, part_of

LABEL_KEYS = ("labels", "label", "tags", "classes", "class", "categories", "category", "objects")
"""Where a record has its labels: the first of these keys that is there."""
TEST = "of the test subset"
_NO_LABEL = re.compile(r"no[ _-]?labels?", re.I)
_PART = re.compile(r"(.*[-_.])([0-9]{1,9})([-_]of[-_])([0-9]{1,9})(\..*)?")
_NAMED = 5  # missing parts
_STEP = 1000  # images between two calls of progress


class ImageRecord(NamedTuple):
    """What one record says of an image."""

    table: SourceTable
    where: str
    image: str
    labels: Labels
    """A text, which may be several names; names; numbers of classes; or a value for each class."""
    subset: str = ""
    """Of the record itself; that of its file comes first."""
    unknown: tuple[str, ...] = ()
    """Names of classes that nobody has looked for."""
    absent: tuple[str, ...] | None = None
    """Names of the only absent classes: all others but the labels are unknown. None: no such."""


# Files -> records


def find_subset(path: str) -> str:
    """The subset that the path of a file names: a folder `train`, a file `val_list.txt`, a folder
    `train-0001`. "" for none, and for a name with two: `train_val.txt`."""
    if subset := parse_subset_of_path(path):
        return subset
    *folders, file = path.split("/")
    for part in (file.split(".")[0], *reversed(folders)):
        named = set(filter(None, map(parse_subset, re.split(r"[^A-Za-z]+", part))))
        if named:
            return named.pop() if len(named) == 1 else ""
    return ""


def choose_tables(collector: Collector, files: Sequence[str], what: str) -> list[SourceTable]:
    """Choose the files to read: those of train and val, else those that name no subset.

    Several files are parts of one where their names differ only in digits or folders. Files of
    test are left out. `what` describes a file of the format. Raises PaddlexMLError where no file
    is left, or where it is not clear which to read.
    """
    tables = [SourceTable(file, find_subset(file)) for file in files]
    for path in (table.path for table in tables if table.subset == "test"):
        collector.account.left_out[path] = TEST
        collector.notes.append(note_unused_test(path))
    used = [table for table in tables if table.subset != "test"]
    if not used:
        text = f"there is no {what} in the data set" + (" but for test" if tables else "")
        fault = DatasetFault("nothing found", "", text, collector.layout)
        raise combine([*collector.faults, fault], collector.root)
    _refuse_missing_parts(collector, [table.path for table in used])
    groups: dict[str, list[str]] = {}
    for table in used:
        groups.setdefault(table.subset, []).append(table.path)
    if {"train", "val"} <= groups.keys():
        for path in groups.pop("", []):
            collector.account.left_out[path] = "other files divide the images into train and val"
    unclear = [paths for paths in groups.values() if len(set(map(_remove_number, paths))) > 1]
    if "" in groups and len(groups) > 1:
        unclear.append([paths[0] for paths in groups.values()])
    if unclear:
        text = f"there are several files, each {what}, and it is not clear which to read"
        fix = "name one train and one val, or move all but one away"
        text = f"{text}: {first_names(unclear[0], 5)}"
        raise combine([DatasetFault("several files", "", text, fix)], collector.root)
    return [table for table in used if table.subset in groups]


def _refuse_missing_parts(collector: Collector, files: Sequence[str]) -> None:
    """Raise an error where files such as `train-00001-of-00002.jsonl` are not all there."""
    parts: dict[tuple[str, str, str, str], set[int]] = {}
    for found in filter(None, map(_PART.fullmatch, files)):
        key = (found[1], found[3], found[4], found[5] or "")
        parts.setdefault(key, set()).add(int(found[2]))
    for (name, middle, size, ending), there in parts.items():
        first = 1 if int(size) in there and 0 not in there else 0
        wanted = range(first, int(size) + first)  # of any length: a name is no reason to count it
        number = len(wanted) - sum(part in wanted for part in there)
        if number == 0 or len(there) >= int(size):
            continue
        absent = itertools.islice((part for part in wanted if part not in there), _NAMED)
        shown = ", ".join(f"{name}{i:0{len(size)}}{middle}{size}{ending}" for i in absent)
        rest = f" and {number - _NAMED:,} more" if number > _NAMED else ""
        gone = part_of(number, int(size), ("part", "parts"), ("is", "are"))
        text = f"{gone} missing: {shown}{rest}"
        fix = "put them there, or remove `-of-...` from the names of those that are there"
        raise combine([DatasetFault("missing parts", "", text, fix)], collector.root)


def _remove_number(path: str) -> str:
    return re.sub(r"[0-9]+", "", path.rpartition("/")[2].lower())


def is_number(text: str) -> bool:
    """Whether a text may be the number of a class: of longer ones, Python refuses some."""
    return text.isdecimal() and len(text) <= DIGITS


# Records -> lists


def has_ids(records: Iterable[ImageRecord]) -> bool:
    """Whether labels are numbers."""
    return any(isinstance(label, int) for record in records for label in record.labels)


def finish_records(
    collector: Collector,
    records: list[ImageRecord],
    *,
    names: Sequence[str] | None = None,
    class_file: bool = False,
    retire: Sequence[Path] = (),
) -> SourceDataset:
    """Make the lists. `names` are the classes by number where the format has them; else those of
    a class file are taken for numbers, with `class_file` also as the order of names.

    Raises one PaddlexMLError with every fault.
    """
    records = resolve_columns(collector, records)
    valued = {key.strip() for r in records if isinstance(r.labels, dict) for key in r.labels}
    records = _resolve_values(records)
    subsets = [record.table.subset or record.subset for record in records]
    used = list(_list_used(collector, records, subsets))
    if not records and not collector.faults:
        _refuse_unlabelled(collector)
    number = next((record for record in used if has_ids([record])), None)
    are_ids = names is not None
    if names is None and (number or class_file):
        folders = sorted({record.table.path.rpartition("/")[0] for record in used})
        names = read_class_names(collector, folders, [record.table.path for record in used])
    if number:
        used, labels = _name_numbers(collector, used, number, names, are_ids)
    else:
        labels = _split_texts(collector, used, set(names or ()))
    collector.raise_faults()
    left_out = collector.account.names_left_out
    for name in set(names or ()).union(*labels):
        if _NO_LABEL.fullmatch(name):
            left_out[name] = "it means that there is no label"
    if left_out:
        labels = [[name for name in row if name not in left_out] for row in labels]
    hidden = _add_records(collector, used, labels, {"": "train", **assign_lists(subsets)})
    seen = {name for row in labels for name in row} | hidden.keys()
    if names:
        for name in sorted(seen - set(names)):
            text, fix = f"the class {name!r} is used but not named", f"add a line {name!r}"
            collector.add_fault("class not named", "", text, fix)
    else:
        names, faults = order_names(collector.root, seen)
        collector.faults += faults
        if (collector.root / CLASS_FILE).is_file():
            collector.account.use(CLASS_FILE)
    names = [name for name in names if name and name not in left_out]
    _tell_open_names(collector, valued.difference(names, left_out))
    return collector.finish(names, retire=retire)


def _tell_open_names(collector: Collector, names: set[str]) -> None:
    """Note names that had a place for a value, but no record says it."""
    if names:
        what = f"{count(len(names), 'name has', 'names have')} neither 1 nor 0 in any record"
        shown = first_names(sorted(names), 5)
        collector.notes.append(f"{what}: no class, left out: {shown}")


def _refuse_unlabelled(collector: Collector) -> None:
    """Raise an error where all records were dropped."""
    if dropped := collector.account.dropped:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items())
        text = f"nobody has labelled an image: {reasons}"
        fix = "label the images, and export them again"
        raise combine([DatasetFault("nothing labelled", "", text, fix)], collector.root)


def resolve_columns(collector: Collector, records: list[ImageRecord]) -> list[ImageRecord]:
    """Decide, once for all records, what several keys of labels are; see `ColumnValues`.

    Values that have no labels together are a fault.
    """
    rows = [record.labels for record in records if isinstance(record.labels, ColumnValues)]
    are_classes = all(row.find_flags() is not None for row in rows)
    reader = TextReader.of(collector)
    resolved = []
    for record in records:
        labels: Labels = record.labels
        try:
            if isinstance(labels, ColumnValues):
                read = partial(reader.read, where=record.where)
                labels = (labels.find_flags() if are_classes else None) or labels.join(read)
                check_others(labels, record.unknown, record.absent)
            resolved.append(record._replace(labels=labels))
        except UnusableRecord as error:
            fix = error.fix or "write names of classes, or lists of them"
            collector.add_fault("malformed line", record.where, str(error), fix)
    reader.close()
    return resolved


def _resolve_values(records: list[ImageRecord]) -> list[ImageRecord]:
    """Records that have a value for each class -> with names of labels.

    Where one of them says by 0 (or -1) what is absent, all that none says is unknown, also -1
    beside 0; where none does, 1 and nothing mean present and absent.
    """
    rows = [record.labels for record in records if isinstance(record.labels, dict)]
    given = {value for row in rows for value in row.values()}
    no = next((value for value in (0, -1) if value in given), None)
    resolved = []
    for record in records:
        if isinstance(row := record.labels, dict):
            denied = {name.strip() for name, value in row.items() if value == no}
            absent = record.absent
            if absent is None and no is not None:
                absent = tuple(sorted(denied.difference(record.unknown)))
            record = record._replace(labels=list(map(str, list_shown(row))), absent=absent)
        resolved.append(record)
    return resolved


def _list_used(
    collector: Collector, records: list[ImageRecord], subsets: list[str]
) -> Iterator[ImageRecord]:
    """The records for training and validation; those of test are dropped, which is told."""
    is_divided = set(subsets) != {""}
    for record, subset in zip(records, subsets, strict=True):
        if is_divided and not subset:
            text = "the record names no subset (`split`), but others do"
            fix = "write train or val there, as in the others"
            collector.add_fault("unknown subset", record.where, text, fix)
        if subset != "test":
            yield record
            continue
        collector.account.drop(record.table.path, TEST, record.image)
        if path := locate(collector, record.table, record.image):
            collector.account.left_out[path] = TEST


def locate(collector: Collector, table: SourceTable, image: str) -> str:
    """Path of an image for which there is no list, as written or by a guess; "" for none."""
    folders = list_image_folders(table, table.subset or "test")
    found = collector.finder.find(image, folders)
    if not isinstance(found, str):
        guess = collector.finder.guess(image, folders)
        found = guess.path if isinstance(guess, Guess) else ""
    return found


def _name_numbers(
    collector: Collector,
    records: list[ImageRecord],
    first: ImageRecord,
    names: Sequence[str] | None,
    are_ids: bool,
) -> tuple[list[ImageRecord], list[list[str]]]:
    """Names for numbers, which are ids of classes, or 0 or 1 for each class. There, -1 beside 0 is
    unknown. Returns the records with what is unknown, and their labels."""
    rows = [[label for label in record.labels if isinstance(label, int)] for record in records]
    pairs = zip(records, rows, strict=True)
    if named := next((record for record, row in pairs if len(row) < len(record.labels)), None):
        is_later = records.index(named) > records.index(first)
        kinds = ("names", "numbers") if is_later else ("numbers", "names")
        here, other = (named, first) if is_later else (first, named)
        text = f"the labels are {kinds[0]}, but {kinds[1]} in {other.where}"
        fix = "write names everywhere, or numbers everywhere"
        collector.add_fault("names and numbers", here.where, text, fix)
        return records, []
    highest = max((max(row) for row in rows if row), default=0)
    vectors = False if are_ids else is_one_hot(rows)
    size = max(map(len, rows), default=0)
    if names is None:
        needed = size if vectors else highest + 1
        text = "the labels are numbers, and no file names the classes"
        fix = f"write {CLASS_FILE} into the data set folder: one name a line, first that of class 0"
        collector.add_fault(
            "classes without names", first.where, text, f"{fix} ({count(needed, 'line')})"
        )
        return records, []
    if not are_ids:
        _ask_meaning(collector, records, rows, vectors, len(names))
    hidden = -1 if vectors and any(0 in row for row in rows) else None
    result: list[tuple[ImageRecord, list[str]]] = []
    for record, row in zip(records, rows, strict=True):
        ids = [i for i, value in enumerate(row) if value == 1] if vectors else row
        _check_numbers(collector, record, len(row) if vectors else None, ids, names)
        values = zip(row, names, strict=False)
        unknown = [*record.unknown, *(name for value, name in values if value == hidden)]
        shown = [names[i] for i in ids if 0 <= i < len(names) and names[i]]
        result.append((record._replace(unknown=tuple(unknown)), shown))
    return [record for record, _ in result], [shown for _, shown in result]


def _ask_meaning(
    collector: Collector,
    records: Sequence[ImageRecord],
    rows: Sequence[Sequence[int]],
    vectors: bool | None,
    size: int,
) -> None:
    """Add a fault where numbers may be ids, or a value for each of the classes, of which there are
    `size`; `vectors`: what `is_one_hot` says of them."""
    lengths = {len(row) for row in rows if row}
    what, where, fix = "the numbers", "", "write the names of the classes instead of numbers"
    meanings = f"may be ids of classes, or 0 or 1 for each of the {count(size, 'class', 'classes')}"
    if vectors is None and lengths == {size}:
        where = next(record.where for record, row in zip(records, rows, strict=True) if row)
        fix += ", or 0 for each class of an image that shows none" * ([] in map(list, rows))
    elif vectors is False and {len(row) for row in rows} == {size}:
        twice = (i for i, row in enumerate(rows) if len(set(row)) < size)
        if (i := next(twice, None)) is not None:
            what, where = f"{what} {list(rows[i])}", records[i].where
            fix = f"write 0, 1 or -1 for each class, not {max(map(max, rows))}, or {fix[6:]}"
    if where:
        collector.add_fault("numbers of two meanings", where, f"{what} {meanings}", fix)


def _check_numbers(
    collector: Collector,
    record: ImageRecord,
    values: int | None,
    ids: Sequence[int],
    names: Sequence[str],
) -> None:
    """Add a fault unless a record has an id of a class each, or as many `values` as classes."""
    if values not in (None, len(names)):
        text = f"{count(values or 0, 'value is', 'values are')} there, "
        text += f"but {count(len(names), 'class has a name', 'classes have a name')}"
        fix = "write 0 or 1 for each class, and one name for each"
        collector.add_fault("number of values", record.where, text, fix)
    if wrong := [i for i in ids if not 0 <= i < len(names) or not names[i]]:
        text = f"no class has the number {wrong[0]}: {len(names)} have names, counted from 0"
        fix = "add its name; where ids begin with 1, write the id before each name: 1 cat"
        if wrong[0] == -1:
            fix = 'name the classes of values, {"cat": 1, "dog": 0, "owl": -1}, or write lists '
            fix += "of ours (a.jpg<tab>1,0,-1) and their classes into label.txt"
        collector.add_fault("unknown class", record.where, text, fix)


def is_one_hot(rows: Sequence[Sequence[int]]) -> bool | None:
    """Whether numbers are one value for each class, not ids: rows of one length with only 0, 1 and
    -1, some of which have a value twice, or -1. None where both is possible; an empty row is more
    likely beside ids."""
    values = {value for row in rows for value in row}
    lengths = {len(row) for row in rows if row}
    if len(lengths) != 1 or lengths == {1} or not values <= {0, 1, -1}:
        return False
    if -1 in values:
        return True
    if any(len(set(row)) < len(row) for row in rows):
        return None if [] in map(list, rows) else True
    return False if [] in map(list, rows) else None


def _split_texts(
    collector: Collector, records: list[ImageRecord], names: set[str]
) -> list[list[str]]:
    """The names of each record."""
    reader = TextReader.of(collector, names)
    rows: list[list[str]] = []
    checked: set[str] = set()
    for record in records:
        if isinstance(record.labels, str):
            row = reader.read(record.labels, record.where)
        else:
            row = [str(label) for label in record.labels]
        for name in {*row} - checked:
            if fault := check_class_name(name, record.where):
                collector.faults.append(fault)
        checked.update(row)
        rows.append(row)
    reader.close()
    return rows


def _add_records(
    collector: Collector,
    records: list[ImageRecord],
    labels: list[list[str]],
    lists: dict[str, str],
) -> dict[str, str]:
    """Add the images. Returns the classes that are named as unknown or absent, with a place."""
    for name in sorted(set(lists.values())):
        collector.open_list(name)
    several = len({record.table for record in records}) > 1
    named: dict[tuple[str, str], tuple[ImageRecord, set[str]]] = {}
    for done, (record, row) in enumerate(zip(records, labels, strict=True), 1):
        subset = record.table.subset or record.subset
        folders, target = list_image_folders(record.table, subset), lists.get(subset, "train")
        path = collector.add(
            *(target, record.image, folders, row, record.where),
            unknown=record.unknown,
            absent=record.absent,
        )
        if done % _STEP == 0 or done == len(records):
            collector.options.progress(done, len(records))
        if not several or path is None:
            continue
        other, known = named.setdefault((target, path), (record, set(row)))
        if other.table != record.table and known != set(row):
            text = f"{path} has other labels in {other.where}"
            fix = "move one of the two files out of the data set: the older one"
            collector.add_fault("files that differ", record.where, text, fix)
    hidden: dict[str, str] = {}
    for record in records:
        for name in {*record.unknown, *(record.absent or ())} - hidden.keys():
            hidden[name] = record.where
    collector.faults += filter(None, itertools.starmap(check_class_name, hidden.items()))
    return hidden
