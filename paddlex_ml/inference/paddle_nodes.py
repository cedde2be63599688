# SPDX-License-Identifier: Apache-2.0
"""The operators of a graph of Paddle: inference.json (Paddle 3) and inference.pdmodel (Paddle 2).

Both hold shapes of every result, which are not believed; those of the weights are taken from the
file of the weights, where they stand in the order of their names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference.graph_memory import Graph, Node
from paddlex_ml.inference.operator_shapes import Tensor
from paddlex_ml.storage import regular_file
from paddlex_ml.wording import count

LARGEST = 16 << 20
"""Bytes of a graph without its weights: the largest of our models has 600,000."""
_MAIN = {"Out", "Output", "Y"}
_LAYOUT = {
    "conv2d": ("Input", "Filter"),
    "depthwise_conv2d": ("Input", "Filter"),
    "slice": ("Input", "StartsTensor", "EndsTensor"),
    "reshape2": ("X", "Shape", "ShapeTensor"),
    "expand_v2": ("X", "Shape", "expand_shapes_tensor"),
    "unsqueeze2": ("X", "AxesTensor"),
    "fill_constant": ("ShapeTensor", "ShapeTensorList"),
    "concat": ("X", "AxisTensor"),
    "tile": ("X", "RepeatTimes", "repeat_times_tensor"),
    "shape": ("Input",),
    "gather": ("X", "Index", "Axis"),
}
"""Operator of Paddle 2 -> its inputs that have a part in the shape; of others X and Y."""


def read(graph: Path, weights: Sequence[tuple[int, ...]]) -> Graph:
    """The graph in a file; `weights` are the shapes in the file beside it, in their order.

    Raises PaddlexMLError for a file that is none, and where the weights are those of another one.
    """
    try:
        content = regular_file.read(graph, LARGEST)
        is_new = graph.suffix == ".json"
        found, names = _read_json(content) if is_new else _read_program(content)
    except Exception as error:  # a damaged file raises almost anything
        why = error.strerror if isinstance(error, OSError) else type(error).__name__
        raise PaddlexMLError(
            f"Paddle cannot run the model: its graph is damaged, or no graph ({why})",
            where=str(graph),
            fix="copy the whole folder again, or export the model again: -o Global.mode=export",
        ) from error
    if len(names) != len(weights):
        raise PaddlexMLError(
            f"Paddle cannot run the model: the graph has {count(len(names), 'weight')}, "
            f"the file beside it {len(weights)}",
            where=str(graph),
            fix="take both files of one export, or export again: -o Global.mode=export",
        )
    tensors = (Tensor(tuple(shape)) for shape in weights)
    found.known.update(zip([names[name] for name in sorted(names)], tensors, strict=True))
    return found


def _read_json(content: bytes) -> tuple[Graph, dict[str, str]]:
    """The graph, and the name of each weight -> that of its tensor in the graph."""
    (region,) = json.loads(content)["program"]["regions"]
    (block,) = region["blocks"]
    nodes, names, inputs, outputs = [], dict[str, str](), {}, []
    for operator in block["ops"]:
        made = operator.get("O") or []
        made = made if isinstance(made, list) else [made]
        results = [f"%{each['%']}" for each in made]
        if operator["#"] == "p":
            names[operator["A"][3]] = results[0]
            continue
        dialect, _, kind = operator["#"].rpartition(".")
        if operator.get("regions"):
            kind = f"{kind} with a sub-graph"
        elif dialect == "0":
            kind = "parts" if kind == "split" else kind
        attributes = {each["N"]: _plain(each["AT"].get("D")) for each in operator.get("A", ())}
        if kind == "data":
            inputs[results[0]] = [*attributes["shape"]]  # raises for what is no list
            continue
        if kind == "fetch":
            outputs.append([*made[0]["TT"]["D"][1]])
        given = [f"%{each['%']}" if each["%"] else "" for each in operator.get("I", ())]
        nodes.append(Node(kind, given, results, attributes))
    return Graph(nodes, inputs, outputs), names


def _plain(value: Any) -> Any:
    """The value of an attribute, whose elements have types of their own."""
    if isinstance(value, list):
        return [each.get("D") if isinstance(each, dict) else each for each in value]
    return value


def _read_program(content: bytes) -> tuple[Graph, dict[str, str]]:
    """As `_read_json`; by the description of the format alone: Paddle's reader crashes on damage.

    Imports Paddle.
    """
    from paddle.base.proto import framework_pb2

    formats: Any = framework_pb2
    program = formats.ProgramDesc()
    program.ParseFromString(content)
    (block,) = program.blocks  # loops and branches have blocks of their own
    dense = formats.VarType.DESCRIPTOR.fields_by_number[3].name  # older Paddle: lod_tensor
    shapes = {each.name: [*getattr(each.type, dense).tensor.dims] for each in block.vars}
    is_weight = [each for each in block.vars if each.persistable and each.type.type == 7]
    nodes, inputs, outputs = [], {}, []
    for operator in block.ops:
        given = {each.parameter: [*each.arguments] for each in operator.inputs}
        made = [name for each in operator.outputs for name in each.arguments]
        if operator.type == "feed":
            inputs[made[0]] = shapes[made[0]]
            continue
        if operator.type == "fetch":
            outputs.append(shapes[given["X"][0]])
        # The result that the others are no larger than comes first.
        main = [n for o in operator.outputs if o.parameter in _MAIN for n in o.arguments]
        made = [*main, *(name for name in made if name not in main)]
        nodes += _translate(operator.type, given, made, _attributes(operator))
    return Graph(nodes, inputs, outputs), {each.name: each.name for each in is_weight}


def _attributes(operator: Any) -> dict[str, Any]:
    """Name -> value; of the fields that a type of attribute may use one is set."""
    found = dict[str, Any]()
    for each in operator.attrs:
        single = next((n for n in ("i", "f", "s", "b", "l", "float64") if each.HasField(n)), None)
        many = [*each.ints, *each.floats, *each.longs, *each.float64s]
        found[each.name] = many if single is None else getattr(each, single)
    if found.get("str_value"):  # it goes first, exact for long numbers
        found["value"] = float(found["str_value"])
    return found


def _translate(
    kind: str, given: Mapping[str, list[str]], made: list[str], attributes: Mapping[str, Any]
) -> list[Node]:
    """The operator with its inputs in the order of its rule; lists of sides become one tensor."""
    wanted = _LAYOUT.get(kind, ("X", "Y") if kind.startswith(("elementwise", "m")) else ("X",))
    if kind == "pool2d":
        attributes = {name: value for name, value in attributes.items() if name != "axis"}
    inputs, nodes = list[str](), []
    for parameter in wanted:
        names = given.get(parameter, [])
        is_list = parameter in ("expand_shapes_tensor", "ShapeTensorList", "repeat_times_tensor")
        if (is_list or (kind, parameter) == ("reshape2", "ShapeTensor")) and names:
            name = f"{made[0]} of {parameter}"
            nodes.append(Node("sides", names, [name], {"axis": None}))
            names = [name]
        inputs += names
    if kind.endswith("_interp_v2"):
        inputs += [n for p in ("OutSize", "SizeTensor", "Scale") for n in given.get(p, [])]
    if kind == "slice" and (given.get("StartsTensorList") or given.get("EndsTensorList")):
        attributes = {**attributes, "starts": None, "ends": None}
    if kind == "concat" and given.get("AxisTensor"):
        attributes = {name: value for name, value in attributes.items() if name != "axis"}
    return [*nodes, Node(kind, inputs, made, attributes)]
