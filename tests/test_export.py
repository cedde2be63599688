# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import yaml

from paddlex_ml import export
from paddlex_ml.export import save_static
from paddlex_ml.inference.static import StaticModel
from paddlex_ml.models import zoo

NAMES = ["red square", "green", "蓝"]
FILES = ["inference.json", "inference.pdiparams", "inference.yml"]


@pytest.fixture(scope="module")
def model() -> paddle.nn.Layer:
    paddle.seed(1)
    return zoo.build("PP-LCNet_x1_0_ML", len(NAMES))


@pytest.fixture(scope="module")
def save(model: paddle.nn.Layer) -> Callable[..., float]:
    def run(folder: Path, network: paddle.nn.Layer = model, size: int = 64) -> float:
        return save_static(
            network,
            model_name="PP-LCNet_x1_0_ML",
            label_names=NAMES,
            image_size=size,
            folder=folder,
        )

    return run


@pytest.fixture(scope="module")
def exported(save: Callable[..., float], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "deep" / "inference"
    assert 0 <= save(folder) < 1e-5
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
    assert os.listdir(exported.parent) == ["inference"]


def test_the_description_is_that_of_the_published_exports(exported: Path, shared: Path) -> None:
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
        "label_list": NAMES,
    }


def test_names_in_other_scripts_stay_readable(exported: Path) -> None:
    assert "- 蓝\n" in (exported / "inference.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_graph_gives_the_models_scores_for_any_batch_size(
    exported: Path, model: paddle.nn.Layer, batch_size: int
) -> None:
    rng = np.random.default_rng(batch_size)
    images = paddle.to_tensor(rng.standard_normal((batch_size, 3, 64, 64), np.float32))
    model.eval()
    with paddle.no_grad():
        expected = paddle.nn.functional.sigmoid(model(images)).numpy()
        found = paddle.jit.load(str(exported / "inference"))(images).numpy()
    assert found.shape == (batch_size, 3)
    assert np.abs(found - expected).max() < 1e-5


def test_a_new_export_replaces_the_old_one(save: Callable[..., float], tmp_path: Path) -> None:
    folder = tmp_path / "inference"
    folder.mkdir()
    (folder / "inference.pdmodel").write_text("of another graph")  # PaddleX would prefer it
    save(folder)
    assert sorted(os.listdir(folder)) == FILES
    weights = (folder / "inference.pdiparams").read_bytes()
    paddle.seed(2)
    save(folder, zoo.build("PP-LCNet_x1_0_ML", len(NAMES)), size=32)
    assert sorted(os.listdir(folder)) == FILES
    assert (folder / "inference.pdiparams").read_bytes() != weights
    description = yaml.safe_load((folder / "inference.yml").read_text(encoding="utf-8"))
    assert description["PreProcess"]["transform_ops"][0]["ResizeImage"]["size"] == 32
    assert os.listdir(tmp_path) == ["inference"]


class Wandering(paddle.nn.Layer):
    """Answers otherwise in every call, as a model whose dropout was left on would."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = paddle.nn.Linear(3, 3)

    def forward(self, images: paddle.Tensor) -> paddle.Tensor:
        noise = paddle.nn.functional.dropout(paddle.ones([3]), 0.5, training=True)
        return self.fc(images.mean([2, 3])) + 9 * noise


def test_a_graph_that_answers_otherwise_is_refused_and_the_old_one_stays(
    save: Callable[..., float], tmp_path: Path
) -> None:
    folder = tmp_path / "inference"
    folder.mkdir()
    (folder / "inference.json").write_text("old")
    paddle.seed(0)
    with pytest.raises(RuntimeError, match=r"the static graph differs from the model by 0\.\d+"):
        save(folder, Wandering(), size=32)
    assert os.listdir(tmp_path) == ["inference"]
    assert (folder / "inference.json").read_text() == "old"


@pytest.mark.parametrize("difference", [1.1e-4, float("nan")])
def test_the_limit_is_1e_4_and_nan_is_above_it(
    save: Callable[..., float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    difference: float,
) -> None:
    monkeypatch.setattr(export, "_save_graph", lambda *_: None)
    monkeypatch.setattr(export, "_difference", lambda *_: difference)
    with pytest.raises(RuntimeError, match=f"differs from the model by {difference}"):
        save(tmp_path / "inference")
    assert os.listdir(tmp_path) == []


def test_a_model_in_training_mode_is_exported_for_evaluation(
    save: Callable[..., float], model: paddle.nn.Layer, tmp_path: Path
) -> None:
    model.train()
    assert save(tmp_path / "inference", size=32) < 1e-5
    assert not model.training


@pytest.mark.parametrize(("tokens", "size"), [("first_patch", 224), ("all_patches", 448)])
def test_clip_is_exported_with_and_without_a_resized_position_embedding(
    tmp_path: Path, tokens: str, size: int
) -> None:
    name = "CLIP_vit_base_patch16_448_ML"
    paddle.seed(1)
    model = zoo.build(name, len(NAMES), tokens=tokens)
    difference = save_static(
        model,
        model_name=name,
        label_names=NAMES,
        image_size=size,
        decoder_tokens=tokens,
        folder=tmp_path / "inference",
    )
    assert difference < 1e-4
    static = StaticModel(tmp_path / "inference", "cpu", "mkldnn")
    assert (static.run_mode, static.decoder_tokens) == ("mkldnn", tokens)
