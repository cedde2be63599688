# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import paddle
import pytest

from paddlex_ml import openvino_runtime
from paddlex_ml.artifacts import inference_yml
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.export import onnx, openvino
from paddlex_ml.inference.static_model import StaticModel
from paddlex_ml.models import zoo
from tests.export.conftest import GAINS, draw

pytest.importorskip("paddle2onnx")
pytest.importorskip("openvino", reason="the package of the extra openvino")


@pytest.fixture(scope="module")
def exported(
    model: paddle.nn.Layer, info: ModelInfo, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("openvino") / "inference_openvino"
    assert openvino.save_openvino(model, info, folder, 17) < 1e-5
    return folder


def scores_of(model: paddle.nn.Layer, images: np.ndarray) -> np.ndarray:
    with paddle.no_grad():
        return paddle.nn.functional.sigmoid(model(paddle.to_tensor(images))).numpy()


def test_the_folder_has_three_files_and_gives_the_scores(exported: Path, model) -> None:
    assert sorted(os.listdir(exported)) == ["inference.bin", "inference.xml", "inference.yml"]
    static = StaticModel(exported, "cpu")
    assert static.run_mode == "openvino"
    for count in (1, 5):
        found = static.run(draw(count, 64))
        assert found == pytest.approx(scores_of(model, draw(count, 64)), abs=1e-5)


def test_nothing_that_no_image_changes_is_left_to_compute(exported: Path) -> None:
    layers = ElementTree.parse(exported / "inference.xml").getroot().findall("layers/layer")
    kinds = {layer.get("type") for layer in layers}
    assert {"Convolution", "MatMul"} <= kinds
    assert not kinds & {"ShapeOf", "Broadcast", "Range", "Subtract"}


def test_the_file_says_what_the_model_is_and_its_thresholds_are_replaced(
    exported: Path, info: ModelInfo, tmp_path: Path
) -> None:
    def texts(folder: Path) -> dict[str, str]:
        root = ElementTree.parse(folder / "inference.xml").getroot()
        return {each.tag: each.get("value", "") for each in root.findall("rt_info/framework/*")}

    found = texts(exported)
    assert json.loads(found["label_names"]) == info.label_names
    assert json.loads(found["thresholds"]) == [0.5, 0.5, 0.5]
    folder = shutil.copytree(exported, tmp_path / "tuned")
    inference_yml.set_thresholds(folder / "inference.yml", [0.25, 0.5, 0.75], 0.4)
    assert texts(folder) == found | {"thresholds": "[0.25, 0.5, 0.75]", "threshold": "0.4"}
    images = draw(2, 64)
    assert np.array_equal(StaticModel(folder, "cpu").run(images), StaticModel(exported).run(images))
    assert StaticModel(folder, "cpu").threshold == [0.25, 0.5, 0.75]


def test_a_fixed_batch(model: paddle.nn.Layer, info: ModelInfo, tmp_path: Path) -> None:
    openvino.save_openvino(model, info, tmp_path / "fixed", 17, batch_size=3)
    shape = ElementTree.parse(tmp_path / "fixed" / "inference.xml").find(".//data")
    assert shape is not None
    assert shape.get("shape") == "3,3,64,64"
    found = StaticModel(tmp_path / "fixed", "cpu").run(draw(5, 64))
    assert found == pytest.approx(scores_of(model, draw(5, 64)), abs=1e-5)


def test_half_precision_is_half_the_size_and_keeps_what_it_cannot_hold(
    exported: Path, model: paddle.nn.Layer, tmp_path: Path
) -> None:
    graph = openvino.halve(exported / "inference.xml")
    path = tmp_path / "inference.xml"
    openvino.write(path, graph)
    usual = openvino.size_of(exported / "inference.xml")
    assert openvino.measure_size(graph) == openvino.size_of(path) < 0.53 * usual
    moved = np.abs(openvino.open_graph(path)(draw(6, 64)) - scores_of(model, draw(6, 64)))
    assert 0 < moved.max() < 0.01

    # A weight beyond 65504, and one that takes it back.
    large = openvino.load(exported / "inference.xml")
    weights = next(
        each
        for each in large.get_ordered_ops()
        if each.get_type_name() == "Constant" and list(each.shape)[-2:] == [3, 3]
    )
    numbers = weights.data
    (user,) = weights.output(0).get_target_inputs()
    operators = openvino_runtime.load("opset13")
    many, few = operators.constant(numbers * 1e6), operators.constant(np.float32(1e-6))
    user.replace_source_output(operators.multiply(many, few).output(0))
    openvino.write(tmp_path / "large.xml", large)
    halved = openvino.halve(tmp_path / "large.xml")
    assert np.abs(openvino.open_graph(halved)(draw(6, 64))).max() <= 1
    kept = [each for each in halved.get_ordered_ops() if each.get_type_name() == "Constant"]
    assert any(e.get_element_type().to_dtype() == np.float32 and e.data.size > 1 for e in kept)


def test_a_full_disk_is_told_as_such(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_model(*_: object, **__: object) -> None:
        raise RuntimeError("basic_ios::clear: iostream error")

    graph = openvino.load(exported / "inference.xml")
    runtime = SimpleNamespace(save_model=save_model)
    monkeypatch.setattr(openvino_runtime, "load", lambda: runtime)
    with pytest.raises(RuntimeError, match="iostream error"):
        openvino.write(tmp_path / "inference.xml", graph)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(OSError, match="No space left") as error:
        openvino.write(tmp_path / "inference.xml", graph)
    assert error.value.errno == errno.ENOSPC


def test_scores_that_differ_leave_the_earlier_export(
    exported: Path, model, info: ModelInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(exported, tmp_path / "inference_openvino")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    open_graph = openvino.open_graph
    monkeypatch.setattr(
        openvino, "open_graph", lambda path: lambda images: open_graph(path)(images) + 0.01
    )
    with pytest.raises(RuntimeError, match="differs from the model"):
        openvino.save_openvino(model, info, folder, 17)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.heavy
@pytest.mark.parametrize("name", sorted(GAINS))
def test_every_model_passes_through_it_and_through_the_check_of_its_graph(
    name: str, build: Callable[[ModelInfo], paddle.nn.Layer], tmp_path: Path
) -> None:
    tokens = "all_patches" if name in zoo.MODEL_SPECS and name.startswith("CLIP") else None
    info = ModelInfo(name, ["a", "b", "c"], 64, tokens)
    model = build(info)
    assert openvino.save_openvino(model, info, tmp_path / "model", 17) < 1e-4
    found = StaticModel(tmp_path / "model", "cpu").run(draw(2, 64))
    assert found == pytest.approx(scores_of(model, draw(2, 64)), abs=1e-4)
    assert onnx.sizes_to_try(None) == (1, 2)
