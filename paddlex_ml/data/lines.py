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
    the file's name in faults: its path relative to the data set. The default is its last part.
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
    content = content.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n")
    filled = content.rstrip(b"\r\n \t")
    if not filled:
        return [], []
    # Empty lines at the end go, but no tab of the last line: it may separate two empty cells.
    end = content.find(b"\n", len(filled))
    return _decode(content[: end if end >= 0 else None], name)


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
            text = "the line is not UTF-8 text"
            faults.append(DatasetFault("not UTF-8", f"{name}:{number}", text, _SAVE_AS))
    return lines, faults
