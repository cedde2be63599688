# SPDX-License-Identifier: Apache-2.0
"""CSV: a table with one image a row (`src_dataset_type: CSV`).

    image,cat,dog           image,labels
    images/a.jpg,1,0        images/a.jpg,cat|dog
    images/b.jpg,0,1        images/b.jpg,

- The tables are `train.csv` and `val.csv` (or `valid.csv`) in the data set folder; else
  `train/_classes.csv` and `valid/_classes.csv`, as Roboflow writes them; else the only `.csv` file
  of the data set. With one of the two there is one list. `test.csv` is left alone.
- The first line names the columns. They are parted by tabs, else by commas or semicolons, whichever
  the first line has more of. Spaces around cells do not count, nor do empty lines.
- The first column is the image. It is looked for in the folder of the table, in `images/`, in the
  folder of its list (`train/`, `valid/`), in `images/` of that folder, and in the data set folder.
- In a table that is alone a column `split`, `set` or `subset` divides: `train`, `val`, `valid`,
  `validation`; rows of `test` are left alone. A column with nothing but 0 and 1 is a class instead.
- Several other columns are one for each class, with 1 where the image shows it and 0 where it does
  not; the classes are in the order of the columns. So is a single one with nothing but 0 and 1.
- A single other column has names of labels. They are parted by `CheckDataset.convert.separator`,
  else by the first of `|` `;` `,` that occurs in any cell, which a note tells; where none does, a
  cell is one name. White space parts names only when asked for. An empty cell: no label. The
  classes are in the order of `classes.txt`, else in alphabetical order.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from paddlex_ml.data.lines import read_lines
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats.collector import (
    Collector,
    Options,
    SourceDataset,
    judge_name,
    name_first,
    order_names,
)
from paddlex_ml.formats.subsets import Table, find_tables, image_folders, lists_of, part_of
from paddlex_ml.formats.walk import is_image

DIVIDING = ("split", "set", "subset")
_SUFFIX = ".csv"
_SEPARATORS = ("|", ";", ",")
_BINARY = {"0", "1"}
_ONE_HOT = "write 0 or 1; a table with names of labels has a single column for all of them"
_STEP = 1000  # rows between two calls of progress


class _Row(NamedTuple):
    number: int
    """Line on which the row begins."""
    cells: list[str]


@dataclass
class _Sheet:
    """A table as text, cells without spaces around them."""

    table: Table
    header: _Row
    rows: list[_Row]
    dividing: int = 0
    """Number of the column that divides; 0, which is that of the image, for none."""

    def columns(self) -> dict[str, int]:
        """Name and number of each column with labels."""
        every = enumerate(self.header.cells)
        return {name: i for i, name in every if i not in (0, self.dividing)}

    def is_binary(self, column: int) -> bool:
        """Whether all cells of a column are 0 or 1."""
        return all(row.cells[column] in _BINARY for row in self.rows)

    def place(self, row: _Row) -> str:
        """Where a row stands: "train.csv:7"."""
        return f"{self.table.path}:{row.number}"


def read(root: Path, options: Options) -> SourceDataset:
    """Read the tables. Raises one PaddlexMLError with every fault."""
    if options.separator == "":
        raise PaddlexMLError(
            "nothing parts no names",
            where="CheckDataset.convert.separator",
            fix="give the letters between two names, or null to find out",
        )
    collector = Collector(root, options)
    tables, collector.notes = find_tables(root, _SUFFIX, "_classes.csv")
    sheets = list(filter(None, (_read_sheet(collector, table) for table in tables)))
    collector.check()  # what a damaged table means cannot be judged
    if all(len(sheet.columns()) == 1 for sheet in sheets) and not all(map(_is_one_hot, sheets)):
        names = _read_names(collector, sheets)
    else:
        names = _read_one_hot(collector, sheets)
    return collector.finish(names)


# Text -> rows


def _read_sheet(collector: Collector, table: Table) -> _Sheet | None:
    lines, faults = read_lines(collector.root / table.path, table.path)
    collector.faults += faults
    if faults:
        return None
    rows = _parse(collector, table.path, [line or "" for line in lines])
    header = next(rows, None)
    if header is None:
        fix = "write a line with the names of the columns: image,cat,dog"
        collector.fault("empty table", table.path, "the table has no line", fix)
        return None
    sheet = _Sheet(table, header, [])
    _judge_header(collector, sheet)
    width = len(header.cells)
    for row in rows:
        if len(row.cells) == width:
            sheet.rows.append(row)
            continue
        text = f"the row has {len(row.cells)} cells, the first line has {width}"
        fix = "write a cell for every column; a cell with separators in it needs quotes around it"
        collector.fault("wrong number of cells", sheet.place(row), text, fix)
    if not table.part:
        _find_dividing(collector, sheet)
    return sheet


def _parse(collector: Collector, path: str, lines: list[str]) -> Iterator[_Row]:
    """Rows that are not empty; what is no CSV ends them with a fault."""
    first = next((line for line in lines if line.strip()), "")
    reader = csv.reader(
        (f"{line}\n" for line in lines),
        delimiter=_find_delimiter(first),
        strict=True,
        skipinitialspace=True,
    )
    number = 1
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                yield _Row(number, stripped)
            number = reader.line_num + 1
    except csv.Error as error:
        opened = "unexpected end" in str(error) or "field limit" in str(error)
        text = "a quote is opened but not closed" if opened else f"the row is no CSV: {error}"
        fix = 'close it; a quote in a cell is written "", with quotes around the cell'
        collector.fault("damaged table", f"{path}:{number}", text, fix)


def _find_delimiter(line: str) -> str:
    bare = re.sub(r'"[^"]*"', "", line)
    if "\t" in bare:
        return "\t"
    return ";" if bare.count(";") > bare.count(",") else ","


def _judge_header(collector: Collector, sheet: _Sheet) -> None:
    where, names = sheet.place(sheet.header), sheet.header.cells[1:]
    if is_image(sheet.header.cells[0]):
        text = "the first line names an image, not the columns"
        fix = "write a line with the names of the columns above it: image,labels"
        collector.fault("wrong columns", where, text, fix)
    if not names:
        fix = "write a column with names of labels, or one for each class"
        collector.fault("wrong columns", where, "the table has only one column", fix)
    for number, name in enumerate(names, 2):
        if not name:
            fix = "name every column, or remove the empty ones"
            collector.fault("wrong columns", where, f"column {number} has no name", fix)
        elif names.index(name) != number - 2:
            text = f"the column {name!r} is there twice"
            collector.fault("wrong columns", where, text, "give every column a name of its own")


def _find_dividing(collector: Collector, sheet: _Sheet) -> None:
    found = [
        i
        for i, name in enumerate(sheet.header.cells)
        if i and name.lower() in DIVIDING and not sheet.is_binary(i)
    ]
    if len(found) > 1:
        names = " and ".join(sheet.header.cells[i] for i in found)
        text = f"the columns {names} both say what trains and what validates"
        collector.fault("wrong columns", sheet.place(sheet.header), text, "remove one of them")
    if found:
        sheet.dividing = found[0]
    if sheet.header.cells[1:] and not sheet.columns():
        fix = "write a column with names of labels, or one for each class"
        collector.fault("wrong columns", sheet.place(sheet.header), "no column has labels", fix)


# Rows -> lists


def _is_one_hot(sheet: _Sheet) -> bool:
    return all(map(sheet.is_binary, sheet.columns().values()))


def _read_names(collector: Collector, sheets: list[_Sheet]) -> list[str]:
    """Add the rows of tables with one column of names; return the names of the classes."""
    columns = {sheet.table.path: next(iter(sheet.columns().values())) for sheet in sheets}
    cells = [row.cells[columns[sheet.table.path]] for sheet in sheets for row in sheet.rows]
    separator = collector.options.separator or _find_separator(collector, cells)
    seen: set[str] = set()

    def labels_of(sheet: _Sheet, row: _Row) -> set[str]:
        cell = row.cells[columns[sheet.table.path]]
        labels = {name.strip() for name in (cell.split(separator) if separator else [cell])} - {""}
        for name in labels - seen:
            if fault := judge_name(name, sheet.place(row)):
                collector.faults.append(fault)
        seen.update(labels)
        return labels

    _add_rows(collector, sheets, labels_of)
    names, faults = order_names(collector.root, seen)
    collector.faults += faults
    return names


def _find_separator(collector: Collector, cells: list[str]) -> str:
    """The letter between names; "" where each cell is one name."""
    separator = next((s for s in _SEPARATORS if any(s in cell for cell in cells)), "")
    told = f"the names of labels are parted by {separator}" if separator else "each cell is a name"
    other = 'to part them otherwise: -o CheckDataset.convert.separator="..."'
    collector.notes.append(f"{told}; {other}")
    return separator


def _read_one_hot(collector: Collector, sheets: list[_Sheet]) -> list[str]:
    """Add the rows of tables with one column for each class; return the names of the classes."""
    names = list(sheets[0].columns())
    for name in names:
        if fault := judge_name(name, sheets[0].place(sheets[0].header)):
            collector.faults.append(fault)
    for sheet in sheets[1:]:
        if odd := sorted(set(names) ^ set(sheet.columns())):
            text = f"these columns are not in both tables: {name_first(odd)}"
            fix = f"give it the columns of {sheets[0].table.path}, in any order"
            collector.fault("wrong columns", sheet.place(sheet.header), text, fix)
    collector.check()
    columns = {sheet.table.path: sheet.columns() for sheet in sheets}

    def labels_of(sheet: _Sheet, row: _Row) -> list[str]:
        labels = []
        for name, i in columns[sheet.table.path].items():
            cell = row.cells[i]
            if cell == "1":
                labels.append(name)
            elif cell != "0":
                text = f"the value of {name} is {cell[:40]!r}, neither 0 nor 1"
                collector.fault("value other than 0 or 1", sheet.place(row), text, _ONE_HOT)
        return labels

    _add_rows(collector, sheets, labels_of)
    return names


def _add_rows(
    collector: Collector, sheets: list[_Sheet], labels_of: Callable[[_Sheet, _Row], Iterable[str]]
) -> None:
    parts = [[_part_of_row(collector, sheet, row) for row in sheet.rows] for sheet in sheets]
    lists = {"": "train", **lists_of(part for column in parts for part in column)}
    done, total = 0, sum(map(len, parts))
    test = 0
    for name in sorted(set(lists.values())):
        collector.open_list(name)
    for sheet, column in zip(sheets, parts, strict=True):
        for row, part in zip(sheet.rows, column, strict=True):
            if part in lists and row.cells[0]:
                folders = image_folders(sheet.table, part)
                labels = labels_of(sheet, row)
                collector.add(lists[part], row.cells[0], folders, labels, sheet.place(row))
            test += part == "test"
            done += 1
            if done % _STEP == 0 or done == total:
                collector.options.progress(done, total)
    if test:
        collector.notes.append(f"{test:,} rows of the test part are left alone")


def _part_of_row(collector: Collector, sheet: _Sheet, row: _Row) -> str:
    if not row.cells[0]:
        fix = "name the image, or remove the row"
        collector.fault("no image", sheet.place(row), "the row names no image", fix)
    if not sheet.dividing:
        return sheet.table.part
    word = row.cells[sheet.dividing]
    part = part_of(word)
    if not part:
        name = sheet.header.cells[sheet.dividing]
        text = f"{word!r} in the column {name} is neither train nor val nor test"
        collector.fault("unknown part", sheet.place(row), text, "write train or val")
    return part
