# SPDX-License-Identifier: Apache-2.0
"""JSON Lines: one image a line, as a JSON object (`src_dataset_type: JSONL`).

    {"path": "images/a.jpg", "labels": ["cat", "dog"]}
    {"path": "images/b.jpg", "labels": []}

- The files are `train.jsonl` and `val.jsonl` (or `valid.jsonl`) in the data set folder; else
  `train/metadata.jsonl` and `val/metadata.jsonl`, as in data sets of Hugging Face; else the only
  `.jsonl` file of the data set. With one of the two there is one list. `test.jsonl` is not used.
- The image is the text of `path`, else of `image`, `file_name` or `filename`. It is looked for in
  the folder of the file, in `images/`, in the folder of its list (`train/`, `valid/`), in `images/`
  of that folder, and in the data set folder.
- The labels are the list of names in `labels`, else in `label`; a single text is one name. Spaces
  around names are ignored. An empty list or text: no label. Other keys are ignored.
- In a file without another, the key `split` divides: `train`, `val`, `valid`, `validation`; images
  of `test` are not used. If one line has it, all must have it.
- Empty lines are ignored. The classes are in the order of `classes.txt`, else alphabetical.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.data.lines import read_lines
from paddlex_ml.formats.collector import (
    Collector,
    Options,
    SourceDataset,
    check_class_name,
    order_names,
)
from paddlex_ml.formats.subsets import (
    SourceTable,
    assign_lists,
    find_tables,
    list_image_folders,
    parse_subset,
)

_SUFFIX = ".jsonl"
_IMAGE_KEYS = ("path", "image", "file_name", "filename")
_LABEL_KEYS = ("labels", "label")
_LAYOUT = 'write {"path": "images/a.jpg", "labels": ["cat", "dog"]}'
_STEP = 1000  # images between two calls of progress


class _JsonLine(msgspec.Struct, gc=False):
    """The keys that are read; msgspec skips all others."""

    path: Any = UNSET
    image: Any = UNSET
    file_name: Any = UNSET
    filename: Any = UNSET
    labels: Any = UNSET
    label: Any = UNSET
    split: Any = UNSET


class _JsonlEntry(NamedTuple):
    """An image as a line names it; `subset` is "" where neither file nor line has one."""

    table: SourceTable
    where: str
    image: str
    labels: list[str]
    subset: str


_decoder = msgspec.json.Decoder(_JsonLine)


def recognise(inventory: Inventory) -> str:
    """The file by whose name the format is known."""
    return next(iter(inventory.find(_SUFFIX)), "")


def read(root: Path, options: Options) -> SourceDataset:
    """Read the files line by line. Raises one PaddlexMLError with every fault."""
    collector = Collector(root, options)
    tables, collector.notes = find_tables(root, _SUFFIX, "metadata.jsonl")
    entries = [entry for table in tables for entry in _read_table(collector, table)]
    subsets = {entry.subset for entry in entries}
    for entry in entries:
        if not entry.subset and subsets != {""}:
            text, fix = "the line has no `split`, but other lines have", 'write "split": "train"'
            collector.add_fault("unknown subset", entry.where, text, fix)
    used = [entry for entry in entries if entry.subset != "test"]
    if test := len(entries) - len(used):
        collector.notes.append(f"{test:,} images of test are not used")
    lists = {"": "train", **assign_lists(subsets)}
    for name in sorted(set(lists.values())):
        collector.open_list(name)
    for done, entry in enumerate(used, 1):
        folders = list_image_folders(entry.table, entry.subset)
        collector.add(lists[entry.subset], entry.image, folders, entry.labels, entry.where)
        if done % _STEP == 0 or done == len(used):
            options.progress(done, len(used))
    names, faults = order_names(root, {label for entry in used for label in entry.labels})
    collector.faults += faults
    return collector.finish(names)


def _read_table(collector: Collector, table: SourceTable) -> Iterator[_JsonlEntry]:
    lines, faults, _ = read_lines(collector.root / table.path, table.path)
    collector.faults += faults
    for number, text in enumerate(lines, 1):
        if text and text.strip():
            where = f"{table.path}:{number}"
            try:
                yield _read_line(collector, table, where, text)
            except (msgspec.DecodeError, RecursionError, _UnusableLine) as error:
                collector.add_fault("malformed line", where, _explain(error), _LAYOUT)


class _UnusableLine(Exception):
    """Why a line that is a JSON object cannot be used."""


def _read_line(collector: Collector, table: SourceTable, where: str, text: str) -> _JsonlEntry:
    line = _decoder.decode(text)
    image = _get_first(line, _IMAGE_KEYS)
    if not isinstance(image, str) or not image:
        raise _UnusableLine(f"the image is not the name of a file: {image!r:.40}")
    labels = _get_first(line, _LABEL_KEYS)
    if isinstance(labels, str):
        labels = [labels] if labels.strip() else []
    if not isinstance(labels, list) or not all(isinstance(name, str) for name in labels):
        raise _UnusableLine(f"the labels are not a list of names: {labels!r:.40}")
    names = [name.strip() for name in labels]
    collector.faults += filter(None, (check_class_name(name, where) for name in names))
    subset = table.subset
    if not subset and line.split is not UNSET:
        subset = parse_subset(line.split) if isinstance(line.split, str) else ""
        if not subset:
            raise _UnusableLine(f"`split` is neither train nor val nor test: {line.split!r:.40}")
    return _JsonlEntry(table, where, image, names, subset)


def _get_first(line: _JsonLine, keys: tuple[str, ...]) -> Any:
    for key in keys:
        if (value := getattr(line, key)) is not UNSET:
            return value
    raise _UnusableLine(f"the line has none of the keys {', '.join(keys)}")


def _explain(error: Exception) -> str:
    if isinstance(error, _UnusableLine):
        return str(error)
    if isinstance(error, msgspec.ValidationError):
        return "the line is not a JSON object"
    return f"the JSON is damaged: {str(error).removeprefix('JSON is malformed: ')}"
