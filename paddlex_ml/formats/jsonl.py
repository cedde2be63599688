# SPDX-License-Identifier: Apache-2.0
"""JSON Lines: one image a line, as a JSON object (`src_dataset_type: JSONL`).

    {"path": "images/a.jpg", "labels": ["cat", "dog"]}
    {"path": "images/b.jpg", "labels": []}

- The files end with `.jsonl` or `.ndjson`. `train.jsonl` and `val.jsonl` (or `valid.jsonl`, or
  folders `train/` and `val/`) make these lists; with one of the two there is one list; files of
  `test` are not used. Without such names there is one file, or its parts (`part-1`, `part-2`).
- The image is the text of `path`, else of `image`, `file_name`, `filename`, `image_path`,
  `img_path`, `img` or `file`. It is looked for in the folder of the file, in `images/`, in the
  folder of its list (`train/`, `valid/`), in `images/` of that folder, and in the data set folder.
- The labels are in `labels`, else in `label`, `tags`, `classes`, `class`, `categories`, `category`
  or `objects`: a list of names, one name, a list of objects with a `name` (or `label`, ...), or
  `{"cat": 1, "dog": 0}`. An empty list or text: no label. Other keys are ignored.
- Numbers are ids of classes, counted from 0, or 0 or 1 for each class. Their names are in
  `classes.txt`, or a file like it (`labels.txt`, ...): one name a line.
- A text such as `"cat, dog"` whose parts come again in other lines is asked about: it is several
  names with `CheckDataset.convert.separator`, one name when `classes.txt` has it.
- In a file without another subset, the key `split` (or `subset`, `set`) divides: `train`, `val`,
  `valid`, `validation`; images of `test` are not used. If one line has it, all must have it.
- Empty lines are ignored. The classes are in the order of `classes.txt`, else alphabetical.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats.collector import Collector, Options, SourceDataset
from paddlex_ml.formats.records import (
    LABEL_KEYS,
    ImageRecord,
    UnusableRecord,
    choose_tables,
    decode_first,
    finish_records,
    parse_labels,
    read_json_lines,
)
from paddlex_ml.formats.subsets import SourceTable, parse_subset

IMAGE_KEYS = (*("path", "image", "file_name", "filename", "image_path", "img_path", "img", "file"),)
_SPLIT_KEYS = ("split", "subset", "set")
_LINE = 'write {"path": "images/a.jpg", "labels": ["cat", "dog"]}'
_ENDINGS = (".jsonl", ".ndjson")


_JsonLine = msgspec.defstruct(  # msgspec skips all other keys
    "_JsonLine",
    [(key, Any, UNSET) for key in (*IMAGE_KEYS, *LABEL_KEYS, *_SPLIT_KEYS)],
    gc=False,
)
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_JsonLine)


def recognise(inventory: Inventory) -> str:
    """The file whose first line has an image and labels."""
    for file in inventory.find_tables(*_ENDINGS):
        keys = decode_first(inventory, file).keys()
        if keys & {*IMAGE_KEYS} and keys & {*LABEL_KEYS}:
            return file
    return ""


def read(root: Path, options: Options) -> SourceDataset:
    """Read the files line by line. Raises one PaddlexMLError with every fault."""
    layout = "put train.jsonl and val.jsonl, or one .jsonl file, into the data set folder"
    collector = Collector(root, options, layout=layout)
    files = collector.inventory.find_tables(*_ENDINGS)
    records: list[ImageRecord] = []
    for table in choose_tables(collector, files, ".jsonl file"):
        records += read_json_lines(collector, table.path, partial(_parse_line, table), _LINE)
    return finish_records(collector, records)


def _parse_line(table: SourceTable, text: str, where: str) -> ImageRecord:
    line = _decoder.decode(text)
    image = _get_first(line, IMAGE_KEYS)
    if isinstance(image, dict):  # {"bytes": null, "path": "a.jpg"}
        image = image.get("path") or image
    if not isinstance(image, str) or not image:
        raise UnusableRecord(f"the image is not the name of a file: {image!r:.40}")
    labels = parse_labels(_get_first(line, LABEL_KEYS))
    subset = table.subset
    words = [word for key in _SPLIT_KEYS if (word := getattr(line, key)) is not UNSET]
    if not subset and words:
        subset = parse_subset(words[0]) if isinstance(words[0], str) else ""
        if not subset:
            raise UnusableRecord(f"`split` is neither train nor val nor test: {words[0]!r:.40}")
    return ImageRecord(table, where, image, labels, subset)


def _get_first(line: object, keys: tuple[str, ...]) -> Any:
    for key in keys:
        if (value := getattr(line, key)) is not UNSET:
            return value
    raise UnusableRecord(f"the line has none of the keys {', '.join(keys)}")
