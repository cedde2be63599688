# SPDX-License-Identifier: Apache-2.0
"""Graphs that ask for terabytes are refused before anything runs them."""

from __future__ import annotations

import importlib
import json
import resource
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from paddlex_ml.artifacts import parameter_file
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import graph_memory, onnx_nodes, paddle_nodes
from paddlex_ml.inference.graph_memory import MOST_NUMBERS, Graph, Node
from paddlex_ml.inference.operator_shapes import Tensor
from paddlex_ml.inference.static_model import StaticModel

SIZE = (64, 64)
WHERE = Path("inference.onnx")


def check(*nodes: Node, **known: Tensor) -> None:
    graph = Graph(nodes, {"x": ["batch", 3, 64, 64]}, [["batch", 5]], known)
    graph_memory.check(graph, SIZE, WHERE)


def ints(*values: int) -> Tensor:
    return Tensor((len(values),), values)


def node(kind: str, inputs: str, output: str = "y", **attributes: Any) -> Node:
    return Node(kind, inputs.split(), [output], attributes)


HUGE = 1 << 20
DOUBLED = [node("Concat", "x x", "0", axis=1)]
DOUBLED += [node("Concat", f"{n} {n}", f"{n + 1}", axis=1) for n in range(40)]

BOMBS: dict[str, tuple[list[Node], dict[str, Tensor]]] = {
    "ConstantOfShape": ([node("ConstantOfShape", "s")], {"s": ints(HUGE, HUGE)}),
    "Expand": ([node("Expand", "x s")], {"s": ints(HUGE, 2, 3, 64, 64)}),
    "Tile": ([node("Tile", "x s")], {"s": ints(1, HUGE, HUGE, 1)}),
    "Resize by a scale": ([node("Resize", "x", scale=[1e5, 1e5])], {}),
    "Resize to a size": (
        [Node("Resize", ["x", "", "", "s"], ["y"], {})],
        {"s": ints(2, 3, HUGE, HUGE)},
    ),
    "Pad": ([node("Pad", "x s")], {"s": ints(0, 0, HUGE, HUGE, 0, 0, HUGE, HUGE)}),
    "Range": ([node("Range", "a b c")], {"a": ints(0), "b": ints(1 << 50), "c": ints(1)}),
    "a convolution with wide edges": (
        [node("Conv", "x w", pads=[HUGE, HUGE, HUGE, HUGE])],
        {"w": Tensor((8, 3, 1, 1))},
    ),
    "a column times a row": (
        [node("MatMul", "a b")],
        {"a": Tensor((HUGE, 1)), "b": Tensor((1, HUGE))},
    ),
    "a column plus a row": (
        [node("Add", "a b")],
        {"a": Tensor((HUGE, 1)), "b": Tensor((1, HUGE))},
    ),
    "a tensor with itself 40 times": (DOUBLED, {}),
    "Gather by many indices": (
        [node("Gather", "a i")],
        {"a": Tensor((2, HUGE)), "i": Tensor((HUGE,))},
    ),
    "fill_constant": ([node("fill_constant", "", shape=[HUGE, HUGE])], {}),
    "expand_v2": ([node("expand_v2", "x", shape=[HUGE, 3, HUGE, 64])], {}),
    "interp": ([node("nearest_interp", "x", out_h=HUGE, out_w=HUGE)], {}),
    "100 results that are just allowed": (
        [node("ConstantOfShape", "s", str(n)) for n in range(100)],
        {"s": ints(MOST_NUMBERS)},
    ),
    "a weight": ([], {"w": Tensor((HUGE, HUGE))}),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_graph_that_asks_for_terabytes_is_refused(kind: str) -> None:
    nodes, known = BOMBS[kind]
    with pytest.raises(PaddlexMLError, match=r"the graph asks for .* numbers.* are allowed"):
        check(*nodes, **known)


UNKNOWN: dict[str, tuple[list[Node], dict[str, Tensor]]] = {
    "a loop": ([node("Loop", "x")], {}),
    "a branch": ([node("If", "x")], {}),
    "a scan": ([node("Scan", "x")], {}),
    "a loop of Paddle": ([node("while with a sub-graph", "x")], {}),
    "random numbers": ([node("RandomNormal", "", shape=[HUGE, HUGE])], {}),
    "OneHot": ([node("OneHot", "x d")], {"d": ints(1 << 40)}),
    "a size from pixels": ([node("Cast", "x", "s"), node("ConstantOfShape", "s")], {}),
    "a negative side": ([node("ConstantOfShape", "s")], {"s": ints(-5, 3)}),
    "windows of no size": ([node("MaxPool", "x", kernel_shape=[0, 0])], {}),
    "images times images": (
        [node("Shape", "x", "s"), node("Mul", "s s", "t"), node("ConstantOfShape", "t")],
        {},
    ),
    "nothing for two images, terabytes for eight": (
        [
            node("Shape", "x", "s"),
            node("Slice", "s zero one", "b"),
            node("Sub", "b two", "c"),
            node("Mul", "c big", "d"),
            node("ConstantOfShape", "d"),
        ],
        {"zero": ints(0), "one": ints(1), "two": ints(2), "big": ints(1 << 40)},
    ),
    "a side for each image, 30 times": (
        [
            node("Shape", "x", "s"),
            node("Slice", "s zero one", "b"),
            node("Concat", " ".join(["b"] * 30), "c", axis=0),
            node("ConstantOfShape", "c"),
        ],
        {"zero": ints(0), "one": ints(1)},
    ),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_a_size_that_is_not_known_before_is_refused(kind: str) -> None:
    nodes, known = UNKNOWN[kind]
    with pytest.raises(PaddlexMLError, match=r"not known|do not fit|grows faster|asks for"):
        check(*nodes, **known)


def test_a_shape_that_follows_the_images_is_taken() -> None:
    check(
        node("Shape", "x", "s"),
        node("Gather", "s zero", "b"),
        node("Concat", "b rest", "t", axis=0),
        node("Expand", "w t", "e"),
        node("Reshape", "x t2", "r"),
        node("Flatten", "x", "f", axis=1),
        zero=ints(0),
        rest=ints(5, 768),
        w=Tensor((1, 5, 768)),
        t2=ints(0, -1),
    )


@pytest.fixture
def bomb_in_onnx(onnx_folder: Path, tmp_path: Path) -> Callable[[Callable[[Any], None]], Path]:
    """Copies the model and lets a function change its graph."""

    def make(change: Callable[[Any], None]) -> Path:
        folder = shutil.copytree(onnx_folder, tmp_path / "bomb")
        model = onnx.load(folder / "inference.onnx")
        change(model.graph)
        (folder / "inference.onnx").write_bytes(model.SerializeToString())
        return folder

    return make


def add_constant(graph: Any) -> None:
    graph.initializer.append(numpy_helper.from_array(np.array([1 << 20] * 2), "sides"))
    graph.node.insert(0, helper.make_node("ConstantOfShape", ["sides"], ["huge"]))
    graph.node.insert(1, helper.make_node("ReduceSum", ["huge"], ["one"], keepdims=0))
    graph.node.append(helper.make_node("Add", [graph.output[0].name, "one"], ["scores"]))
    graph.output[0].name = "scores"


def add_loop(graph: Any) -> None:
    body = helper.make_graph([], "body", [], [])
    graph.node.append(helper.make_node("Loop", [], ["never"], body=body))


def state_more(graph: Any) -> None:
    tensor = TensorProto(name="short", data_type=1, dims=[1 << 20, 1 << 22], raw_data=bytes(64))
    graph.initializer.append(tensor)


def add_sparse(graph: Any) -> None:
    graph.sparse_initializer.add().dims.extend([1 << 40])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (add_constant, r"asks for a tensor of 1,099,511,627,776 numbers \(ConstantOfShape: 10485"),
        (add_loop, "uses the operator 'Loop', the size of whose result"),
        (state_more, "the weight 'short' states 4,398,046,511,104 numbers, more than it has"),
        (add_sparse, "it has sparse weights"),
    ],
)
def test_a_bomb_in_an_onnx_file_is_refused_at_once(
    bomb_in_onnx: Callable[[Callable[[Any], None]], Path], change: Callable[[Any], None], told: str
) -> None:
    folder = bomb_in_onnx(change)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.process_time()
    with pytest.raises(PaddlexMLError, match=told):
        StaticModel(folder, "cpu")
    assert time.process_time() - begin < 5
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) >> 10 < 300


def test_an_onnx_file_is_read_as_the_package_reads_it(onnx_folder: Path) -> None:
    graph = onnx_nodes.read(onnx_folder / "inference.onnx")
    model = onnx.load(onnx_folder / "inference.onnx")
    assert [n.kind for n in graph.nodes] == [n.op_type for n in model.graph.node]
    assert [[*n.inputs] for n in graph.nodes] == [[*n.input] for n in model.graph.node]
    assert {name: tensor.shape for name, tensor in graph.known.items()} == {
        each.name: tuple(each.dims) for each in model.graph.initializer
    }
    for ours, theirs in zip(graph.nodes, model.graph.node, strict=True):
        for each in theirs.attribute:
            if each.type in (onnx.AttributeProto.INT, onnx.AttributeProto.INTS):
                assert ours.attributes[each.name] == helper.get_attribute_value(each)
    assert next(iter(graph.inputs.values()))[1:] == [3, 64, 64]


def program(*operators: tuple[str, dict[str, list[str]], dict[str, Any]]) -> bytes:
    """A program of Paddle 2: operator, inputs and attributes of each; the last one is fetched."""
    formats: Any = importlib.import_module("paddle.base.proto.framework_pb2")
    made = formats.ProgramDesc()
    block = made.blocks.add(idx=0, parent_idx=-1)
    image = block.vars.add(name="x")
    image.type.type = 7
    image.type.dense_tensor.tensor.data_type = 5
    image.type.dense_tensor.tensor.dims.extend([-1, 3, 64, 64])
    block.vars.add(name="y").CopyFrom(image)
    block.vars[1].name = "y"
    every = [("feed", {"X": ["feed"]}, {}), *operators, ("fetch", {"X": ["y"]}, {})]
    for kind, inputs, attributes in every:
        operator = block.ops.add(type=kind)
        for name, arguments in inputs.items():
            operator.inputs.add(parameter=name, arguments=arguments)
        result = {"feed": "x", "fetch": "fetch"}.get(kind, "y")
        operator.outputs.add(parameter="Out", arguments=[result])
        for name, value in attributes.items():
            attribute = operator.attrs.add(name=name, type=11)
            if isinstance(value, list):
                attribute.longs.extend(value)
            else:
                attribute.i = value
    return made.SerializeToString()


@pytest.mark.parametrize(
    ("operators", "told"),
    [
        ([("fill_constant", {}, {"shape": [HUGE, HUGE]})], "1,099,511,627,776 numbers"),
        ([("expand_v2", {"X": ["x"]}, {"shape": [HUGE, 3, HUGE, 64]})], "asks for a tensor"),
        ([("tile", {"X": ["x"]}, {"repeat_times": [1, HUGE, 1, 1]})], "asks for a tensor"),
        ([("pad3d", {"X": ["x"]}, {"paddings": [HUGE, 0, HUGE, 0]})], "asks for a tensor"),
        (
            [("nearest_interp_v2", {"X": ["x"]}, {"out_h": HUGE, "out_w": HUGE})],
            "asks for a tensor",
        ),
        ([("while", {"X": ["x"]}, {})], "uses the operator 'while'"),
        ([("conditional_block", {"X": ["x"]}, {})], "uses the operator 'conditional_block'"),
        ([("gaussian_random", {}, {"shape": [HUGE, HUGE]})], "'gaussian_random'"),
        (40 * [("concat", {"X": ["y", "y", "x"]}, {"axis": 1})], "do not fit|asks for"),
    ],
)
def test_a_bomb_in_a_graph_of_paddle_2_is_refused(
    exported: Path, tmp_path: Path, operators: list[Any], told: str
) -> None:
    for name in ("inference.yml", "inference.pdiparams"):
        shutil.copy(exported / name, tmp_path)
    (tmp_path / "inference.pdiparams").write_bytes(b"")
    (tmp_path / "inference.pdmodel").write_bytes(program(("relu", {"X": ["x"]}, {}), *operators))
    with pytest.raises(PaddlexMLError, match=told):
        StaticModel(tmp_path, "cpu")


@pytest.fixture(scope="module")
def graph_of_paddle(exported: Path) -> Graph:
    weights = parameter_file.read_shapes(exported / "inference.pdiparams")
    return paddle_nodes.read(exported / "inference.json", weights)


def test_a_graph_of_paddle_3_is_taken(graph_of_paddle: Graph) -> None:
    graph_memory.check(graph_of_paddle, SIZE, WHERE)
    assert graph_of_paddle.outputs == [[-1, 5]]


@pytest.mark.parametrize("side", [448, 2048])
def test_the_budget_is_far_above_our_models(graph_of_paddle: Graph, side: int) -> None:
    graph = Graph(graph_of_paddle.nodes, {"x": [8, 3, side, side]}, [], graph_of_paddle.known)
    inputs = {name: [8, 3, side, side] for name in graph_of_paddle.inputs}
    graph_memory.check(Graph(graph.nodes, inputs, [], graph.known), (side, side), WHERE)


def alter(exported: Path, tmp_path: Path, change: Callable[[list[Any]], None]) -> Path:
    folder = shutil.copytree(exported, tmp_path / "altered")
    graph = json.loads((folder / "inference.json").read_bytes())
    change(graph["program"]["regions"][0]["blocks"][0]["ops"])
    (folder / "inference.json").write_text(json.dumps(graph))
    return folder


def stretch(operators: list[Any]) -> None:
    """Every constant shape becomes one of 2^60 numbers, whatever the results claim."""
    for operator in operators:
        if operator["#"] == "1.full_int_array":
            for value in operator["A"][0]["AT"]["D"]:
                value["D"] = 1 << 20


def widen(operators: list[Any]) -> None:
    for operator in operators:
        if operator["#"] == "1.conv2d":
            next(a for a in operator["A"] if a["N"] == "paddings")["AT"]["D"] = [
                {"#": "0.a_i32", "D": 1 << 20},
                {"#": "0.a_i32", "D": 1 << 20},
            ]


def nest(operators: list[Any]) -> None:
    operators[-1]["#"], operators[-1]["regions"] = "1.while", [{"blocks": []}]


@pytest.mark.parametrize("change", [stretch, widen, nest])
def test_a_bomb_in_a_graph_of_paddle_3_is_refused(
    exported: Path, tmp_path: Path, change: Callable[[list[Any]], None]
) -> None:
    folder = alter(exported, tmp_path, change)
    with pytest.raises(PaddlexMLError, match=r"the graph (asks for|uses the operator|has an op)"):
        StaticModel(folder, "cpu")


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"program": {"regions": 1}}', b"\xff", b"[" * 100_000]
)
@pytest.mark.parametrize("name", ["inference.json", "inference.pdmodel"])
def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PaddlexMLError, match="its graph is damaged, or no graph"):
        paddle_nodes.read(tmp_path / name, [])


def test_weights_of_another_graph_are_refused(exported: Path, tmp_path: Path) -> None:
    folder = alter(exported, tmp_path, lambda operators: operators.pop(0))
    count = len(parameter_file.read_shapes(exported / "inference.pdiparams"))
    what = f"the graph has {count - 1} weights, the file beside it {count}"
    with pytest.raises(PaddlexMLError, match=what):
        StaticModel(folder, "cpu")


def test_damage_anywhere_in_an_onnx_file_is_one_error(onnx_folder: Path, tmp_path: Path) -> None:
    """Every 50th byte of the part that is no weights is changed, one at a time."""
    model = onnx.load(onnx_folder / "inference.onnx")
    del model.graph.initializer[:]
    del model.graph.node[20:]
    content = model.SerializeToString()
    path = tmp_path / "inference.onnx"
    for place in range(0, min(len(content), 20_000), 50):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x5B]) + content[place + 1 :])
        with suppress(PaddlexMLError):
            graph_memory.check(onnx_nodes.read(path), SIZE, path)
