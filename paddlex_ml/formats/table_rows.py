# SPDX-License-Identifier: Apache-2.0
"""The rows of a file with a table -> the titles above the table, and the rows of the table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

from paddlex_ml.data.walk import is_image
from paddlex_ml.formats.column_names import IMAGE_WORDS, simplify

IMAGE_COLUMNS = ("image", "filename", "file_name", "path", "fname")
"""Names of columns of images that begin a table beyond doubt."""
MOST_TITLES = 10
"""Rows above a table that may be titles."""
_BELOW = 50  # rows of a table by which its header is known


class TableRow(NamedTuple):
    """One row; cells are without spaces around them."""

    number: int
    """Line on which the row begins, or its number in a sheet."""
    cells: list[str]


def part_titles(rows: Iterator[TableRow]) -> tuple[list[TableRow], Iterator[TableRow]]:
    """Divide rows into the titles above a table, and the table.

    Titles are rows with one cell, and any rows above a row that is a header beyond doubt.
    """
    first = list(islice(rows, MOST_TITLES + 1 + _BELOW))
    start = _find_header(first) or _count_single_cells(first)
    return first[:start], chain(first[start:], rows)


def _find_header(rows: Sequence[TableRow]) -> int:
    """Place of the header of images that has titles above it; 0 where none is beyond doubt."""
    for place, row in enumerate(rows[: MOST_TITLES + 1]):
        cells = row.cells[: _width(row)]
        if any(simplify(cell) in IMAGE_WORDS or is_image(cell) for cell in cells):
            is_header = len(cells) == len(set(cells) - {""}) > 1
            is_header = is_header and not any(is_image(cell) or _is_number(cell) for cell in cells)
            return place if is_header and _fits(rows, place) else 0
    return 0


def _fits(rows: Sequence[TableRow], place: int) -> bool:
    """Whether the rows below a header are of it, and those above are not.

    The column that is named as one of images has names of images; or it is the first column, and
    all rows below have as many cells as the header, but none above.
    """
    header, above, below = rows[place], rows[:place], rows[place + 1 :]
    column = next(i for i, cell in enumerate(header.cells) if simplify(cell) in IMAGE_WORDS)
    named = [row.cells[column] for row in below if len(row.cells) > column]
    if 2 * sum(map(is_image, named)) > len(below):
        return True
    widths = {len(row.cells) for row in below}
    return column == 0 and widths == {_width(header)} and not widths & set(map(_width, above))


def _count_single_cells(rows: Sequence[TableRow]) -> int:
    """How many rows with one cell are above a table.

    A table of one column has no titles. Right above a table, a cell that is not in its first column
    is no title but the header of columns without names, as pandas writes its index.
    """
    for place, row in enumerate(rows):
        filled = [cell for cell in row.cells if cell]
        if place < MOST_TITLES and len(filled) == 1 and not _begins(filled[0]):
            continue
        if len(row.cells) == 1:
            return 0
        return place - 1 if place and _is_header_of(rows[place - 1], row) else place
    return 0


def _begins(cell: str) -> bool:
    """Whether a cell that stands alone in the first row is of a table, and no title above it."""
    return cell.casefold() in IMAGE_COLUMNS or is_image(cell)


def _is_header_of(above: TableRow, row: TableRow) -> bool:
    column, first = (next(i for i, cell in enumerate(r.cells) if cell) for r in (above, row))
    return column > first and above.number + 1 == row.number


def _width(row: TableRow) -> int:
    """Number of cells up to the last that is not empty."""
    return max(i for i, cell in enumerate(row.cells, 1) if cell)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
