# SPDX-License-Identifier: Apache-2.0
"""The whole story through main.py, in processes of its own, as a user lives it."""

from __future__ import annotations

import csv
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from paddlex_ml.artifacts import checkpoint
from paddlex_ml.engines.train import earlier_run
from paddlex_ml.wording import count
from tests.running import ENVIRONMENT, LIMIT, MAIN, Background, run, wait_until_gone

pytestmark = pytest.mark.story

PARTS = ("pdparams", "pdema", "pdopt", "pdstates")
EPOCHS = 3
Command = Callable[..., list[str]]
SameEnding = Callable[[Path, Path], None]


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_check_train_resume_evaluate_export_predict(
    toy: Path,
    start_weights: Path,
    command: Command,
    assert_same_ending: SameEnding,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(ENVIRONMENT, "WITH_NUMBA", "1")
    output = tmp_path / "out"
    known: set[str] = set()

    def new_files(mode: str, data: Path | None, *overrides: str) -> set[str]:
        done = run(*command(mode, data, output, *overrides), folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert read_json(output / f"{mode}_result.json")["done_flag"] is True
        before, there = set(known), {path for path in files(output) if ".lock" not in path}
        known.update(there)
        return there - before

    found = new_files("check_dataset", toy)
    pictures = {path for path in found if path.startswith("check_dataset/demo_img/")}
    assert len(pictures) == 20
    drawn = {"check_dataset/histogram.png", "check_dataset/report.html"}
    assert found - pictures == {"check_dataset_result.json", *drawn}

    static = {
        f"best_model/inference/{name}"
        for name in ("inference.json", "inference.pdiparams", "inference.yml")
    }
    start = f"Train.pretrain_weight_path={start_weights}"
    names = ("best_model", "latest", "epoch_1", "epoch_2")
    assert new_files("train", toy, start) == {
        *(f"{name}/{name}.{part}" for name in names for part in PARTS),
        *static,
        *("train_result.json", "run.json", "config.yaml", "train.log", "label_dict.txt"),
        *("metrics.csv", "curves.png", "val_scores.npz", "best_model/MODEL_CARD.md"),
    }

    resume = [f"Train.resume_path={output / 'epoch_1'}", start]
    done = run(*command("train", toy, tmp_path / "again", *resume), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same_ending(tmp_path / "again", output)

    assert new_files("evaluate", toy) == {
        "evaluate_result.json",
        *(f"evaluate/{name}" for name in ("report.html", "per_class.csv", "label_errors.csv")),
        "evaluate/val_scores.npz",
    }
    score = read_json(output / "train_result.json")["models"]["best"]["score"]
    evaluated = read_json(output / "evaluate_result.json")["metrics"]["MultiLabelMAP"]
    assert evaluated == pytest.approx(score, abs=1e-6)

    for path in static:
        (output / path).unlink()
    known -= static
    assert new_files("export", None) == {*static, "export_result.json"}

    assert new_files("benchmark", toy, "Benchmark.batch_sizes=1") == {
        *("benchmark_result.json", "benchmark/benchmark.csv", "benchmark/report.html")
    }

    found = new_files("predict", None, f"Predict.input={toy / 'images'}", "Predict.batch_size=5")
    images = os.listdir(toy / "images")
    stems = [Path(name).stem for name in images]
    assert {Path(path).stem for path in found} == {*stems, "predict_result", "predictions"}
    assert len(found) == 3 + len(images)  # two results, a table, and a picture for each
    assert read_json(output / "predict_result.json")["num_images"] == 36


def test_the_merged_config_of_a_run_is_all_that_the_next_commands_need(
    toy: Path, copy_of_run: Path, tmp_path: Path
) -> None:
    config = copy_of_run / "config.yaml"
    text = config.read_text(encoding="utf-8")
    elsewhere = f"Global.output={copy_of_run}"
    assert f"dataset_dir: {toy}" in text
    done = run("-c", str(config), "-o", "Global.mode=evaluate", elsewhere, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    image = f"Predict.input={toy / 'images' / 'val_0.png'}"
    done = run("-c", str(config), "-o", "Global.mode=predict", elsewhere, image, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    with Image.open(copy_of_run / "predict" / "val_0.png") as picture:
        assert picture.width >= 48


def test_a_broken_image_among_others_ends_with_exit_code_2_and_their_answers(
    toy: Path, copy_of_run: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(toy / "images", tmp_path / "photos")
    (folder / "val_0.png").write_bytes(b"no image")
    words = (f"Global.output={copy_of_run}", f"Predict.input={folder}", "Predict.batch_size=8")
    config = str(copy_of_run / "config.yaml")
    done = run("-c", config, "-o", "Global.mode=predict", *words, folder=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-3].startswith("error: 1 of 36 images could not be read, first")
    assert len(done.stdout.splitlines()) == 38  # one for each image, and two of farewell
    result = read_json(copy_of_run / "predict_result.json")
    assert (result["done_flag"], result["num_images"], result["num_failed"]) == (False, 36, 1)
    assert len(list((copy_of_run / "predict").glob("*.png"))) == 35


@pytest.mark.parametrize("broken", [0, 1])
def test_a_prediction_whose_reader_stops_listening_is_finished_and_saved(
    toy: Path, copy_of_run: Path, tmp_path: Path, broken: int
) -> None:
    """As in `main.py ... | head -2`: the exit code is that of the work."""
    folder = shutil.copytree(toy / "images", tmp_path / "photos")
    for number in range(broken):
        (folder / f"val_{number}.png").write_bytes(b"no image")
    words = ["-c", str(copy_of_run / "config.yaml"), "-o", "Global.mode=predict"]
    words += [f"Global.output={copy_of_run}", f"Predict.input={folder}"]
    piped = f"{shlex.join([sys.executable, str(MAIN), *words])} | head -2; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", piped], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True,
        check=False, timeout=LIMIT,
    )  # fmt: skip
    *shown, code = done.stdout.splitlines()
    assert (len(shown), int(code)) == (2, 2 if broken else 0), done.stderr
    assert "Traceback" not in done.stderr
    saved = copy_of_run / "predict"
    assert len(read_json(saved / "predictions.json")) == 36
    with (saved / "predictions.csv").open(encoding="utf-8-sig", newline="") as file:
        assert len(list(csv.DictReader(file))) == 36
    assert len(list(saved.glob("*.png"))) == 36 - broken
    result = read_json(copy_of_run / "predict_result.json")
    assert (result["done_flag"], result["num_images"]) == (not broken, 36)
    assert result["run"]["id"] == read_json(copy_of_run / "run.json")["id"]
    assert not list(saved.glob("*.unfinished"))


@pytest.fixture(scope="module")
def training(toy: Path, start_weights: Path, command: Command) -> Callable[..., list[str]]:
    """Arguments of a training of three epochs, with a worker process and a line a step."""

    def write(output: Path, *overrides: str) -> list[str]:
        keys = [f"Train.pretrain_weight_path={start_weights}", f"Train.epochs_iters={EPOCHS}"]
        keys += ["Train.num_workers=1", "Train.log_interval=1", *overrides]
        return command("train", toy, output, *keys)

    return write


@pytest.fixture(scope="module")
def unbroken(training: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of the training that nobody stopped."""
    folder = tmp_path_factory.mktemp("unbroken")
    done = run(*training(folder / "out"), folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / "out"


@pytest.mark.parametrize(
    ("number", "name", "code", "exported"),
    [
        (signal.SIGTERM, "SIGTERM", 143, False),
        pytest.param(signal.SIGINT, "SIGINT", 130, True, marks=pytest.mark.heavy),
    ],
)
def test_a_stopped_training_saves_its_state_and_goes_on_as_if_nothing_had_happened(
    training: Callable[..., list[str]],
    unbroken: Path,
    assert_same_ending: SameEnding,
    tmp_path: Path,
    number: int,
    name: str,
    code: int,
    exported: bool,
) -> None:
    output = tmp_path / "out"
    process = Background(training(output), tmp_path)
    process.wait_for("[Train][Epoch 2/3][Iter 1/3]")
    assert process.send(number) == code
    said = process.text()
    assert "Traceback" not in said
    assert f"{name}: saving the state after this step" in said
    hint = f"stopped by {name}; to go on, repeat the command with -o Train.resume_path=auto, or: "
    printed = shlex.split(said.partition(hint)[2].splitlines()[0])
    progress = checkpoint.read_progress(output / "latest")
    assert progress is not None
    assert 1 <= progress["epoch"] < EPOCHS
    result = read_json(output / "train_result.json")
    assert (result["done_flag"], result["err_type"]) == (False, "Stopped")
    # The best model of the first epoch: exported for who pressed Ctrl-C, not for a scheduler that
    # gives seconds.
    assert (output / "best_model" / "inference" / "inference.json").is_file() == exported
    done = run(*printed[printed.index("-c") :], folder=tmp_path)
    assert done.returncode == 0, done.stderr
    before = f", after {count(progress['epoch'], 'epoch')} and "
    assert before + count(progress["step"], "step") in done.stderr
    assert_same_ending(output, unbroken)


def test_a_stop_before_the_first_evaluation_has_nothing_to_export(
    training: Callable[..., list[str]], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    process = Background(training(output), tmp_path)
    process.wait_for("[Train][Epoch 1/3][Iter 1/3]")
    assert process.send(signal.SIGINT) == 130
    assert "Traceback" not in process.text()
    assert files(output / "latest") == {f"latest.{part}" for part in PARTS}
    assert not (output / "best_model").exists()


STOPS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)]
SOME_HEAVY = [STOPS[0], *(pytest.param(*stop, marks=pytest.mark.heavy) for stop in STOPS[1:])]


def assert_silent(said: str) -> None:
    for word in ("Traceback", "KeyError", "bug", "leaked"):
        assert word not in said, said


@pytest.mark.parametrize(
    ("number", "code", "delay"),
    [
        (*STOPS[0], 0),
        *(pytest.param(*stop, 0, marks=pytest.mark.heavy) for stop in STOPS[1:]),
        *(
            pytest.param(*stop, delay, marks=pytest.mark.heavy)
            for stop, delay in zip(STOPS, (0.1, 0.2, 0.4, 0.8), strict=True)
        ),
    ],
)
def test_a_stop_of_the_whole_group_while_the_data_workers_start_is_no_bug(
    training: Callable[..., list[str]], tmp_path: Path, number: int, code: int, delay: float
) -> None:
    keys = ("Train.num_workers=2", "Train.epochs_iters=500")
    process = Background(training(tmp_path / "out", *keys), tmp_path)
    process.wait_for_helper("forkserver")
    time.sleep(delay)
    assert process.send_to_all(number) == code, process.text()
    wait_until_gone(tmp_path / "out")
    assert_silent(process.text())
    result = read_json(tmp_path / "out" / "train_result.json")
    assert (result["done_flag"], result["err_type"]) == (False, "Stopped")


@pytest.mark.parametrize(("number", "code"), SOME_HEAVY)
def test_an_evaluation_stopped_while_its_data_workers_start_says_so_alone(
    toy_run: Path,
    draw_set: Callable[..., Path],
    command: Command,
    tmp_path: Path,
    number: int,
    code: int,
) -> None:
    data = draw_set(tmp_path / "set", train=8, val=400)
    weights = toy_run / "best_model" / "best_model.pdparams"
    keys = f"Evaluate.weight_path={weights}", "Train.num_workers=2"
    process = Background(command("evaluate", data, tmp_path / "out", *keys), tmp_path)
    process.wait_for_helper("forkserver")
    assert process.send_to_all(number) == code, process.text()
    time.sleep(1)  # the server and a worker that has just been forked see the end
    assert_silent(process.text())


@pytest.mark.parametrize(("number", "code"), [STOPS[2], *SOME_HEAVY[1:2], *SOME_HEAVY[3:]])
def test_a_stop_of_the_whole_group_in_a_training_saves_and_says_how_to_go_on(
    training: Callable[..., list[str]], tmp_path: Path, number: int, code: int
) -> None:
    keys = ("Train.num_workers=2", "Train.epochs_iters=500")
    process = Background(training(tmp_path / "out", *keys), tmp_path)
    process.wait_for("[Train][Epoch 1/500][Iter 2/3]")
    assert process.send_to_all(number) == code, process.text()
    wait_until_gone(tmp_path / "out")
    assert "to go on, repeat the command with -o Train.resume_path=auto" in process.text()
    assert_silent(process.text())


def test_two_quick_stops_of_the_group_while_the_data_workers_start_end_at_once(
    training: Callable[..., list[str]], tmp_path: Path
) -> None:
    process = Background(training(tmp_path / "out", "Train.num_workers=2"), tmp_path)
    process.wait_for_helper("forkserver")
    begin = time.monotonic()
    os.killpg(process.process.pid, signal.SIGINT)
    time.sleep(0.1)
    assert process.send_to_all(signal.SIGINT) == 130, process.text()
    assert time.monotonic() - begin < 60
    assert_silent(process.text())


STOPPED = 20.0
"""Seconds within which a stopped command ends: 10, as promised, with room for a busy machine."""
SILENT_DISK = Path(__file__).with_name("main_with_a_silent_disk.py")


def block(data: Path) -> None:
    """Make every image one that is never read to its end, as on a disk that does not answer."""
    for path in (data / "images").iterdir():
        path.unlink()
        os.mkfifo(path)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.heavy)])
def test_a_training_whose_disk_does_not_answer_saves_and_stops(
    draw_set: Callable[..., Path], command: Command, tmp_path: Path, workers: int
) -> None:
    data, output = draw_set(tmp_path / "set", train=400), tmp_path / "out"
    keys = f"Train.num_workers={workers}", "Train.log_interval=1", "Train.epochs_iters=9"
    process = Background(command("train", data, output, *keys), tmp_path, SILENT_DISK)
    process.wait_for("[Train][Epoch 1/9][Iter 2/50]")
    block(data)
    begin = time.monotonic()
    assert process.send(signal.SIGTERM) == 143, process.text()
    assert time.monotonic() - begin < STOPPED
    assert "Traceback" not in process.text()
    assert (output / "latest" / "latest.pdstates").is_file()
    wait_until_gone(output)


def test_a_prediction_whose_disk_does_not_answer_stops(
    toy_run: Path, command: Command, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "hangs.png")
    keys = [f"Predict.input={tmp_path / 'hangs.png'}"]
    keys += [f"Predict.model_dir={toy_run / 'best_model' / 'inference'}"]
    process = Background(command("predict", None, tmp_path / "out", *keys), tmp_path, SILENT_DISK)
    process.wait_for("32 x 32 pixels")
    begin = time.monotonic()
    assert process.send(signal.SIGTERM) == 143, process.text()
    assert time.monotonic() - begin < STOPPED
    assert "stopped by SIGTERM" in process.text()
    assert "Traceback" not in process.text()


@pytest.mark.heavy
def test_an_evaluation_whose_disk_does_not_answer_stops(
    toy_run: Path, draw_set: Callable[..., Path], command: Command, tmp_path: Path
) -> None:
    data = draw_set(tmp_path / "set", train=8, val=600)
    weights = toy_run / "best_model" / "best_model.pdparams"
    keys = f"Evaluate.weight_path={weights}", "Evaluate.batch_size=1", "Evaluate.log_interval=1"
    process = Background(command("evaluate", data, tmp_path / "out", *keys), tmp_path, SILENT_DISK)
    process.wait_for("[Eval][Iter 1/600]")
    block(data)
    begin = time.monotonic()
    assert process.send(signal.SIGTERM) == 143, process.text()
    assert time.monotonic() - begin < STOPPED
    assert "Traceback" not in process.text()
    wait_until_gone(tmp_path / "out")


@pytest.mark.heavy
def test_of_two_trainings_in_one_folder_one_is_refused(
    training: Callable[..., list[str]],
    unbroken: Path,
    assert_same_ending: SameEnding,
    tmp_path: Path,
) -> None:
    output, homes = tmp_path / "out", (tmp_path / "one", tmp_path / "two")
    for home in homes:
        home.mkdir()
    both = [Background(training(output), home) for home in homes]
    done = [process.end() for process in both]
    codes = [process.process.returncode for process in both]
    assert sorted(codes) == [0, 2], done
    refused, winner = done[codes.index(2)], both[codes.index(0)].process.pid
    assert f"another train is writing into this folder: process {winner} on " in refused
    assert "Traceback" not in "".join(done)
    assert_same_ending(output, unbroken)


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_moment_it_can_be_resumed_to_the_same_numbers(
    training: Callable[..., list[str]],
    unbroken: Path,
    assert_same_ending: SameEnding,
    tmp_path: Path,
    seed: int,
) -> None:
    output, latest = tmp_path / "out", tmp_path / "out" / "latest"
    process = Background(training(output), tmp_path)
    process.wait_for(f"[Train][Epoch {1 + seed}/3][Iter 3/3]")
    time.sleep(random.Random(seed).uniform(0, 1.5))  # evaluating, saving, or the next epoch
    code = process.send(signal.SIGKILL)
    assert code in (-signal.SIGKILL, 0)
    wait_until_gone(output)
    checkpoint.finish_interrupted(latest)
    resume = [f"Train.resume_path={latest if latest.exists() else earlier_run.AUTO}"]
    if latest.exists():
        assert checkpoint.load(latest).progress["epoch"] >= seed
    else:
        assert seed == 0  # killed before the first epoch was saved
    done = run(*training(output, *resume), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same_ending(output, unbroken)
    left = [path for path in output.rglob(".*") if path.name.endswith((".new", ".old"))]
    assert left == []
