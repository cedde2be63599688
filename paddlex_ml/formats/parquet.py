# SPDX-License-Identifier: Apache-2.0
"""Parquet tables of images and labels (`src_dataset_type: Parquet`).

    data/train-00000-of-00002.parquet: columns image (or file_name, path, ...) and labels

- Needs pyarrow: `pip install 'paddlex-ml[parquet]'`. Files named `train...` and `validation...`
  make both lists, `test` is not used; several parts of one are read one after the other.
- The columns are named as the keys of JSONL: `image`, `file_name`, `path`, ... and `labels`,
  `label`, ...; `CheckDataset.convert.image_column` and `label_columns` choose others, also several:
  of columns with only 0, 1, -1 and nothing each is a class, else all have names of labels.
  The columns `unknown` and `absent` are those of JSONL, too.
- Ids get their names from the file itself, as
  [Hugging Face](https://huggingface.co/docs/hub/datasets-image) writes it, else as in HuggingFace.
- A file that holds the images themselves is refused, with the command that unpacks it:
  `python -m paddlex_ml.formats.parquet FOLDER IMAGES LABELS...` (the names of the columns) writes
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
from paddlex_ml.formats.record_labels import (
    OTHER_KEYS,
    ColumnValues,
    UnusableRecord,
    read_columns,
    read_others,
)
from paddlex_ml.formats.records import (
    LABEL_KEYS,
    ImageRecord,
    choose_tables,
    finish_records,
    has_ids,
    resolve_columns,
)
from paddlex_ml.formats.subsets import SourceTable
from paddlex_ml.formats.table_cells import SURE, cut
from paddlex_ml.storage import files
from paddlex_ml.wording import first_names

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
        image, labels = _choose_columns(collector, file, table.path)
        names = names or (_find_names(file, labels[0]) if len(labels) == 1 else None)
        records += _read_rows(collector, table, file, image, labels)
    records = resolve_columns(collector, records)
    collector.raise_faults()
    if not has_ids(records):
        return finish_records(collector, records)
    names = names or huggingface.find_names(huggingface.read_features(collector), LABEL_KEYS)
    return finish_records(collector, records, names=names)


def unpack(root: Path, options: Options) -> None:
    """Write the images that Parquet files hold, and a metadata.jsonl with their labels, into a
    folder beside each file. Raises PaddlexMLError for a file without images."""
    collector = Collector(root, options)
    unpacked = {path: _unpack_file(collector, path) for path in _list_files(collector.inventory)}
    labels = (line["labels"] for lines in unpacked.values() for line in lines)
    values = [row for row in labels if isinstance(row, ColumnValues)]
    are_classes = all(row.find_flags() is not None for row in values)
    for path, lines in unpacked.items():
        for number, line in enumerate(lines):
            if isinstance(row := line["labels"], ColumnValues):
                with _naming(root / path, number):
                    flags = row.find_flags() if are_classes else None
                    line["labels"] = flags or row.join(lambda text: list(cut(text, SURE)))
        # Last: its presence says that the folder is complete.
        content = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        files.write_bytes(root / _folder(path) / huggingface.METADATA, content)


def _unpack_file(collector: Collector, path: str) -> list[dict[str, Any]]:
    """Write the images of a file; returns the lines of its metadata."""
    source, folder = collector.root / path, collector.root / _folder(path)
    file = _open(source)
    image, columns = _choose_columns(collector, file, path)
    names, lines = _find_all_names(file, columns), []
    files.make_folder(folder)
    others = _find_others(file, columns)
    for number, row in enumerate(_iterate(source, file, image, *columns, *others)):
        value = row[image] if isinstance(row[image], dict) else {"bytes": row[image]}
        content = value.get("bytes")
        with _naming(source, number):
            if not content or not isinstance(content, bytes):
                raise UnusableRecord("it holds no image")
            is_null = len(columns) == 1 and row[columns[0]] is None
            labels = None if is_null else read_columns(row, columns, names)
        given = os.path.splitext(str(value.get("path") or ""))[1].lower()
        name = f"{number:07}{_PICTURES.get(content[:2]) or given or '.jpg'}"
        files.set_link_aside(folder / name)
        (folder / name).write_bytes(content)
        kept = {key: row[key] for key in others}
        lines.append({"file_name": name, "labels": labels, **kept})
    return lines


@contextmanager
def _naming(path: Path, number: int) -> Iterator[None]:
    """Name the row of what cannot be used."""
    try:
        yield
    except UnusableRecord as error:
        fix = error.fix or "export it again"
        raise PaddlexMLError(f"row {number}: {error}", where=str(path), fix=fix) from error


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


def _choose_columns(collector: Collector, file: Any, path: str) -> tuple[str, Sequence[str]]:
    """The column of the image and those of its labels. Raises PaddlexMLError where one is not
    there."""
    columns: list[str] = file.schema_arrow.names
    options, where = collector.options, str(collector.root / path)
    asked = [options.image_column] if options.image_column else IMAGE_KEYS
    image = next((key for key in asked if key in columns), "")
    if not image:
        raise PaddlexMLError(
            f"no column has the image: {first_names(columns, 20)}",
            where=where,
            fix=f"-o {systems.quote('CheckDataset.convert.image_column=...')} (the column)",
        )
    if chosen := options.label_columns:
        if missing := [key for key in chosen if key not in columns]:
            what = f"there is no column {missing[0]!r}; there are: {first_names(columns, 20)}"
            raise PaddlexMLError(what, where=where, fix="choose other convert.label_columns")
        return image, chosen
    kinds = zip(columns, map(str, file.schema_arrow.types), strict=True)
    # A value for columns of numbers: several of them may each be a class.
    known = {key: 0 if kind == "bool" or "int" in kind else None for key, kind in kinds}
    try:
        return image, [huggingface.choose_label(known)]
    except UnusableRecord as error:
        raise PaddlexMLError(str(error), where=where, fix=error.fix) from error


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
    collector: Collector, table: SourceTable, file: Any, image: str, columns: Sequence[str]
) -> Iterator[ImageRecord]:
    collector.account.use(table.path, file.metadata.num_rows)
    names = _find_all_names(file, columns) if len(columns) > 1 else {}
    others = _find_others(file, columns)
    rows = _iterate(collector.root / table.path, file, image, *columns, *others)
    for number, row in enumerate(rows, 1):
        where, value = f"{table.path} row {number}", row[image]
        if isinstance(value, bytes) or (isinstance(value, dict) and value.get("bytes")):
            command = [sys.executable, "-m", "paddlex_ml.formats.parquet", str(collector.root)]
            raise PaddlexMLError(
                "the Parquet file holds the images themselves, not their names",
                where=str(collector.root / table.path),
                fix=f"unpack it: {systems.join([*command, image, *columns])}",
            )
        name = value.get("path") if isinstance(value, dict) else value
        try:
            if not isinstance(name, str) or not name:
                raise UnusableRecord(f"the image is not the name of a file: {name!r:.40}")
            labels = read_columns(row, columns, names)
            unknown, absent = read_others(row, labels, columns)
            yield ImageRecord(table, where, name, labels, "", unknown, absent)
        except UnusableRecord as error:
            fix = error.fix or "correct the row; an image without labels has an empty list"
            collector.add_fault("malformed row", where, str(error), fix)


def _find_others(file: Any, labels: Sequence[str]) -> list[str]:
    """The columns with classes that are no labels."""
    names: list[str] = file.schema_arrow.names
    return [name for name in OTHER_KEYS if name in names and name not in labels]


def _find_all_names(file: Any, columns: Sequence[str]) -> dict[str, list[str]]:
    """The names of the numbers of each column that has some."""
    return {key: names for key in columns if (names := _find_names(file, key))}


def _find_names(file: Any, column: str) -> list[str] | None:
    content = (file.schema_arrow.metadata or {}).get(b"huggingface")
    try:
        return huggingface.find_names(msgspec.json.decode(content or b"null"), [column])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


if __name__ == "__main__":
    folder, images, *labels = sys.argv[1:] if len(sys.argv) > 2 else [*sys.argv[1:2], ""]
    try:
        unpack(
            Path(folder or "."), Options(image_column=images or None, label_columns=labels or None)
        )
    except PaddlexMLError as problem:
        sys.exit(f"error: {problem}")
