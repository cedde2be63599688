# SPDX-License-Identifier: Apache-2.0
"""Parquet tables of images and labels (`src_dataset_type: Parquet`).

    data/train-00000-of-00002.parquet: columns image (or file_name, path, ...) and labels

- Needs pyarrow: `pip install 'paddlex-ml[parquet]'`. Files named `train...` and `validation...`
  make both lists, `test` is not used; several parts of one are read one after the other.
- The columns are named as the keys of JSONL: `image`, `file_name`, `path`, ... and `labels`,
  `label`, ...; `CheckDataset.convert.image_column` and `label_columns` choose others.
  The columns `unknown` and `absent` are those of JSONL, too.
- Ids get their names from the file itself, as
  [Hugging Face](https://huggingface.co/docs/hub/datasets-image) writes it, else as in HuggingFace.
- A file that holds the images themselves is refused, with the command that unpacks it:
  `python -m paddlex_ml.formats.parquet FOLDER IMAGES LABELS` (the names of the two columns) writes
  the images and a `metadata.jsonl` into a folder beside each file. Afterwards these folders are
  read, as HuggingFace.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from paddlex_ml import program, systems
from paddlex_ml.data.inventory import Inventory
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import huggingface
from paddlex_ml.formats.collector import Collector, Options, SourceDataset
from paddlex_ml.formats.jsonl import IMAGE_KEYS
from paddlex_ml.formats.overrides import write_override
from paddlex_ml.formats.record_labels import OTHER_KEYS, UnusableRecord, parse_labels, read_others
from paddlex_ml.formats.records import (
    LABEL_KEYS,
    ImageRecord,
    choose_tables,
    finish_records,
    has_ids,
)
from paddlex_ml.formats.subsets import SourceTable
from paddlex_ml.storage import files
from paddlex_ml.wording import count, first_names

_SUFFIX = ".parquet"
LARGEST_GROUP = 4 << 30
"""Bytes of a group of rows, of which one at a time is read: with images they have up to one GB."""
_BATCH = 1000  # rows in memory at a time
_MOST_ROWS = 100  # for each byte of a file: rows name images, each another one
_PICTURES = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"GI": ".gif", b"BM": ".bmp", b"RI": ".webp"}


def recognise(inventory: Inventory) -> str:
    """The first Parquet file."""
    return next(iter(_list_files(inventory)), "")


def read(root: Path, options: Options) -> SourceDataset:
    """Read the tables. Raises one PaddlexMLError with every fault."""
    layout = "put the .parquet files into the data set folder"
    collector = Collector(root, options, layout=layout)
    listed = _list_files(collector.inventory)
    if listed and all((root / _folder(file) / huggingface.METADATA).is_file() for file in listed):
        dataset = huggingface.read(root, replace(options, image_column=None, label_columns=None))
        dataset.account.left_out.update(dict.fromkeys(listed, "unpacked into the folder beside it"))
        return dataset
    records: list[ImageRecord] = []
    names: list[str] | None = None
    for table in choose_tables(collector, listed, f"{_SUFFIX} file"):
        file = _open(root / table.path)
        image, label = _choose_columns(collector, file, table.path)
        names = names or _find_names(file, label)
        records += _read_rows(collector, table, file, image, label)
    collector.raise_faults()
    if not has_ids(records):
        return finish_records(collector, records)
    names = names or huggingface.find_names(huggingface.read_features(collector), LABEL_KEYS)
    return finish_records(collector, records, names=names)


def unpack(root: Path, options: Options) -> None:
    """Write the images that Parquet files hold, and a metadata.jsonl with their labels, into a
    folder beside each file. Raises PaddlexMLError for a file without images."""
    collector = Collector(root, options)
    for path in _list_files(collector.inventory):
        file, folder = _open(root / path), root / _folder(path)
        image, label = _choose_columns(collector, file, path)
        names, lines = _find_names(file, label), []
        files.make_folder(folder)
        others = _find_others(file, label)
        for number, row in enumerate(_iterate(root / path, file, image, label, *others)):
            value = row[image] if isinstance(row[image], dict) else {"bytes": row[image]}
            content = value.get("bytes")
            if not content or not isinstance(content, bytes):
                raise PaddlexMLError(
                    f"row {number} holds no image", where=str(root / path), fix="export it again"
                )
            given = os.path.splitext(str(value.get("path") or ""))[1].lower()
            name = f"{number:07}{_PICTURES.get(content[:2]) or given or '.jpg'}"
            files.set_link_aside(folder / name)
            (folder / name).write_bytes(content)
            labels = [] if row[label] is None else row[label]
            if names:
                ids = [
                    i for i in (labels if isinstance(labels, list) else [labels]) if i is not None
                ]
                if any(type(i) is not int or not 0 <= i < len(names) for i in ids):
                    raise PaddlexMLError(
                        f"row {number} has the labels {ids!r:.80}, of "
                        f"{count(len(names), 'class', 'classes')}",
                        where=str(root / path),
                        fix="export it again",
                    )
                labels = [names[i] for i in ids]
            line = {"file_name": name, "labels": labels} | {key: row[key] for key in others}
            lines.append(msgspec.json.encode(line))
        # Last: its presence says that the folder is complete.
        files.write_bytes(folder / huggingface.METADATA, b"\n".join(lines) + b"\n")


def _list_files(inventory: Inventory) -> list[str]:
    files = inventory.find(_SUFFIX)
    return [file for file in files if inventory.read_head(file).startswith(b"PAR1")]


def _folder(file: str) -> str:
    return file[: -len(_SUFFIX)]


def _open(path: Path) -> Any:
    try:
        importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise PaddlexMLError(
            "Parquet files are read by pyarrow, which is not installed",
            where=str(path),
            fix=program.pip_install("pyarrow"),
        ) from error
    with _readable(path):
        file = parquet.ParquetFile(path)
        if file.metadata.num_rows > (most := _MOST_ROWS * path.stat().st_size):
            raise ValueError(f"it claims {file.metadata.num_rows:,} rows, at most {most:,} fit in")
        groups = (file.metadata.row_group(n) for n in range(file.metadata.num_row_groups))
        if (largest := max((g.total_byte_size for g in groups), default=0)) > LARGEST_GROUP:
            what = f"a group of its rows has {largest:,} bytes when it is unpacked"
            raise ValueError(f"{what}, at most {LARGEST_GROUP:,} are read")
        return file


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # pyarrow has a class for each kind of damage
        reason = " ".join(str(error).split())[:300]
        raise PaddlexMLError(
            f"the Parquet file is damaged: {reason}", where=str(path), fix="download it again"
        ) from error


def _choose_columns(collector: Collector, file: Any, path: str) -> tuple[str, str]:
    """The columns of the image and of its labels. Raises PaddlexMLError where one is not there."""
    columns: list[str] = file.schema_arrow.names
    options = collector.options
    found = []
    chosen = options.label_columns or ()
    if len(chosen) > 1:
        raise PaddlexMLError(
            f"{count(len(chosen), 'column is', 'columns are')} chosen, but one has the labels",
            where=str(collector.root / path),
            fix=" or ".join(write_override("convert.label_columns", [name]) for name in chosen),
        )
    asked: list[tuple[str, Sequence[str], str]] = [
        ("image", [options.image_column] if options.image_column else IMAGE_KEYS, "image_column"),
        ("labels", options.label_columns or LABEL_KEYS, "label_columns"),
    ]
    for what, keys, option in asked:
        column = next((key for key in keys if key in columns), "")
        if not column:
            value = "[...]" if option == "label_columns" else "..."
            raise PaddlexMLError(
                f"no column has the {what}: {first_names(columns, 20)}",
                where=str(collector.root / path),
                fix=f"-o {systems.quote(f'CheckDataset.convert.{option}={value}')} (the column)",
            )
        found.append(column)
    return found[0], found[1]


def _iterate(path: Path, file: Any, *columns: str) -> Iterator[dict[str, Any]]:
    batches = file.iter_batches(_BATCH, columns=list(columns))
    while True:
        with _readable(path):
            batch = next(batches, None)
            rows = [] if batch is None else batch.to_pylist()
        if batch is None:
            return
        yield from rows


def _read_rows(
    collector: Collector, table: SourceTable, file: Any, image: str, label: str
) -> Iterator[ImageRecord]:
    collector.account.use(table.path, file.metadata.num_rows)
    rows = _iterate(collector.root / table.path, file, image, label, *_find_others(file, label))
    for number, row in enumerate(rows, 1):
        where, value = f"{table.path} row {number}", row[image]
        if isinstance(value, bytes) or (isinstance(value, dict) and value.get("bytes")):
            command = [sys.executable, "-m", "paddlex_ml.formats.parquet", str(collector.root)]
            raise PaddlexMLError(
                "the Parquet file holds the images themselves, not their names",
                where=str(collector.root / table.path),
                fix=f"unpack it: {systems.join([*command, image, label])}",
            )
        name = value.get("path") if isinstance(value, dict) else value
        try:
            if not isinstance(name, str) or not name:
                raise UnusableRecord(f"the image is not the name of a file: {name!r:.40}")
            labels = parse_labels(row[label])
            unknown, absent = read_others(row, labels, [label])
            yield ImageRecord(table, where, name, labels, "", unknown, absent)
        except UnusableRecord as error:
            fix = "correct the row; an image without labels has an empty list"
            collector.add_fault("malformed row", where, str(error), fix)


def _find_others(file: Any, label: str) -> list[str]:
    """The columns with classes that are no labels."""
    names: list[str] = file.schema_arrow.names
    return [name for name in OTHER_KEYS if name in names and name != label]


def _find_names(file: Any, column: str) -> list[str] | None:
    content = (file.schema_arrow.metadata or {}).get(b"huggingface")
    try:
        return huggingface.find_names(msgspec.json.decode(content or b"null"), [column])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


if __name__ == "__main__":
    folder, images, labels = [*sys.argv[1:], "", ""][:3] if sys.argv[1:] else (".", "", "")
    try:
        unpack(
            Path(folder),
            Options(image_column=images or None, label_columns=[labels] if labels else None),
        )
    except PaddlexMLError as problem:
        sys.exit(f"error: {problem}")
