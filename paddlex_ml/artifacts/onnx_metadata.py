# SPDX-License-Identifier: Apache-2.0
"""The texts that an ONNX file carries beside its graph, read and replaced without loading it.

An ONNX file is one protobuf message, a series of fields: a tag, then the content. The graph, up to
hundreds of megabytes, is one field, and each text is another one. So no package is needed, and
little memory.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import files

_METADATA_PROPS = 14  # field of ModelProto: messages of a key and a value
_KEY, _VALUE = 1, 2
_GRAPH = 7  # field of ModelProto
_INITIALIZER = 5  # field of GraphProto: a tensor of weights
_NAME_OF_TENSOR = 8
_VARINT, _LENGTH = 0, 2  # kinds of a field
_FIXED = {1: 8, 5: 4}  # kinds of a field -> bytes
_BAD = 1 << 80  # more than any number in a file
MOST_TEXT = 4 << 20
"""Bytes of all texts of a file: 20,000 class names with a threshold each have less than one."""
MOST_FIELDS = 10_000
"""Fields of a file or of a text: a file has one for each text, version and function."""
_COPIED = 1 << 22  # bytes at a time


class _Field(NamedTuple):
    number: int
    kind: int
    start: int
    """Of the tag, in bytes from the start of the file."""
    content: int
    """Start of the content."""
    end: int


def read(path: Path) -> dict[str, str]:
    """All texts of the file. Raises PaddlexMLError where it is no ONNX file, or cut off."""
    texts, left = {}, MOST_TEXT
    with _open(path) as file:
        if not path.stat().st_size:
            raise _damaged(path)
        for field in _list_fields(file, 0, path.stat().st_size, path):
            if field.number == _METADATA_PROPS and field.kind == _LENGTH:
                left -= field.end - field.content
                if left < 0:
                    raise _over(f"texts of more than {MOST_TEXT:,} bytes", path)
                pair = {}
                for part in _list_fields(file, field.content, field.end, path):
                    file.seek(part.content)
                    pair[part.number] = file.read(part.end - part.content).decode(errors="replace")
                    file.seek(part.end)
                texts[pair.get(_KEY, "")] = pair.get(_VALUE, "")
    return texts


def replace(path: Path, texts: Mapping[str, str]) -> None:
    """Replace all texts of the file, atomically; every other byte of it stays.

    Raises PaddlexMLError as `read` does, and OSError as the system does.
    """
    with files.replacing(path) as temporary, _open(path) as file, temporary.open("wb") as target:
        for field in [*_list_fields(file, 0, path.stat().st_size, path)]:
            if field.number != _METADATA_PROPS:
                target.writelines(_read_parts(file, field))
        for key, value in texts.items():
            pair = _pack(_KEY, key.encode()) + _pack(_VALUE, value.encode())
            target.write(_pack(_METADATA_PROPS, pair))


def digest_weights(path: Path) -> list[str]:
    """The SHA-256 of each tensor of weights without its name, sorted: the same for the same
    weights. Raises PaddlexMLError as `read` does."""
    with _open(path) as file:
        fields = [*_list_fields(file, 0, path.stat().st_size, path)]
        graphs = [field for field in fields if (field.number, field.kind) == (_GRAPH, _LENGTH)]
        return sorted(
            _digest_tensor(file, tensor, path)
            for graph in graphs
            for tensor in [*_list_fields(file, graph.content, graph.end, path)]
            if (tensor.number, tensor.kind) == (_INITIALIZER, _LENGTH)
        )


def _digest_tensor(file: IO[bytes], tensor: _Field, path: Path) -> str:
    found = hashlib.sha256()
    for field in [*_list_fields(file, tensor.content, tensor.end, path)]:
        if field.number != _NAME_OF_TENSOR:
            for part in _read_parts(file, field):
                found.update(part)
    return found.hexdigest()


def _read_parts(file: IO[bytes], field: _Field) -> Iterator[bytes]:
    """A whole field, with its tag."""
    file.seek(field.start)
    left = field.end - field.start
    while left:
        yield (part := file.read(min(left, _COPIED)))
        left -= len(part)


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise PaddlexMLError(
            f"the ONNX file cannot be read: {os.strerror(error.errno or 0)}",
            where=str(path),
            fix="name the file that -o Global.mode=export -o Export.format=onnx wrote",
        ) from error


def _list_fields(file: IO[bytes], start: int, end: int, path: Path) -> Iterator[_Field]:
    """The fields between two positions of the file."""
    file.seek(start)
    fields = 0
    while start < end:
        fields += 1
        if fields > MOST_FIELDS:
            raise _over(f"more than {MOST_FIELDS:,} fields", path)
        tag = _read_varint(file)
        number, kind = tag >> 3, tag & 7
        content = file.tell()
        if kind == _VARINT:
            stop = end + 1 if _read_varint(file) == _BAD else file.tell()
        elif kind == _LENGTH:
            length = _read_varint(file)
            content = file.tell()
            stop = content + length
        else:
            stop = content + _FIXED.get(kind, end)
        if not 0 < number < 1 << 29 or stop > end:
            raise _damaged(path)
        yield _Field(number, kind, start, content, stop)
        file.seek(stop)
        start = stop


def _damaged(path: Path) -> PaddlexMLError:
    return PaddlexMLError(
        "not an ONNX file, or not a whole one",
        where=str(path),
        fix="copy the file again, or export it: -o Global.mode=export -o Export.format=onnx",
    )


def _over(what: str, path: Path) -> PaddlexMLError:
    return PaddlexMLError(
        f"the ONNX file has {what} beside its graph, the most that is read",
        where=str(path),
        fix="export the model again: -o Global.mode=export -o Export.format=onnx",
    )


def _read_varint(file: IO[bytes]) -> int:
    """A number of 7 bits a byte, the lowest first; _BAD where none ends there."""
    value = shift = 0
    while shift < 64:
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
        shift += 7
    return _BAD


def _pack(number: int, content: bytes) -> bytes:
    """A field with its length."""
    packed = bytearray()
    for value in (number << 3 | _LENGTH, len(content)):
        while value > 0x7F:
            packed.append(value & 0x7F | 0x80)
            value >>= 7
        packed.append(value)
    return bytes(packed) + content
