# SPDX-License-Identifier: Apache-2.0
"""Every command that is printed behind `next:` is run as it stands."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml import cli, gpus, program
from paddlex_ml.config import load
from tests.config.test_load import PADDLEX

SMALL = [
    *("Global.device=cpu", "Train.epochs_iters=1", "Train.warmup_steps=0", "Train.batch_size=8"),
    *("Train.image_size=32", "Train.num_workers=0", "Train.pretrain_weight_path=null"),
    *("Evaluate.bootstrap=0", "Evaluate.report=false", "Predict.save_img=false"),
]


@pytest.fixture
def folder(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a data set that is named by a relative path."""
    (tmp_path / "dataset").mkdir()
    shutil.copytree(toy, tmp_path / "dataset" / "my set")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def follow(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a printed command, with further words; returns the next one, or ""."""

    def run(command: str, *more: str) -> str:
        start, words = program.command(), command
        assert words.startswith(f"{start} -c ")
        capsys.readouterr()
        code = cli.main([*shlex.split(words.removeprefix(start)), *more])
        shown = capsys.readouterr()
        assert code == 0, f"{command}\n{shown.err}"
        last = shown.out.splitlines()[-1]
        return last.removeprefix("next: ") if last.startswith("next: ") else ""

    return run


def read(path: str) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def start(config: str, *overrides: str) -> str:
    keys = [f"Global.mode={overrides[0]}", *overrides[1:]]
    return f"{program.command()} {shlex.join(['-c', config, '-o', *keys])}"


def test_from_the_check_to_a_prediction_with_options(
    folder: Path, follow: Callable[..., str]
) -> None:
    data = ["Global.dataset_dir=dataset/my set", "Global.output=my runs/1e5"]
    command = start("PP-LCNet_x1_0_ML", "check_dataset", *data, *SMALL, "CheckDataset.drop=broken")
    train = follow(command)
    assert "-o Global.mode=train" in train
    predict = follow(train)
    assert "-c 'my runs/1e5/config.yaml' -o Global.mode=predict" in predict
    assert follow(predict) == ""
    assert read("my runs/1e5/predict_result.json")["num_images"] == 1

    saved = "my runs/1e5/config.yaml"
    predict = follow(
        start(saved, "evaluate", "Evaluate.weight_path=my runs/1e5/latest/latest.pdparams")
    )
    assert "-o Global.mode=export" in predict
    predict = follow(predict)
    assert "'Predict.model_dir=my runs/1e5/latest/inference'" in predict
    assert follow(predict) == ""
    assert read("my runs/1e5/predict_result.json")["model_dir"] == "latest/inference"

    predict = follow(start(saved, "evaluate", *data[:1], "Evaluate.save_threshold=true"))
    assert "Evaluate" not in predict
    assert "dataset_dir" not in predict
    assert follow(predict) == ""
    shutil.rmtree("my runs/1e5/best_model/inference")
    export = follow(start(saved, "evaluate"))
    assert "-o Global.mode=export" in export
    assert follow(follow(export)) == ""
    pytest.importorskip("paddle2onnx")
    predict = follow(start(saved, "export", "Export.format=onnx", "Evaluate.bootstrap=20"))
    assert "Export" not in predict
    assert "Evaluate" not in predict
    assert follow(predict) == ""


def test_the_yaml_of_paddlex_from_the_check_to_a_prediction(
    folder: Path,
    follow: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("paddlex.yaml").write_text(PADDLEX)
    data = ["Global.dataset_dir=dataset/my set", *SMALL]
    train = follow(start("paddlex.yaml", "check_dataset", *data))
    assert train.endswith("-o Train.num_classes=null -o Train.learning_rate=0.001")  # of 33, 0.1
    monkeypatch.setattr(gpus, "are_missing", lambda: True)
    own = [text for text in data if text != "Global.device=cpu"]  # the file has gpu:0,1,2,3
    assert " -o Global.device=auto" in follow(start("paddlex.yaml", "check_dataset", *own))
    follow(follow(train))
    assert read("output/predict_result.json")["model_dir"] == "best_model/inference"

    # A second run, of another size, beside the first: nothing of the first may be used.
    larger = [*data, "Global.output=out2", "Train.image_size=64"]
    predict = follow(follow(start("paddlex.yaml", "check_dataset", *larger)))
    assert follow(predict) == ""
    assert read("out2/predict_result.json")["model_dir"] == "best_model/inference"
    saved = "out2/config.yaml"
    predict = follow(start(saved, "evaluate"))
    assert read("out2/evaluate_result.json")["weight_path"] == "out2/best_model/best_model.pdparams"
    assert follow(predict) == ""
    predict = follow(start(saved, "export"))
    assert read("out2/export_result.json")["weight_path"] == "out2/best_model/best_model.pdparams"
    assert follow(predict) == ""

    # The YAML itself, which names the first run.
    data.append("Train.num_classes=null")
    evaluate = ["evaluate", *data, "Global.output=out2"]
    assert cli.main(["-c", "paddlex.yaml", "-o", "Global.mode=evaluate", *evaluate[1:]]) == 2
    told = capsys.readouterr().err
    assert "Evaluate.weight_path is output/best_model/best_model.pdparams, but out2 holds a" in told
    export = follow(start("paddlex.yaml", *evaluate, "Evaluate.weight_path=null"))
    assert read("out2/evaluate_result.json")["weight_path"] == "out2/best_model/best_model.pdparams"
    assert follow(export) == ""
    assert read("out2/predict_result.json")["model_dir"] == "best_model/inference"
    predict = follow(start("paddlex.yaml", "export", *data, "Global.output=out2"))
    assert read("out2/export_result.json")["weight_path"] == "out2/best_model/best_model.pdparams"
    assert follow(predict) == ""


def test_the_training_after_a_check_has_the_repairs_that_it_would_ask_for(
    folder: Path, follow: Callable[..., str]
) -> None:
    """A check refuses less than a training: each of these passed, and its `next:` was refused."""
    data = ["Global.dataset_dir=dataset/my set", *SMALL]
    wrong = {
        "Train.warmup_steps": "5", "Train.freeze_backbone_epochs": "3", "Train.num_queries": "40",
        "Train.start_eval_epoch": "4", "Train.loss.pos_weight": "auto", "Train.head_lr_mult": "500",
    }  # fmt: skip
    train = follow(
        start("PP-LCNet_x1_0_ML", "check_dataset", *data, *(f"{k}={v}" for k, v in wrong.items()))
    )
    assert follow(train)
    saved = load.load(Path("output/config.yaml")).config
    assert saved.Train.loss.name == "bce"
    # The folder of that training is taken now.
    train = follow(start("PP-LCNet_x1_0_ML", "check_dataset", *data))
    assert "-o Global.output=output_2" in train
    assert follow(train)
    train = follow(start("output/config.yaml", "check_dataset"))
    assert "-o Global.output=output_3" in train
    # A section on the command line comes before the repair of a key in it.
    train = follow(start("PP-LCNet_x1_0_ML", "check_dataset", *data, "Train={learning_rate: 0.1}"))
    assert "-o Train.learning_rate=0.001" in train
    assert follow(f"{train} -o Global.output=own")


@pytest.mark.parametrize("output", ["-o", "~", "~nobody", "a b/~x", "-"])
def test_an_output_folder_that_looks_like_an_option_or_a_home_folder(
    folder: Path, follow: Callable[..., str], output: str
) -> None:
    train = ["Global.mode=train", "Global.dataset_dir=dataset/my set", f"Global.output=./{output}"]
    keys = [part for text in (*SMALL, *train) for part in ("-o", text)]
    predict = follow(f"{program.command()} {shlex.join(['-c', 'PP-LCNet_x1_0_ML', *keys])}")
    assert follow(predict) == ""
    assert (folder / output / "predict_result.json").is_file()


def test_a_run_that_was_renamed_is_used_from_any_working_folder(
    folder: Path, follow: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ["Global.dataset_dir=dataset/my set", *SMALL]
    follow(start("PP-LCNet_x1_0_ML", "train", *data))
    shutil.move("output", "run_A")
    follow(start("PP-LCNet_x1_0_ML", "train", *data, "Train.image_size=64"))
    monkeypatch.chdir(folder.parent)
    run = folder / "run_A"
    assert follow(follow(start(f"{run}/config.yaml", "evaluate"))) == ""
    assert read(f"{run}/evaluate_result.json")["weight_path"] == (
        f"{run}/best_model/best_model.pdparams"
    )
    assert read(f"{run}/predict_result.json")["model_dir"] == "best_model/inference"
    assert not (folder / "output" / "evaluate_result.json").exists()
    shutil.copy(run / "config.yaml", run / "cfg.yaml")
    (run / "evaluate_result.json").unlink()
    follow(start(f"{run}/cfg.yaml", "evaluate"))
    assert (run / "evaluate_result.json").is_file()
    assert not (folder / "output" / "evaluate_result.json").exists()
    monkeypatch.chdir(run)
    assert follow(start("config.yaml", "export"))
    assert read("export_result.json")["weight_path"] == "best_model/best_model.pdparams"
