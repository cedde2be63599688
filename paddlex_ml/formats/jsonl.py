# SPDX-License-Identifier: Apache-2.0
"""JSON Lines: one image a line, as a JSON object (`src_dataset_type: JSONL`).

    {"path": "images/a.jpg", "labels": ["cat", "dog"]}
    {"path": "images/b.jpg", "labels": []}

- The files end with `.jsonl` or `.ndjson`; a `.json` file may have the objects as one list, or one
  after another. `train.jsonl` and `val.jsonl` (or `valid.jsonl`, or
  folders `train/` and `val/`) make these lists; with one of the two there is one list; files of
  `test` are not used. Without such names there is one file, or its parts (`part-1`, `part-2`).
- The image is the text of `path`, else of `image`, `file_name`, `filename`, `image_path`,
  `img_path`, `img` or `file`. It is looked for in the folder of the file, in `images/`, in the
  folder of its list (`train/`, `valid/`), in `images/` of that folder, and in the data set folder.
- The labels are in `labels`, else in `label`, `tags`, `classes`, `class`, `categories`, `category`
  or `objects`, `annotations`, `class_name`: a list of names, one name, a list of objects with a
  `name` (or `label`, ...), or a value for each class: `{"cat": 1, "dog": 0, "owl": -1}`. Where
  such values have 0, a class with -1 or `null`, and one that is not named, is unknown. An empty
  list or text: no label. Other keys are ignored.
- Capitals and `_` do not count in these keys (`fileName`, `Labels`). Several keys of labels that
  differ are asked about. `CheckDataset.convert.image_column` and `label_columns` name the keys; of
  several with such values (`"cat": 1, "dog": 0`, also yes and no), each is a class.
- `unknown`, a list of names, has the classes that nobody has looked for; without it, all classes
  that are not labels are absent. Instead, `absent` may have the classes that somebody looked for
  and did not find; all others are then unknown. A line with both is refused, and a class that is
  a label as well.
- Numbers are ids of classes, counted from 0, or 0 or 1 for each class. Their names are in
  `classes.txt`, or a file like it (`labels.txt`, ...): one name a line.
- A text is cut at `|`, `;`, `、` and tabs, which is told, unless `classes.txt` has it. One such as
  `"cat, dog"` whose parts come again in other lines is asked about: it is several names with
  `CheckDataset.convert.separator`, one name when `classes.txt` has it.
- In a file without another subset, the key `split` (or `subset`, `set`) divides: `train`, `val`,
  `valid`, `validation`; images of `test` are not used. If one line has it, all must have it.
- Empty lines are ignored. The classes are in the order of `classes.txt`, else alphabetical.
"""

from __future__ import annotations

import re
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.data.lines import to_utf8
from paddlex_ml.formats.collector import Collector, Options, SourceDataset
from paddlex_ml.formats.json_records import decode_first, read_json_lines
from paddlex_ml.formats.overrides import write_override
from paddlex_ml.formats.record_labels import (
    Labels,
    UnusableRecord,
    is_flag,
    list_shown,
    parse_labels,
    read_columns,
    read_others,
)
from paddlex_ml.formats.records import LABEL_KEYS, ImageRecord, choose_tables, finish_records
from paddlex_ml.formats.subsets import SourceTable, parse_subset
from paddlex_ml.wording import first_names

IMAGE_KEYS = (*("path", "image", "file_name", "filename", "image_path", "img_path", "img", "file"),)
_LABEL_KEYS = (*LABEL_KEYS, "annotations", "class_name")
_SPLIT_KEYS = ("split", "subset", "set")
_LINE = 'write {"path": "images/a.jpg", "labels": ["cat", "dog"]}'
_ENDINGS = (".jsonl", ".ndjson")
_decoder = msgspec.json.Decoder(dict[str, Any])


class _Keys(NamedTuple):
    """The keys of a line as it spells them, the most likely first."""

    images: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...]


def recognise(inventory: Inventory) -> str:
    """The file whose first line has an image and labels."""
    return next((file for file in _list_files(inventory) if _is_ours(inventory, file)), "")


def read(root: Path, options: Options) -> SourceDataset:
    """Read the files line by line. Raises one PaddlexMLError with every fault."""
    layout = "put train.jsonl and val.jsonl, or one .jsonl file, into the data set folder"
    collector = Collector(root, options, layout=layout)
    records: list[ImageRecord] = []
    for table in choose_tables(collector, _list_files(collector.inventory), ".jsonl file"):
        parse = partial(_parse_line, collector, table)
        records += read_json_lines(collector, table.path, parse, _LINE)
    return finish_records(collector, records)


def _list_files(inventory: Inventory) -> list[str]:
    """Every file of JSON lines, and the .json files with several objects of images."""
    files = inventory.find_tables(*_ENDINGS)
    for file in inventory.find_tables(".json"):
        head = to_utf8(inventory.read_head(file))[0].lstrip(b"\xef\xbb\xbf \r\n\t")
        if head.startswith(b"[") or re.search(rb"\}\s*\{", head):
            files += [file] if _is_ours(inventory, file) else []
    return files


def _is_ours(inventory: Inventory, file: str) -> bool:
    line = decode_first(inventory, file)
    keys = _find_keys(tuple(line))
    return bool(keys.images and (keys.labels or len(_list_flags(line)) > 1))


@lru_cache(maxsize=1000)
def _find_keys(keys: tuple[str, ...]) -> _Keys:
    spelt: dict[str, str] = {}
    for key in keys:
        spelt.setdefault(_fold(key), key)
    kinds = (IMAGE_KEYS, _LABEL_KEYS, _SPLIT_KEYS)
    found = [
        [key if key in keys else spelt.get(_fold(key), "") for key in names] for names in kinds
    ]
    return _Keys(*(tuple(dict.fromkeys(filter(None, names))) for names in found))


def _fold(key: str) -> str:
    return key.replace("_", "").replace("-", "").replace(" ", "").lower()


def _list_flags(line: dict[str, Any]) -> list[str]:
    """The keys with 0, 1 or -1, each of which may be a class."""
    keys = _find_keys(tuple(line))
    other = {*keys.images, *keys.splits, "id"}
    return [key for key, value in line.items() if is_flag(value) and key not in other]


def _parse_line(
    collector: Collector, table: SourceTable, text: str, where: str
) -> ImageRecord | None:
    line = _decoder.decode(text)
    keys = _find_keys(tuple(line))
    chosen = collector.options.image_column
    if chosen is not None and chosen not in line:
        raise UnusableRecord(f"the line has no key {chosen!r}: {', '.join(line):.60}")
    if chosen is None and not keys.images:
        raise UnusableRecord(f"the line has none of the keys {', '.join(IMAGE_KEYS)}")
    image = line[keys.images[0] if chosen is None else chosen]
    if isinstance(image, dict):  # {"bytes": null, "path": "a.jpg"}
        image = image.get("path") or image
    if not isinstance(image, str) or not image:
        raise UnusableRecord(f"the image is not the name of a file: {image!r:.40}")
    labels = _read_labels(collector, line, keys.labels, where)
    if labels is None:
        return None
    subset = table.subset
    words = [line[key] for key in keys.splits]
    if not subset and words:
        subset = parse_subset(words[0]) if isinstance(words[0], str) else ""
        if not subset:
            raise UnusableRecord(f"`split` is neither train nor val nor test: {words[0]!r:.40}")
    unknown, absent = read_others(line, labels, collector.options.label_columns or ())
    return ImageRecord(table, where, image, labels, subset, unknown, absent)


def _read_labels(
    collector: Collector, line: dict[str, Any], keys: tuple[str, ...], where: str
) -> Labels | None:
    """The labels of a line; None where the user has to choose the keys, which is asked once."""
    if columns := collector.options.label_columns:
        return read_columns(line, columns)
    if not keys:
        if len(flags := _list_flags(line)) < 2:
            raise UnusableRecord(f"the line has none of the keys {', '.join(_LABEL_KEYS)}")
        text = f"no key is known to have labels, and {first_names(flags, 5)} may be classes (0, 1)"
        fix = f"{write_override('convert.label_columns', flags)} (the keys of classes)"
        _ask_once(collector, where, text, fix)
        return None
    filled = [key for key in keys if line[key] is not None]
    if len(filled) < 2:
        return parse_labels(line[(filled or keys)[0]])
    found = {}
    for key in filled:
        try:
            found[key] = parse_labels(line[key])
        except UnusableRecord:  # such as objects with boxes, but no names
            continue
    if not found:
        return parse_labels(line[filled[0]])
    sets = {key: {*list_shown(value)} for key, value in found.items()}
    named = {key: row for key, row in sets.items() if any(isinstance(x, str) for x in row)}
    if named and all(len(row) == len(next(iter(named.values()))) for row in sets.values()):
        sets = named  # the others are the ids of the names
    key = next(iter(sets))
    if any(row != sets[key] for row in sets.values()):
        text = f"the keys {first_names(list(sets), 5)} may each have the labels, and differ"
        one, both = (write_override("convert.label_columns", k) for k in ([key], list(sets)))
        _ask_once(collector, where, text, f"{one} for the first, or {both} for all")
        return None
    return found[key]


def _ask_once(collector: Collector, where: str, text: str, fix: str) -> None:
    kind = "keys of labels"
    if all(fault.kind != kind for fault in collector.faults):
        collector.add_fault(kind, where, text, fix)
