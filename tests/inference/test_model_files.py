# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from paddlex_ml import create_model
from paddlex_ml.artifacts import inference_yml
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference.model_files import find
from tests import repairs

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


def test_the_home_folder_of_an_unknown_user_is_no_folder():
    with pytest.raises(PaddlexMLError, match="does not exist"):
        find("~nobody-of-that-name/model", None)


def test_a_run_without_an_export_says_what_is_missing(tmp_path: Path):
    (tmp_path / "best_model").mkdir()
    for folder in (tmp_path, tmp_path / "best_model"):
        with pytest.raises(PaddlexMLError, match=r"lacks inference\.json(.|\n)*mode=export"):
            find(folder, None)


def test_a_folder_with_one_onnx_file_that_describes_itself_is_a_model(onnx_folder, tmp_path):
    content = inference_yml.read(onnx_folder / "inference.yml")
    info = ModelInfo(NAME, list(content.label_names), content.preprocess.size[0])
    model = onnx.load(onnx_folder / "inference.onnx")
    onnx.helper.set_model_props(model, inference_yml.describe(info))
    (tmp_path / "Scenes 1.ONNX").write_bytes(model.SerializeToString())
    assert find(tmp_path, None).graph == tmp_path / "Scenes 1.ONNX"
    assert create_model(NAME, tmp_path, device="cpu").model.run_mode == "onnxruntime"
    assert create_model(NAME, bytes(tmp_path), device="cpu").model.run_mode == "onnxruntime"
    shutil.copy(onnx_folder / "inference.onnx", tmp_path / "other.onnx")  # which of the two?
    with pytest.raises(PaddlexMLError, match="the folder of the static model lacks"):
        find(tmp_path, None)


def test_an_empty_onnx_file_is_no_onnx_file(tmp_path: Path):
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(PaddlexMLError, match="not an ONNX file, or not a whole one"):
        find(tmp_path / "empty.onnx", None)


@pytest.mark.parametrize("named", ["latest", "latest/latest.pdparams", ""])
@pytest.mark.parametrize("run_mode", [None, "onnxruntime"])
def test_weights_that_were_not_exported_name_the_export(
    tmp_path: Path, named: str, run_mode: str | None
) -> None:
    file = tmp_path / "latest" / "latest.pdparams"
    file.parent.mkdir()
    file.touch()
    with pytest.raises(PaddlexMLError, match="must be exported before they predict") as caught:
        find(tmp_path / named, run_mode)
    form = ["Export.format=onnx"] if run_mode else []
    expected = ["Global.mode=export", f"Export.weight_path={file}", *form]
    assert repairs.find(str(caught.value)) == [expected]


def test_files_of_openvino_are_found(run: Path, openvino_folder: Path, tmp_path: Path):
    best = run / "best_model"
    # Without them, the run mode takes ONNX.
    assert find(run, "openvino").graph == best / "inference_onnx" / "inference.onnx"
    folder = shutil.copytree(openvino_folder, best / "inference_openvino")
    for named, mode in ((run, "openvino"), (run, "openvino_bf16"), (folder, None)):
        files = find(named, mode)
        assert (files.graph, files.weights) == (
            folder / "inference.xml",
            folder / "inference.bin",
        )
        assert files.run_mode == "openvino"
    assert find(run, None).run_mode is None
    for name in ("inference.xml", "inference.bin"):
        assert find(folder / name, None).graph == folder / "inference.xml"
    with pytest.raises(PaddlexMLError, match="of OpenVINO, which the run mode onnxruntime cannot"):
        find(folder, "onnxruntime")
    shutil.move(folder, tmp_path / "moved")
    shutil.rmtree(best / "inference_onnx")
    with pytest.raises(PaddlexMLError, match=r"lacks inference.xml and inference.bin") as error:
        find(run, "openvino")
    assert error.value.fix.endswith("-o Export.format=openvino")
    (tmp_path / "moved" / "inference.bin").unlink()
    with pytest.raises(PaddlexMLError, match=r"lacks inference.bin"):
        find(tmp_path / "moved", None)
