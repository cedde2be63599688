# SPDX-License-Identifier: Apache-2.0
"""The operators of a model of OpenVINO (IR), read without its weights and without OpenVINO.

    <name>.xml   layers with their attributes, and the edges between their ports
    <name>.bin   the numbers of the constants, of which only those that may be a shape are read

The file states shapes of every result, which are not believed. OpenVINO reads the XML by another
parser, so whatever two parsers may understand differently is refused: DOCTYPE, name spaces, a
second list of layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import onnx_nodes
from paddlex_ml.inference.graph_memory import MOST_NODES, Graph, Node
from paddlex_ml.inference.operator_shapes import Tensor
from paddlex_ml.storage import regular_file

LARGEST = 32 << 20
"""Bytes of a graph without its weights: the largest of our models has a million."""
_VERSION = "11"
"""Of the format, since OpenVINO 2022; others are refused."""
_BITS = {
    **dict.fromkeys(("f64", "i64", "u64"), 64),
    **dict.fromkeys(("f32", "i32", "u32"), 32),
    **dict.fromkeys(("f16", "bf16", "i16", "u16"), 16),
    **dict.fromkeys(("i8", "u8", "boolean"), 8),
    **dict.fromkeys(("i4", "u4"), 4),
}
"""Type of a constant -> bits of a number."""
_WHOLE = {"i64": "<i8", "i32": "<i4"}
"""Those that may be a shape, and how numpy calls them."""
_MOST_VALUES = 4096
_MOST_SIDES = 100
_WINDOWS = ("Convolution", "GroupConvolution", "MaxPool", "AvgPool")
_SECTIONS = {"layers", "edges", "rt_info", "meta_data", "pre-process"}
_BOTH = ("numpy", "none")


def read(path: Path) -> Graph:
    """The graph in an .xml with its .bin beside it, or in an ONNX file.

    Raises PaddlexMLError for files that are damaged, and for an ONNX file whose weights are in
    other files.
    """
    if path.suffix.lower() == ".onnx":
        return onnx_nodes.read(path, allow_outside=False)
    try:
        content = regular_file.read(path, LARGEST).decode("utf-8")
        weights = path.with_suffix(".bin")
        with regular_file.open_regular(
            weights, regular_file.LARGEST_WEIGHTS, is_text=False
        ) as file:
            return _read_net(content, file, weights.stat().st_size)
    except Exception as error:  # a damaged file raises almost anything
        reason = error.strerror if isinstance(error, OSError) else error
        if not isinstance(error, OSError | ValueError | ElementTree.ParseError):
            reason = f"its graph is damaged, or no graph ({type(error).__name__})"
        raise PaddlexMLError(
            f"OpenVINO cannot run the model: {str(reason)[:200]}",
            where=str(path),
            fix=f"copy {path.name} and {path.stem}.bin again, or export them: "
            "-o Global.mode=export -o Export.format=openvino",
        ) from error


def _read_net(text: str, weights: BinaryIO, size: int) -> Graph:
    if "<!DOCTYPE" in text or "xmlns" in text:
        raise ValueError("it has a DOCTYPE or name spaces, which these files do not need")
    net = ElementTree.fromstring(text)  # noqa: S314  expat bounds entities, and there are none
    if net.tag != "net" or net.get("version") != _VERSION:
        raise ValueError(f"it is no model of OpenVINO in version {_VERSION} of the format")
    names = [part.tag for part in net]
    if not {*names} <= _SECTIONS or names.count("layers") != 1 or names.count("edges") != 1:
        raise ValueError("it has not one list of layers and one of edges")
    layers, sources = [*net.iterfind("layers/*")], _read_edges(net)
    if len(layers) > MOST_NODES:
        raise ValueError(f"it has more than {MOST_NODES:,} operators")
    nodes, inputs, outputs, known = list[Node](), {}, list[Sequence[Any]](), dict[str, Tensor]()
    seen = set[str]()
    for layer in layers:
        number, kind = layer.attrib["id"], layer.attrib["type"]
        if layer.tag != "layer" or number in seen:
            raise ValueError("two layers have one number")
        seen.add(number)
        found = layer.find("data")
        data: Mapping[str, str] = {} if found is None else found.attrib
        given = [sources[number, port] for port in _ports(layer, "input")]
        made = [f"{number}:{port}" for port in _ports(layer, "output")]
        if kind == "Parameter":
            inputs[made[0]] = _read_shape(data["shape"])
        elif kind == "Const":
            known[made[0]] = _read_constant(data, weights, size)
        elif kind == "Result":
            outputs.append([int(side.text or "") for side in layer.iterfind("input/port/dim")])
        elif not made:
            raise ValueError(f"the layer {number[:80]} has no result")
        elif not given or kind == "Constant":  # ONNX's name: OpenVINO takes numbers from nowhere
            raise ValueError(f"the layer {number[:80]}, a {kind[:60]}, has no input or no numbers")
        else:
            nodes.append(_translate(kind, given, made, data, known))
    return Graph(nodes, inputs, outputs, known)


def _read_edges(net: Element) -> dict[tuple[str, str], str]:
    """Layer and port of an input -> the name of the result that it takes."""
    sources = dict[tuple[str, str], str]()
    for edge in net.iterfind("edges/*"):
        place = edge.attrib["to-layer"], edge.attrib["to-port"]
        if edge.tag != "edge" or place in sources:
            raise ValueError("an input has two sources")
        sources[place] = f"{edge.attrib['from-layer']}:{edge.attrib['from-port']}"
    return sources


def _ports(layer: Element, side: str) -> list[str]:
    if len(layer.findall("data")) > 1 or len(layer.findall(side)) > 1:
        raise ValueError("a layer has two descriptions")
    return [port.attrib["id"] for port in layer.iterfind(f"{side}/*")]


def _read_shape(text: str) -> list[int]:
    """A side that may vary is -1; of a shape of any number of sides nothing is said."""
    sides = [side.strip() for side in text.split(",") if side.strip()]
    return [] if "..." in text else [int(s) if s.isdecimal() else -1 for s in sides]


def _read_constant(data: Mapping[str, str], weights: BinaryIO, size: int) -> Tensor:
    kind = data["element_type"]
    if kind not in _BITS:
        raise ValueError(f"it has a constant of the type {kind[:40]}, which is not read")
    sides = tuple(int(side) for side in data["shape"].split(",") if side.strip())
    start, length, count = int(data["offset"]), int(data["size"]), math.prod(sides)
    if len(sides) > _MOST_SIDES or min(sides, default=0) < 0:
        raise ValueError("a constant has sides that none has")
    if min(start, length) < 0 or start + length > size or -(-count * _BITS[kind] // 8) > length:
        raise ValueError(
            f"a constant of {count:,} numbers does not lie within the {size:,} bytes of the weights"
        )
    if kind not in _WHOLE or count > _MOST_VALUES:
        return Tensor(sides)
    weights.seek(start)
    numbers = np.frombuffer(weights.read(count * _BITS[kind] // 8), _WHOLE[kind])
    return Tensor(sides, tuple(numbers.tolist()))


def _translate(
    kind: str,
    given: Sequence[str],
    made: Sequence[str],
    data: Mapping[str, str],
    known: Mapping[str, Tensor],
) -> Node:
    """The operator with inputs and attributes as its rule wants them: those of ONNX, mostly."""
    attributes = dict[str, Any]()
    if data.get("auto_broadcast", "numpy") not in _BOTH or data.get("mode") == "explicit":
        raise ValueError(f"the operator {kind[:60]} aligns its inputs in another way")
    if kind in _WINDOWS:
        for ours, names in {
            "strides": ("strides",),
            "dilations": ("dilations",),
            "pads": ("pads_begin", "pads_end"),
            "kernel_shape": ("kernel",),
        }.items():
            numbers = [int(n) for name in names for n in data.get(name, "").split(",") if n.strip()]
            attributes |= {ours: numbers} if numbers else {}
        attributes["auto_pad"] = data.get("auto_pad", "explicit").upper()
        attributes["ceil_mode"] = data.get("rounding_type", "floor") != "floor"
    elif kind == "Reshape":
        attributes["allowzero"] = data.get("special_zero", "true").lower() not in ("true", "1")
    elif kind == "MatMul":
        for ours, name in (("transpose_x", "transpose_a"), ("transpose_y", "transpose_b")):
            attributes[ours] = data.get(name, "false").lower() in ("true", "1")
    elif kind.startswith("Reduce"):
        attributes["keepdims"] = data.get("keep_dims", "false").lower() in ("true", "1")
    elif kind == "Concat":
        attributes["axis"] = int(data["axis"])
    elif kind == "Gather" and int(data.get("batch_dims", "0")):
        raise ValueError("the operator Gather takes other parts for each image")
    elif kind == "Transpose":
        attributes["perm"] = [*(known[given[1]].values or ())]
    elif kind in ("Split", "VariadicSplit"):
        (attributes["axis"],) = known[given[1]].values or ()
        given = [given[0], *given[2:]]
    elif kind == "Slice":  # axes before steps
        given = [*given[:3], *given[4:5], given[3]]
    return Node(kind, given, made, attributes)
