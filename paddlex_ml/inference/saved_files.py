# SPDX-License-Identifier: Apache-2.0
"""The files that results of this process were saved into: none replaces that of another result.

Where a name is taken, the file gets a number (`photo_2.json`). Under one file name, JSON results
become a list and CSV rows a table. A result of an earlier process is replaced; a file that is no
result, such as a photograph or the annotation beside it, stays.
"""

from __future__ import annotations

import codecs
import json
import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from paddlex_ml.data.image_finder import fold
from paddlex_ml.storage import files, regular_file

MARK = "drawn by paddlex_ml"
"""Stands in the metadata of each drawn picture, so that it is known as one later."""
_RESULT = re.compile(
    rb'\s*(\[\s*)?\{\s*"res":\s*\{\s*"input_path":'  # one result in JSON, or a list of them
    rb"|(\xef\xbb\xbf)?image,labels,scores,error[,\r\n]"  # a table
)
_LOOKED_AT = 4096  # bytes at both ends of a file: pictures have their metadata there

_START, _BETWEEN, _END = b"[\n", b",\n", b"\n]\n"  # of a list of results in JSON

# Hashes keep the memory small: about 170 bytes for a file.
_owners: dict[int, int] = {}  # file -> the result that it is of
_numbers: dict[int, int] = {}  # file that several results wanted -> the last number given
_unwritten: set[int] = set()  # files that threads write at present
_collections: dict[int, tuple[set[int], int]] = {}  # file -> its results, its size in bytes
_told: set[int] = set()
_lock = threading.Lock()
_collecting = threading.RLock()

_log = logging.getLogger(__name__)


class Saver(NamedTuple):
    """One way to save one result."""

    owner: int
    """The same for every copy of the result, another one for every other."""
    source: str | None
    """Path of the image, which is never replaced."""
    given: dict[int, int]
    """File and owner -> number that this result got instead; filled here."""


@contextmanager
def reserve(target: Path, saver: Saver) -> Iterator[Path]:
    """Yield `target`, or its name with a number where it is taken; to be written."""
    with _lock:
        path, key = _find_free(target, saver)
        _unwritten.add(key)
        is_result = _key(target) in _owners
        before = _owners.get(key)
        _owners[key] = saver.owner
    try:
        yield path
    except BaseException:
        with _lock:
            _owners.pop(key, None)
            if before is not None:
                _owners[key] = before
        raise
    finally:
        with _lock:
            _unwritten.discard(key)
    if path != target:
        _tell_once(
            target.parent,
            "%s holds another result, so this one is saved as %s; further ones get numbers too"
            if is_result
            else "%s is no result and stays, so this one is saved as %s; others get numbers too",
            target,
            path.name,
        )


def collect(target: Path, saver: Saver, kind: Literal["json", "csv"], content: bytes) -> Path:
    """Write `content` to `target`, or add it where that file has results of this process.

    A file that is no list or table of such results stays, and the new one gets a number. The bytes
    of a JSON result end in a line end; those of a table have a header.
    """
    key = _key(target)
    with _collecting:
        with _lock:
            is_taken, is_result = _is_taken(target, key, saver), key in _owners
        if not is_taken or not is_result:
            with _lock:
                _collections.pop(key, None)
            with reserve(target, saver) as path:
                files.write_bytes(path, content)
            return path
        owners, size = _collections.get(key) or ({_owners[key]}, 0)
        if saver.owner in owners:
            return target
        add = _add_json if kind == "json" else _add_rows
        size = add(target, content, size)
        if not size:
            with reserve(target, saver) as path:
                files.write_bytes(path, content)
            return path
        with _lock:
            owners.add(saver.owner)
            _collections[key] = owners, size
            _owners[key] = 0  # of several
    _tell_once(
        target,
        "%s is the file name of several results: it holds all of them, one after another; "
        "save into a folder for a file of each: save_path=%r",
        target,
        os.path.join(target.parent, ""),
    )
    return target


def _find_free(target: Path, saver: Saver) -> tuple[Path, int]:
    wanted = _key(target)
    mine = hash((wanted, saver.owner))
    number = saver.given.get(mine, 1)
    path, key = target, wanted
    if number > 1:
        path = _with_number(target, number)
        key = _key(path)
    if not _is_taken(path, key, saver):
        return path, key
    number = max(number, _numbers.get(wanted, 1))
    while _is_taken(path, key, saver):
        number += 1
        path = _with_number(target, number)
        key = _key(path)
    _numbers[wanted] = saver.given[mine] = number
    return path, key


def _with_number(target: Path, number: int) -> Path:
    return target.with_name(f"{target.stem}_{number}{target.suffix}")


def _is_taken(path: Path, key: int, saver: Saver) -> bool:
    if key in _owners and _owners[key] != saver.owner:
        return key in _unwritten or path.exists()
    if not path.exists():
        return False
    source = saver.source
    if source and os.path.exists(source) and os.path.samefile(path, source):
        return True  # the name with a number may be that of the image itself
    return key not in _owners and not _is_replaceable(path)


def _is_replaceable(path: Path) -> bool:
    """Whether a file that is not of this process is a result of an earlier one, or empty."""
    try:
        with regular_file.open_regular(path, 1 << 50, is_text=False) as file:
            first = file.read(_LOOKED_AT)
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LOOKED_AT))
            last = file.read(_LOOKED_AT)
    except OSError:  # what cannot be read is not known
        return False
    return not first or MARK.encode() in first + last or bool(_RESULT.match(first))


def _key(path: Path) -> int:
    """The same for names that some disk takes for one, and for every path of a folder."""
    return hash(fold(os.path.join(os.path.realpath(path.parent), path.name)))


def _add_json(path: Path, content: bytes, size: int) -> int:
    """The new size of the file; 0 where it is not what was written here."""
    if size:
        return _append(path, size, _END, _BETWEEN + content.rstrip(b"\n"))
    first = path.read_bytes()
    try:
        whole = json.loads(first)
    except (ValueError, RecursionError):
        return 0
    if not isinstance(whole, dict) or "res" not in whole:
        return 0
    listed = _START + first.rstrip(b"\n") + _BETWEEN + content.rstrip(b"\n") + _END
    files.write_bytes(path, listed)
    return len(listed)


def _add_rows(path: Path, content: bytes, size: int) -> int:
    """The new size of the file; 0 where it is another table."""
    header, _, rows = content.removeprefix(codecs.BOM_UTF8).partition(b"\n")
    with path.open("rb") as file:
        first = file.readline().rstrip(b"\n")
        if first.removeprefix(codecs.BOM_UTF8) != header:
            return 0
    if content.startswith(codecs.BOM_UTF8) and not first.startswith(codecs.BOM_UTF8):
        whole = codecs.BOM_UTF8 + path.read_bytes() + rows  # Excel needs the mark from here on
        files.write_bytes(path, whole)
        return len(whole)
    return _append(path, size or path.stat().st_size, b"\n", b"\n" + rows.removesuffix(b"\n"))


def _append(path: Path, size: int, end: bytes, more: bytes) -> int:
    """Write `more` before the `end` of a file of `size` bytes, and undo it where that fails.

    One call writes all, so that a kill leaves the old file or the new one. Writing the whole file
    anew for each of 10,000 results would take hours.
    """
    with path.open("r+b", buffering=0) as file:
        start = size - len(end)
        if file.seek(0, os.SEEK_END) != size or file.seek(start) != start or file.read() != end:
            return 0
        try:
            file.seek(start)
            written = file.write(more + end)
            if written != len(more + end):
                file.write((more + end)[written:])  # raises what is in the way: a full disk
            files.flush(path)
        except BaseException:
            file.seek(start)
            file.write(end)
            file.truncate(size)
            raise
    return size + len(more)


def _tell_once(path: Path, text: str, *arguments: object) -> None:
    with _lock:
        is_told = _key(path) in _told
        _told.add(_key(path))
    if not is_told:
        _log.warning(text, *arguments)
