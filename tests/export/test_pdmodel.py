# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import paddle
import pytest

from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.export.pdmodel import save_pdmodel
from paddlex_ml.export.static import save_static
from paddlex_ml.inference.static_model import StaticModel
from paddlex_ml.models import zoo
from tests.shallow import shallow_models

LIGHT = ("PP-LCNet_x1_0_ML", "PP-HGNetV2-B0_ML")
EACH = [
    pytest.param(name, tokens, marks=[] if name in LIGHT else [pytest.mark.heavy])
    for name in zoo.MODEL_SPECS
    for tokens in zoo.find(name).tokens or (None,)
]


def state_of_paddle() -> list[object]:
    """What tracing programs of the older format switches over."""
    functional = paddle.nn.functional
    names = ["FLAGS_enable_pir_api", "FLAGS_enable_pir_in_executor"]
    return [
        paddle.in_dynamic_mode(),
        paddle.get_flags(names),
        paddle.float32,
        paddle.static.Program,
        paddle.static.program_guard,
        *(paddle.matmul, functional.sigmoid, functional.gelu),
    ]


@pytest.fixture(autouse=True)
def unchanged_state() -> Iterator[None]:
    before = state_of_paddle()
    yield
    assert state_of_paddle() == before


@pytest.mark.parametrize(("name", "tokens"), EACH)
def test_each_model_gives_its_scores_on_plain_paddle_and_on_onednn(
    build: Callable[[ModelInfo], paddle.nn.Layer],
    images: np.ndarray,
    tmp_path: Path,
    name: str,
    tokens: str | None,
) -> None:
    info, folder = (
        ModelInfo(name, ["a", "b", "c"], 64, tokens),
        tmp_path / "inference_pdmodel",
    )
    with shallow_models():  # programs are translated one operator after the other
        model = build(info)
    assert save_pdmodel(model, info, folder) < 1e-5
    assert not model.training
    with paddle.no_grad():
        expected = paddle.nn.functional.sigmoid(model(paddle.to_tensor(images))).numpy()
    assert np.ptp(expected, axis=0).max() > 0.005
    for mode in ("paddle", "mkldnn"):
        static = StaticModel(folder, "cpu", mode, model_name=name)
        assert (static.run_mode, static.decoder_tokens) == (mode, tokens)
        assert static.label_names == ("a", "b", "c")
        for count in (1, 3):
            found = static.run(images[:count])
            assert np.abs(found - expected[:count]).max() < 1e-5


def test_the_folder_holds_what_older_versions_of_paddle_look_for(
    model: paddle.nn.Layer, info: ModelInfo, tmp_path: Path
) -> None:
    save_pdmodel(model, info, tmp_path / "inference_pdmodel")
    assert {*os.listdir(tmp_path)} == {"inference_pdmodel", ".paddlex_ml.lock"}
    assert sorted(os.listdir(tmp_path / "inference_pdmodel")) == [
        *("inference.pdiparams", "inference.pdmodel", "inference.yml")
    ]


def test_models_train_and_are_exported_as_before_afterwards(
    model: paddle.nn.Layer, info: ModelInfo, images: np.ndarray, tmp_path: Path
) -> None:
    places = tmp_path / "before", tmp_path / "after"
    before = save_static(model, info, places[0])
    save_pdmodel(model, info, tmp_path / "inference_pdmodel")
    assert save_static(model, info, places[1]) == before
    for name in ("inference.pdiparams", "inference.yml"):
        found, expected = (place / name for place in places)
        assert found.read_bytes() == expected.read_bytes()
    first, second = (StaticModel(place, "cpu", "paddle").run(images) for place in places)
    assert np.array_equal(first, second)
    student = zoo.build(info.model, 3)
    student(paddle.randn([2, 3, 64, 64])).sum().backward()
    assert float(student.fc.group_conv.weight.grad.abs().sum()) > 0


class Distances(paddle.nn.Layer):
    """Uses a function that Paddle 3.3 has for its new programs alone."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = paddle.nn.Linear(3, 3)

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        return paddle.tanh(self.fc(images.mean([2, 3]))).maximum(paddle.zeros([1]))


def test_a_model_that_the_format_cannot_hold_is_refused(info: ModelInfo, tmp_path: Path) -> None:
    with pytest.raises(PaddlexMLError) as caught:
        save_pdmodel(Distances(), info, tmp_path / "inference_pdmodel")
    assert caught.value.what.startswith(
        "the model uses a function that this Paddle cannot write into the older format: "
        "TypeError: (InvalidType) tanh(): argument (position 1) must be Value, but got Variable"
    )
    assert caught.value.where == "Export.format=pdmodel"
    assert caught.value.fix == "-o Export.format=paddle, or onnx"
    assert os.listdir(tmp_path) == [".paddlex_ml.lock"]


class Faulty(paddle.nn.Layer):
    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        raise TypeError("a fault of its own")


def test_a_fault_of_the_model_itself_is_not_blamed_on_the_format(
    info: ModelInfo, tmp_path: Path
) -> None:
    with pytest.raises(TypeError, match="a fault of its own"):
        save_pdmodel(Faulty(), info, tmp_path / "inference_pdmodel")
    assert os.listdir(tmp_path) == [".paddlex_ml.lock"]


def test_a_head_of_groups_gives_the_scores_of_the_model(
    grouped: tuple[paddle.nn.Layer, ModelInfo], images: np.ndarray, tmp_path: Path
) -> None:
    model, info = grouped
    save_pdmodel(model, info, tmp_path / "inference")
    with paddle.no_grad():
        expected = paddle.nn.functional.sigmoid(model(paddle.to_tensor(images))).numpy()
    assert np.ptp(expected, axis=0).max() > 0.005
    for count in (1, 3):
        found = StaticModel(tmp_path / "inference", "cpu").run(images[:count])
        assert np.abs(found - expected[:count]).max() < 1e-5
