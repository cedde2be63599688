# SPDX-License-Identifier: Apache-2.0
"""JSON Lines: one image a line, as a JSON object (`src_dataset_type: JSONL`).

    {"path": "images/a.jpg", "labels": ["cat", "dog"]}
    {"path": "images/b.jpg", "labels": []}

- The files are `train.jsonl` and `val.jsonl` (or `valid.jsonl`) in the data set folder; else
  `train/metadata.jsonl` and `val/metadata.jsonl`, as Hugging Face lays them out; else the only
  `.jsonl` file of the data set. With one of the two there is one list. `test.jsonl` is left alone.
- The image is the text of `path`, else of `image`, `file_name` or `filename`. It is looked for in
  the folder of the file, in `images/`, in the folder of its list (`train/`, `valid/`), in `images/`
  of that folder, and in the data set folder.
- The labels are the list of names in `labels`, else in `label`; a single text is one name. Spaces
  around names do not count. An empty list or text: no label. Other keys do not matter.
- In a file that is alone the key `split` divides: `train`, `val`, `valid`, `validation`; images of
  `test` are left alone. If one line has it, all must have it.
- Empty lines do not count. The classes are in the order of `classes.txt`, else alphabetical.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from paddlex_ml.data.lines import read_lines
from paddlex_ml.formats.collector import Collector, Options, SourceDataset, judge_name, order_names
from paddlex_ml.formats.subsets import Table, find_tables, image_folders, lists_of, part_of

_SUFFIX = ".jsonl"
_IMAGE_KEYS = ("path", "image", "file_name", "filename")
_LABEL_KEYS = ("labels", "label")
_LAYOUT = 'write {"path": "images/a.jpg", "labels": ["cat", "dog"]}'
_STEP = 1000  # images between two calls of progress


class _Line(msgspec.Struct, gc=False):
    """The keys that count; msgspec steps over all others."""

    path: Any = UNSET
    image: Any = UNSET
    file_name: Any = UNSET
    filename: Any = UNSET
    labels: Any = UNSET
    label: Any = UNSET
    split: Any = UNSET


class _Entry(NamedTuple):
    """An image as a line names it; `part` is "" where nothing says one."""

    table: Table
    where: str
    image: str
    labels: list[str]
    part: str


_decoder = msgspec.json.Decoder(_Line)


def read(root: Path, options: Options) -> SourceDataset:
    """Read the files line by line. Raises one PaddlexMLError with every fault."""
    collector = Collector(root, options)
    tables, collector.notes = find_tables(root, _SUFFIX, "metadata.jsonl")
    entries = [entry for table in tables for entry in _read_table(collector, table)]
    parts = {entry.part for entry in entries}
    for entry in entries:
        if not entry.part and parts != {""}:
            text, fix = "the line has no `split`, while others do", 'write "split": "train"'
            collector.fault("unknown part", entry.where, text, fix)
    if test := sum(entry.part == "test" for entry in entries):
        collector.notes.append(f"{test:,} images of the test part are left alone")
    used = [entry for entry in entries if entry.part != "test"]
    _add_images(collector, used)
    names, faults = order_names(root, {label for entry in used for label in entry.labels})
    collector.faults += faults
    return collector.finish(names)


def _add_images(collector: Collector, entries: list[_Entry]) -> None:
    lists = {"": "train", **lists_of(entry.part for entry in entries)}
    for name in sorted(set(lists.values())):
        collector.open_list(name)
    for done, entry in enumerate(entries, 1):
        folders = image_folders(entry.table, entry.part)
        collector.add(lists[entry.part], entry.image, folders, entry.labels, entry.where)
        if done % _STEP == 0 or done == len(entries):
            collector.options.progress(done, len(entries))


def _read_table(collector: Collector, table: Table) -> Iterator[_Entry]:
    lines, faults = read_lines(collector.root / table.path, table.path)
    collector.faults += faults
    for number, text in enumerate(lines, 1):
        if text and text.strip():
            where = f"{table.path}:{number}"
            try:
                yield _read_line(collector, table, where, text)
            except (msgspec.DecodeError, RecursionError, _Wrong) as error:
                collector.fault("malformed line", where, _explain(error), _LAYOUT)


class _Wrong(Exception):
    """Why a line that is a JSON object cannot be used."""


def _read_line(collector: Collector, table: Table, where: str, text: str) -> _Entry:
    line = _decoder.decode(text)
    image = _first(line, _IMAGE_KEYS)
    if not isinstance(image, str) or not image:
        raise _Wrong(f"the image is not the name of a file: {image!r:.40}")
    labels = _first(line, _LABEL_KEYS)
    if isinstance(labels, str):
        labels = [labels] if labels.strip() else []
    if not isinstance(labels, list) or not all(isinstance(name, str) for name in labels):
        raise _Wrong(f"the labels are not a list of names: {labels!r:.40}")
    names = [name.strip() for name in labels]
    collector.faults += filter(None, (judge_name(name, where) for name in names))
    return _Entry(table, where, image, names, table.part or _part_of_line(line))


def _first(line: _Line, keys: tuple[str, ...]) -> Any:
    for key in keys:
        if (value := getattr(line, key)) is not UNSET:
            return value
    raise _Wrong(f"the line has none of the keys {', '.join(keys)}")


def _part_of_line(line: _Line) -> str:
    if line.split is UNSET:
        return ""
    part = part_of(line.split) if isinstance(line.split, str) else ""
    if not part:
        raise _Wrong(f"`split` is neither train nor val nor test: {line.split!r:.40}")
    return part


def _explain(error: Exception) -> str:
    if isinstance(error, _Wrong):
        return str(error)
    if isinstance(error, msgspec.ValidationError):
        return "the line is no JSON object"
    return f"the JSON is damaged: {str(error).removeprefix('JSON is malformed: ')}"
