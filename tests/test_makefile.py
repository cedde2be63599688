# SPDX-License-Identifier: Apache-2.0
"""The demos of the Makefile: their commands are recorded, some then run with a small model."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from paddlex_ml import cli

ROOT = Path(__file__).resolve().parent.parent
FAST = [
    *("Global.device=cpu", "Train.epochs_iters=2", "Train.image_size=32", "Train.num_workers=0"),
    *("Train.warmup_steps=0", "Train.pretrain_weight_path=null", "Evaluate.bootstrap=20"),
]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make(
    place: Path, *arguments: str, folder: str | None, checked: str = "demo/photos/dataset"
) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
    """Run make in `place`; what it says, and the arguments of each paddlex-ml that it starts.

    checked: the data set that the check, which does not run here, has found or made.
    """
    program, record = place / "bin" / "paddlex-ml", place / "record.jsonl"
    program.parent.mkdir(exist_ok=True)
    program.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        f"print(json.dumps(sys.argv[1:]), file=open({str(record)!r}, 'a'))\n"
    )
    program.chmod(0o755)
    if not (program.parent / "python").exists():
        (program.parent / "python").symlink_to(sys.executable)
    result = place / "demo" / "photos" / "check_dataset_result.json"
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_text(json.dumps({"dataset_path": checked}))
    shutil.copy(ROOT / "Makefile", place)
    command = ["make", *arguments, f"BIN={program.parent}"]
    command += [] if folder is None else [f"DIR={folder}"]
    command += ["-o", ".venv/demo", "-o", ".venv/bin/python"]  # as if they were made already
    environment = {name: text for name, text in os.environ.items() if name != "DIR"}
    done = subprocess.run(
        command, cwd=place, capture_output=True, text=True, env=environment, check=False
    )
    lines = record.read_text("utf-8").splitlines() if record.exists() else []
    return done, [json.loads(line) for line in lines]


def test_the_commands_of_demo_photos_lead_from_a_folder_to_predictions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = tmp_path / "my photos"
    for number in range(20):
        path = photos / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (90 + number, 9 * number, 200 * (number % 2))).save(path)
    done, commands = make(tmp_path, "demo-photos", folder="my photos")
    assert done.returncode == 0, done.stderr
    assert len(commands) == 2
    monkeypatch.chdir(tmp_path)
    fast = [word for text in FAST for word in ("-o", text)]
    assert cli.main([*commands[0], *fast]) == 0
    assert cli.main(commands[1]) == 0
    output = tmp_path / "demo" / "photos"
    assert len((output / "dataset" / "val.txt").read_text("utf-8").splitlines()) == 4
    assert len([*(output / "predict").glob("*.png")]) == 4
    for name in re.findall(r"demo/photos/\S+", done.stdout):
        assert (tmp_path / name).exists(), name


def test_both_demos_start_from_the_same_weights(tmp_path: Path) -> None:
    # Lists of an earlier folder, which count no more.
    (tmp_path / "demo" / "photos" / "dataset").mkdir(parents=True)
    (tmp_path / "demo" / "photos" / "dataset" / "val.txt").touch()
    done, commands = make(tmp_path, "demo-photos", folder=".", checked=".")
    assert done.returncode == 0
    text = (ROOT / "Makefile").read_text("utf-8")
    start = re.search(r"^START := (\S+)$", text, re.MULTILINE)
    assert start is not None
    assert start[1] in commands[0]
    assert commands[1][-1] == "Predict.input=./val.txt"  # complete lists lie in the folder itself
    assert "-o $(START)" in text[text.index("\ndemo: ") : text.index("\ndemo-photos: ")]


def test_a_second_demo_on_other_photographs_has_a_folder_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "my others").mkdir()
    (tmp_path / "my others" / "check_dataset_result.json").write_text('{"dataset_path": "set"}')
    done, commands = make(tmp_path, "demo-photos", "OUT=my others", folder=".")
    assert done.returncode == 0, done.stderr
    assert "Global.output=my others" in commands[0]
    assert "Train.resume_path=auto" in commands[0]  # never in place of an earlier training
    assert commands[1][:2] == ["-c", "my others/config.yaml"]


@pytest.mark.parametrize("is_done", [True, False])
def test_a_finished_training_of_the_demo_stays(tmp_path: Path, is_done: bool) -> None:
    result = tmp_path / "demo" / "output" / "train_result.json"
    result.parent.mkdir(parents=True)
    result.write_text(json.dumps({"done_flag": is_done}, indent=4))
    (tmp_path / "demo" / "scenes").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "main.py").write_text(
        "import json, sys; print(json.dumps(sys.argv[1:]), file=open('record.jsonl', 'a'))"
    )
    done, commands = make(tmp_path, "demo", folder=None)
    assert "The command behind next: has the shipped options; the demo goes on" in done.stdout
    assert done.returncode == 0, done.stderr
    modes = [word for words in commands for word in words if word.startswith("Global.mode=")]
    steps = ["check_dataset", *([] if is_done else ["train"]), "evaluate", "predict"]
    assert modes == [f"Global.mode={step}" for step in steps]
    assert ("To train again, rename that folder" in done.stdout) == is_done


@pytest.mark.parametrize(
    ("folder", "what"),
    [
        (None, "make demo-photos needs a folder of photographs"),
        ("", "make demo-photos needs a folder of photographs"),
        ("no such", "no such does not exist"),
    ],
)
def test_demo_photos_without_a_folder_ends_with_one_error(
    tmp_path: Path, folder: str | None, what: str
) -> None:
    done, commands = make(tmp_path, "demo-photos", folder=folder)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[0] == f"error: {what}"
    assert lines[1] == "  fix: make demo-photos DIR=path/to/my_photos"
    assert len(lines) == 3  # the last one is that of make
    assert commands == []


def test_help_lists_the_demos() -> None:
    done = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, env={**os.environ}, check=True
    )
    found = dict(line.split(None, 2)[1:] for line in done.stdout.splitlines())
    assert found["demo"].startswith("draw a data set")
    assert found["demo-photos"] == "the same on your own folder: make demo-photos DIR=my_photos"
