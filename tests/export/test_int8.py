# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.export import int8, onnx
from paddlex_ml.export.int8 import Int8Graph, Level
from paddlex_ml.inference.static_model import StaticModel
from tests.export.conftest import draw

MODELS = ["PP-LCNet_x1_0_ML", "PP-HGNetV2-B0_ML"]


@pytest.fixture(scope="module", params=MODELS)
def exported(
    request: pytest.FixtureRequest,
    build: Callable[..., paddle.nn.Layer],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, ModelInfo]:
    pytest.importorskip("paddle2onnx")
    pytest.importorskip("onnxruntime")
    info = ModelInfo(request.param, ["red square", "green", "蓝"], 64)
    folder = tmp_path_factory.mktemp("onnx") / "inference_onnx"
    onnx.save_onnx(build(info), info, folder, 17)
    return folder / "inference.onnx", info


@pytest.fixture
def graph(exported: tuple[Path, ModelInfo]) -> Int8Graph:
    graph = Int8Graph(exported[0])
    graph.measure_ranges(batches())
    return graph


def batches() -> Iterator[np.ndarray]:
    images = draw(16, 64)
    return (images[start : start + 4] for start in range(0, 16, 4))


def score(model: Any) -> np.ndarray:
    return onnx.open_graph(onnx.sort_nodes(model).SerializeToString())(draw(12, 64))


def at(graph: Int8Graph, level: Level) -> Any:
    return graph.build({layer.name: level for layer in graph.layers})


def test_a_plan_of_float_changes_no_bit(graph: Int8Graph, exported: tuple[Path, ModelInfo]) -> None:
    expected = onnx.open_graph(exported[0])(draw(12, 64))
    assert np.array_equal(score(graph.build({})), expected)
    assert np.array_equal(score(at(graph, "float")), expected)


def test_weights_in_8_bits_are_a_quarter_of_the_size_and_nearly_exact(graph: Int8Graph) -> None:
    usual, small = graph.build({}), at(graph, "weights")
    assert len(small.SerializeToString()) < 0.27 * len(usual.SerializeToString())
    moved = np.abs(score(small) - score(usual))
    assert 0 < moved.mean() < 0.02


def test_layers_in_8_bits_give_near_scores_and_say_so_in_the_graph(graph: Int8Graph) -> None:
    usual, small = graph.build({}), at(graph, "int8")
    assert len(small.SerializeToString()) < 0.3 * len(usual.SerializeToString())
    moved = np.abs(score(small) - score(usual))
    assert 0 < moved.mean() < 0.1
    kinds = [node.op_type for node in small.graph.node]
    assert kinds.count("QuantizeLinear") >= len(graph.layers)


def test_only_the_layers_of_the_plan_change(graph: Int8Graph) -> None:
    names = [layer.name for layer in graph.layers]
    plan: dict[str, Level] = {names[0]: "int8", names[1]: "weights"}
    model = graph.build(plan)
    weights = {each.name: each.data_type for each in model.graph.initializer}
    kinds = {1: "float", 3: "int8"}  # of a TensorProto
    made = {name: node for node in model.graph.node for name in node.output}
    found = []
    for node in model.graph.node:
        if node.name in names:
            source = made.get(node.input[1])
            found.append(kinds[weights[source.input[0] if source else node.input[1]]])
    assert found == ["int8", "int8", *["float"] * (len(names) - 2)]


def test_layers_are_named_with_their_weights_and_products(graph: Int8Graph) -> None:
    first = graph.layers[0]
    assert first.kind == "Conv"
    assert first.shape[1] == 3
    assert first.weights == np.prod(first.shape)
    # Each of the results, 32 x 32 for each channel, is a sum over a window of all channels.
    assert first.products == 32 * 32 * first.weights
    assert len({layer.name for layer in graph.layers}) == len(graph.layers) > 20


def test_ranges_leave_out_rare_numbers(exported: tuple[Path, ModelInfo]) -> None:
    graph = Int8Graph(exported[0])
    images = draw(4, 64)
    images[0, 0, 0, 0] = 1000.0
    graph.measure_ranges([images])
    low, high = graph._ranges["x"].range_value
    assert -6 < low < -3
    assert 3 < high < 6


def test_rounding_is_within_half_a_step_of_each_channel() -> None:
    values = np.random.default_rng(0).standard_normal((4, 5, 3)).astype(np.float32)
    values[2] *= 100
    values[3] = 0
    numbers, scales = int8._round(values, 0)
    assert numbers.dtype == np.int8
    assert np.abs(numbers).max(axis=(1, 2)).tolist() == [127, 127, 127, 0]
    error = np.abs(values - numbers * scales[:, None, None])
    assert (error <= scales[:, None, None] * 0.5001).all()


def test_a_graph_in_8_bits_is_a_whole_file_that_predicts(
    graph: Int8Graph, exported: tuple[Path, ModelInfo], tmp_path: Path
) -> None:
    info = exported[1]
    plan: dict[str, Level] = {layer.name: "int8" for layer in graph.layers}
    plan[graph.layers[3].name] = "weights"
    model = onnx.sort_nodes(graph.build(plan))
    onnx.write(tmp_path / "inference.onnx", model, info)  # checks the graph
    static = StaticModel(tmp_path / "inference.onnx", "cpu")
    assert list(static.label_names) == info.label_names
    expected = onnx.open_graph(model.SerializeToString())(draw(12, 64))
    assert np.array_equal(static.run(draw(12, 64)), expected)
    assert static.run(draw(12, 64)[:1]) == pytest.approx(expected[:1], abs=1e-6)
