# SPDX-License-Identifier: Apache-2.0
"""CSV: a table with one image a row (`src_dataset_type: CSV`).

    image,cat,dog           image,labels
    images/a.jpg,1,0        images/a.jpg,cat|dog
    images/b.jpg,0,1        images/b.jpg,

- The tables are `train.csv` and `val.csv` (or `valid.csv`) in the data set folder; else
  `train/_classes.csv` and `valid/_classes.csv`, as Roboflow writes them; else the only `.csv` file
  of the data set. With one of the two there is one list. `test.csv` is not used.
- The first line names the columns. They are separated by tabs, else by commas or semicolons: the
  one that is more frequent in the first line. Spaces around cells and empty lines are ignored.
- The first column is the image. It is looked for in the folder of the table, in `images/`, in the
  folder of its list (`train/`, `valid/`), in `images/` of that folder, and in the data set folder.
- In a table without another, a column `split`, `set` or `subset` divides: `train`, `val`, `valid`,
  `validation`; rows of `test` are not used. If it has only 0 and 1, the column is a class instead.
- Several other columns are one for each class, with 1 where the image shows it and 0 where it does
  not; the classes are in the order of the columns. A single column with only 0 and 1 is a class.
- A single other column has names of labels. They are separated by
  `CheckDataset.convert.separator`, else by the first of `|` `;` `,` that occurs in any cell, which
  a note reports; where none does, a cell is one name. Spaces separate names only when chosen. An
  empty cell: no label. The classes are in the order of `classes.txt`, else in alphabetical order.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.data.lines import read_lines
from paddlex_ml.data.walk import is_image
from paddlex_ml.errors import PaddlexMLError
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
from paddlex_ml.wording import first_names

SUBSET_COLUMNS = ("split", "set", "subset")
_SUFFIX = ".csv"
_SEPARATORS = ("|", ";", ",")
_BINARY = {"0", "1"}
_ONE_HOT = "write 0 or 1; a table with names of labels has a single column for all of them"
_STEP = 1000  # rows between two calls of progress


class _CsvRow(NamedTuple):
    number: int
    """Line on which the row begins."""
    cells: list[str]


@dataclass
class _CsvTable:
    """A table as text, cells without spaces around them."""

    source: SourceTable
    header: _CsvRow
    rows: list[_CsvRow]
    subset_column: int = 0
    """Number of the column that names subsets; 0, which is that of the image, for none."""

    def columns(self) -> dict[str, int]:
        """Name and number of each column with labels."""
        every = enumerate(self.header.cells)
        return {name: i for i, name in every if i not in (0, self.subset_column)}

    def is_binary(self, column: int) -> bool:
        """Whether all cells of a column are 0 or 1."""
        return all(row.cells[column] in _BINARY for row in self.rows)

    def locate(self, row: _CsvRow) -> str:
        """Return file and line of a row: "train.csv:7"."""
        return f"{self.source.path}:{row.number}"


def recognise(inventory: Inventory) -> str:
    """The table by whose name the format is known."""
    return next(iter(inventory.find(_SUFFIX)), "")


def read(root: Path, options: Options) -> SourceDataset:
    """Read the tables. Raises one PaddlexMLError with every fault."""
    if options.separator == "":
        raise PaddlexMLError(
            "an empty separator cannot separate names",
            where="CheckDataset.convert.separator",
            fix="give the text between two names, or null to detect it",
        )
    collector = Collector(root, options)
    sources, collector.notes = find_tables(root, _SUFFIX, "_classes.csv")
    tables = list(filter(None, (_read_table(collector, source) for source in sources)))
    collector.raise_faults()  # a damaged table cannot be checked further
    if all(len(table.columns()) == 1 for table in tables) and not all(
        table.is_binary(i) for table in tables for i in table.columns().values()
    ):
        names = _read_names(collector, tables)
    else:
        names = _read_one_hot(collector, tables)
    return collector.finish(names)


# Text -> rows


def _read_table(collector: Collector, source: SourceTable) -> _CsvTable | None:
    lines, faults, _ = read_lines(collector.root / source.path, source.path)
    collector.faults += faults
    if faults:
        return None
    rows = _parse(collector, source.path, [line or "" for line in lines])
    header = next(rows, None)
    if header is None:
        fix = "write a line with the names of the columns: image,cat,dog"
        collector.add_fault("empty table", source.path, "the table has no line", fix)
        return None
    table = _CsvTable(source, header, [])
    _check_header(collector, table)
    width = len(header.cells)
    for row in rows:
        if len(row.cells) == width:
            table.rows.append(row)
            continue
        text = f"the row has {len(row.cells)} cells, the first line has {width}"
        fix = "write a cell for every column; a cell with separators in it needs quotes around it"
        collector.add_fault("wrong number of cells", table.locate(row), text, fix)
    if not source.subset:
        _find_subset_column(collector, table)
    return table


def _parse(collector: Collector, path: str, lines: list[str]) -> Iterator[_CsvRow]:
    """Rows that are not empty; a row that is not valid CSV ends them with a fault."""
    first = re.sub(r'"[^"]*"', "", next((line for line in lines if line.strip()), ""))
    delimiter = ";" if first.count(";") > first.count(",") else ","
    reader = csv.reader(
        (f"{line}\n" for line in lines),
        delimiter="\t" if "\t" in first else delimiter,
        strict=True,
        skipinitialspace=True,
    )
    number = 1
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                yield _CsvRow(number, stripped)
            number = reader.line_num + 1
    except csv.Error as error:
        is_open = "unexpected end" in str(error) or "field limit" in str(error)
        text = "a quote is opened but not closed" if is_open else f"the row is not CSV: {error}"
        fix = 'close it; a quote in a cell is written "", with quotes around the cell'
        collector.add_fault("damaged table", f"{path}:{number}", text, fix)


def _check_header(collector: Collector, table: _CsvTable) -> None:
    where, names = table.locate(table.header), table.header.cells[1:]
    if is_image(table.header.cells[0]):
        text = "the first line names an image, not the columns"
        fix = "write a line with the names of the columns above it: image,labels"
        collector.add_fault("wrong columns", where, text, fix)
    if not names:
        fix = "write a column with names of labels, or one for each class"
        collector.add_fault("wrong columns", where, "the table has only one column", fix)
    for number, name in enumerate(names, 2):
        if not name:
            fix = "name every column, or remove the empty ones"
            collector.add_fault("wrong columns", where, f"column {number} has no name", fix)
        elif names.index(name) != number - 2:
            text, fix = f"the column {name!r} is there twice", "give every column a different name"
            collector.add_fault("wrong columns", where, text, fix)


def _find_subset_column(collector: Collector, table: _CsvTable) -> None:
    columns = [
        i
        for i, name in enumerate(table.header.cells)
        if i and name.lower() in SUBSET_COLUMNS and not table.is_binary(i)
    ]
    where = table.locate(table.header)
    if len(columns) > 1:
        names = " and ".join(table.header.cells[i] for i in columns)
        text = f"the columns {names} both divide the rows into train and val"
        collector.add_fault("wrong columns", where, text, "remove one of them")
    if columns:
        table.subset_column = columns[0]
    if table.header.cells[1:] and not table.columns():
        fix = "write a column with names of labels, or one for each class"
        collector.add_fault("wrong columns", where, "no column has labels", fix)


# Rows -> lists


def _read_names(collector: Collector, tables: list[_CsvTable]) -> list[str]:
    """Add the rows of tables with one column of names; return the names of the classes."""
    columns = {table.source.path: next(iter(table.columns().values())) for table in tables}
    separator = collector.options.separator
    if separator is None:
        cells = [row.cells[columns[table.source.path]] for table in tables for row in table.rows]
        separator = next((s for s in _SEPARATORS if any(s in cell for cell in cells)), "")
        text = f"label names are separated by {separator}" if separator else "each cell is one name"
        option = '-o CheckDataset.convert.separator="..."'
        collector.notes.append(f"{text}; to separate them in another way: {option}")
    seen: set[str] = set()
    for name, folders, table, row in _list_rows(collector, tables):
        cell, where = row.cells[columns[table.source.path]], table.locate(row)
        labels = {label.strip() for label in (cell.split(separator) if separator else [cell])}
        labels.discard("")
        for label in labels - seen:
            if fault := check_class_name(label, where):
                collector.faults.append(fault)
        seen |= labels
        collector.add(name, row.cells[0], folders, labels, where)
    names, faults = order_names(collector.root, seen)
    collector.faults += faults
    return names


def _read_one_hot(collector: Collector, tables: list[_CsvTable]) -> list[str]:
    """Add the rows of tables with one column for each class; return the names of the classes."""
    names, first_line = list(tables[0].columns()), tables[0].locate(tables[0].header)
    collector.faults += filter(None, (check_class_name(name, first_line) for name in names))
    for table in tables[1:]:
        if odd := sorted(set(names) ^ set(table.columns())):
            text = f"these columns are not in both tables: {first_names(odd, 5)}"
            fix = f"give it the columns of {tables[0].source.path}, in any order"
            collector.add_fault("wrong columns", table.locate(table.header), text, fix)
    collector.raise_faults()
    columns = {table.source.path: table.columns() for table in tables}
    for list_name, folders, table, row in _list_rows(collector, tables):
        labels, where = [], table.locate(row)
        for name, i in columns[table.source.path].items():
            cell = row.cells[i]
            if cell == "1":
                labels.append(name)
            elif cell != "0":
                text = f"the value of {name} is {cell[:40]!r}, neither 0 nor 1"
                collector.add_fault("value other than 0 or 1", where, text, _ONE_HOT)
        collector.add(list_name, row.cells[0], folders, labels, where)
    return names


def _list_rows(
    collector: Collector, tables: list[_CsvTable]
) -> Iterator[tuple[str, list[str], _CsvTable, _CsvRow]]:
    """Yield the rows that name an image of train or val, each with its list and the folders where
    its image is looked for; report the progress."""
    subsets = [[_read_subset(collector, table, row) for row in table.rows] for table in tables]
    lists = {"": "train", **assign_lists(subset for column in subsets for subset in column)}
    done, total = 0, sum(map(len, subsets))
    test = 0
    for name in sorted(set(lists.values())):
        collector.open_list(name)
    for table, column in zip(tables, subsets, strict=True):
        for row, subset in zip(table.rows, column, strict=True):
            if subset in lists and row.cells[0]:
                yield lists[subset], list_image_folders(table.source, subset), table, row
            test += subset == "test"
            done += 1
            if done % _STEP == 0 or done == total:
                collector.options.progress(done, total)
    if test:
        collector.notes.append(f"{test:,} rows of test are not used")


def _read_subset(collector: Collector, table: _CsvTable, row: _CsvRow) -> str:
    if not row.cells[0]:
        fix = "name the image, or remove the row"
        collector.add_fault("no image", table.locate(row), "the row names no image", fix)
    if not table.subset_column:
        return table.source.subset
    word = row.cells[table.subset_column]
    subset = parse_subset(word)
    if not subset:
        column = table.header.cells[table.subset_column]
        text = f"{word!r} in the column {column} is neither train nor val nor test"
        collector.add_fault("unknown subset", table.locate(row), text, "write train or val")
    return subset
