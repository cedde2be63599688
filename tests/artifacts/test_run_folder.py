# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

from paddlex_ml.artifacts.run_folder import EXAMPLE, RunFolder


def test_a_checkpoint_is_named_after_its_folder():
    run = RunFolder(Path("/runs/a"))
    assert run.best_model.weights == Path("/runs/a/best_model/best_model.pdparams")
    assert run.latest.states == Path("/runs/a/latest/latest.pdstates")
    assert run.epoch(12).optimizer == Path("/runs/a/epoch_12/epoch_12.pdopt")
    assert run.epoch(12).ema == Path("/runs/a/epoch_12/epoch_12.pdema")


def test_exports_lie_in_the_folder_of_their_weights():
    best = RunFolder(Path("/runs/a")).best_model
    assert best.inference.graph == Path("/runs/a/best_model/inference/inference.json")
    assert best.inference_onnx.onnx == Path("/runs/a/best_model/inference_onnx/inference.onnx")
    old = best.inference_pdmodel
    assert old.program == Path("/runs/a/best_model/inference_pdmodel/inference.pdmodel")
    assert old.parameters == Path("/runs/a/best_model/inference_pdmodel/inference.pdiparams")
    assert old.inference_yml == Path("/runs/a/best_model/inference_pdmodel/inference.yml")


def test_paths_of_an_empty_output_are_relative_as_results_name_them():
    run = RunFolder(Path())
    assert run.config_yaml.as_posix() == "config.yaml"
    assert run.check_dataset.demo_img.as_posix() == "check_dataset/demo_img"
    assert run.evaluate.per_class_csv.as_posix() == "evaluate/per_class.csv"
    assert run.best_model.inference.graph.as_posix() == "best_model/inference/inference.json"
    assert EXAMPLE.result("train").as_posix() == "output/train_result.json"


def test_kept_epochs_are_those_that_are_there(tmp_path):
    for name in ("epoch_3", "epoch_10", "latest"):
        (tmp_path / name).mkdir()
    kept = RunFolder(tmp_path).kept_epochs()
    assert sorted(files.weights.name for files in kept) == [
        "epoch_10.pdparams", "epoch_3.pdparams"
    ]  # fmt: skip
