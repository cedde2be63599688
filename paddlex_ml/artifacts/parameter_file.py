# SPDX-License-Identifier: Apache-2.0
"""inference.pdiparams: whether its tensors are all there, before Paddle reads it; their digests.

Paddle makes room for whatever shape the file states, and reads a file that was cut off as if zeros
followed. Each tensor is a header with type and sides, then its numbers; only headers are read here:

    4 bytes version, 8 bytes number of levels, 4 bytes version, 4 bytes length, description
"""

from __future__ import annotations

import hashlib
import itertools
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import regular_file

_HEAD = struct.Struct("<IQIi")
_SIZES = {0: 1, 1: 2, 2: 4, 3: 8, 4: 2, 5: 4, 6: 8, 20: 1, 21: 1, 22: 2, 23: 8, 24: 16}
"""Number of a type in Paddle's files -> bytes of a number."""
_LONGEST = 1000
"""Bytes of a description: a tensor of nine sides has less than a hundred."""
_TYPE, _SIDE, _SIDES = 0x08, 0x10, 0x12  # tags of a description: its type, one side, all sides


class _Tensor(NamedTuple):
    sides: tuple[int, ...]
    end: int
    """Position in the file."""


def read_shapes(path: Path) -> list[tuple[int, ...]]:
    """The shapes of all tensors, in the order of the file.

    Raises PaddlexMLError unless the file is exactly as long as its tensors.
    """
    return [tensor.sides for tensor in _list_tensors(path)]


def digest_tensors(path: Path) -> list[str]:
    """The SHA-256 of each tensor, sorted: the same for the same weights.

    Paddle writes tensors in the order of their names, which count the layers that the process has
    made: 10 comes before 9. Raises PaddlexMLError as `read_shapes`.
    """
    ends = [0, *(tensor.end for tensor in _list_tensors(path))]
    with path.open("rb") as file:
        parts = (file.read(end - start) for start, end in itertools.pairwise(ends))
        return sorted(hashlib.sha256(part).hexdigest() for part in parts)


def _list_tensors(path: Path) -> list[_Tensor]:
    try:
        with regular_file.open_regular(path, regular_file.LARGEST_WEIGHTS, is_text=False) as file:
            return _follow(file, path.stat().st_size)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise PaddlexMLError(
            f"the weights of the static model are damaged, or none of Paddle: {reason}",
            where=str(path),
            fix="copy the whole folder again, or export the model again: -o Global.mode=export",
        ) from error


def _follow(file: BinaryIO, size: int) -> list[_Tensor]:
    """Go from tensor to tensor. Raises ValueError where one does not fit."""
    place, found = 0, list[_Tensor]()
    while place < size:
        number = len(found) + 1
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise ValueError(f"tensor {number} is cut off")
        version, levels, tensor_version, length = _HEAD.unpack(head)
        if version or levels or tensor_version or not 0 < length <= _LONGEST:
            raise ValueError(f"tensor {number} begins as none does")
        kind, sides = _describe(file.read(length))
        if kind not in _SIZES or any(side >= 1 << 63 for side in sides):
            raise ValueError(f"tensor {number} has a type or a side that no weights have")
        needed = math.prod(sides) * _SIZES[kind]
        place += _HEAD.size + length + needed
        if place > size:
            raise ValueError(
                f"tensor {number} of {needed:,} bytes ends at {place:,}, the file at {size:,}"
            )
        file.seek(place)
        found.append(_Tensor(tuple(sides), place))
    return found


def _describe(text: bytes) -> tuple[int, list[int]]:
    """Type and sides of a tensor. Raises ValueError for a text that is no description."""
    kind, sides, numbers = -1, [], _numbers(text)
    for tag in numbers:
        value = next(numbers, -1)
        if value < 0:
            raise ValueError("a description is cut off")
        if tag == _TYPE:
            kind = value
        elif tag == _SIDE:
            sides.append(value)
        elif tag != _SIDES:  # the sides behind it follow as numbers without tags
            raise ValueError(f"a description has a part {tag}")
        else:
            sides += numbers
    return kind, sides


def _numbers(text: bytes) -> Iterator[int]:
    """Numbers of 7 bits a byte, the lowest first."""
    value = shift = 0
    for byte in text:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield value
            value = shift = 0
    if shift:
        raise ValueError("a description is cut off")
