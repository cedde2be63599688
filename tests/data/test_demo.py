# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import logging
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from paddlex_ml import cli, command_line, program, terminal
from paddlex_ml.config import load, shipped
from paddlex_ml.data import annotation, check, demo
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.scenes import compose

ROOT = Path(__file__).resolve().parents[2]
DOOR = ROOT / "dataset_tools" / "make_demo_dataset.py"


def content(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> demo.Demo:
    place = tmp_path_factory.mktemp("demo") / "set"
    return demo.make(place, images=120, size=64, seed=1, val_percent=25)


def test_the_set_passes_our_own_check(made: demo.Demo) -> None:
    report = check.check(made.folder, workers=0)
    assert report.faults == []
    assert (len(report.dataset.train), len(report.dataset.val)) == (90, 30)
    assert report.dataset.label_names == [kind.name for kind in compose.KINDS]
    assert np.array_equal(report.dataset.val.targets, made.val)


def test_the_same_seed_draws_the_same_files_and_another_seed_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        demo.make(tmp_path / name, images=10, size=48, seed=seed, val_percent=20)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert content(tmp_path / "a_coco") == content(tmp_path / "b_coco")
    assert (
        content(tmp_path / "a")["images/000000.jpg"] != content(tmp_path / "c")["images/000000.jpg"]
    )


def test_classes_are_unbalanced_and_the_constant_predictor_scores_the_mean_rate(
    made: demo.Demo,
) -> None:
    counts = np.concatenate([made.train, made.val]).sum(axis=0)
    assert counts.max() > 4 * counts.min() > 0
    assert made.train.any(axis=0).all()
    assert made.val.any(axis=0).all()
    assert made.constant_map == pytest.approx(made.val.mean(axis=0).mean())


def test_every_image_has_two_to_five_classes(made: demo.Demo) -> None:
    kinds = np.concatenate([made.train, made.val]).sum(axis=1)
    assert (kinds.min(), kinds.max()) == (2, 5)


def test_coco_boxes_carry_the_same_labels_and_lie_inside_the_images(made: demo.Demo) -> None:
    text = (made.coco_folder / "annotations" / "instance_val.json").read_text()
    coco = json.loads(text)
    ids = sorted(category["id"] for category in coco["categories"])
    targets = np.zeros_like(made.val)
    for box in coco["annotations"]:
        targets[box["image_id"] - 1, ids.index(box["category_id"])] = 1
        x, y, width, height = box["bbox"]
        assert 0 <= x < x + width <= 64
        assert 0 <= y < y + height <= 64
        assert 0 < box["area"] <= width * height
    assert np.array_equal(targets, made.val)
    for image in coco["images"]:
        assert (made.coco_folder / "images" / image["file_name"]).is_file()


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "set_coco").mkdir()
    (tmp_path / "set_coco" / "notes.txt").touch()
    with pytest.raises(PaddlexMLError, match="nothing is overwritten"):
        demo.make(tmp_path / "set", images=10, size=32, seed=0, val_percent=20)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set_coco"]


def test_a_failure_midway_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(demo, "_write_coco", fail)
    with pytest.raises(OSError, match="disk full"):
        demo.make(tmp_path / "set", images=10, size=32, seed=0, val_percent=20)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.heavy
def test_a_kill_at_every_step_leaves_complete_folders_or_none(
    kill_at_every_step: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    scenes = [compose.draw_scene(rng, 32) for _ in range(10)]  # not again for each kill

    def make(root: Path) -> None:
        left = iter(scenes)
        monkeypatch.setattr(compose, "draw_scene", lambda *_: next(left))
        demo.make(root / "set", images=10, size=32, seed=0, val_percent=20)

    roots = kill_at_every_step(lambda root: None, make)
    assert len(roots) > 30
    expected, coco = content(roots[-1] / "set"), content(roots[-1] / "set_coco")
    for root in roots:
        assert content(root / "set") in ({}, expected)
        assert content(root / "set_coco") in ({}, coco)
        assert (root / "set_coco").exists() or not (root / "set").exists()


@pytest.mark.parametrize(
    ("option", "low"), [("images", "from 10"), ("size", "from 32"), ("val_percent", "from 1 to 90")]
)
def test_numbers_out_of_range_name_the_range(tmp_path: Path, option: str, low: str) -> None:
    numbers = {"images": 10, "size": 32, "seed": 0, "val_percent": 20, option: 0}
    with pytest.raises(PaddlexMLError, match=low):
        demo.make(tmp_path / "set", **numbers)


def test_the_script_tells_counts_and_the_score_to_beat_and_refuses_a_second_time(
    tmp_path: Path,
) -> None:
    arguments = ["--output", str(tmp_path / "set"), "--images", "20", "--size", "32"]
    command = [sys.executable, str(DOOR), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    first = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert first.returncode == 0, first.stderr
    assert "images               16      4" in first.stdout
    assert "mAP of a constant predictor, the score to beat: 0." in first.stdout
    again = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert again.returncode == 2
    assert "is a folder with files in it" in again.stderr
    assert "Traceback" not in again.stderr


def test_a_log_says_at_once_that_many_images_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(terminal, "MANY", 12)
    with caplog.at_level(logging.INFO):
        demo.make(tmp_path / "scenes", images=12, size=32, seed=0, val_percent=20)
    assert caplog.messages[0] == "drawn images: 0 of 12"


def test_images_are_what_opencv_reads(made: demo.Demo) -> None:
    dataset = annotation.read(made.folder)
    image = cv2.imread(str(dataset.train.path(0)))
    assert image is not None
    assert image.shape == (64, 64, 3)


def test_the_command_draws_the_demo_and_names_the_training_of_make_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "IMAGES", 10)
    assert cli.main(["--demo"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("wrote demo/scenes: 8 training and 2 validation images of 13 classes")
    assert (tmp_path / "demo" / "scenes" / "train.txt").is_file()
    words = shlex.split(told[-1].removeprefix(f"next: {program.command()} "))
    given = command_line.parse(words)
    config = load.load(shipped.find(given.config)[0], given.override).config
    assert config.Global.dataset_dir == Path("demo/scenes")
    made = (ROOT / "Makefile").read_text("utf-8")
    training = made[made.index("Global.mode=train") : made.index("== 3 of 4")]
    training = training.replace("$(START)", made.partition("\nSTART := ")[2].partition("\n")[0])
    own = {each for each in given.override if each.startswith("Train.")}
    assert own == set(re.findall(r"-o (Train\.\S+)", training))
    for page in ("README.md", "README_zh.md"):
        text = (ROOT / page).read_text("utf-8").partition("```powershell")[2].partition("```")[0]
        assert own == set(re.findall(r"-o (Train\.\S+)", text))


def test_the_command_does_not_draw_over_files_or_beside_other_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").write_text("mine")
    assert cli.main(["--demo", str(tmp_path)]) == 2
    assert "choose another folder" in capsys.readouterr().err
    assert cli.main(["--demo", str(tmp_path / "new"), "-o", "Global.mode=train"]) == 2
    assert "leave the other options to the next command" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
