# SPDX-License-Identifier: Apache-2.0
"""A file with a table (.csv, .tsv, .tab, .txt, .xlsx) -> its columns and rows, as text."""

from __future__ import annotations

import csv
import datetime
import importlib.util
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from paddlex_ml import program
from paddlex_ml.data.inventory import Inventory
from paddlex_ml.data.lines import to_utf8
from paddlex_ml.data.walk import is_image
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats.collector import Collector
from paddlex_ml.formats.table_rows import IMAGE_COLUMNS, MOST_TITLES, TableRow, part_titles
from paddlex_ml.safe_text import one_line
from paddlex_ml.storage import archives, csv_text, regular_file
from paddlex_ml.wording import count, first_names

TEXT_SUFFIXES = (".csv", ".tsv", ".tab", ".txt")
WORKBOOK = ".xlsx"
SUFFIXES = (*TEXT_SUFFIXES, WORKBOOK)
"""Endings of the files that may be tables."""
DELIMITERS = ("\t", ",", ";", "|")
_PEEK = 50  # rows
_MOST_GROWTH = 100  # of a workbook when it is unpacked; that of full tables is 10 to 30
_SPARE = 1 << 20  # bytes that any workbook may unpack to
_MOST_ROWS = 1 << 20  # of a sheet: Excel has no more
_MOST_CELLS = 20_000_000  # of a sheet: half a gigabyte, or 20,000 images with 1,000 columns
_MOST_MERGED = 10_000
_LONGEST_MERGED = 100  # bytes
_MERGED = re.compile(rb'mergeCell ref="([A-Z]{1,3})([0-9]{1,7}):([A-Z]{1,3})([0-9]{1,7})"')
_ZEROS = re.compile("000+")  # a format of numbers: 123 is shown as 000123
_EXCEL_SEPARATOR = re.compile(r"sep=(.)", re.I)  # the first line of a file for Excel may tell it


class Sheet(NamedTuple):
    """The rows of a sheet of a workbook that are not empty."""

    name: str
    rows: list[TableRow]
    titles: list[TableRow]
    """Those above the table, which are no part of it."""


@dataclass
class Table:
    """A table as text."""

    path: str
    header: TableRow
    """The names of the columns; "column 1" and so on where the first line has data."""
    rows: list[TableRow] = field(default_factory=list)
    sheet: str = ""
    """Name of the sheet where a workbook has several."""
    has_header: bool = True

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return self.header.cells

    @property
    def keys(self) -> list[str]:
        """The names of the columns, each other: a class may be called like the first column."""
        names = self.header.cells
        return [f"{name}\0{i}" if name in names[:i] else name for i, name in enumerate(names)]

    @property
    def name(self) -> str:
        """The file, and the sheet where there are several."""
        return f"{self.path}[{self.sheet}]" if self.sheet else self.path

    def locate(self, row: TableRow) -> str:
        """Return file and line of a row: "train.csv:7"."""
        return f"{self.name}:{row.number}"

    def values(self, column: int) -> set[str]:
        """The different cells of a column."""
        return {row.cells[column] for row in self.rows}


def read_tables(collector: Collector, path: str) -> list[Table]:
    """Read the table of a text file, or those of a workbook; faults go to the collector."""
    if path.lower().endswith(WORKBOOK):
        every = _read_workbook(collector.root / path, path)
        chosen = _tables_of(every)
        collector.notes += _tell_left_out(path, every, chosen)
    else:
        lines = collector.read_lines(path, records=False)
        if any(line is None for line in lines):
            return []
        titles, rows = part_titles(_parse(collector, path, [line or "" for line in lines]))
        chosen = [Sheet("", list(rows), titles)]
        collector.notes += _tell_titles(path, "the table", chosen[0])
    tables = []
    for sheet in chosen:
        name = sheet.name if len(chosen) > 1 else ""
        table = _build(collector, path, name, iter(sheet.rows))
        if table:
            tables.append(table)
    collector.account.use(path, sum(len(table.rows) for table in tables))
    if not tables and not collector.faults:
        fix = "write a line with the names of the columns: image,cat,dog"
        collector.add_fault("empty table", path, "the table has no line", fix)
    return tables


def is_closed_workbook(inventory: Inventory, path: str) -> bool:
    """Whether a file is a workbook that cannot be read for want of the package openpyxl."""
    if not path.lower().endswith(WORKBOOK) or inventory.read_head(path)[:2] != b"PK":
        return False
    return importlib.util.find_spec("openpyxl") is None


def peek(inventory: Inventory, path: str) -> Table | None:
    """The first rows of the first table of a file; None where it has none or is damaged."""
    try:
        if path.lower().endswith(WORKBOOK):
            rows = iter(_tables_of(_read_workbook(inventory.root / path, path))[0].rows)
        else:
            head = inventory.read_head(path)
            if len(head) == 2**16:
                head = head[: head.rfind(b"\n") + 1]
            text = to_utf8(head)[0].decode("utf-8", "strict")
            rows = part_titles(_parse_strictly(text.replace("\r\n", "\n").split("\n")))[1]
        some = list(islice(rows, _PEEK))
    except (PaddlexMLError, UnicodeDecodeError, csv.Error, IndexError):
        return None
    if not some:
        return None
    width = len(some[0].cells)
    table = _add_header(path, "", some[0])
    kept = (_fit(row.cells, width) for row in some[table.has_header :])
    table.rows = [TableRow(0, cells) for cells in kept if len(cells) == width]
    return table


def _build(collector: Collector, path: str, sheet: str, rows: Iterator[TableRow]) -> Table | None:
    """Give rows their header. A row with too few or too many cells is a fault."""
    first = next(rows, None)
    if first is None:
        return None
    table = _add_header(path, sheet, first)
    if not table.has_header:
        table.rows.append(first)
    width, odd = len(first.cells), list[TableRow]()
    for row in rows:
        if len(row.cells) == width:
            table.rows.append(row)
        elif len(cells := _fit(row.cells, width)) == width:
            table.rows.append(TableRow(row.number, cells))
        else:
            odd.append(row)
    if len(odd) > 1 and not table.rows:
        text = f"the first line has {count(width, 'cell')}, and no row below has as many"
        fix = "write a name for every column into it; what stands above the names, remove"
        collector.add_fault("wrong number of cells", table.locate(first), text, fix)
        return table
    for row in odd:
        text = f"the row has {count(len(row.cells), 'cell')}, the first line has {width}"
        fix = "write a cell for every column; a cell with separators in it needs quotes around it"
        collector.add_fault("wrong number of cells", table.locate(row), text, fix)
    return table


def _add_header(path: str, sheet: str, first: TableRow) -> Table:
    if first.cells[0].casefold() in IMAGE_COLUMNS or not any(
        is_image(cell) or is_image(cell.split(" ")[0]) for cell in first.cells
    ):
        return Table(path, first, sheet=sheet)
    names = [f"column {number}" for number in range(1, len(first.cells) + 1)]
    return Table(path, TableRow(first.number, names), sheet=sheet, has_header=False)


def _fit(cells: list[str], width: int) -> list[str]:
    """A row without empty cells beyond the last column."""
    return cells if any(cells[width:]) else cells[:width]


# Text


def _parse(collector: Collector, path: str, lines: list[str]) -> Iterator[TableRow]:
    """Rows that are not empty; a row that is not valid CSV ends them with a fault."""
    number = 0
    try:
        for row in _parse_strictly(lines):
            number = row.number
            yield row
    except csv.Error as error:
        is_open = "unexpected end" in str(error) or "field limit" in str(error)
        text = "a quote is opened but not closed" if is_open else f"the row is not CSV: {error}"
        fix = 'close it; a quote in a cell is written "", with quotes around the cell'
        number = next((i for i, line in enumerate(lines, 1) if i > number and line.strip()), 1)
        collector.add_fault("damaged table", f"{path}:{number}", text, fix)


def _parse_strictly(lines: Sequence[str]) -> Iterator[TableRow]:
    """Rows that are not empty. Raises csv.Error."""
    delimiter = find_delimiter(lines)
    start = 0
    if told := _EXCEL_SEPARATOR.fullmatch(lines[0].strip() if lines else ""):
        delimiter, start = told[1], 1
    reader = csv.reader(
        (f"{line}\n" for line in islice(lines, start, None)),
        delimiter=delimiter,
        strict=True,
        skipinitialspace=True,
    )
    number = start + 1
    for cells in reader:
        stripped = [csv_text.plain(cell.strip()) for cell in cells]
        if any(stripped):
            yield TableRow(number, stripped)
        number = start + reader.line_num + 1


def find_delimiter(lines: Iterable[str]) -> str:
    """What separates the columns: a tab, comma, semicolon or bar that the first line has.

    Of several, the one with which most of the first rows have as many cells as the first line,
    then the one that makes more columns. A sign that no other line has is of a title, and lines
    above the first with a separator are titles too.
    """
    first_lines = list(islice((line for line in lines if line.strip()), _PEEK))
    for start in range(min(MOST_TITLES + 1, len(first_lines))):
        if best := _choose_delimiter(first_lines[start:]):
            return best
    return ","


def _choose_delimiter(lines: list[str]) -> str:
    best, best_score = "", (0.0, 0)
    for delimiter in DELIMITERS:
        widths = [len(re.sub(r'"[^"]*"', "", line).split(delimiter)) for line in lines]
        if widths[0] < 2 or (len(widths) > 1 and max(widths[1:]) < 2):
            continue
        same = sum(width == widths[0] for width in widths) / len(widths)
        if delimiter == "\t":
            same += 1  # hardly ever in a cell
        if (same, widths[0]) > best_score:
            best, best_score = delimiter, (same, widths[0])
    return best


# Workbooks


def _tables_of(sheets: list[Sheet]) -> list[Sheet]:
    """The sheets with several columns, where there are some: others hold notes for people."""
    return [each for each in sheets if len(each.rows[0].cells) > 1] or sheets


def _tell_left_out(path: str, every: list[Sheet], chosen: list[Sheet]) -> Iterator[str]:
    """Notes about sheets that are no tables, and about rows above tables."""
    if others := [each.name for each in every if each not in chosen]:
        shown = f"{count(len(others), 'sheet')} of one column: {first_names(others, 5)}"
        yield f"{path}: left out: {shown}"
    for each in chosen:
        yield from _tell_titles(path, f"the table of {each.name}", each)


def _tell_titles(path: str, table: str, sheet: Sheet) -> Iterator[str]:
    if sheet.titles:
        filled = [list(filter(None, row.cells)) for row in sheet.titles]
        texts = [one_line(", ".join(cells))[:60] for cells in filled]
        rows = count(len(texts), "row")
        note = f"{path}: left out: {rows} above {table}: {first_names(texts, 3)}"
        if any(len(cells) > 1 for cells in filled):
            header = sheet.rows[0]
            note += f"; row {header.number} has the names of the columns: "
            note += first_names(header.cells, 5)
        yield note


def _read_workbook(path: Path, name: str) -> list[Sheet]:
    """Each sheet that is not empty. Raises PaddlexMLError."""
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise PaddlexMLError(
            "reading an Excel workbook needs the package openpyxl",
            where=name,
            fix=program.pip_install("paddlex-ml[excel]") + ", or save the sheet as CSV UTF-8",
        ) from error
    try:
        archives.refuse_large_directory(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # styles and rules that are not read
            with regular_file.open_regular(path, regular_file.LARGEST_LIST, is_text=False) as file:
                _refuse_grown(file, path.stat().st_size)
                book = load_workbook(file, read_only=True, data_only=True)
                sheets = [_read_sheet(sheet) for sheet in book.worksheets]
                book.close()
    except Exception as error:  # openpyxl raises nearly anything for a damaged file
        reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
        raise PaddlexMLError(
            f"the workbook cannot be read: {' '.join(reason.split())[:300]}",
            where=name,
            fix="open it in Excel, and save it as .xlsx or as CSV UTF-8",
        ) from error
    return [each for each in sheets if each.rows]


def _refuse_grown(file: BinaryIO, size: int) -> None:
    """Raise ValueError for a workbook that unpacks to much more than its size."""
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > (most := _MOST_GROWTH * size + _SPARE):
        raise ValueError(f"it unpacks to {unpacked:,} bytes, at most {most:,} are read")


def _read_sheet(sheet: Any) -> Sheet:
    titles, rows = part_titles(_walk_sheet(sheet))
    first = next(rows, None)
    if first is None:
        return Sheet(str(sheet.title), [], [])
    width = len(first.cells)
    fitted = (
        TableRow(row.number, _fit([*row.cells, *[""] * (width - len(row.cells))], width))
        for row in rows
    )
    return Sheet(str(sheet.title), [first, *fitted], titles)


def _walk_sheet(sheet: Any) -> Iterator[TableRow]:
    """Rows that are not empty, up to their last cell that is not. Raises ValueError."""
    merged, open_cells = _find_merged(sheet), dict[int, tuple[int, str]]()
    sheet.reset_dimensions()  # what a file says of its size may be wrong
    padded = any(map(_ZEROS.fullmatch, sheet.parent._number_formats))
    taken = 0
    for number, values in enumerate(sheet.iter_rows(values_only=not padded), 1):
        taken += len(values)
        if number > _MOST_ROWS or taken > _MOST_CELLS:  # a row may name any place
            what = f"{_MOST_ROWS:,} rows, or {_MOST_CELLS:,} cells with the empty ones between"
            raise ValueError(f"a sheet has more than {what}")
        cells = [_show_cell(value) if padded else _show_value(value) for value in values]
        if not any(cells):
            continue
        for column, (last, value) in open_cells.items():
            if number <= last and column < len(cells):
                cells[column] = cells[column] or value
        for column, last in merged.get(number, ()):
            open_cells[column] = (last, cells[column] if column < len(cells) else "")
        yield TableRow(number, cells[: max(i for i, cell in enumerate(cells, 1) if cell)])


def _find_merged(sheet: Any) -> dict[int, list[tuple[int, int]]]:
    """Cells of one column that are merged: first row -> columns, from 0, and last rows.

    Such a cell counts for each of its rows, as a person reads it. openpyxl does not tell them of a
    sheet that it reads row by row.
    """
    from openpyxl.utils import column_index_from_string

    found, rest = set[tuple[int, int, int]](), b""
    with sheet.parent._archive.open(sheet._worksheet_path) as xml:
        while piece := xml.read(1 << 20):
            for left, first, right, last in _MERGED.findall(rest + piece):
                if left == right and first != last and len(found) < _MOST_MERGED:
                    column = column_index_from_string(left.decode()) - 1
                    found.add((int(first), column, int(last)))
            rest = piece[-_LONGEST_MERGED:]
    of_row: dict[int, list[tuple[int, int]]] = {}
    for row, column, end in sorted(found):
        of_row.setdefault(row, []).append((column, end))
    return of_row


def _show_cell(cell: Any) -> str:
    """A cell as a person sees it, also where its format writes 123 as 000123."""
    shown = _show_value(cell.value)
    zeros = _ZEROS.fullmatch(cell.number_format or "")
    return shown.zfill(len(zeros[0])) if zeros and shown.isdecimal() else shown


def _show_value(value: object) -> str:
    """A value as a person sees it: 1.0 is 1."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return str(value).strip()
