# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest

from paddlex_ml import onnx_runtime
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.export import onnx_graph
from paddlex_ml.inference import onnx_engine
from paddlex_ml.inference.predictor import Predictor
from paddlex_ml.inference.static_model import StaticModel

ROOT = Path(__file__).resolve().parent.parent.parent


def test_an_onnx_folder_gives_the_results_of_paddle(onnx_folder, predictor, photos):
    ours = Predictor(StaticModel(onnx_folder, "cpu"))
    assert (ours.model.run_mode, ours.model.device) == ("onnxruntime", "cpu")
    for batch_size in (1, 4):
        pairs = zip(
            predictor.predict(photos, batch_size, 0.0),
            ours.predict(photos, batch_size, 0.0),
            strict=True,
        )
        for expected, found in pairs:
            assert found.class_ids == expected.class_ids
            assert found.scores == pytest.approx(expected.scores, abs=2e-5)


def test_paddle_is_never_imported_for_onnx(onnx_folder: Path, photos: Path, tmp_path: Path):
    code = f"""
import sys
from paddlex_ml import cli, create_model
model = create_model("PP-LCNet_x1_0_ML", {str(onnx_folder)!r})
print(len(list(model.predict({str(photos)!r}))), "paddle" in sys.modules)
code = cli.main(["-c", "PP-LCNet_x1_0_ML", "-o", "Global.mode=predict",
    "Predict.model_dir={onnx_folder}", "Predict.input={photos}", "Global.output={tmp_path}/out"])
print(code, "paddle" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert (lines[0], lines[-1]) == ("7 False", "0 False")


def test_a_folder_with_both_runs_on_paddle_unless_told_otherwise(exported, onnx_folder, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "both")
    shutil.copy(onnx_folder / "inference.onnx", folder)
    assert StaticModel(folder, "cpu").run_mode == "mkldnn"
    assert StaticModel(folder, "cpu", "onnxruntime").run_mode == "onnxruntime"


def test_onnxruntime_without_an_onnx_file_names_the_export(exported: Path):
    with pytest.raises(PaddlexMLError, match=r"lacks inference\.onnx(.|\n)*Export\.format=onnx"):
        StaticModel(exported, "cpu", "onnxruntime")


def test_paddle_cannot_run_onnx(onnx_folder: Path):
    with pytest.raises(PaddlexMLError, match=r"the run mode mkldnn cannot run(.|\n)*onnxruntime"):
        StaticModel(onnx_folder, "cpu", "mkldnn")


def test_an_onnx_folder_without_description_is_refused(onnx_folder: Path, tmp_path: Path):
    shutil.copy(onnx_folder / "inference.onnx", tmp_path)
    with pytest.raises(PaddlexMLError, match=r"lacks inference\.yml"):
        StaticModel(tmp_path, "cpu")


def test_a_damaged_onnx_file_is_one_clear_error(onnx_folder: Path, tmp_path: Path):
    folder = shutil.copytree(onnx_folder, tmp_path / "damaged")
    whole = (folder / "inference.onnx").read_bytes()
    for content in (b"", b"no model", whole[: len(whole) // 2]):
        (folder / "inference.onnx").write_bytes(content)
        with pytest.raises(PaddlexMLError, match="onnxruntime cannot run the model: ") as caught:
            StaticModel(folder, "cpu")
        assert caught.value.where == str(folder / "inference.onnx")


def fix_batch(folder: Path, size: int) -> Path:
    """Make the ONNX file of a folder take batches of one size only; returns the file."""
    path = folder / "inference.onnx"
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = size
    path.write_bytes(onnx_graph.simplify(model, size).SerializeToString())
    return path


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_a_file_with_a_fixed_batch_gives_the_same_results_for_any_batch(
    onnx_folder: Path, photos: Path, tmp_path: Path, size: int, batch_size: int
):
    folder = shutil.copytree(onnx_folder, tmp_path / "fixed")
    fix_batch(folder, size)
    expected = [*Predictor(StaticModel(onnx_folder, "cpu")).predict(photos, batch_size, 0.0)]
    found = [*Predictor(StaticModel(folder, "cpu")).predict(photos, batch_size, 0.0)]
    assert len(found) == len(expected) == 7
    for one, other in zip(found, expected, strict=True):
        assert one.class_ids == other.class_ids
        assert one.scores == pytest.approx(other.scores, abs=2e-5)


def test_a_fixed_batch_has_maps_as_well(onnx_folder: Path, tmp_path: Path):
    folder = shutil.copytree(onnx_folder, tmp_path / "fixed")
    probe = np.random.default_rng(0).standard_normal((2, 3, 64, 64), np.float32)
    one, other = (
        onnx_engine.load_attention(path, device="cpu", threads=1, probe=probe)
        for path in (fix_batch(folder, 3), onnx_folder / "inference.onnx")
    )
    assert one is not None
    assert other is not None
    assert np.abs(one[1] - other[1]).max() < 1e-5


@pytest.mark.parametrize("keeps_input", [True, False])
def test_a_file_of_half_precision_is_run(onnx_folder: Path, tmp_path: Path, keeps_input: bool):
    half = pytest.importorskip("onnxruntime.transformers.float16")
    folder = shutil.copytree(onnx_folder, tmp_path / "half")
    path = folder / "inference.onnx"
    onnx.save(half.convert_float_to_float16(onnx.load(path), keep_io_types=keeps_input), path)
    images = np.random.default_rng(0).standard_normal((3, 3, 64, 64), np.float32)
    scores = StaticModel(folder, "cpu").run(images)
    assert scores.dtype == np.float32
    assert np.abs(scores - StaticModel(onnx_folder, "cpu").run(images)).max() < 0.01
    one, other = (
        onnx_engine.load_attention(file, device="cpu", threads=1, probe=images)
        for file in (path, onnx_folder / "inference.onnx")
    )
    assert one is not None
    assert other is not None
    assert np.abs(one[1] - other[1]).max() < 0.01
    assert StaticModel(folder, "cpu").require_attention() is None


def test_images_of_another_size_than_the_graph_takes_are_refused(onnx_folder, tmp_path):
    folder = shutil.copytree(onnx_folder, tmp_path / "other")
    path = folder / "inference.yml"
    path.write_text(path.read_text("utf-8").replace("size: 64", "size: 96"), "utf-8")
    with pytest.raises(PaddlexMLError, match="the graph takes images of 3 x 64 x 64 "):
        StaticModel(folder, "cpu")


def test_without_onnxruntime_the_way_to_install_it_is_told(onnx_folder: Path, monkeypatch):
    real = importlib.import_module

    def missing(name, *more):
        if name == "onnxruntime":
            raise ModuleNotFoundError(name=name)
        return real(name, *more)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(PaddlexMLError, match="-m pip install onnxruntime"):
        StaticModel(onnx_folder, "cpu")


def test_a_gpu_needs_an_onnxruntime_that_has_one(onnx_folder: Path):
    assert "CUDAExecutionProvider" not in onnxruntime.get_available_providers()
    with pytest.raises(PaddlexMLError, match=r"gpu:1 was asked for(.|\n)*onnxruntime-gpu"):
        StaticModel(onnx_folder, "gpu:1")
    assert StaticModel(onnx_folder, "auto").device == "cpu"


def test_a_gpu_that_cannot_be_used_is_refused_or_told(
    onnx_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As of onnxruntime-gpu without the libraries of CUDA: a session takes the CPU in silence."""

    def preload() -> None:
        print("Failed to load libcublas.so")
        raise RuntimeError("no libraries")

    def open_session(model: str, options: object, providers: list[object]) -> object:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    runtime = SimpleNamespace(
        get_available_providers=lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
        preload_dlls=preload,
        SessionOptions=onnxruntime.SessionOptions,
        InferenceSession=open_session,
    )
    monkeypatch.setattr(onnx_runtime, "load", lambda: runtime)
    wanted = r"cannot use the GPU(.|\n)*where: device gpu:0(.|\n)*'onnxruntime-gpu\[cuda,cudnn\]'"
    with pytest.raises(PaddlexMLError, match=wanted):
        StaticModel(onnx_folder, "gpu:0")
    assert caplog.text == ""
    assert StaticModel(onnx_folder, "auto").device == "cpu"
    assert "cannot use the GPU" in caplog.text
    caplog.clear()
    assert StaticModel(onnx_folder, "cpu").device == "cpu"
    assert caplog.text == ""


@pytest.mark.parametrize(("device", "number"), [("gpu", 0), ("gpu:2", 2), ("gpu:3,1", 3)])
def test_the_first_gpu_that_is_named_is_taken(device, number):
    cuda = SimpleNamespace(get_available_providers=lambda: ["CUDAExecutionProvider"])
    assert onnx_engine._providers(cuda, device) == [
        ("CUDAExecutionProvider", {"device_id": number, "use_tf32": 0}),
        "CPUExecutionProvider",
    ]


def test_scores_outside_0_to_1_are_refused_for_onnx_too(onnx_folder: Path, monkeypatch):
    load = onnx_engine.load

    def without_sigmoid(graph, **more):
        network, device, scores = load(graph, **more)
        return network, device, scores + np.float32(2)

    monkeypatch.setattr(onnx_engine, "load", without_sigmoid)
    with pytest.raises(PaddlexMLError, match="instead of scores"):
        StaticModel(onnx_folder, "cpu")


def test_maps_without_the_package_onnx_name_the_way_to_install_it(onnx_folder, monkeypatch):
    model = StaticModel(onnx_folder, "cpu")
    real = importlib.import_module

    def missing(name, *more):
        if name == "onnx":
            raise ModuleNotFoundError(name=name)
        return real(name, *more)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(PaddlexMLError, match=r"-m pip install onnx, or"):
        model.require_attention()
    assert model.run(np.zeros((1, 3, 64, 64), np.float32)).shape == (1, 5)  # scores need it not


def test_the_attention_becomes_an_output_and_the_file_stays_as_it_is(onnx_folder: Path):
    before = (onnx_folder / "inference.onnx").read_bytes()
    probe = np.random.default_rng(0).standard_normal((2, 3, 64, 64), np.float32)
    found = onnx_engine.load_attention(
        onnx_folder / "inference.onnx", device="cpu", threads=1, probe=probe
    )
    assert found is not None
    assert found[1].shape == (2, 8, 5, 4)
    assert (found[0](probe[1:]) == found[1][1:]).all()
    assert (onnx_folder / "inference.onnx").read_bytes() == before


@pytest.mark.parametrize("size", [0, -1, None])
def test_a_graph_for_single_images_runs_though_its_batch_is_called_open(
    onnx_folder: Path, photos: Path, tmp_path: Path, size: int | None
):
    folder = shutil.copytree(onnx_folder, tmp_path / "renamed")
    path = fix_batch(folder, 1)
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        axis = value.type.tensor_type.shape.dim[0]
        axis.Clear()
        if size is not None:
            axis.dim_value = size
    path.write_bytes(model.SerializeToString())
    if size == 0:  # no graph takes a batch without images
        with pytest.raises(PaddlexMLError, match=r"onnxruntime cannot run the model: .*dimensions"):
            StaticModel(folder, "cpu")
        return
    expected = [*Predictor(StaticModel(onnx_folder, "cpu")).predict(photos, 4, 0.0)]
    found = [*Predictor(StaticModel(folder, "cpu")).predict(photos, 4, 0.0)]
    for one, other in zip(found, expected, strict=True):
        assert one.class_ids == other.class_ids
        assert one.scores == pytest.approx(other.scores, abs=2e-5)


def test_an_input_of_unknown_shape_is_taken(onnx_folder: Path, tmp_path: Path):
    folder = shutil.copytree(onnx_folder, tmp_path / "unknown")
    model = onnx.load(folder / "inference.onnx")
    model.graph.input[0].type.tensor_type.ClearField("shape")
    (folder / "inference.onnx").write_bytes(model.SerializeToString())
    images = np.random.default_rng(0).standard_normal((3, 3, 64, 64), np.float32)
    expected = StaticModel(onnx_folder, "cpu").run(images)
    assert np.abs(StaticModel(folder, "cpu").run(images) - expected).max() < 1e-6


def test_weights_of_another_file_that_are_not_there_are_named(onnx_folder, tmp_path, capfd):
    shutil.copy(onnx_folder / "inference.yml", tmp_path)
    model = onnx_graph.simplify(onnx.load(onnx_folder / "inference.onnx"), None)
    path = str(tmp_path / "inference.onnx")
    onnx.save(model, path, save_as_external_data=True, location="w.bin")
    assert StaticModel(tmp_path, "cpu").run_mode == "onnxruntime"
    (tmp_path / "w.bin").unlink()
    with pytest.raises(PaddlexMLError, match=r"(?s)fix: +copy the file with the weights into the"):
        StaticModel(tmp_path, "cpu")
    assert capfd.readouterr().err == ""  # onnxruntime prints nothing of its own
