# SPDX-License-Identifier: Apache-2.0
"""Image folders of Hugging Face with a metadata file (`src_dataset_type: HuggingFace`).

    train/metadata.jsonl: {"file_name": "a.jpg", "labels": ["cat", "dog"]}
    metadata.csv:         file_name,labels

- The files are `metadata.jsonl` and `metadata.csv`, beside the images, as the
  [guide](https://huggingface.co/docs/datasets/image_dataset) has it; in folders `train/` and
  `validation/` they make both lists, and `test/` is not used. A file for all images is divided by
  its key `split`, else by the folders of its images (`train/a.jpg`).
- The image is the text of `file_name`, relative to the folder of the file.
- The labels are in `labels`, `label`, `tags`, `classes`, `class`, `categories`, `category` or
  `objects`, or where `CheckDataset.convert.label_columns` says: names, ids, lists of these, or the
  categories of boxes. Of several with only 0, 1, -1 and nothing each is a class (a table needs no
  option for that); several others have the labels together. What -1 and an empty cell mean, and the
  keys `unknown` and `absent`, are those of JSONL. Cells with lists may be written as
  `['cat', 'dog']`; how other text is divided is as there, too.
- Ids get their names from the features in `README.md`, `dataset_infos.json` or
  `dataset_info.json`, else from `classes.txt`; without names they are refused.
- The classes are in the order of their ids, else of `classes.txt`, else alphabetical.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import yaml

from paddlex_ml import systems
from paddlex_ml.data.inventory import Inventory
from paddlex_ml.data.lines import to_utf8
from paddlex_ml.formats.collector import Collector, Options, SourceDataset
from paddlex_ml.formats.flag_cells import BLANK, fold
from paddlex_ml.formats.json_records import decode_first, read_json_lines
from paddlex_ml.formats.overrides import write_override
from paddlex_ml.formats.record_labels import (
    Labels,
    UnusableRecord,
    is_flag,
    read_columns,
    read_others,
)
from paddlex_ml.formats.records import (
    LABEL_KEYS,
    ImageRecord,
    choose_tables,
    finish_records,
    has_ids,
    is_number,
    resolve_columns,
)
from paddlex_ml.formats.subsets import SourceTable, parse_subset, parse_subset_of_path
from paddlex_ml.storage import limited_yaml, regular_file
from paddlex_ml.wording import count, first_names

METADATA = "metadata.jsonl"
_IMAGE = "file_name"
_LINE = 'write {"file_name": "a.jpg", "labels": ["cat", "dog"]}'
_FEATURES = ("dataset_info.json", "dataset_infos.json")
_FLAGS = {"1": 1, "true": 1, "0": 0, "false": 0, "-1": -1, **dict.fromkeys(BLANK)}
"""Cells of a column of one class -> present, absent, -1 or nothing."""
_NO_CLASSES = ("id", "image_id", "width", "height", "index")
_MOST_COLUMNS = 20  # named in an error
_Names: TypeAlias = Mapping[str, Sequence[str]]
"""Of the numbers of a column, by number."""

_decoder = msgspec.json.Decoder(dict[str, Any])


def recognise(inventory: Inventory) -> str:
    """The metadata file that names images."""
    return next(iter(_list_files(inventory)), "")


def read(root: Path, options: Options) -> SourceDataset:
    """Read the metadata files. Raises one PaddlexMLError with every fault."""
    layout = "put metadata.jsonl beside the images, with file_name and labels"
    collector = Collector(root, options, layout=layout)
    features = read_features(collector)
    columns = collector.options.label_columns or ()
    named = {key: names for key in columns if (names := find_names(features, [key]))}
    several = (
        named if len(columns) > 1 else {}
    )  # of one, all the records get their names at the end
    records: list[ImageRecord] = []
    for table in choose_tables(collector, _list_files(collector.inventory), "metadata file"):
        if table.path.lower().endswith(".csv"):
            records += _read_rows(collector, table, several)
        else:
            parse = partial(_parse_line, collector, table, several)
            records += read_json_lines(collector, table.path, parse, _LINE)
    records = resolve_columns(collector, records)
    collector.raise_faults()
    names = find_names(features, columns or LABEL_KEYS)
    return finish_records(collector, records, names=names if has_ids(records) else None)


def _list_files(inventory: Inventory) -> list[str]:
    files = []
    for file in inventory.find("metadata.jsonl", "metadata.csv"):
        if file.lower().endswith(".jsonl"):
            is_known = _IMAGE in decode_first(inventory, file)
        else:
            head = to_utf8(inventory.read_head(file))[0].decode("utf-8", "replace")
            first = next(iter(csv.reader(head.splitlines()[:1])), [])
            is_known = _IMAGE in first
        if is_known:
            files.append(file)
    return files


def _parse_line(
    collector: Collector, table: SourceTable, names: _Names, text: str, where: str
) -> ImageRecord:
    line = _decoder.decode(text)
    keys = collector.options.label_columns or [choose_label(line)]
    labels = read_columns(line, keys, names)
    unknown, absent = read_others(line, labels, keys)
    record = _make_record(table, where, line.get(_IMAGE), labels, line.get("split"))
    return record._replace(unknown=unknown, absent=absent)


def choose_label(record: Mapping[str, object]) -> str:
    """The key that has the labels. Raises UnusableRecord where none is known to have them; where
    several may be classes, the repair chooses them."""
    if key := next((key for key in LABEL_KEYS if key in record), ""):
        return key
    shown = first_names([key for key in record if key != _IMAGE], _MOST_COLUMNS)
    text = f"none of {', '.join(LABEL_KEYS)} is there; there are: {shown}"
    flags = [key for key, value in record.items() if is_flag(value) and key not in _NO_CLASSES]
    if len(flags) > 1:
        fix = f"{write_override('convert.label_columns', flags)} (the keys of classes)"
        raise UnusableRecord(text, fix)
    option = systems.quote("CheckDataset.convert.label_columns=[...]")
    raise UnusableRecord(text, f"name the one with the labels: -o {option}")


def _make_record(
    table: SourceTable,
    where: str,
    image: object,
    labels: Labels,
    split: object,
) -> ImageRecord:
    if not isinstance(image, str) or not image:
        raise UnusableRecord(f"{_IMAGE} is not the name of a file: {image!r:.40}")
    subset = table.subset or parse_subset_of_path(image)
    if not table.subset and split is not None:
        subset = parse_subset(str(split))
        if not subset:
            raise UnusableRecord(f"`split` is neither train nor val nor test: {split!r:.40}")
    return ImageRecord(table, where, image, labels, subset)


def _read_rows(collector: Collector, table: SourceTable, names: _Names) -> Iterator[ImageRecord]:
    """The images of a table."""
    lines = [line or "" for line in collector.read_lines(table.path)]
    reader = csv.reader((f"{line}\n" for line in lines), strict=True, skipinitialspace=True)
    where = f"{table.path}:1"
    rows: list[tuple[str, dict[str, str]]] = []
    try:
        header = [cell.strip() for cell in next(reader)]
        where = f"{table.path}:{reader.line_num + 1}"
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((where, dict(zip(header, map(str.strip, cells), strict=False))))
                if len(cells) != len(header):
                    text = (
                        f"the row has {count(len(cells), 'cell')}, the first line has {len(header)}"
                    )
                    fix = "a cell with commas in it needs quotes around it"
                    collector.add_fault("wrong number of cells", where, text, fix)
                    return
            where = f"{table.path}:{reader.line_num + 1}"
        where = f"{table.path}:1"
        collector.account.use(table.path, -1)  # the line of the columns is no record
        others = [name for name in header if name not in (_IMAGE, "split")]
        asked = collector.options.label_columns
        if absent := [name for name in asked or () if name not in others]:
            shown = first_names(others, _MOST_COLUMNS)
            raise UnusableRecord(f"there is no column {absent[0]!r}; there are: {shown}")
        flags = list(asked or others)
        values = [{fold(row[name]) for _, row in rows} for name in flags]
        is_one_hot = len(flags) > 1 and all(
            found <= _FLAGS.keys() and (found - BLANK or asked) for found in values
        )
        keys = flags if is_one_hot or asked else [choose_label(dict.fromkeys(others))]
        ignored = [name for name in others if name not in keys]
        if ignored:
            collector.notes.append(f"columns not used: {first_names(ignored, _MOST_COLUMNS)}")
        for where, row in rows:
            given: dict[str, object] = {key: row[key] for key in keys}
            if is_one_hot:
                given = {key: _FLAGS[fold(row[key])] for key in keys}
            else:
                given |= {key: int(row[key]) for key in keys if is_number(row[key])}
            labels = read_columns(given, keys, names)
            yield _make_record(table, where, row[_IMAGE], labels, row.get("split"))
    except (csv.Error, UnusableRecord) as error:
        fix = getattr(error, "fix", "")
        fix = fix or "write a line with the columns, file_name,labels, and a row for each image"
        collector.add_fault("malformed table", where, str(error), fix)


# Names of ids


def read_features(collector: Collector) -> list[Any]:
    """The descriptions of columns in the files that Hugging Face writes beside the data."""
    found: list[Any] = []
    for file in collector.inventory.find(*_FEATURES):
        if file.rpartition("/")[2].lower() in _FEATURES:
            collector.account.use(file)
            try:
                content = regular_file.read(collector.root / file, regular_file.LARGEST_RESULT)
                found.append(msgspec.json.decode(content))
            except (OSError, msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
                text = f"the JSON is damaged: {error}"
                if isinstance(error, OSError):
                    text = f"the file cannot be read: {error.strerror}"
                fix = "correct the file, or move it out of the data set"
                collector.add_fault("malformed file", file, text, fix)
    readme = collector.root / "README.md"
    if readme.is_file():
        try:
            text = regular_file.read(readme, regular_file.LARGEST_YAML).decode("utf-8", "replace")
        except OSError as error:
            collector.notes.append(f"README.md is not read: {error.strerror}")
            text = ""
        if text.startswith("---") and "dataset_info" in text:
            try:
                found.append(limited_yaml.load(text.split("---")[1]).get("dataset_info"))
            except (yaml.YAMLError, AttributeError, RecursionError):
                collector.notes.append("README.md is not read: its head is not YAML")
    return found


def find_names(features: object, columns: Iterable[str]) -> list[str] | None:
    """The names of the classes of the first of `columns` that has them, at any depth."""
    for column in columns:
        for feature in _find_features(features, column):
            if names := _find_class_names(feature):
                return names
    return None


def _find_features(value: object, column: str) -> Iterator[object]:
    """Descriptions of a column: {column: {...}} in JSON, {"name": column, ...} in YAML."""
    if isinstance(value, list):
        for item in value:
            yield from _find_features(item, column)
    elif isinstance(value, dict):
        if value.get("name") == column:
            yield {key: item for key, item in value.items() if key != "name"}
        if isinstance(found := value.get(column), dict | list):
            yield found
        for item in value.values():
            yield from _find_features(item, column)


def _find_class_names(value: object) -> list[str] | None:
    if isinstance(value, dict):
        names = value.get("names")
        if isinstance(names, dict) and all(is_number(str(key)) for key in names):
            numbered = {int(key): str(name) for key, name in names.items()}
            if sorted(numbered) == list(range(len(numbered))):
                return [numbered[i].strip() for i in range(len(numbered))]
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return [name.strip() for name in names]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next(filter(None, map(_find_class_names, inner)), None)
