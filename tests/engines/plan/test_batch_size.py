# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddlex_ml import machine_memory
from paddlex_ml.config import load, shipped
from paddlex_ml.config.schema import Config
from paddlex_ml.devices import Devices
from paddlex_ml.engines.answering_process import OutOfMemory
from paddlex_ml.engines.plan import batch_size, trial
from paddlex_ml.engines.plan.batch_size import Largest, Trials
from paddlex_ml.engines.plan.trial import EpochKind, TrialFacts, TrialFindings, TrialTask
from paddlex_ml.engines.train.resume import Beginning
from paddlex_ml.errors import PaddlexMLError

CPU = Devices("cpu", (0,))
FACTS = TrialFacts(1600, 400, 5, 50, 50.0, 2, 2)


def line(at: list[int], *, base: float = 500, each: float = 50) -> Callable[[int], float]:
    def measure(size: int) -> float:
        at.append(size)
        return base + each * size

    return measure


@pytest.mark.parametrize(
    ("room", "most", "expected"),
    [(10_000, 4096, 128), (10_000, 100, 100), (10_000, 1, 1), (2_100, 4096, 32), (1_000, 64, 8)],
)
def test_the_largest_that_fits_is_found_in_few_trials(room: float, most: int, expected: int):
    asked: list[int] = []
    first = min(32, most)
    assert batch_size.search(line(asked), first, most, room) == expected
    assert len(asked) == len(set(asked)) <= 5
    assert max(asked) <= max(first, room / 50)


def test_memory_that_is_no_line_is_measured_until_it_is_known():
    asked: list[int] = []

    def measure(size: int) -> float | None:
        asked.append(size)
        return None if size > 70 else 500 + 10 * size  # fails long before the line says so

    assert batch_size.search(measure, 16, 4096, 10_000) == 64
    assert len(asked) < 10


def test_the_first_size_may_be_too_large_for_the_room():
    assert batch_size.search(line([]), 64, 4096, 1_400) == 16


def config_of(data: Path, *overrides: str) -> Config:
    path, _ = shipped.find("PP-LCNet_x1_0_ML")
    keys = ["Global.mode=train", f"Global.dataset_dir={data}", "Train.batch_size=auto", *overrides]
    return load.load(path, keys).config


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Trials that are not run; the key each is MiB of an image, seconds those of an image."""
    known: dict[str, Any] = {"each": 50.0, "seconds": 0.01, "sizes": []}

    def run(task: TrialTask) -> TrialFindings:
        size = task.config.Train.batch_size
        assert size != "auto"
        known["sizes"].append(size)
        known["config"] = task.config
        if size * known["each"] > 3_000:
            raise OutOfMemory("full", where="memory", fix="less")
        step = np.array([known["seconds"] * size, 0.0])
        memory = 100 + known["each"] * size
        kinds = [EpochKind(2, step, 3)]
        return TrialFindings(FACTS, kinds, np.zeros(2), memory, None, memory, memory, None)

    monkeypatch.setattr(trial, "run", run)
    monkeypatch.setattr(machine_memory, "available", lambda: 2000 * 2**20)
    return known


def test_what_limits_the_size_is_told(toy: Path, tmp_path: Path, machine: dict[str, Any]):
    def find(number: int, images: int) -> Largest:
        folder = tmp_path / str(number)
        folder.mkdir()
        return Trials(config_of(toy), CPU, folder).find_largest(16, images)

    assert find(1, 1600) == Largest(32, "memory")  # 90 % of 2000 MiB hold 34 images
    assert find(2, 30) == Largest(30, "images")
    machine["seconds"] = 1.0
    assert find(3, 1600) == Largest(20, "time")
    machine["each"] = 9_000
    with pytest.raises(PaddlexMLError, match="does not hold a step with a single image"):
        find(4, 1600)
    assert machine["sizes"][-1] == 1


def test_a_fault_of_the_training_is_raised_and_not_taken_for_want_of_memory(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: dict[str, Any]
):
    trials, works = Trials(config_of(toy), CPU, tmp_path), trial.run

    def fail(task: TrialTask) -> TrialFindings:
        raise PaddlexMLError("a broken image", where="images/a.png", fix="remove it")

    monkeypatch.setattr(trial, "run", fail)
    with pytest.raises(PaddlexMLError, match="a broken image"):
        trials.measure(8)
    monkeypatch.setattr(trial, "run", works)
    assert trials.measure(8) == 500
    monkeypatch.setattr(trial, "run", fail)
    assert trials.measure(16) is None  # its workers may have been killed for memory


def test_a_trial_writes_into_its_own_folder_and_fetches_nothing(
    toy: Path, tmp_path: Path, machine: dict[str, Any]
):
    extra = ["Train.resume_path=auto", "Train.tensorboard=true", f"Global.output={tmp_path / 'o'}"]
    trials = Trials(config_of(toy, *extra), CPU, tmp_path)
    trials.run(4, is_complete=False)
    options = machine["config"].Train
    assert machine["config"].Global.output == tmp_path / "run"
    assert (options.resume_path, options.tensorboard) == (None, False)
    assert options.cache_dir == tmp_path / "cache"
    assert options.pretrain_weight_path is None
    assert "not in the cache yet: measured with random ones" in trials.notes[0]
    assert not (tmp_path / "o").exists()


def test_a_trial_that_takes_long_is_named(
    toy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("paddlex_ml.progress.PATIENCE", 0.0)
    monkeypatch.setattr("paddlex_ml.progress.LONGEST_SILENCE", 0.02)
    monkeypatch.setattr(trial, "run", lambda task: time.sleep(0.1))
    Trials(config_of(toy), CPU, tmp_path).run(4, is_complete=False)
    assert caplog.messages[0] == "trying 4 images per step, for its memory ..."
    assert caplog.messages[1] == "trying 4 images per step, for its memory: 0 s so far"


def test_auto_becomes_a_number_and_the_log_says_what_the_rate_is_meant_for(
    toy: Path, machine: dict[str, Any], caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    caplog.set_level(logging.INFO)
    config = batch_size.give_number(config_of(toy), CPU, Beginning())
    assert config.Train.batch_size == 24  # the toy has no more images
    assert "Train.batch_size=auto: 24 images per step" in caplog.text
    assert "32 images an update, not for 24: -o Train.grad_accum_steps=2" in caplog.text
    machine["each"] = 1.0
    monkeypatch.setattr(batch_size, "count_images", lambda config: 3_000)
    config = batch_size.give_number(config_of(toy, "Train.learning_rate=0.001"), CPU, Beginning())
    assert config.Train.batch_size == 150  # 20 steps
    assert "for 150 the square root rule of Adam gives -o Train.learning_rate=0.0022" in caplog.text


def test_a_run_that_goes_on_keeps_its_size(toy_run: Path, toy: Path, machine: dict[str, Any]):
    config = batch_size.give_number(config_of(toy), CPU, Beginning(toy_run / "latest"))
    assert config.Train.batch_size == 8
    assert machine["sizes"] == []


def test_the_launcher_of_paddle_is_refused(
    toy: Path, machine: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    monkeypatch.setenv("PADDLE_TRAINER_ID", "0")
    with pytest.raises(PaddlexMLError, match="has started several processes"):
        batch_size.give_number(config_of(toy), CPU, Beginning())


def test_several_machines_are_refused():
    path, _ = shipped.find("PP-LCNet_x1_0_ML")
    base = ["Global.dataset_dir=data", "Train.dist_ips=a,b"]
    for mode, size in (("train", "auto"), ("plan", "8")):
        words = [*base, f"Global.mode={mode}", f"Train.batch_size={size}"]
        (fault,) = load.find_faults(path, words)
        assert load.find_faults(path, [*words, fault.fix.removeprefix("-o ")]) == []
