# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import yaml

from paddlex_ml.artifacts import parameter_file
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.export.static import save_static, write_graph
from paddlex_ml.inference.static_model import StaticModel
from paddlex_ml.models import zoo
from tests.shallow import shallow_models

FILES = ["inference.json", "inference.pdiparams", "inference.yml"]


@pytest.fixture(scope="module")
def exported(
    model: paddle.nn.Layer, info: ModelInfo, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("export") / "deep" / "inference"
    assert 0 <= save_static(model, info, folder) < 1e-5
    return folder


def structure(value: Any) -> Any:
    """Keys, lengths and types, without the values."""
    if isinstance(value, dict):
        return {key: structure(child) for key, child in value.items()}
    if isinstance(value, list):
        return [structure(child) for child in value]
    return type(value).__name__


def test_the_folder_holds_three_files_and_nothing_is_left_beside_it(exported: Path) -> None:
    assert sorted(os.listdir(exported)) == FILES
    assert {*os.listdir(exported.parent)} == {"inference", ".paddlex_ml.lock"}


def test_the_same_weights_have_the_same_digests_whatever_was_built_before(tmp_path: Path) -> None:
    for name, layers in (("first", 0), ("second", 5)):
        with paddle.utils.unique_name.guard():
            for _ in range(layers):  # of names such as conv2d_9 another one is the last before 10
                paddle.nn.Conv2D(1, 1, 1)
            paddle.seed(5)
            write_graph(zoo.build("PP-LCNet_x1_0_ML", 2), 64, tmp_path / name)
    first, second = (tmp_path / name / FILES[1] for name in ("first", "second"))
    assert parameter_file.digest_tensors(first) == parameter_file.digest_tensors(second)
    assert first.read_bytes() != second.read_bytes()


@pytest.mark.parametrize("limit", [None, 7])
def test_stacks_are_short_while_a_graph_is_made_and_as_before_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    if limit is not None:
        monkeypatch.setattr(sys, "tracebacklimit", limit, raising=False)
    lengths = []

    class Noting(paddle.nn.Linear):
        def forward(self, x: paddle.Tensor) -> paddle.Tensor:
            lengths.append(len(traceback.extract_stack()))
            if x.shape[2] == 16:
                raise RuntimeError("too small")
            return super().forward(x.mean([1, 2]))

    write_graph(Noting(8, 2), 8, tmp_path)
    with pytest.raises(RuntimeError, match="too small"):
        write_graph(Noting(16, 2), 16, tmp_path)
    assert lengths == [1, 1]
    assert getattr(sys, "tracebacklimit", None) == limit


def test_the_description_is_that_of_the_published_exports(
    exported: Path, info: ModelInfo, shared: Path
) -> None:
    found = yaml.safe_load((exported / "inference.yml").read_text(encoding="utf-8"))
    reference = shared / "reference" / "formats" / "inference.yml"
    expected = yaml.safe_load(reference.read_text(encoding="utf-8"))
    assert list(found) == list(expected)
    assert structure(found) == structure(expected)
    operations = found["PreProcess"]["transform_ops"]
    assert operations[1:] == expected["PreProcess"]["transform_ops"][1:]
    assert operations[0]["ResizeImage"] == {
        **expected["PreProcess"]["transform_ops"][0]["ResizeImage"],
        "size": 64,
    }
    assert found["PostProcess"]["MultiLabelThreshOutput"] == {
        "threshold": 0.5,
        "label_list": info.label_names,
    }


def test_names_in_other_scripts_stay_readable(exported: Path) -> None:
    assert "- 蓝\n" in (exported / "inference.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_graph_gives_the_models_scores_for_any_batch_size(
    exported: Path, images: np.ndarray, scores: np.ndarray, batch_size: int
) -> None:
    graph = paddle.jit.load(str(exported / "inference"))
    with paddle.no_grad():
        found = graph(paddle.to_tensor(images[:batch_size])).numpy()
    assert found.shape == (batch_size, 3)
    assert np.abs(found - scores[:batch_size]).max() < 1e-5


def test_a_new_export_replaces_the_old_one(
    model: paddle.nn.Layer, info: ModelInfo, tmp_path: Path
) -> None:
    folder = tmp_path / "inference"
    folder.mkdir()
    (folder / "inference.pdmodel").write_text("of another graph")  # PaddleX would prefer it
    save_static(model, info, folder)
    assert sorted(os.listdir(folder)) == FILES
    weights = (folder / "inference.pdiparams").read_bytes()
    paddle.seed(2)
    save_static(zoo.build(info.model, 3), replace(info, image_size=32), folder)
    assert sorted(os.listdir(folder)) == FILES
    assert (folder / "inference.pdiparams").read_bytes() != weights
    description = yaml.safe_load((folder / "inference.yml").read_text(encoding="utf-8"))
    assert description["PreProcess"]["transform_ops"][0]["ResizeImage"]["size"] == 32
    assert {*os.listdir(tmp_path)} == {"inference", ".paddlex_ml.lock"}


class Wandering(paddle.nn.Layer):
    """Answers otherwise in every call, as a model whose dropout was left on would."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = paddle.nn.Linear(3, 3)

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        noise = paddle.nn.functional.dropout(paddle.ones([3]), 0.5, training=True)
        return self.fc(images.mean([2, 3])) + 9 * noise


def test_a_graph_that_answers_otherwise_is_refused_and_the_old_one_stays(
    info: ModelInfo, tmp_path: Path
) -> None:
    folder = tmp_path / "inference"
    folder.mkdir()
    (folder / "inference.json").write_text("old")
    paddle.seed(0)
    with pytest.raises(RuntimeError, match=r"the exported graph differs from the model by 0\.\d+"):
        save_static(Wandering(), info, folder)
    assert {*os.listdir(tmp_path)} == {"inference", ".paddlex_ml.lock"}
    assert (folder / "inference.json").read_text() == "old"


def test_a_model_in_training_mode_is_exported_for_evaluation(
    info: ModelInfo, tmp_path: Path
) -> None:
    model = zoo.build(info.model, 3)
    model.train()
    assert save_static(model, info, tmp_path / "inference") < 1e-5
    assert not model.training


@pytest.mark.heavy
@pytest.mark.parametrize(("tokens", "size"), [("first_patch", 224), ("all_patches", 448)])
def test_clip_is_exported_with_and_without_a_resized_position_embedding(
    info: ModelInfo, tmp_path: Path, tokens: str, size: int
) -> None:
    name = "CLIP_vit_base_patch16_448_ML"
    paddle.seed(1)
    with shallow_models():
        model = zoo.build(name, 3, tokens=tokens)
    info = ModelInfo(name, info.label_names, size, tokens)
    assert save_static(model, info, tmp_path / "inference") < 1e-4
    static = StaticModel(tmp_path / "inference", "cpu", "mkldnn")
    assert (static.run_mode, static.decoder_tokens) == ("mkldnn", tokens)


def test_a_head_of_groups_gives_the_scores_of_the_model(
    grouped: tuple[paddle.nn.Layer, ModelInfo], images: np.ndarray, tmp_path: Path
) -> None:
    model, info = grouped
    save_static(model, info, tmp_path / "inference")
    with paddle.no_grad():
        expected = paddle.nn.functional.sigmoid(model(paddle.to_tensor(images))).numpy()
    assert np.ptp(expected, axis=0).max() > 0.005
    for count in (1, 3):
        found = StaticModel(tmp_path / "inference", "cpu").run(images[:count])
        assert np.abs(found - expected[:count]).max() < 1e-5
