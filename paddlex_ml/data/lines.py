# SPDX-License-Identifier: Apache-2.0
"""A text file of a data set -> its lines, with a fault for everything that is not UTF-8 text."""

from __future__ import annotations

import codecs
from pathlib import Path

from paddlex_ml.data.faults import DatasetFault

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SAVE_AS = "save the file as UTF-8 (from GBK: iconv -f GBK -t UTF-8 old.txt > new.txt)"


def read_lines(path: Path, name: str = "") -> tuple[list[str | None], list[DatasetFault]]:
    """Return the lines without their ends, and the faults; a line that is a fault is None.

    A byte order mark, CRLF line ends and empty lines at the end of the file are removed. `name` is
    what faults call the file: its path relative to the data set. The default is its last part.
    """
    name = name or path.name
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        fix = f"put {path.name} there, or point Global.dataset_dir at the folder that has it"
        return [], [DatasetFault("file missing", name, f"{name} does not exist", fix)]
    except OSError as error:
        fix = "make it a plain file that you may read"
        text = f"{name} cannot be read: {error.strerror}"
        return [], [DatasetFault("file not readable", name, text, fix)]
    if content.startswith(_UTF16):
        text = "the file is UTF-16, not UTF-8"
        return [], [DatasetFault("not UTF-8", name, text, "save the file as UTF-8")]
    content = _cut_end(content.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n"))
    return _decode(content, name) if content else ([], [])


def _cut_end(content: bytes) -> bytes:
    """Cut off empty lines at the end, but no tab of the last line: it may part two empty cells."""
    filled = content.rstrip(b"\r\n \t")
    end = content.find(b"\n", len(filled))
    return content[: end if end >= 0 else None] if filled else b""


def _decode(content: bytes, name: str) -> tuple[list[str | None], list[DatasetFault]]:
    try:
        return [*content.decode("utf-8").split("\n")], []
    except UnicodeDecodeError:  # now line by line, to say which
        lines = [_decode_line(line) for line in content.split(b"\n")]
    bad = [number for number, line in enumerate(lines, 1) if line is None]
    text = "the line is not UTF-8 text"
    return lines, [DatasetFault("not UTF-8", f"{name}:{number}", text, _SAVE_AS) for number in bad]


def _decode_line(line: bytes) -> str | None:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return None
