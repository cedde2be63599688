# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from paddlex_ml import create_model
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference.model_files import find

NAME = "PP-LCNet_x1_0_ML"


@pytest.fixture
def run(exported: Path, onnx_folder: Path, tmp_path: Path) -> Path:
    """An output folder with both exports."""
    best = tmp_path / "output" / "best_model"
    shutil.copytree(exported, best / "inference")
    shutil.copytree(onnx_folder, best / "inference_onnx")
    return tmp_path / "output"


@pytest.mark.parametrize("above", ["", "best_model", "best_model/inference"])
@pytest.mark.parametrize("kind", [str, Path])
def test_the_folder_of_a_run_or_a_checkpoint_means_its_export(run: Path, above, kind, caplog):
    with caplog.at_level(logging.INFO, "paddlex_ml"):
        model = create_model(NAME, kind(run / above), device="cpu")
    assert model.model.folder == run / "best_model" / "inference"
    assert model.model.run_mode != "onnxruntime"
    assert ("the model is in" in caplog.text) is (above != "best_model/inference")
    assert len(next(model.predict(np.zeros((9, 9, 3), np.uint8), threshold=0)).scores) == 5


@pytest.mark.parametrize("above", ["", "best_model", "best_model/inference_onnx"])
def test_the_run_mode_chooses_the_export(run: Path, above: str):
    files = find(run / above, "onnxruntime")
    assert files.graph == run / "best_model" / "inference_onnx" / "inference.onnx"
    assert files.weights is None


def test_an_export_of_another_format_is_taken_where_it_is_the_only_one(run: Path):
    shutil.rmtree(run / "best_model" / "inference")
    assert find(run, None).graph.name == "inference.onnx"
    with pytest.raises(PaddlexMLError, match="which the run mode mkldnn cannot run"):
        find(run, "mkldnn")


@pytest.mark.parametrize("name", ["inference.onnx", "scenes.onnx", "scenes.ONNX"])
def test_the_path_of_an_onnx_file_is_a_model(onnx_folder: Path, tmp_path: Path, name: str):
    shutil.copy(onnx_folder / "inference.onnx", tmp_path / name)
    shutil.copy(onnx_folder / "inference.yml", tmp_path)
    model = create_model(NAME, tmp_path / name, device="cpu")
    assert model.model.run_mode == "onnxruntime"
    assert len(next(model.predict(np.zeros((9, 9, 3), np.uint8), threshold=0)).scores) == 5
    with pytest.raises(PaddlexMLError, match="which the run mode paddle cannot run"):
        create_model(NAME, tmp_path / name, run_mode="paddle")


@pytest.mark.parametrize("name", ["inference.json", "inference.pdiparams"])
def test_the_path_of_a_graph_means_its_folder(exported: Path, name: str):
    assert find(exported / name, None).folder == exported


def test_the_home_folder_may_be_short(exported: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(exported.parent))
    assert find("~/inference", None).folder == exported


def test_a_run_without_an_export_says_what_is_missing(tmp_path: Path):
    (tmp_path / "best_model").mkdir()
    for folder in (tmp_path, tmp_path / "best_model"):
        with pytest.raises(PaddlexMLError, match=r"lacks inference\.json(.|\n)*mode=export"):
            find(folder, None)
