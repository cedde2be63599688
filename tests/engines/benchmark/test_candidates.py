# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from paddlex_ml import run_modes
from paddlex_ml.artifacts.run_folder import EXPORTS
from paddlex_ml.config import load, shipped
from paddlex_ml.config.schema import Config
from paddlex_ml.engines.benchmark import candidates
from paddlex_ml.engines.benchmark.candidates import Exports
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.run_modes import DEVICE_OF, MODES_OF, PACKAGE_OF, RUN_MODES


def configure(output: Path, *words: str) -> Config:
    keys = ["Global.mode=benchmark", "Global.dataset_dir=set", f"Global.output={output}", *words]
    return load.load(shipped.find("PP-LCNet_x1_0_ML")[0], keys).config


@pytest.fixture
def makes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[..., None]]:
    """What makes exports in place of Paddle: a copy of the one that is there."""

    def copy(_: object, __: object, folder: Path) -> None:
        folder.mkdir()
        (folder / "inference.yml").write_text("made")

    found = {"paddle": copy, "onnx": copy}
    monkeypatch.setattr(candidates, "_MAKERS", found)
    return found


def test_every_run_mode_and_every_format_is_in_the_tables():
    assert {mode for modes in MODES_OF.values() for mode in modes} == set(RUN_MODES)
    assert {name.partition(" ")[0] for name in EXPORTS} == MODES_OF.keys()
    assert DEVICE_OF.keys() | PACKAGE_OF.keys() <= set(RUN_MODES)
    assert candidates._MAKERS.keys() <= EXPORTS.keys()


def test_what_is_missing_is_made_aside_or_told_with_its_command(
    copy_of_run: Path, tmp_path: Path, makes: object
):
    aside = tmp_path / "aside"
    aside.mkdir()
    exports = candidates.find_exports(configure(copy_of_run), aside)
    assert exports.folders == {
        "paddle": copy_of_run / "best_model" / "inference",
        "onnx": aside / "inference_onnx",
    }
    assert exports.temporary == {"onnx"}
    missing = {each.format: each for each in exports.unmeasured}
    assert {"pdmodel", "onnx fp16", "onnx int8", "openvino"} <= missing.keys()
    assert not {"paddle", "onnx"} & missing.keys()
    fix = missing["onnx int8"].fix
    assert missing["onnx int8"].reason == "not exported"
    assert f"-c {copy_of_run / 'config.yaml'} -o Global.dataset_dir=set" in fix
    assert fix.endswith("Global.mode=export -o Export.format=onnx -o Export.precision=int8")
    assert not (copy_of_run / "best_model" / "inference_onnx").exists()


def test_an_export_that_the_configuration_refuses_is_not_proposed(
    copy_of_run: Path, tmp_path: Path, makes: object, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(EXPORTS, "pdmodel fp16", "inference_pdmodel_fp16")
    exports = candidates.find_exports(configure(copy_of_run), tmp_path)
    assert "onnx fp16" in {each.format for each in exports.unmeasured}
    assert "pdmodel fp16" not in {each.format for each in exports.unmeasured}


def test_an_export_that_cannot_be_made_is_told(
    copy_of_run: Path, tmp_path: Path, makes: dict[str, Callable[..., None]]
):
    def refuse(*_: object) -> None:
        raise PaddlexMLError("it needs paddle2onnx", where="here", fix="pip install it")

    makes["onnx"] = refuse
    exports = candidates.find_exports(configure(copy_of_run), tmp_path)
    (told,) = (each for each in exports.unmeasured if each.format == "onnx")
    assert (told.reason, told.fix) == ("it needs paddle2onnx", "pip install it")

    def differ(*_: object) -> None:
        raise RuntimeError("the exported graph differs from the model by 1")

    makes["onnx"] = differ
    exports = candidates.find_exports(configure(copy_of_run), tmp_path)
    (told,) = (each for each in exports.unmeasured if each.format == "onnx")
    assert told.reason == "the export fails: the exported graph differs from the model by 1"


def test_without_weights_the_exports_are_measured_and_nothing_is_made(
    copy_of_run: Path, tmp_path: Path, makes: object, caplog: pytest.LogCaptureFixture
):
    (copy_of_run / "best_model" / "best_model.pdparams").unlink()
    exports = candidates.find_exports(configure(copy_of_run), tmp_path)
    assert exports.folders.keys() == {"paddle"}
    assert "best_model.pdparams is gone" in caplog.text
    assert {each.fix for each in exports.unmeasured} == {""}
    shutil.rmtree(copy_of_run / "best_model")
    with pytest.raises(PaddlexMLError, match="no trained model there"):
        candidates.find_exports(configure(copy_of_run), tmp_path)


def test_other_weights_have_their_exports_beside_them(
    copy_of_run: Path, tmp_path: Path, makes: object
):
    weights = tmp_path / "other" / "mine.pdparams"
    weights.parent.mkdir()
    os.link(copy_of_run / "best_model" / "best_model.pdparams", weights)
    os.link(copy_of_run / "best_model" / "best_model.pdstates", weights.with_name("mine.pdstates"))
    aside = tmp_path / "aside"
    aside.mkdir()
    config = configure(tmp_path / "out", f"Export.weight_path={weights}")
    exports = candidates.find_exports(config, aside)
    assert exports.weights == weights
    assert exports.temporary == {"paddle", "onnx"}
    fixes = [each.fix for each in exports.unmeasured]
    assert all(fix.endswith(f"-o Export.weight_path={weights}") for fix in fixes)


@pytest.fixture
def exports(copy_of_run: Path) -> Exports:
    best = copy_of_run / "best_model"
    return Exports(best / "best_model.pdparams", {"paddle": best / "inference"}, frozenset(), [])


def test_run_modes_of_other_devices_are_told(exports: Exports, monkeypatch):
    monkeypatch.setattr(candidates, "_has_bfloat16", lambda: True)
    found, unmeasured = candidates.find(exports, "cpu")
    assert [each.run_mode for each in found] == ["paddle", "mkldnn", "mkldnn_bf16"]
    assert {each.run_mode: each.reason for each in unmeasured} == {
        "trt_fp32": "made for a GPU; measured on cpu",
        "trt_fp16": "made for a GPU; measured on cpu",
    }
    found, unmeasured = candidates.find(exports, "gpu:0")
    assert [each.run_mode for each in found] == ["paddle", "trt_fp32", "trt_fp16"]
    assert found[0].name == "paddle by paddle"
    assert found[0].bytes > 1e5


def test_a_package_that_is_missing_is_told_with_its_command(exports: Exports, monkeypatch):
    monkeypatch.setitem(run_modes.PACKAGE_OF, "paddle", "no_such_package")
    _, unmeasured = candidates.find(exports, "cpu")
    assert unmeasured[0].reason == "not installed"
    assert unmeasured[0].fix.endswith(" -m pip install no_such_package")


def test_where_nothing_can_be_measured_one_error_says_why(exports: Exports, monkeypatch):
    monkeypatch.setattr(candidates, "_find_obstacle", lambda *_: ("not installed", "install it"))
    with pytest.raises(PaddlexMLError, match="can be measured here: paddle by paddle") as caught:
        candidates.find(exports, "cpu")
    assert caught.value.fix == "install it"


def test_an_export_of_other_classes_or_a_damaged_one_is_not_compared(
    exports: Exports, tmp_path: Path
):
    other = shutil.copytree(exports.folders["paddle"], tmp_path / "other")
    text = (other / "inference.yml").read_text()
    (other / "inference.yml").unlink()
    (other / "inference.yml").write_text(text.replace("- red", "- yellow"))
    exports.folders["pdmodel"] = other
    exports.folders["onnx"] = tmp_path / "empty"
    (tmp_path / "empty").mkdir()
    found, unmeasured = candidates.find(exports, "cpu")
    assert {each.format for each in found} == {"paddle"}
    reasons = {each.format: each.reason for each in unmeasured}
    assert "inference.yml has other classes" in reasons["pdmodel"]
    assert "the folder of the static model lacks" in reasons["onnx"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model name\t: x\nflags\t\t: avx2 avx512f avx512bw\n", True),
        ("flags\t\t: avx avx2\n", False),
        ("Features\t: neon\n", True),
    ],
)
def test_bfloat16_needs_avx_512(tmp_path: Path, text: str, expected: bool):
    (tmp_path / "cpuinfo").write_text(text)
    assert candidates._has_bfloat16(tmp_path / "cpuinfo") is expected
    assert candidates._has_bfloat16(tmp_path / "none")
