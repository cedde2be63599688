# SPDX-License-Identifier: Apache-2.0
"""Words that users of other tools type in place of `-o`, and the command that means them here."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from paddlex_ml import command_line, program
from paddlex_ml.errors import PaddlexMLError

START = "-c PP-LCNet_x1_0_ML"
LATER = "-c output/config.yaml"


@pytest.fixture(autouse=True)
def _no_training_is_near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refuse(typed: str) -> PaddlexMLError:
    with pytest.raises(PaddlexMLError, match="unrecognized arguments") as caught:
        command_line.parse(shlex.split(typed))
    return caught.value


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        # words as commands: Keras, Ultralytics, PaddleClas
        ("train ./folder", "--data ./folder -o Global.mode=train"),
        ("fit my_set", "--data my_set -o Global.mode=train"),
        ("train", f"{START} -o Global.mode=train"),
        ("--data my_set train", "--data my_set -o Global.mode=train"),
        ("tools/train.py -c x.yaml --amp", "-c x.yaml -o Train.amp=O1"),
        (
            "mode=train data=my_set epochs=9 amp=True",
            "--data my_set -o Global.mode=train Train.epochs_iters=9 Train.amp=O1",
        ),
        ("--epochs=5.0", f"{START} -o Train.epochs_iters=5"),
        ("check my_set", "--data my_set -o Global.mode=check_dataset"),
        ("evaluate", f"{LATER} -o Global.mode=evaluate"),
        ("val --batch 4", f"{LATER} -o Global.mode=evaluate Evaluate.batch_size=4"),
        ("val a.pdparams", f"{LATER} -o Global.mode=evaluate Evaluate.weight_path=a.pdparams"),
        ("export --format onnx", f"{LATER} -o Global.mode=export Export.format=onnx"),
        ("predict a.jpg", f"{LATER} -o Global.mode=predict Predict.input=a.jpg"),
        (
            "--conf 0.3 predict --source a.jpg",
            f"{LATER} -o Global.mode=predict Predict.threshold=0.3 Predict.input=a.jpg",
        ),
        # a model that is there, as Ultralytics and PaddleClas name it
        (
            "predict model=output/best.pt source=a.jpg",
            f"{LATER} -o Global.mode=predict Predict.model_dir=output/best.pt Predict.input=a.jpg",
        ),
        (
            "--weights a.pdparams -i a.jpg",
            f"{LATER} -o Predict.input=a.jpg Global.mode=predict Predict.model_dir=a.pdparams",
        ),
        (
            "predict a.pdparams a.jpg",
            f"{LATER} -o Global.mode=predict Predict.model_dir=a.pdparams Predict.input=a.jpg",
        ),
        ("val --model a.pt", f"{LATER} -o Global.mode=evaluate Evaluate.weight_path=a.pt"),
        ("export model=ResNet50_ML", "-c ResNet50_ML -o Global.mode=export"),
        ("-i a.jpg", f"{LATER} -o Predict.input=a.jpg Global.mode=predict"),
        ("benchmark", f"{LATER} -o Global.mode=benchmark"),
        ("help", "--help"),
        ("-V", "--version"),
        # options: timm, Hugging Face, torchvision, Ultralytics
        ("--data my_set --epochs 5", "--data my_set -o Train.epochs_iters=5"),
        ("--data my_set --epochs=5", "--data my_set -o Train.epochs_iters=5"),
        ("--data my_set -o --epochs=5", "--data my_set -o Train.epochs_iters=5"),
        ("--data my_set --batch-size 16", "--data my_set -o Train.batch_size=16"),
        ("--data my_set --batch_size 16", "--data my_set -o Train.batch_size=16"),
        ("--data my_set -b 16", "--data my_set -o Train.batch_size=16"),
        ("--data my_set --lr 1e-3", "--data my_set -o Train.learning_rate=0.001"),
        ("--data my_set --learning-rate 1e-3", "--data my_set -o Train.learning_rate=0.001"),
        ("--data my_set --weight-decay 0.05", "--data my_set -o Train.weight_decay=0.05"),
        ("--data my_set --img-size 224", "--data my_set -o Train.image_size=224"),
        ("--data my_set --imgsz 224,224", "--data my_set -o Train.image_size=224"),
        ("--data my_set --workers 4", "--data my_set -o Train.num_workers=4"),
        ("--data my_set --seed 42", "--data my_set -o Global.seed=42"),
        ("--data my_set --fp16", "--data my_set -o Train.amp=O1"),
        ("--data my_set --resume", "--data my_set -o Train.resume_path=auto"),
        ("--data set --resume output/latest", "--data set -o Train.resume_path=output/latest"),
        ("--data my_set --device cpu", "--data my_set -o Global.device=cpu"),
        ("--data my_set --no-cuda", "--data my_set -o Global.device=cpu"),
        ("--data my_set --num-classes 5", "--data my_set -o Train.num_classes=5"),
        ("--data my_set --smoothing 0.1", "--data my_set -o Train.loss.label_smoothing=0.1"),
        ("--data my_set --output_dir runs", "--data my_set -o Global.output=runs"),
        ("--data my_set --Train.epochs 5", "--data my_set -o Train.epochs_iters=5"),
        (
            "--per_device_train_batch_size 8 --num_train_epochs 3 --do_train",
            f"{START} -o Train.batch_size=8 Train.epochs_iters=3 Global.mode=train",
        ),
        ("--model ResNet50 --data-dir my_set", "-c ResNet50_ML -o Global.dataset_dir=my_set"),
        ("-m ResNet50_ML -d my_set", "-c ResNet50_ML -o Global.dataset_dir=my_set"),
        ("--cfg x.yaml --epochs 5", "-c x.yaml -o Train.epochs_iters=5"),
        (
            "-c x.yaml -o Global.mode=evaluate --batch 4",
            "-c x.yaml -o Global.mode=evaluate -o Evaluate.batch_size=4",
        ),
        # values that a shell would split
        ("--data-dir 'my set'", "--data 'my set'"),
    ],
)  # fmt: skip
def test_words_of_other_tools_are_answered_with_the_command(typed: str, meant: str) -> None:
    error = refuse(typed)
    assert error.fix == f"{program.command()} {meant}"
    assert len(str(error).splitlines()) == 3
    if "--help" not in meant and "--version" not in meant:
        command_line.parse(shlex.split(meant))


def test_a_training_in_another_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "demo" / "output").mkdir(parents=True)
    for name in ("config.yaml", "run.json"):
        (tmp_path / "demo" / "output" / name).touch()
    assert " -c demo/output/config.yaml -o Global.mode=predict " in refuse("predict a.jpg").fix


@pytest.mark.parametrize(
    ("typed", "command", "notes"),
    [
        (
            "--epochs=abc --batch 0",
            "-o Train.epochs_iters=20 Train.batch_size=32",
            ["20 is only an example, in place of abc", "32 is only an example, in place of 0"],
        ),
        (
            "yolo classify train data=my_set model=yolov8n-cls.pt epochs=9 imgsz=64",
            "-o Global.mode=train Global.dataset_dir=my_set Train.epochs_iters=9"
            " Train.image_size=64",
            ["PP-LCNet_x1_0_ML is only an example, in place of yolov8n-cls.pt"],
        ),
    ],
)
def test_an_example_in_place_of_a_value_is_told(typed: str, command: str, notes: list[str]) -> None:
    first, *others = refuse(typed).fix.splitlines()
    assert first == f"{program.command()} {START} {command}"
    assert [other.strip() for other in others] == notes


def test_the_keys_stand_in_the_first_line() -> None:
    first = str(refuse("--data my_set --imgsz 224 --lr 1e-3")).splitlines()[0]
    assert first.endswith("(here: Train.image_size, Train.learning_rate)")


def test_what_has_no_key_is_said_behind_the_command_without_it() -> None:
    fix = refuse("--data my_set --dropout 0.1 --lr 1e-3").fix.splitlines()
    assert fix[0].endswith(" --data my_set -o Train.learning_rate=0.001")
    assert fix[1].lstrip().startswith("dropout has no key here: the models have no dropout")
    error = refuse("--data my_set --frobnicate 3 --lr 1e-3")
    assert error.what.endswith("unknown: frobnicate")
    assert error.fix.splitlines()[1].lstrip() == f"{program.command()} --help"


def test_a_folder_alone_is_the_data(tmp_path: Path) -> None:
    assert refuse(f"{tmp_path}").fix == f"{program.command()} --data {tmp_path}"
    assert refuse("no_folder").fix == f"{program.command()} --help"


def test_an_option_in_the_place_of_an_override_stays_an_error() -> None:
    with pytest.raises(PaddlexMLError, match="expected at least one argument"):
        command_line.parse(["--data", "my_set", "-o", "--json"])
