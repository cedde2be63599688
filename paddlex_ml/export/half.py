# SPDX-License-Identifier: Apache-2.0
"""An ONNX graph in half precision, by onnxruntime's converter: half the size.

Input and output stay float32, and so do operators whose numbers float16 may not hold: those with a
weight above 65504, and those that get or give more than half of that on images of the user. A CPU
computes such a file in float32 and would not show it; a GPU gives infinite numbers.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from paddlex_ml import onnx_runtime
from paddlex_ml.export.int8 import Layer

LARGEST = 65504.0
"""Of float16."""
_MARGIN = 2.0
"""Other images may have results so many times as large."""
_ENDLESS = float(np.finfo(np.float32).max)
_FLOAT, _HALF = 1, 10  # types of ONNX


def find_operators(path: Path, batches: Iterable[np.ndarray]) -> dict[Layer, float]:
    """The operators of an ONNX file -> the largest number among weights, inputs and results.

    batches: images float32 [B, 3, S, S].
    """
    onnx, model = importlib.import_module("onnx"), _load(path)
    arrays = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    # A weight that is too large counts as such; results get the margin.
    largest = {name: _find_largest(array) / _MARGIN for name, array in arrays.items()}
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    there = {value.name for value in probed.graph.output}
    floats = [v.name for v in model.graph.value_info if v.type.tensor_type.elem_type == _FLOAT]
    names = [*(name for name in floats if name not in there), *there]
    empty = onnx.helper.make_empty_tensor_value_info
    probed.graph.output.extend(empty(name) for name in names if name not in there)
    run = onnx_runtime.open_session(probed.SerializeToString()).run
    for images in batches:
        for name, result in zip(names, run(names, {"x": images}), strict=True):
            largest[name] = max(largest.get(name, 0.0), _find_largest(result))
    found = dict[Layer, float]()
    for node in model.graph.node:
        weights = [arrays[name].shape for name in node.input[1:] if name in arrays]
        layer = Layer(node.name, node.op_type, weights[0] if weights else (), 0)
        parts = (largest.get(name, 0.0) for name in (*node.input, *node.output))
        found[layer] = _MARGIN * max(parts)
    return found


def convert(path: Path, left: Collection[str] = ()) -> Any:
    """The model of an ONNX file with weights and computations in float16.

    left: names of operators, as `find_operators` has them, that stay in float32.
    """
    model = _load(path)
    float16: Any = importlib.import_module("onnxruntime.transformers.float16")
    converted = float16.convert_float_to_float16(model, keep_io_types=True, node_block_list=[*left])
    _keep_float_between(converted.graph)
    return converted


def _load(path: Path) -> Any:
    onnx_runtime.load()  # before a part of it is imported
    model = importlib.import_module("onnx").load(path)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    return model


def _find_largest(array: np.ndarray) -> float:
    if array.dtype != np.float32 or not array.size:
        return 0.0
    return float(np.nan_to_num(np.abs(array), nan=_ENDLESS).max())


def _keep_float_between(graph: Any) -> None:
    """Let an operator in float32 take the result of another one as it is.

    The converter puts it into float16 and back, where it would become infinite.
    """
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        for place, name in enumerate(node.input):
            back = makers.get(name)
            short = None if back is None else makers.get(back.input[0] if back.input else "")
            if _casts_to(back, _FLOAT) and _casts_to(short, _HALF):
                assert short is not None
                node.input[place] = short.input[0]
    used = {name for node in graph.node for name in node.input}
    used |= {value.name for value in graph.output}
    kept = [node for node in graph.node if node.op_type != "Cast" or node.output[0] in used]
    used = {name for node in kept for name in node.input} | {value.name for value in graph.output}
    kept = [node for node in kept if node.op_type != "Cast" or node.output[0] in used]
    del graph.node[:]
    graph.node.extend(kept)


def _casts_to(node: Any, kind: int) -> bool:
    return node is not None and node.op_type == "Cast" and node.attribute[0].i == kind
