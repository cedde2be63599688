# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx as onnx_package
import paddle
import pytest

from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.export import half, onnx
from paddlex_ml.inference.static_model import StaticModel
from tests.export.conftest import draw


def test_half_precision_is_half_the_size_and_nearly_exact(
    model: paddle.nn.Layer, info: ModelInfo, tmp_path: Path
) -> None:
    pytest.importorskip("paddle2onnx")
    pytest.importorskip("onnxruntime")
    onnx.save_onnx(model, info, tmp_path / "usual", 17)
    usual = tmp_path / "usual" / "inference.onnx"
    images = draw(6, 64)
    expected = onnx.open_graph(usual)(images)
    path = tmp_path / "inference.onnx"
    onnx.write(path, onnx.sort_nodes(half.convert(usual)), info)
    assert path.stat().st_size < 0.51 * usual.stat().st_size
    found = StaticModel(path, "cpu").run(images)
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).max() < 0.01


def make(factor: float) -> Any:
    """A convolution whose results are so large, and one that makes them small again."""
    helper, number = onnx_package.helper, onnx_package.TensorProto.FLOAT
    large, small = (
        onnx_package.numpy_helper.from_array(np.full(shape, value, np.float32), name)
        for name, shape, value in (
            ("large", (4, 3, 1, 1), factor),
            ("small", (2, 4, 1, 1), 0.3 / factor),
        )
    )
    nodes = [
        helper.make_node("Conv", ["x", "large"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "small"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("Sigmoid", ["e"], ["scores"]),
    ]
    images = helper.make_tensor_value_info("x", number, ["batch", 3, 8, 8])
    scores = helper.make_tensor_value_info("scores", number, ["batch", 2])
    graph = helper.make_graph(nodes, "m", [images], [scores], [large, small])
    opset = [helper.make_opsetid("", 17)]
    return onnx_package.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=opset, ir_version=8)
    )


@pytest.mark.parametrize(("factor", "left"), [(1.0, 0), (30_000.0, 3), (70_000.0, 3)])
def test_numbers_that_float16_does_not_hold_stay_in_float32(
    tmp_path: Path, factor: float, left: int
) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "m.onnx"
    onnx_package.save(make(factor), path)
    images = np.abs(draw(4, 8))
    found = half.find_operators(path, [images[:2], images[2:]])
    assert [layer.kind for layer in found] == [
        *("Conv", "Relu", "Conv", "GlobalAveragePool", "Flatten", "Sigmoid")
    ]
    names = [layer.name for layer, number in found.items() if number > half.LARGEST]
    assert len(names) == left
    model = onnx.sort_nodes(half.convert(path, names))
    # No result of what was left passes through float16.
    makers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.name in names[1:]:
            assert makers[node.input[0]].name in names
    usual = onnx.open_graph(path)(images)
    assert np.abs(onnx.open_graph(model)(images) - usual).max() < 1e-3
    expected = {1.0: {10}, 30_000.0: {1}, 70_000.0: {1}}[factor]
    assert {each.data_type for each in model.graph.initializer if each.name != "small"} == expected
