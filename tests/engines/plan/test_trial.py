# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddlex_ml import machine_memory
from paddlex_ml.config import load, shipped
from paddlex_ml.config.schema import Config
from paddlex_ml.devices import Devices
from paddlex_ml.distributed.group import ProcessGroup
from paddlex_ml.engines.answering_process import OutOfMemory
from paddlex_ml.engines.plan import trial
from paddlex_ml.engines.plan.estimate import estimate
from paddlex_ml.engines.plan.trial import (
    Completion,
    EpochKind,
    TrialFacts,
    TrialFindings,
    TrialTask,
)
from paddlex_ml.errors import PaddlexMLError

CPU = Devices("cpu", (0,))


@pytest.fixture
def config_of(toy: Path, tmp_path: Path) -> Any:
    def read(*overrides: str) -> Config:
        path, _ = shipped.find("PP-LCNet_x1_0_ML")
        output = tmp_path / "run"
        output.mkdir(exist_ok=True)
        base = ["Global.mode=train", f"Global.dataset_dir={toy}", f"Global.output={output}"]
        base += ["Train.image_size=32", "Train.batch_size=8", "Train.num_workers=0"]
        base += ["Train.pretrain_weight_path=null", "Train.epochs_iters=4", "Global.device=cpu"]
        return load.load(path, [*base, *overrides]).config

    return read


def test_a_complete_trial_measures_all_that_a_training_does(
    config_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(trial, "TIMED_SECONDS", 0.0)
    config = config_of("Train.freeze_backbone_epochs=1", "Train.cache=ram", "Train.keep_last=2")
    report = trial.measure(TrialTask(config, CPU, is_complete=True), ProcessGroup())
    assert report is not None
    assert report.facts == TrialFacts(24, 12, 3, 3, 3.0, 4, 2)
    assert [(kind.epochs, kind.timed) for kind in report.kinds] == [(1, 3), (3, 3)]
    assert all(kind.step.min() >= 0 and kind.step[0] > 0 for kind in report.kinds)
    assert 0 < report.step_mib <= report.memory_mib
    assert report.gpu_mib is report.room_mib is None
    done = report.completion
    assert done is not None
    assert done.checkpoint[0] > 0
    assert done.export[0] > 0
    assert done.per_image[0] > 0
    saved = {path.suffix for path in (config.Global.output / "latest").iterdir()}
    assert saved == {".pdparams", ".pdopt", ".pdstates", ".pdema"}
    assert done.checkpoint_bytes > 4 * 10_000
    assert done.export_bytes > 10_000


def test_a_trial_for_memory_makes_two_steps_and_writes_nothing(config_of: Any):
    config = config_of("Train.num_workers=1", "Train.grad_accum_steps=2")
    report = trial.measure(TrialTask(config, CPU, is_complete=False), ProcessGroup())
    assert report is not None
    assert [(kind.epochs, kind.timed) for kind in report.kinds] == [(4, 1)]
    assert report.completion is None
    assert [*config.Global.output.iterdir()] == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], [(0, 4)]),
        (["Train.cache=disk"], [(0, 1), (1, 3)]),
        (["Train.freeze_backbone_epochs=2"], [(0, 2), (2, 2)]),
        (["Train.freeze_backbone_epochs=2", "Train.cache=ram"], [(0, 1), (1, 1), (2, 2)]),
        (["Train.cache=ram", "Train.epochs_iters=1"], [(0, 1)]),
    ],
)
def test_epochs_that_take_another_time_are_told_apart(
    config_of: Any, options: list[str], expected: list[tuple[int, int]]
):
    assert trial._list_epochs(config_of(*options)) == expected


class Pipe:
    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, reply: Any) -> None:
        self.sent.append(reply)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), OutOfMemory),
        (RuntimeError("ResourceExhaustedError: Out of memory on GPU 0"), OutOfMemory),
        (PaddlexMLError("no", where="here", fix="do"), PaddlexMLError),
        (KeyError("a fault of ours"), RuntimeError),
    ],
)
def test_errors_are_sent_as_what_they_are(
    config_of: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception]
):
    def fail(*_: object) -> None:
        raise error

    pipe: Any = Pipe()
    monkeypatch.setattr(trial, "measure", fail)
    monkeypatch.setattr(trial, "begin_answering", list)
    trial.serve(pipe, TrialTask(config_of(), CPU, is_complete=False))
    (sent,) = pipe.sent
    assert type(sent) is kind


def test_a_trial_is_ended_before_the_memory_of_the_machine_is(
    config_of: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(machine_memory, "available", lambda: 1000)
    with pytest.raises(OutOfMemory, match="takes all memory"):
        trial.run(TrialTask(config_of(), CPU, is_complete=False))


def test_the_run_is_the_sum_of_its_parts():
    one = np.array([1.0, 2.0])
    kinds = [EpochKind(1, 3 * one, 3), EpochKind(3, one, 3)]
    facts = TrialFacts(100, 40, 5, 10, whole_steps=9.5, validations=2, kept_epochs=3)
    rest = Completion(5 * one, 2 * one, 0.1 * one, one, 0.5 * one, 4 * one, one, 1000, 1200, 100)
    report = TrialFindings(facts, kinds, 7 * one, 1.0, None, 1.0, 1.0, None, rest)
    found = estimate(report)
    assert found.step.seconds == pytest.approx(1.5)
    assert found.epoch.seconds == pytest.approx(9.5 * 1.5)
    assert found.validation.seconds == pytest.approx(2 + 4 + 1)
    expected = 7 + 4 * 9.5 * 1.5 + 5 + 2 * (7 + 0.5) + 4 * 0.5 + 4 + 1
    assert found.run.seconds == pytest.approx(expected)
    assert found.run.processor == pytest.approx(2 * expected)
    assert found.disk_bytes == 3 * 1000 + 1200 + 100


def test_warnings_of_the_lists_come_with_the_report(
    config_of: Any, monkeypatch: pytest.MonkeyPatch
):
    pipe: Any = Pipe()
    told = ["a class without images"]
    monkeypatch.setattr(trial, "begin_answering", lambda: told)
    trial.serve(pipe, TrialTask(config_of(), CPU, is_complete=False))
    (report,) = pipe.sent
    assert report.warnings == told
