# SPDX-License-Identifier: Apache-2.0
"""The operators of an ONNX file, read without its weights and without the package onnx.

The file is one protobuf message. Only the fields that decide sizes are read; the numbers of a
weight are passed over, but for the few that may be a shape.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference.graph_memory import MOST_NODES, Graph, Node
from paddlex_ml.inference.operator_shapes import Tensor
from paddlex_ml.storage import regular_file

LARGEST = 2 << 30
"""Bytes of an ONNX file with its weights, the most that its format allows."""
_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _SPARSE = 1, 5, 11, 12, 15  # fields of a graph
_INT32, _INT64 = 6, 7  # types of a tensor
_MOST_VALUES = 4096
"""Numbers of a tensor that may be a shape."""
_MOST_SIDES = 100
_LONGEST = 10_000
"""Bytes of a name or a text of an attribute."""


class _Field(NamedTuple):
    number: int
    kind: int
    """0: a number; 2: a message, a text or packed numbers."""
    value: int
    """Of a number; of others 0."""
    start: int
    end: int


def read(path: Path, *, allow_outside: bool = True) -> Graph:
    """The graph in the file. Raises PaddlexMLError for a file that is damaged.

    allow_outside: whether its weights may be in other files, whose places the engine checks.
    """
    try:
        with (
            regular_file.open_regular(path, LARGEST, is_text=False) as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return _read_model(content, allow_outside)
    except (OSError, ValueError, struct.error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise PaddlexMLError(
            f"the model cannot run: {reason}"
            if not allow_outside
            else f"onnxruntime cannot run the model: {reason}",
            where=str(path),
            fix="copy the file again, or export it: -o Global.mode=export -o Export.format=onnx",
        ) from error


def _read_model(content: mmap.mmap, allow_outside: bool) -> Graph:
    fields = [*_fields(content, 0, len(content))]
    if any(each.number == _MODEL_FUNCTIONS for each in fields):
        raise ValueError("it has functions of its own, whose sizes are not known before it runs")
    graphs = [each for each in fields if each.number == _MODEL_GRAPH]
    if len(graphs) != 1:
        raise ValueError(f"it holds {len(graphs)} graphs")
    nodes, inputs, outputs, known = [], {}, [], {}
    for each in _fields(content, graphs[0].start, graphs[0].end):
        if each.number == _NODE:
            nodes.append(_read_node(content, each, allow_outside))
        elif each.number == _INITIALIZER:
            name, tensor = _read_tensor(content, each, allow_outside)
            known[name] = tensor
        elif each.number == _INPUT:
            name, shape = _read_value(content, each)
            inputs[name] = shape
        elif each.number == _OUTPUT:
            outputs.append(_read_value(content, each)[1])
        elif each.number == _SPARSE:
            raise ValueError("it has sparse weights, which onnxruntime would spread out")
        if max(len(nodes), len(known)) > MOST_NODES:
            raise ValueError(f"it has more than {MOST_NODES:,} operators or weights")
    images = {name: shape for name, shape in inputs.items() if name not in known}
    return Graph(nodes, images, outputs, known)


def _read_node(content: mmap.mmap, node: _Field, allow_outside: bool) -> Node:
    inputs, outputs, kind, attributes = [], [], "", {}
    for each in _fields(content, node.start, node.end):
        if each.number == 1:
            inputs.append(_text(content, each))
        elif each.number == 2:
            outputs.append(_text(content, each))
        elif each.number == 4:
            kind = _text(content, each)
        elif each.number == 5:
            name, value = _read_attribute(content, each, allow_outside)
            attributes[name] = value
    if not outputs or not kind:
        raise ValueError("an operator has no name or no result")
    if kind == "ConstantOfShape":
        number = attributes.pop("value", None)
        attributes["value"] = (
            number.values[0] if isinstance(number, Tensor) and number.values else 0.5
        )
    return Node(kind, inputs, outputs, attributes)


def _read_attribute(content: mmap.mmap, attribute: _Field, allow_outside: bool) -> tuple[str, Any]:
    """Name and value; of a sub-graph None: its operator is refused by its name."""
    name, value, many = "", None, list[Any]()
    for each in _fields(content, attribute.start, attribute.end):
        if each.number == 1:
            name = _text(content, each)
        elif each.number == 2:
            value = struct.unpack("<f", content[each.start : each.end])[0]
        elif each.number == 3:
            value = _signed(each.value)
        elif each.number == 4:
            value = _text(content, each)
        elif each.number == 5:
            value = _read_tensor(content, each, allow_outside)[1]
        elif each.number == 7:
            text = content[each.start : min(each.end, each.start + 4 * _MOST_VALUES)]
            many += struct.unpack(f"<{len(text) // 4}f", text[: len(text) // 4 * 4])
        elif each.number == 8:
            many += _numbers(content, each)
    return name, many or value


def _read_tensor(content: mmap.mmap, tensor: _Field, allow_outside: bool) -> tuple[str, Tensor]:
    """Name and shape of a weight, and its values where they may be a shape."""
    name, kind, sides, values, raw, is_outside = "", 0, [], [], b"", False
    for each in _fields(content, tensor.start, tensor.end):
        if each.number == 1:
            sides += _numbers(content, each)
        elif each.number == 2:
            kind = each.value
        elif each.number == 8:
            name = _text(content, each)
        elif each.number in (5, 7) and each.end - each.start <= 10 * _MOST_VALUES:
            values += _numbers(content, each)
        elif each.number == 9 and each.end - each.start <= 8 * _MOST_VALUES:
            raw = content[each.start : each.end]
        elif each.number == 14:
            is_outside = each.value == 1
    if is_outside and not allow_outside:
        raise ValueError("its weights are in other files, which only onnxruntime reads")
    if len(sides) > _MOST_SIDES or min(sides, default=0) < 0:
        raise ValueError(f"the weight {name[:80]!r} has sides that none has")
    count = math.prod(sides)
    if not is_outside and count > 2 * (tensor.end - tensor.start):  # half a byte is the least
        raise ValueError(f"the weight {name[:80]!r} states {count:,} numbers, more than it has")
    if raw and kind in (_INT32, _INT64):
        width = 4 if kind == _INT32 else 8
        values = [*struct.unpack(f"<{len(raw) // width}{'iq'[width // 8]}", raw)]
    is_known = kind in (_INT32, _INT64) and len(values) == count
    return name, Tensor(tuple(sides), tuple(values) if is_known else None)


def _read_value(content: mmap.mmap, value: _Field) -> tuple[str, list[Any]]:
    """Name and shape of an input or output; a side that may vary is its name or 0."""
    name, sides = "", []
    for each in _fields(content, value.start, value.end):
        if each.number == 1:
            name = _text(content, each)
        places = [each] if each.number == 2 else []  # the type, its tensor, the shape, its sides
        for number in (1, 2, 1):
            places = [
                f for p in places for f in _fields(content, p.start, p.end) if f.number == number
            ]
        for place in places:
            parts = [*_fields(content, place.start, place.end)]
            side = next((part.value for part in parts if part.number == 1), None)
            text = next((_text(content, part) for part in parts if part.number == 2), 0)
            sides.append(text if side is None else _signed(side))
    return name, sides


def _fields(content: mmap.mmap, place: int, end: int) -> Iterator[_Field]:
    """The fields of a message. Raises ValueError where it is cut off."""
    while place < end:
        tag, place = _number(content, place, end)
        kind, value, start = tag & 7, 0, place
        if kind == 0:
            value, place = _number(content, place, end)
        elif kind == 2:
            length, start = _number(content, place, end)
            place = start + length
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        else:
            raise ValueError("it is no ONNX file, or not a whole one")
        if place > end:
            raise ValueError("it is cut off")
        yield _Field(tag >> 3, kind, value, start, place)


def _number(content: mmap.mmap, place: int, end: int) -> tuple[int, int]:
    """A number of 7 bits a byte, the lowest first, and the place behind it."""
    value = shift = 0
    while place < end and shift < 70:
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise ValueError("it is cut off")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _numbers(content: mmap.mmap, field: _Field) -> list[int]:
    """The whole numbers of a field, alone or packed."""
    if field.end - field.start > 10 * _MOST_VALUES:
        raise ValueError("a list of sides is too long")
    if field.kind == 0:
        return [_signed(field.value)]
    found, place = [], field.start
    while place < field.end:
        value, place = _number(content, place, field.end)
        found.append(_signed(value))
    return found


def _text(content: mmap.mmap, field: _Field) -> str:
    if field.end - field.start > _LONGEST:
        raise ValueError(f"a name has more than {_LONGEST} bytes")
    return content[field.start : field.end].decode("utf-8", "replace")
