# SPDX-License-Identifier: Apache-2.0
"""Codes in names, paths and keys are text on every stream and in every log."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from paddlex_ml import cli
from paddlex_ml.data import annotation

CODES = "\x1b]0;owned\x07\x1b[2J\u202e\u2066\x9b"
RAW = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]")
Command = Callable[..., list[str]]


def raw_codes(capsys: pytest.CaptureFixture[str]) -> list[str]:
    printed = capsys.readouterr()
    return RAW.findall(printed.out + printed.err)


def test_unknown_keys_and_values_of_a_yaml(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    values = {f"Gl{CODES}": 1, "Global": {f"mo{CODES}": 2, "model": f"PP{CODES}", "mode": "train"}}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(values), "utf-8")
    assert cli.main(["-c", str(tmp_path / "a.yaml"), "-o", f"Tr{CODES}=1"]) == 2
    assert raw_codes(capsys) == []
    assert cli.main(["-c", f"{tmp_path}/{CODES}.yaml"]) == 2
    assert raw_codes(capsys) == []


def test_names_of_images_classes_and_models_in_every_mode(
    toy: Path, start_weights: Path, command: Command, tmp_path: Path, capsys: Any
) -> None:
    data = shutil.copytree(toy, tmp_path / f"set{CODES}")
    annotation.write_labels(data / "label.txt", ["red", "gr\u202een\x9b", "blue\u2066"])
    parsed = annotation.read(data)
    name = f"images/{CODES}\udcff.png"
    os.rename(data / parsed.val.paths[0], data / name)
    text = (data / "val.txt").read_text("utf-8").replace(parsed.val.paths[0], "lost\x1b[2J.png")
    (data / "val.txt").write_text(text, "utf-8")
    assert cli.main(command("check_dataset", data, tmp_path / "out")) == 2
    assert raw_codes(capsys) == []
    text = text.replace("lost\x1b[2J.png", parsed.val.paths[0])
    (data / "val.txt").write_text(text, "utf-8")
    os.rename(data / name, data / parsed.val.paths[0])

    output = tmp_path / f"out{CODES}"
    start = f"Train.pretrain_weight_path={start_weights}"
    assert cli.main(command("train", data, output, start, "Train.epochs_iters=1")) == 0
    assert raw_codes(capsys) == []
    assert RAW.findall((output / "train.log").read_text("utf-8")) == []
    assert cli.main(command("evaluate", data, output)) == 0
    assert raw_codes(capsys) == []

    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (40, 30)).save(photos / f"a{CODES}.png")
    (photos / f"b{CODES}.png").write_bytes(b"broken")
    description = output / "best_model" / "inference" / "inference.yml"
    content = yaml.safe_load(description.read_text("utf-8"))
    content["Global"]["model_name"] = f"PP{CODES}"
    description.write_text(yaml.safe_dump(content), "utf-8")
    assert cli.main(command("predict", None, output, f"Predict.input={photos}")) == 2
    assert raw_codes(capsys) == []
