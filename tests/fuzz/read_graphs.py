# SPDX-License-Identifier: Apache-2.0
"""The graphs of exported models: what they say of themselves, and what engines make of them.

Paddle's own reader of graphs is not tried: it ends the process for damaged files, which is why
`inference/paddle_nodes.py` looks at them before.
"""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # noqa: F401  it looks at the system when it is imported

from paddlex_ml import openvino_runtime
from paddlex_ml.artifacts import inference_yml, onnx_metadata
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import (
    graph_memory,
    graph_shapes,
    model_files,
    onnx_engine,
    onnx_nodes,
    openvino_engine,
    openvino_nodes,
    paddle_nodes,
)
from paddlex_ml.inference.graph_shapes import GraphShapes
from tests.fuzz.harness import Reader, pack, plant
from tests.fuzz.read_settings import DESCRIPTION

_TEXTS = {
    "model_name": "m",
    "label_names": '["cat", "dog"]',
    "image_size": "8",
    "scale": "0.00392156862745098",
    "mean": "[0.5, 0.5, 0.5]",
    "std": "[0.5, 0.5, 0.5]",
    "threshold": "0.5",
    "thresholds": "[0.5, 0.25]",
    "run": "null",
}


@cache
def _write_onnx() -> tuple[bytes, ...]:
    onnx: Any = importlib.import_module("onnx")
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    weight = onnx.numpy_helper.from_array(np.ones((3, 2), np.float32), "w")
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=[2, 3], keepdims=0),
            helper.make_node("MatMul", ["m", "w"], ["z"]),
            helper.make_node("Sigmoid", ["z"], ["scores"]),
        ],
        "model",
        [helper.make_tensor_value_info("x", number, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("scores", number, ["batch", 2])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    bare = model.SerializeToString()
    helper.set_model_props(model, _TEXTS)
    return model.SerializeToString(), bare


def _read_onnx(folder: Path, content: bytes) -> object:
    path = folder / "model.onnx"
    path.write_bytes(content)
    texts = onnx_metadata.read(path)
    onnx_metadata.replace(path, {**texts, "threshold": "0.5"})
    if onnx_metadata.read(path) != {**texts, "threshold": "0.5"}:
        raise AssertionError("texts that were written come back otherwise")
    return model_files.find(path, None).describe()


def _run_onnx(folder: Path, content: bytes) -> object:
    path = folder / "model.onnx"
    path.write_bytes(content)
    graph_memory.check(onnx_nodes.read(path), (8, 8), path)
    probe = np.zeros((2, 3, 8, 8), np.float32)
    check = lambda shapes: graph_shapes.check(shapes, size=(8, 8), classes=2, where=path)  # noqa: E731
    _, device, scores = onnx_engine.load(path, device="cpu", threads=1, probe=probe, check=check)
    return device, scores.shape


@cache
def _write_ir() -> tuple[bytes, ...]:
    """Both files of a model: images are laid in rows and multiplied."""
    runtime, operators = openvino_runtime.load(), openvino_runtime.load("opset13")
    images = operators.parameter([-1, 3, 8, 8], np.float32)
    rows = operators.reshape(images, np.array([0, 192], np.int64), special_zero=True)
    logits = operators.matmul(rows, np.ones((192, 2), np.float32), False, False)
    model = runtime.Model([operators.sigmoid(logits)], [images])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.xml")
        runtime.save_model(model, str(path), compress_to_fp16=False)
        return (pack({each.name: each.read_bytes() for each in sorted(Path(folder).iterdir())}),)


def _run_ir(folder: Path, content: bytes) -> object:
    path = folder / "model.xml"
    plant(content, folder)
    graph_memory.check(openvino_nodes.read(path), (8, 8), path)
    probe = np.zeros((2, 3, 8, 8), np.float32)
    check = lambda shapes: graph_shapes.check(shapes, size=(8, 8), classes=2, where=path)  # noqa: E731
    _, scores = openvino_engine.load(
        path, device="cpu", run_mode="openvino", threads=1, probe=probe, check=check
    )
    return scores.shape


def _write_json() -> list[bytes]:
    """The weight %1 and the images %2, a sigmoid of each."""

    def value(number: int, shape: Sequence[int]) -> dict[str, Any]:
        kind = [{"#": "0.t_f32"}, shape, "NCHW", [], 0]
        return {"%": number, "TT": {"#": "0.t_dtensor", "D": kind}}

    shape = {"N": "shape", "AT": {"#": "0.a_intarray", "D": [-1, 3, 8, 8]}}
    operators = [
        {"#": "p", "A": [0, 1, 1, "w"], "O": value(1, [2])},
        {"#": "1.data", "A": [shape], "I": [], "O": [value(2, [-1, 3, 8, 8])]},
        {"#": "1.sigmoid", "A": [], "I": [{"%": 1}], "O": [value(3, [2])]},
        {"#": "1.sigmoid", "A": [], "I": [{"%": 2}], "O": [value(4, [-1, 3, 8, 8])]},
        {"#": "1.fetch", "A": [], "I": [{"%": 4}], "O": [value(5, [-1, 3, 8, 8])]},
    ]
    blocks = [{"#": "block_0", "args": [], "ops": operators}]
    program = {"regions": [{"#": "region_0", "blocks": blocks}]}
    graph = {"base_code": {"magic": "pir", "version": 1}, "program": program}
    return [json.dumps(graph).encode()]


@cache
def _write_program() -> bytes:
    from paddle.base.proto import framework_pb2

    formats: Any = framework_pb2
    program = formats.ProgramDesc()
    block = program.blocks.add(idx=0, parent_idx=-1)
    dense = formats.VarType.DESCRIPTOR.fields_by_number[3].name
    for name, dims in (("x", [-1, 3, 8, 8]), ("y", [-1, 2])):
        variable = block.vars.add(name=name)
        variable.type.type = 7
        tensor = getattr(variable.type, dense).tensor
        tensor.data_type = 5
        tensor.dims.extend(dims)
    feed, middle, fetch = (block.ops.add(type=kind) for kind in ("feed", "sigmoid", "fetch"))
    feed.outputs.add(parameter="Out", arguments=["x"])
    middle.inputs.add(parameter="X", arguments=["x"])
    middle.outputs.add(parameter="Out", arguments=["y"])
    fetch.inputs.add(parameter="X", arguments=["y"])
    return bytes(program.SerializeToString())


def _read_graph(
    folder: Path, content: bytes, name: str, weights: Sequence[tuple[int, ...]] = ()
) -> object:
    path = folder / name
    path.write_bytes(content)
    graph = paddle_nodes.read(path, weights)
    shapes = GraphShapes([*graph.inputs.values()], graph.outputs)
    graph_shapes.check(shapes, size=(8, 8), classes=2, where=path)
    graph_memory.check(graph, (8, 8), path)
    return len(graph.nodes)


def _find_model(folder: Path, content: bytes) -> object:
    """A folder of an export whose description is damaged, as a whole."""
    for name, given in (("inference.json", b"{}"), ("inference.pdiparams", b"")):
        (folder / name).write_bytes(given)
    (folder / "inference.yml").write_bytes(content)
    found = model_files.find(folder, None).describe()
    try:
        return inference_yml.find(folder / "inference.onnx").label_names
    except PaddlexMLError:
        return found.label_names


_WORDS = (
    *(
        b'"shape"',
        b"[1099511627776, 3, 8, 8]",
        b'"fetch"',
        b'"1.data"',
        b'"AT"',
        b'"D"',
        b'"regions"',
    ),
    *(
        b"\x72\x04\n\x00\x12\x00",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x0a\x02",
        b"\x08\x01",
    ),
    *(
        b"Sigmoid",
        b"Constant",
        b"ConstantOfShape",
        b"Loop",
        b"If",
        b"axes",
        b"external",
        b"location",
    ),
    *(
        b"model_name",
        b"thresholds",
        b'{"a": NaN}',
        b"[1e400]",
        b"8192",
        b"[8, 0]",
        b"\x80\x80\x80\x04",
    ),
    *(b'shape="1099511627776"', b'type="Broadcast"', b'offset="-8"', b"<layer ", b"<edge "),
)
READERS = [
    Reader("onnx_texts", _read_onnx, _write_onnx, _WORDS),
    Reader("onnx_graph", _run_onnx, _write_onnx, _WORDS),
    Reader("openvino_graph", _run_ir, _write_ir, _WORDS),
    Reader(
        "json_graph",
        partial(_read_graph, name="inference.json", weights=[(2,)]),
        _write_json,
        _WORDS,
    ),
    Reader(
        "pdmodel",
        partial(_read_graph, name="inference.pdmodel"),
        lambda: [_write_program()],
        _WORDS,
    ),
    Reader(
        "exported_folder",
        _find_model,
        lambda: [DESCRIPTION],
        _WORDS,
    ),
]
