# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from paddlex_ml import openvino_runtime
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.export import openvino, openvino_int8
from paddlex_ml.export.int8 import Level
from paddlex_ml.export.openvino_int8 import OpenvinoInt8
from paddlex_ml.inference import graph_memory, openvino_nodes
from tests.export.conftest import draw

pytest.importorskip("paddle2onnx")
pytest.importorskip("openvino", reason="the package of the extra openvino")


@pytest.fixture(scope="module", params=["PP-LCNet_x1_0_ML", "PP-HGNetV2-B0_ML"])
def exported(
    request: pytest.FixtureRequest,
    build: Callable[..., paddle.nn.Layer],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    info = ModelInfo(request.param, ["red square", "green", "蓝"], 64)
    folder = tmp_path_factory.mktemp("openvino") / "inference_openvino"
    openvino.save_openvino(build(info), info, folder, 17)
    return folder / "inference.xml"


@pytest.fixture(scope="module")
def graph(exported: Path) -> OpenvinoInt8:
    graph = OpenvinoInt8(exported)
    graph.measure_ranges(batches())
    return graph


def batches() -> Iterator[np.ndarray]:
    images = draw(16, 64)
    return (images[start : start + 4] for start in range(0, 16, 4))


def score(model: Any) -> np.ndarray:
    return openvino.open_graph(model)(draw(12, 64))


def at(graph: OpenvinoInt8, level: Level) -> Any:
    return graph.build({layer.name: level for layer in graph.layers})


def test_a_plan_of_float_changes_no_bit(graph: OpenvinoInt8, exported: Path) -> None:
    expected = score(exported)
    assert np.array_equal(score(graph.build({})), expected)
    assert np.array_equal(score(at(graph, "float")), expected)


def test_layers_are_those_of_the_graph(graph: OpenvinoInt8, exported: Path) -> None:
    kinds = {layer.kind for layer in graph.layers}
    assert kinds == {"Convolution", "GroupConvolution", "MatMul"}
    numbers = sum(layer.weights for layer in graph.layers)
    assert numbers * 4 == pytest.approx(openvino.size_of(exported), rel=0.05)
    first = graph.layers[0]
    assert first.products == np.prod(first.shape) * 32 * 32  # halved by its stride


@pytest.mark.parametrize(("level", "most"), [("weights", 0.02), ("int8", 0.1)])
def test_a_quarter_of_the_size_and_near_scores(graph, exported, level, most) -> None:
    usual, small = score(exported), at(graph, level)
    assert openvino.measure_size(small) < 0.3 * openvino.size_of(exported)
    assert 0 < np.abs(score(small) - usual).mean() < most


def test_the_engine_computes_in_8_bits(graph: OpenvinoInt8) -> None:
    options = {"PERF_COUNT": True, "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino_runtime.load().Core()
    request = core.compile_model(at(graph, "int8"), "CPU", options).create_infer_request()
    request.infer({0: draw(2, 64)})
    kinds = [each.exec_type for each in request.get_profiling_info()]
    assert sum("I8" in kind for kind in kinds) >= len(graph.layers) / 2


def test_an_image_alone_gets_the_scores_that_it_has_in_a_batch(graph: OpenvinoInt8) -> None:
    run, images = openvino.open_graph(at(graph, "int8")), draw(12, 64)
    alone = np.concatenate([run(images[row : row + 1]) for row in range(12)])
    assert alone == pytest.approx(run(images), abs=1e-4)


def test_inputs_of_one_pixel_have_one_range(graph: OpenvinoInt8) -> None:
    quantised = [n for n in at(graph, "int8").get_ops() if n.get_type_name() == "FakeQuantize"]
    found = {True: set[bool](), False: set[bool]()}
    for node in quantised:
        sides = [side.get_length() for side in list(node.get_input_partial_shape(0))[2:]]
        if sides:
            found[sides == [1, 1]].add(len(set(node.input_value(2).get_node().data.ravel())) > 1)
    assert found[True] == {False}
    assert True in found[False]


def test_only_the_layers_of_the_plan_change(graph: OpenvinoInt8) -> None:
    names = [layer.name for layer in graph.layers]
    model = graph.build({names[0]: "int8", names[1]: "weights"})
    kinds = [node.get_type_name() for node in model.get_ops()]
    assert kinds.count("FakeQuantize") == 1
    short = [
        node.get_friendly_name()
        for node in model.get_ops()
        if node.get_friendly_name() in names
        and node.input_value(1).get_node().get_type_name() != "Constant"
    ]
    assert sorted(short) == sorted(names[:2])


def test_the_written_model_passes_the_check_and_gives_the_same_scores(graph, tmp_path) -> None:
    model = at(graph, "int8")
    openvino.write(tmp_path / "inference.xml", model)
    read = openvino_nodes.read(tmp_path / "inference.xml")
    graph_memory.check(read, (64, 64), tmp_path / "inference.xml")
    assert score(tmp_path / "inference.xml") == pytest.approx(score(model), abs=1e-6)


def make(channels: list[float], weights: np.ndarray, bias: np.ndarray) -> Any:
    """A convolution whose input channels have these largest numbers; its results are scores."""
    runtime, operators = openvino_runtime.load(), openvino_runtime.load("opset13")
    images = operators.parameter([-1, len(channels), 8, 8], np.float32)
    factors = np.array(channels, np.float32).reshape(1, -1, 1, 1)
    scaled = operators.multiply(images, operators.constant(factors))
    found = operators.convolution(
        scaled, operators.constant(weights), [1, 1], [0, 0], [0, 0], [1, 1]
    )
    added = operators.add(found, operators.constant(bias.reshape(1, -1, 1, 1)))
    return runtime.Model([added], [images])


@pytest.mark.parametrize("is_on", [True, False])
def test_small_channels_keep_their_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_on: bool
) -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((4, 2, 1, 1)).astype(np.float32) / [[[[100.0]], [[0.01]]]]
    bias = np.zeros(4, np.float32)
    openvino.write(tmp_path / "m.xml", make([100.0, 0.01], weights.astype(np.float32), bias))
    if not is_on:
        monkeypatch.setattr(
            openvino_int8, "_choose_factors", lambda largest, _: np.ones(len(largest))
        )
    graph = OpenvinoInt8(tmp_path / "m.xml")
    images = rng.random((8, 2, 8, 8), np.float32)
    graph.measure_ranges([images])
    usual = openvino.open_graph(tmp_path / "m.xml")(images)
    moved = np.abs(openvino.open_graph(at(graph, "int8"))(images) - usual).mean()
    assert bool(moved < 0.02 * np.abs(usual).mean()) is is_on


def test_a_range_has_all_numbers_of_all_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    weights = rng.standard_normal((4, 2, 1, 1)).astype(np.float32)
    openvino.write(tmp_path / "m.xml", make([1.0, 1.0], weights, np.zeros(4, np.float32)))
    graph = OpenvinoInt8(tmp_path / "m.xml")
    images = rng.standard_normal((16, 2, 8, 8), np.float32)
    images[:, 1] *= np.linspace(0.1, 4, 16).reshape(-1, 1, 1)  # most images show little of it
    graph.measure_ranges(np.split(images, 8))
    usual = openvino.open_graph(tmp_path / "m.xml")(images)
    moved = openvino.open_graph(at(graph, "int8"))(images) - usual
    assert np.abs(moved).max() < 0.02 * np.abs(usual).max()


def test_the_bias_takes_the_mean_error_of_the_weights(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    weights = rng.random((3, 8, 1, 1)).astype(np.float32)
    weights[:, 0] = 100  # so that the others have one or two steps
    openvino.write(tmp_path / "m.xml", make([1.0] * 8, weights, np.zeros(3, np.float32)))
    graph = OpenvinoInt8(tmp_path / "m.xml")
    images = rng.random((16, 8, 8, 8), np.float32)
    graph.measure_ranges([images])
    errors = openvino.open_graph(at(graph, "weights"))(images) - openvino.open_graph(
        tmp_path / "m.xml"
    )(images)
    assert np.abs(errors.mean(axis=(0, 2, 3))).max() < 0.05 * np.abs(errors).mean()


def test_products_of_matrices_are_divided_and_joined_again() -> None:
    runtime, operators = openvino_runtime.load(), openvino_runtime.load("opset13")
    rows = operators.parameter([-1, 4], np.float32)
    weights = np.arange(12, dtype=np.float32).reshape(4, 3)
    for transposed in (False, True):
        given = np.ascontiguousarray(weights.T) if transposed else weights
        node = operators.matmul(rows, operators.constant(given), False, transposed)
        assert runtime.Model([node], [rows])
        parts = openvino_int8._divide(node, given)
        assert np.array_equal(parts[0, :, :, 0], weights.T)
        assert np.array_equal(openvino_int8._join(node, parts, given.shape), given)
