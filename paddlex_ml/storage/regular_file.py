# SPDX-License-Identifier: Apache-2.0
"""Reading files that strangers may have put there: plain files only, of a bounded size.

A named pipe would make the reader wait for ever, a device has no end, and a sparse file of a few
bytes on the disk claims any length. All are refused before a byte is read. Links are followed: a
list on another disk is a fair wish.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from paddlex_ml import machine_memory

LARGEST_LIST = 8 << 30
"""Bytes of a list or an annotation file: a million images with 4,000 classes have as many."""
LARGEST_ANNOTATION = 32 << 20
"""Bytes of the XML file of one image: 20,000 objects have 6 MB."""
LARGEST_YAML = 1 << 20
"""Bytes of a YAML file: 20,000 class names with a threshold each have less."""
LARGEST_WEIGHTS = 8 << 30
"""Bytes of a weight file: ten times the largest model with the state of its optimizer."""
LARGEST_RESULT = 64 << 20
"""Bytes of a result or a record in JSON: an evaluation of 20,000 classes has less than 20 MB."""
LONGEST_LINE = 16 << 20
"""Bytes of a line of a table of results: 20,000 scores of an image have less than a million."""
ANY_JSON = 8
"""`growth` of JSON whose values become values of Python: most texts grow by less than 4."""
_SAMPLE = 4096
_HOLES_FROM = 16 << 20
"""Bytes from which a text is looked at for holes."""
_DEEP = "its values are too deep in each other"
_Value = TypeVar("_Value")
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


def open_regular(path: Path, largest: int, *, is_text: bool = True) -> BinaryIO:
    """Open a plain file of at most `largest` bytes for reading; links are followed.

    Raises OSError, whose text is the reason, for every other kind of file, for a larger one, and
    for a large text with holes or blocks of zeros, which no program wrote as a text.
    """
    file = os.fdopen(os.open(path, os.O_RDONLY | _NOT_WAITING), "rb")
    try:
        status = os.fstat(file.fileno())
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind == "a folder":
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if kind is not None:
            raise OSError(errno.EINVAL, f"it is {kind}, only plain files are read", str(path))
        size = status.st_size
        if size > largest:
            what = f"it has {size:,} bytes, at most {largest:,} are read"
            raise OSError(errno.EFBIG, what, str(path))
        if is_text and size > _HOLES_FROM and _has_holes(file, size):
            what = f"it has {size:,} bytes, part of which are all zero or a hole (a sparse file)"
            raise OSError(errno.EFBIG, what, str(path))
    except BaseException:
        file.close()
        raise
    return file


def read(path: Path, largest: int = LARGEST_LIST, growth: int = 1) -> bytes:
    """The content of a plain text file, which may take a quarter of the memory.

    growth: how many times larger its values are than their text, at most: `{}` takes 72 bytes as a
    value of Python. Raises OSError as `open_regular`.
    """
    with open_regular(path, min(largest, machine_memory.total() // 4 // growth)) as file:
        return file.read(os.fstat(file.fileno()).st_size)  # it may grow meanwhile


def repair(error: OSError) -> str:
    """What to do about a file that `read` refuses."""
    if error.errno == errno.EFBIG:
        return "write it in several smaller files, or restore it if it was damaged"
    return "make it a plain file that you may read"


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a plain text file with their ends. Raises OSError as `open_regular`, and for a
    line of more than LONGEST_LINE bytes.
    """
    with open_regular(path, LARGEST_LIST) as file:
        while line := file.readline(LONGEST_LINE + 1):
            if len(line) > LONGEST_LINE:
                what = f"a line has more than {LONGEST_LINE:,} bytes, the most that is read"
                raise OSError(errno.EFBIG, what, str(path))
            yield line


def read_json(path: Path, largest: int = LARGEST_RESULT) -> Any:
    """The value of a JSON file. Raises OSError as `open_regular`, and ValueError for no JSON."""
    try:
        return json.loads(read(path, largest))
    except RecursionError as error:
        raise ValueError(_DEEP) from error


def decode_json(content: bytes, kind: type[_Value]) -> _Value:
    """The value of a JSON text, which is of this type. Raises ValueError for another thing."""
    try:
        return msgspec.json.decode(content, type=kind)
    except RecursionError as error:
        raise ValueError(_DEEP) from error


_NOT_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def _has_holes(file: BinaryIO, size: int) -> bool:
    """Whether parts were never written, or the first, the middle or the last bytes are zeros."""
    try:
        for place in (0, size // 2, size - _SAMPLE):
            file.seek(place)
            if not any(file.read(_SAMPLE)):
                return True
    finally:
        file.seek(0)
    seek_hole = getattr(os, "SEEK_HOLE", None)
    if seek_hole is None:
        return False
    try:
        return os.lseek(file.fileno(), 0, seek_hole) < size
    except OSError:  # the disk cannot tell
        return False
    finally:
        os.lseek(file.fileno(), 0, os.SEEK_SET)
