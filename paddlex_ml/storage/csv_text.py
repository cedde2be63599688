# SPDX-License-Identifier: Apache-2.0
"""CSV tables for spreadsheets: no cell runs as a formula, and Chinese is read as it is.

A text that a spreadsheet would take for a formula gets an apostrophe in front of it, and so does a
part of it behind a semicolon, a tab or a line end: on many systems semicolons separate cells, even
within quotes that do not begin a line. `plain` takes them away again. A file with other letters
than ASCII begins with a byte order mark, without which Excel reads it in the code page of the
system.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

from paddlex_ml.safe_text import without_secrets

MARK = "\ufeff"
"""The byte order mark, as a letter."""

_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[-+]?[0-9]+)?", re.IGNORECASE)
# Also those of full width, which spreadsheets in Chinese and Japanese take for the same.
_START = "=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20"
_SUSPECT = re.compile(rf"^['{_START}]|[;\t\r\n]")  # fast: most cells are none
_FORMULA = re.compile(rf"(^|[;\t\r\n])(?='*[{_START}])")
_ESCAPED = re.compile(rf"(^|[;\t\r\n])'(?='*[{_START}])")


def write(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as text, quoted where needed; numbers stay numbers, None is an empty cell."""
    text = io.StringIO()
    plain_writer = csv.writer(text, lineterminator="\n")
    # Before 3.13 Python writes a carriage return without the quotes that it needs.
    quoting = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    for row in rows:
        cells = [escape(cell) for cell in row]
        has_return = any(isinstance(cell, str) and "\r" in cell for cell in cells)
        (quoting if has_return else plain_writer).writerow(cells)
    return text.getvalue()


def escape(cell: Any) -> Any:
    """A cell that no spreadsheet runs."""
    if not isinstance(cell, str) or not _SUSPECT.search(cell) or _NUMBER.fullmatch(cell):
        return cell
    return _FORMULA.sub(r"\1'", cell)


def plain(cell: str) -> str:
    """The text that `escape` was given."""
    return _ESCAPED.sub(r"\1", cell)


def encode(text: str) -> bytes:
    """The bytes of a CSV file, without the secrets of URLs.

    What is no character, as in a name that is not UTF-8, is escaped.
    """
    text = without_secrets(text)
    is_plain = text.isascii() or text.startswith(MARK)
    return (text if is_plain else MARK + text).encode("utf-8", "backslashreplace")
