# SPDX-License-Identifier: Apache-2.0
"""A text file of a data set -> its lines, with a fault for everything that cannot be text."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import NamedTuple

from paddlex_ml.data import missing_lists
from paddlex_ml.data.faults import DatasetFault
from paddlex_ml.storage import regular_file

UTF8, UTF16 = "UTF-8", "UTF-16"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_LAST_COMMON = 0xD7  # first byte of the last characters of the first level of GB 2312
_SAVE_AS = "save the file as UTF-8 (from Latin-1: iconv -f LATIN1 -t UTF-8 old.txt > new.txt)"


class TextLines(NamedTuple):
    """The content of a text file."""

    lines: list[str | None]
    """Without their ends; a line that is a fault is None."""
    faults: list[DatasetFault]
    encoding: str = UTF8
    """UTF-8, UTF-16 or GB18030, recognised from the bytes."""


def read_lines(path: Path, name: str = "") -> TextLines:
    """Read a text file in UTF-8, in UTF-16 with a byte order mark, or in GB18030.

    A byte order mark, the line ends of Windows (and of old Macs, in a file that has no others) and
    empty lines at the end of the file are removed. `name` is
    the file's name in faults: its path relative to the data set. The default is its last part.
    """
    name = name or path.name
    try:
        content = regular_file.read(path)
    except FileNotFoundError:
        return TextLines([], [missing_lists.describe(name)])
    except OSError as error:
        fix = regular_file.repair(error)
        text = f"{name} cannot be read: {error.strerror}"
        return TextLines([], [DatasetFault("file not readable", name, text, fix)])
    content, encoding = to_utf8(content)
    content = content.replace(b"\r\n", b"\n")
    if b"\n" not in content:  # as of old Macs, and of "CSV (Macintosh)" of Excel
        content = content.replace(b"\r", b"\n")
    filled = len(content.rstrip(b"\r\n \t"))  # not the text itself: lists may take gigabytes
    if not filled:
        return TextLines([], [], encoding)
    # Empty lines at the end go, but no tab of the last line: it may separate two empty cells.
    end = content.find(b"\n", filled)
    content = content[: end if end >= 0 else None]
    return TextLines(*_decode(content, name), encoding)


def to_utf8(content: bytes) -> tuple[bytes, str]:
    """Return the bytes of a text as UTF-8 without a byte order mark, and the encoding they had:
    "UTF-16" with a byte order mark, "GB18030" for what is Chinese beyond doubt, else "UTF-8".

    Beyond doubt: it is not UTF-8, nine of ten characters that are not ASCII are of GB 2312, whose
    bytes come in pairs above 0xA0, and half of them are of its first level, the common ones.
    Accented letters of Latin-1 are neither when they stand between plain ones, as most do.
    """
    if content.startswith(_UTF16) and not content.startswith(_UTF32):
        text = _try_decoding(content, "utf-16")
        return (content, UTF8) if text is None else (text.encode(), UTF16)
    if not content.isascii() and _try_decoding(content, "utf-8") is None:
        text = _try_decoding(content, "gb18030")
        foreign = [letter for letter in text or "" if not letter.isascii()]
        simple = "".join(foreign).encode("gb2312", "ignore")
        common = sum(lead <= _LAST_COMMON for lead in simple[::2])
        enough = len(simple) // 2 >= 0.9 * len(foreign) and common >= 0.5 * len(foreign)
        if text is not None and enough:
            return text.encode(), "GB18030"
    return content.removeprefix(codecs.BOM_UTF8), UTF8


def _try_decoding(content: bytes, encoding: str) -> str | None:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        return None


def _decode(content: bytes, name: str) -> tuple[list[str | None], list[DatasetFault]]:
    try:
        return [*content.decode("utf-8").split("\n")], []
    except UnicodeDecodeError:
        pass  # line by line below, to find the faulty ones
    lines: list[str | None] = []
    faults = []
    for number, line in enumerate(content.split(b"\n"), 1):
        try:
            lines.append(line.decode("utf-8"))
        except UnicodeDecodeError:
            lines.append(None)
            text = "the line is neither UTF-8 nor GB18030 text"
            faults.append(DatasetFault("not UTF-8", f"{name}:{number}", text, _SAVE_AS))
    return lines, faults
