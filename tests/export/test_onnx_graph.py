# SPDX-License-Identifier: Apache-2.0
"""ONNX exports, read by the tools that deployments use; and each step of the graph's clean-up."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.export import onnx_graph
from paddlex_ml.export.onnx import save_onnx
from paddlex_ml.models import zoo
from tests.shallow import shallow_models

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("paddle2onnx")

Once = Callable[[Path], AbstractContextManager[None]]
CLIP = "CLIP_vit_base_patch16_448_ML"
LIGHT = ("PP-LCNet_x1_0_ML", "PP-HGNetV2-B0_ML")
SIZE = 64
EACH = [
    pytest.param(name, batch_size, marks=[] if name in LIGHT else [pytest.mark.heavy])
    for name in zoo.MODEL_SPECS
    for batch_size in (None, 1)
]
# OpenCV may end the process where it cannot run a graph, so it has one of its own.
OPENCV = """
import sys, cv2, numpy
path, images, target = sys.argv[1:]
network = cv2.dnn.readNetFromONNX(path)
network.setInput(numpy.load(images))
numpy.save(target, network.forward())
"""


@pytest.fixture(scope="module")
def export(
    build: Callable[[ModelInfo], paddle.nn.Layer],
    converted_once: Once,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., tuple[Path, np.ndarray, np.ndarray]]:
    """Exports a model: the file, images for it and the scores that Paddle gives them."""
    made: dict[tuple[str, int | None], tuple[Path, np.ndarray, np.ndarray]] = {}
    kept = tmp_path_factory.mktemp("kept")

    def make(name: str, batch_size: int | None) -> tuple[Path, np.ndarray, np.ndarray]:
        if (name, batch_size) not in made:
            info = ModelInfo(name, ["a", "b", "c"], SIZE, "all_patches" if name == CLIP else None)
            with shallow_models():  # tests/export/test_onnx.py has all layers
                model = build(info)
            folder = tmp_path_factory.mktemp("onnx") / "inference_onnx"
            with converted_once(kept / f"{name}.onnx"):
                assert save_onnx(model, info, folder, 17, batch_size) < 1e-5
            rng = np.random.default_rng(1)
            images = rng.standard_normal((batch_size or 3, 3, SIZE, SIZE), np.float32)
            with paddle.no_grad():
                scores = paddle.nn.functional.sigmoid(model(paddle.to_tensor(images))).numpy()
            assert np.ptp(scores) > 0.005
            made[name, batch_size] = folder / "inference.onnx", images, scores
        return made[name, batch_size]

    return make


def run(path: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: images})[0])


def types_of(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize(("name", "batch_size"), EACH)
def test_weights_are_initializers_and_every_shape_is_written_down(
    export: Callable[..., Any], name: str, batch_size: int | None
) -> None:
    path, images, scores = export(name, batch_size)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    gone = {"Constant", "Identity", "BatchNormalization", "Resize"}
    if name != CLIP or batch_size:  # its class token is repeated for each image
        gone |= {"Shape", "Expand"}
    assert gone.isdisjoint(types_of(model))
    initializers = {entry.name for entry in model.graph.initializer}
    weighted = [node for node in model.graph.node if node.op_type == "Conv"]
    assert all(set(node.input[1:]) <= initializers for node in weighted)
    assert {name for node in model.graph.node for name in node.input} >= initializers
    values = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    assert {value.name for value in values} >= {n for m in model.graph.node for n in m.output}
    for value in values:
        assert value.type.tensor_type.HasField("shape")
        axes = value.type.tensor_type.shape.dim
        named = [axis.dim_param for axis in axes if axis.dim_value == 0]
        assert named in ([[]] if batch_size else [[], ["batch"]]), value
    assert np.abs(run(path, images) - scores).max() < 1e-5


@pytest.mark.parametrize(("name", "batch_size"), EACH)
def test_opencv_gives_the_same_scores(
    export: Callable[..., Any], tmp_path: Path, name: str, batch_size: int | None
) -> None:
    pytest.importorskip("cv2.dnn")
    path, images, scores = export(name, batch_size)
    given, target = tmp_path / "images.npy", tmp_path / "scores.npy"
    np.save(given, images[:1])  # OpenCV 4 runs one image at a time
    done = subprocess.run(
        [sys.executable, "-c", OPENCV, path, given, target],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert np.abs(np.load(target) - scores[:1]).max() < 1e-5


@pytest.mark.parametrize(("name", "batch_size"), EACH)
def test_openvino_gives_the_same_scores(
    export: Callable[..., Any], name: str, batch_size: int | None
) -> None:
    openvino = pytest.importorskip("openvino")
    path, images, scores = export(name, batch_size)
    exact = {"INFERENCE_PRECISION_HINT": "f32"}  # its default is bfloat16 where a CPU has it
    model = openvino.Core().compile_model(path, "CPU", exact)
    assert np.abs(model(images)[0] - scores).max() < 1e-5


@pytest.mark.parametrize(("name", "batch_size"), EACH)
def test_onnxruntime_quantises_the_weights(
    export: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    batch_size: int | None,
) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    shape_inference = pytest.importorskip("onnxruntime.quantization.shape_inference")
    path, images, scores = export(name, batch_size)
    prepared, small = tmp_path / "prepared.onnx", tmp_path / "small.onnx"
    monkeypatch.chdir(tmp_path)  # where it fails it leaves its work in the current folder
    shape_inference.quant_pre_process(
        path, prepared, skip_symbolic_shape=importlib.util.find_spec("sympy") is None
    )
    quantization.quantize_dynamic(prepared, small)
    assert small.stat().st_size < 0.3 * path.stat().st_size
    types = types_of(onnx.load(small))
    assert types.count("Conv") == 0
    assert types.count("ConvInteger") == types_of(onnx.load(path)).count("Conv")
    assert np.abs(run(small, images) - scores).max() < 0.1


def test_large_weights_go_into_a_file_of_their_own(
    export: Callable[..., Any], tmp_path: Path
) -> None:
    path, images, scores = export("PP-LCNet_x1_0_ML", None)
    model = onnx.load(path)
    onnx.save(model, tmp_path / "a.onnx", save_as_external_data=True, location="a.data")
    assert (tmp_path / "a.onnx").stat().st_size < 0.01 * (tmp_path / "a.data").stat().st_size
    assert np.abs(run(tmp_path / "a.onnx", images) - scores).max() < 1e-5


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what paddle2onnx makes of `model`."""
    return tmp_path_factory.mktemp("kept")


@pytest.mark.parametrize("opset", [11, pytest.param(21, marks=pytest.mark.heavy)])
@pytest.mark.parametrize("batch_size", [None, 4])
def test_other_operators_are_simplified_as_well(
    model: paddle.nn.Layer,
    info: ModelInfo,
    converted_once: Once,
    kept: Path,
    tmp_path: Path,
    opset: int,
    batch_size: int | None,
) -> None:
    with converted_once(kept / f"{opset}.onnx"):
        assert save_onnx(model, info, tmp_path / "onnx", opset, batch_size) < 1e-5
    content = onnx.load(tmp_path / "onnx" / "inference.onnx")
    assert set(types_of(content)).isdisjoint({"Constant", "Shape", "Expand", "BatchNormalization"})
    assert content.ir_version == {11: 6, 21: 10}[opset]
    assert content.graph.input[0].type.tensor_type.shape.dim[0].dim_value == (batch_size or 0)
    assert json.loads({p.key: p.value for p in content.metadata_props}["thresholds"]) == [0.5] * 3


def draw(nodes: list[Any], constants: dict[str, np.ndarray], channels: int = 4) -> Any:
    """A model of these nodes from x [batch, channels, 5, 5] to y, its constants as nodes."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    given = [
        helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(array))
        for name, array in constants.items()
    ]
    graph = helper.make_graph(
        [*given, *nodes],
        "graph",
        [helper.make_tensor_value_info("x", kind, ["n", channels, 5, 5])],
        [helper.make_tensor_value_info("y", kind, ["n", None, None, None])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model)
    return model


def compare(model: Any, batch_size: int | None = None) -> list[str]:
    """Operators of the simplified model, whose results are compared with those of the model."""
    before = model.SerializeToString()
    after = onnx_graph.simplify(model, batch_size)
    onnx.checker.check_model(after, full_check=True)
    for size in [batch_size] if batch_size else [1, 3]:
        images = np.random.default_rng(size).standard_normal((size, 4, 5, 5), np.float32)
        found, expected = (
            onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(
                None, {"x": images}
            )[0]
            for content in (after.SerializeToString(), before)
        )
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < 1e-5
    return types_of(after)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32)


NORM = {"s": normal(6), "b": normal(6), "m": normal(6), "v": normal(6) ** 2 + 1}


def test_bias_and_batch_norm_are_folded_into_a_convolution() -> None:
    make = onnx.helper.make_node
    nodes = [
        make("Conv", ["x", "w"], ["c"]),
        make("Reshape", ["bias", "shape"], ["r"]),
        make("Add", ["r", "c"], ["d"]),
        make("BatchNormalization", ["d", "s", "b", "m", "v"], ["e"], epsilon=0.01),
        make("Identity", ["e"], ["f"]),
        make("Relu", ["f"], ["y"]),
    ]
    constants = {"w": normal(6, 4, 3, 3), "bias": normal(6), "shape": np.array([1, -1, 1, 1])}
    assert compare(draw(nodes, {**constants, **NORM})) == ["Conv", "Relu"]


def test_a_convolution_with_another_reader_keeps_its_result() -> None:
    make = onnx.helper.make_node
    nodes = [
        make("Conv", ["x", "w"], ["c"]),
        make("BatchNormalization", ["c", "s", "b", "m", "v"], ["d"]),
        make("Add", ["d", "c"], ["y"]),
    ]
    constants = {"w": normal(6, 4, 1, 1), **NORM}
    assert compare(draw(nodes, constants)) == ["Conv", "BatchNormalization", "Add"]


@pytest.mark.parametrize("shape", [(5,), (1, 6, 5, 5), (6, 1, 5), (1, 1, 1, 1)])
def test_what_is_no_bias_of_a_convolution_is_still_added(shape: tuple[int, ...]) -> None:
    make = onnx.helper.make_node
    nodes = [make("Conv", ["x", "w"], ["c"]), make("Add", ["c", "a"], ["y"])]
    constants = {"w": normal(6, 4, 1, 1), "a": normal(*shape)}
    assert compare(draw(nodes, constants)) == ["Conv", "Add"]


def repeat_for_each_image(*more: Any) -> list[Any]:
    """Nodes that give "e", the constant "q" once for each image of x, and `more`."""
    make = onnx.helper.make_node
    return [
        make("Shape", ["x"], ["xs"]),
        make("Slice", ["xs", "zero", "one"], ["n"]),
        make("Concat", ["n", "rest"], ["es"], axis=0),
        make("Expand", ["q", "es"], ["e"]),
        *more,
    ]


INDICES = {"zero": np.array([0]), "one": np.array([1]), "rest": np.array([4, 5, 5])}


@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_a_repeated_constant_is_left_to_broadcasting(batch_size: int | None) -> None:
    make = onnx.helper.make_node
    nodes = repeat_for_each_image(
        make("MatMul", ["e", "w"], ["f"]),
        make("Transpose", ["f"], ["g"], perm=[0, 1, 3, 2]),
        make("Sub", ["g", "x"], ["y"]),
    )
    constants = {**INDICES, "q": normal(1, 4, 5, 5), "w": normal(5, 5)}
    assert compare(draw(nodes, constants), batch_size) == ["Sub"]


def test_a_repeated_constant_stays_where_its_rows_are_needed() -> None:
    make = onnx.helper.make_node
    nodes = repeat_for_each_image(make("Concat", ["e", "x"], ["y"], axis=1))
    found = compare(draw(nodes, {**INDICES, "q": normal(1, 4, 5, 5)}))
    assert found[-2:] == ["Expand", "Concat"]


def test_rows_that_a_transposition_mixes_stay() -> None:
    make = onnx.helper.make_node
    nodes = repeat_for_each_image(
        make("Transpose", ["e"], ["f"], perm=[1, 0, 2, 3]),
        make("ReduceMean", ["f"], ["g"], axes=[1], keepdims=1),
        make("Transpose", ["g"], ["h"], perm=[1, 0, 2, 3]),
        make("Add", ["h", "x"], ["y"]),
    )
    found = compare(draw(nodes, {**INDICES, "q": normal(1, 4, 5, 5)}))
    assert "Expand" in found


def test_random_numbers_are_drawn_anew_each_time() -> None:
    make = onnx.helper.make_node
    nodes = [make("RandomNormal", [], ["r"], shape=[1, 4, 1, 1]), make("Add", ["x", "r"], ["y"])]
    found = onnx_graph.simplify(draw(nodes, {}), None)
    assert types_of(found) == ["RandomNormal", "Add"]
