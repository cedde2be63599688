# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from paddlex_ml.artifacts import checkpoint, earlier_export, inference_yml
from paddlex_ml.artifacts.checkpoint import Checkpoint, ModelInfo

INFO = ModelInfo("PP-LCNet_x1_0_ML", ["cat", "dog"], 32)


def export(folder: Path, thresholds: list[float] | None = None, weights: bytes = b"") -> None:
    """An export without its graph, in place of an earlier one; by default of other weights."""
    tensor = struct.pack("<IQIi", 0, 0, 0, 4) + b"\x08\x05\x10\x02"  # two numbers in float32
    with earlier_export.replacing(folder) as fresh:
        inference_yml.write(fresh, INFO)
        numbers = weights.ljust(8) if weights else os.urandom(8)
        (fresh / "inference.pdiparams").write_bytes(tensor + numbers)
    if thresholds is not None:
        inference_yml.set_thresholds(folder / "inference.yml", thresholds, 0.5)


def threshold(path: Path) -> object:
    return inference_yml.read(path).threshold


def test_a_new_export_keeps_tuned_thresholds_beside_it_and_names_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "inference"
    export(folder, [0.3, 0.4])
    assert caplog.text == ""
    export(folder)
    kept = folder / "inference.yml.bak.1"
    assert threshold(folder / "inference.yml") == 0.5
    assert threshold(kept) == [0.3, 0.4]
    assert threshold(folder / "inference.yml.bak") == 0.5  # of the tuning
    assert f"are kept in {kept}" in caplog.text
    assert "Evaluate.save_threshold=true" in caplog.text
    assert earlier_export.find_thresholds(folder) == [kept]


def test_an_export_of_the_same_weights_keeps_the_thresholds_in_use(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "inference"
    export(folder, [0.3, 0.4], weights=b"same")
    before = (folder / "inference.yml").read_bytes()
    with caplog.at_level("INFO"):
        export(folder, weights=b"same")
    assert (folder / "inference.yml").read_bytes() == before
    assert not (folder / "inference.yml.bak.1").exists()
    assert "have not changed, so its thresholds stay in use" in caplog.text
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    export(folder, weights=b"other")
    assert threshold(folder / "inference.yml") == 0.5
    assert threshold(folder / "inference.yml.bak.1") == [0.3, 0.4]


def test_the_texts_of_an_onnx_file_of_the_same_graph_get_the_thresholds(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    weight = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], [7.0])
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], [weight]))
    onnx.helper.set_model_props(model, inference_yml.describe(INFO))
    folder = tmp_path / "inference_onnx"
    for thresholds in ([0.3, 0.4], None):
        with earlier_export.replacing(folder) as fresh:
            inference_yml.write(fresh, INFO)
            onnx.save(model, fresh / "inference.onnx")
        if thresholds:
            inference_yml.set_thresholds(folder / "inference.yml", thresholds, 0.5)
    described = inference_yml.read_onnx(folder / "inference.onnx")
    assert described is not None
    assert described.threshold == threshold(folder / "inference.yml") == [0.3, 0.4]


def test_the_thresholds_of_lower_precision_are_those_of_the_new_export(tmp_path: Path) -> None:
    folder = tmp_path / "inference"
    export(folder, [0.3, 0.4], weights=b"same")
    (folder / "export_report.json").touch()
    export(folder, weights=b"same")
    assert threshold(folder / "inference.yml") == 0.5


def test_thresholds_that_were_not_tuned_leave_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "inference"
    export(folder, [0.5, 0.5])
    (folder / "inference.yml.bak").unlink()
    export(folder)
    export(folder)
    assert sorted(os.listdir(folder)) == ["inference.pdiparams", "inference.yml"]
    assert caplog.text == ""


def test_thresholds_that_a_user_wrote_are_kept_too(tmp_path: Path) -> None:
    folder = tmp_path / "inference"
    export(folder)
    path = folder / "inference.yml"
    path.write_text(path.read_text().replace("threshold: 0.5", "threshold: {default: 0.5, cat: 1}"))
    export(folder)
    assert threshold(folder / "inference.yml.bak") == {"default": 0.5, "cat": 1}
    assert threshold(path) == 0.5


def test_other_weights_leave_thresholds_and_files_of_the_user(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    best = tmp_path / "best_model"
    written = Checkpoint(INFO, {}, {}, {}, {}, {})
    checkpoint.write(best, written)
    export(best / "inference", [0.3, 0.4])
    export(best / "inference_onnx")
    (best / "inference" / "notes.txt").write_text("mine")
    caplog.clear()
    checkpoint.write(best, written)
    names = ["inference.yml.bak", "inference.yml.bak.1", "notes.txt"]
    assert sorted(os.listdir(best / "inference")) == names
    assert not (best / "inference_onnx").exists()
    kept = best / "inference" / "inference.yml.bak.1"
    assert threshold(kept) == [0.3, 0.4]
    assert f"thresholds tuned for the earlier weights are in {kept}" in caplog.text
    assert f"{best / 'inference_onnx'} was of the earlier weights and is removed" in caplog.text
    caplog.clear()
    checkpoint.write(best, written)  # the next better epoch
    assert sorted(os.listdir(best / "inference")) == names
    assert caplog.text == ""
