# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from paddlex_ml import create_model, openvino_runtime
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import openvino_engine
from paddlex_ml.inference.predictor import Predictor
from paddlex_ml.inference.static_model import StaticModel

pytest.importorskip("openvino", reason="the package of the extra openvino")
ROOT = Path(__file__).resolve().parent.parent.parent
NAME = "PP-LCNet_x1_0_ML"


def draw(count: int) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((count, 3, 64, 64), np.float32)


@pytest.mark.parametrize("format", ["openvino", "onnx"])
def test_both_formats_give_the_results_of_paddle(
    format, request, openvino_folder, onnx_folder, predictor, photos
):
    folder = openvino_folder if format == "openvino" else onnx_folder
    ours = Predictor(StaticModel(folder, "cpu", "openvino"))
    assert (ours.model.run_mode, ours.model.device) == ("openvino", "cpu")
    for batch_size in (1, 4):
        pairs = zip(
            predictor.predict(photos, batch_size, 0.0),
            ours.predict(photos, batch_size, 0.0),
            strict=True,
        )
        for expected, found in pairs:
            assert found.class_ids == expected.class_ids
            assert found.scores == pytest.approx(expected.scores, abs=2e-5)


def test_paddle_is_never_imported(openvino_folder: Path, photos: Path):
    code = f"""
import sys
from paddlex_ml import create_model
model = create_model("{NAME}", {str(openvino_folder)!r}, run_mode=None, cpu_threads=1)
print(len(list(model.predict({str(photos)!r}))), model.model.run_mode, "paddle" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "7 openvino False"


def test_scores_of_a_batch_outlive_the_next_one(openvino_folder: Path):
    model, images = StaticModel(openvino_folder, "auto"), draw(4)
    first = model.run(images[:2])
    kept = first.copy()
    model.run(images[2:])
    assert np.array_equal(first, kept)
    assert model.run(images) == pytest.approx(
        np.concatenate([model.run(images[n : n + 1]) for n in range(4)]), abs=1e-5
    )


def test_a_fixed_batch_takes_batches_of_any_size(openvino_folder: Path, tmp_path: Path):
    model = openvino_runtime.load().Core().read_model(openvino_folder / "inference.xml")
    model.reshape([3, 3, 64, 64])
    openvino_runtime.load().save_model(model, tmp_path / "inference.xml", compress_to_fp16=False)
    shutil.copy(openvino_folder / "inference.yml", tmp_path)
    expected = StaticModel(openvino_folder, "cpu").run(draw(5))
    assert StaticModel(tmp_path, "cpu").run(draw(5)) == pytest.approx(expected, abs=1e-5)


def test_threads_are_obeyed_and_precision_is_pinned(openvino_folder, monkeypatch):
    asked, compiled = [], openvino_runtime.compile_model

    def noted(model, threads=0, precision="f32"):
        asked.append((threads, precision))
        return compiled(model, threads, precision)

    monkeypatch.setattr(openvino_runtime, "compile_model", noted)
    StaticModel(openvino_folder, "cpu", cpu_threads=1)
    StaticModel(openvino_folder, "cpu", "openvino_bf16", cpu_threads=1)
    assert asked == [(1, "f32"), (1, "bf16")]


def test_a_processor_without_bfloat16_is_told(openvino_folder, monkeypatch, caplog):
    monkeypatch.setattr(openvino_engine, "_has_no_bf16", lambda _: True)
    with caplog.at_level(logging.WARNING, "paddlex_ml"):
        StaticModel(openvino_folder, "cpu", "openvino_bf16")
        assert "no instructions for bfloat16: the model computes in float32" in caplog.text
        caplog.clear()
        StaticModel(openvino_folder, "cpu", "openvino")
    assert caplog.text == ""


def test_a_gpu_is_refused(openvino_folder: Path):
    with pytest.raises(PaddlexMLError, match=r"OpenVINO computes on the CPU here, .* is gpu"):
        StaticModel(openvino_folder, "gpu")


def test_without_openvino_the_error_has_the_command(openvino_folder, monkeypatch):
    def missing(part: str = "") -> None:
        raise ModuleNotFoundError("No module named 'openvino'", name="openvino")

    monkeypatch.setattr(openvino_runtime, "load", missing)
    with pytest.raises(PaddlexMLError, match="OpenVINO is not installed") as error:
        create_model(NAME, openvino_folder)
    assert "pip install 'paddlex-ml[openvino]'" in error.value.fix


def test_weights_of_another_model_are_one_error(openvino_folder: Path, tmp_path: Path):
    folder = shutil.copytree(openvino_folder, tmp_path / "cut")
    content = (folder / "inference.bin").read_bytes()
    (folder / "inference.bin").write_bytes(content[:-1000])
    with pytest.raises(PaddlexMLError, match=r"OpenVINO cannot run the model: .*weights"):
        StaticModel(folder, "cpu")


def test_an_operator_that_openvino_does_not_have_is_one_error(
    openvino_folder: Path, tmp_path: Path
):
    folder = shutil.copytree(openvino_folder, tmp_path / "odd")
    text = (folder / "inference.xml").read_text()
    odd = text.replace('type="Sigmoid" version="opset1"', 'type="Sigmoid" version="extension"')
    (folder / "inference.xml").write_text(odd)
    with pytest.raises(PaddlexMLError, match="OpenVINO cannot run the model"):
        StaticModel(folder, "cpu")


def test_it_explains_as_paddle_does(openvino_folder, exported, photos):
    found, expected = (
        next(create_model(NAME, folder, device="cpu").predict(photos, threshold=0.0, explain=True))
        for folder in (openvino_folder, exported)
    )
    assert found.maps is not None
    assert expected.maps is not None
    assert found.maps.keys() == expected.maps.keys()
    for label, seen in found.maps.items():
        assert seen == pytest.approx(expected.maps[label], abs=1e-4)
