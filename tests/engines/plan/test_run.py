# SPDX-License-Identifier: Apache-2.0
"""Mode plan, by the command."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import yaml

from paddlex_ml import cli
from paddlex_ml.engines.plan import run as plan_run
from paddlex_ml.engines.plan import trial
from paddlex_ml.engines.plan.trial import EpochKind, TrialFacts, TrialFindings, TrialTask
from paddlex_ml.storage import temporary
from tests.results import PLANNED

Run = Callable[..., tuple[int, str]]


def test_a_plan_measures_and_touches_no_folder(
    toy: Path,
    tmp_path: Path,
    command,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    output, own = tmp_path / "output", tmp_path / "own"
    own.mkdir()
    monkeypatch.setattr(temporary, "own_folder", lambda: own)
    words = command("plan", toy, output, "Train.num_workers=1", "Train.keep_last=1")
    assert cli.main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert not output.exists()
    assert os.listdir(own) == []
    assert (found["train_images"], found["val_images"], found["classes"]) == (24, 12, 3)
    assert (found["steps"], found["epochs"], found["validations"]) == (3, 2, 2)
    assert found["timed_steps"] >= 3
    assert found["started_from"] == "random weights"
    assert found["changed"]["Train.image_size"] == "32"
    assert "Global.output" not in found["changed"]
    for name in ("step", "epoch", "validation", "checkpoint", "export", "start", "run"):
        assert 0 < found[name]["seconds"] <= found["run"]["seconds"]
    parts = 2 * (found["epoch"]["seconds"] + found["validation"]["seconds"])
    assert parts < found["run"]["seconds"]
    assert 100 < found["memory_mib"] < found["free_mib"]
    assert found["disk_bytes"] > 2 * found["checkpoint_bytes"] > 0
    assert (found["largest_batch_size"], found["largest_is_limited_by"]) == (24, "images")
    assert [each["batch_size"] for each in found["tried"]] == [4, 8, 24]


def test_what_a_training_refuses_a_plan_refuses(toy: Path, tmp_path: Path, run: Run):
    data, output = shutil.copytree(toy, tmp_path / "data"), tmp_path / "out"
    (data / "images" / "train_3.png").write_bytes(b"no image")
    faults = {
        "is not set: mode plan reads a data set": (None, ()),
        "the data set folder no/such does not exist": (Path("no/such"), ()),
        "no such weight file": (toy, ("Train.pretrain_weight_path=no.pdparams",)),
        "Train.num_classes is 7": (toy, ("Train.num_classes=7",)),
        "train_3.png": (data, ("Train.batch_size=24",)),
    }
    for said, (folder, options) in faults.items():
        code, err = run("plan", folder, output, *options)
        assert code == 2, err
        assert err.count("error: ") == 1
        assert said in err
        assert "Traceback" not in err
    assert not output.exists()


def test_the_command_names_the_training_and_json_is_the_result_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan_run, "run", lambda config: PLANNED)
    Path("data").mkdir()
    for name in ("label.txt", "train.txt", "val.txt"):
        Path("data", name).touch()
    words = ["-c", "PP-LCNet_x1_0_ML", "-o", "Global.mode=plan", "Global.dataset_dir=data"]
    words += ["Train.batch_size=auto"]
    assert cli.main(words) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "Plan of a training; nothing was written"
    assert shown[-1].startswith("next: ")
    assert shown[-1].endswith("train -o Global.dataset_dir=data -o Train.batch_size=8")
    assert cli.main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == msgspec.to_builtins(PLANNED)
    assert os.listdir() == ["data"]


def test_a_result_of_any_mode_is_printed_as_json(
    copy_of_run: Path, command, capsys: pytest.CaptureFixture[str]
):
    keys = ("Export.format=safetensors",)
    assert cli.main([*command("export", None, copy_of_run, *keys), "--json"]) == 0
    written = (copy_of_run / "export_result.json").read_text()
    assert json.loads(capsys.readouterr().out) == json.loads(written)


@pytest.fixture
def no_trials(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Trials that are not run: 10 MiB an image. Returns the sizes that are tried."""
    sizes: list[int] = []

    def pretend(task: TrialTask) -> TrialFindings:
        size = task.config.Train.batch_size
        assert size != "auto"
        sizes.append(size)
        facts = TrialFacts(24, 12, 3, 3, 3.0, 2, 2)
        kinds = [EpochKind(2, np.array([0.01, 0.02]), 3)]
        return TrialFindings(facts, kinds, np.zeros(2), 10.0 * size, None, 10.0, 10.0, None)

    monkeypatch.setattr(trial, "run", pretend)
    return sizes


def test_a_training_keeps_the_number_that_auto_became(
    toy: Path, tmp_path: Path, run: Run, no_trials: list[int], assert_same_ending
):
    auto, again, typed = tmp_path / "auto", "Train.resume_path=auto", tmp_path / "typed"
    assert run("train", toy, auto, "Train.batch_size=auto", "Train.epochs_iters=1")[0] == 0
    assert yaml.safe_load((auto / "config.yaml").read_text())["Train"]["batch_size"] == 24
    assert no_trials
    no_trials.clear()
    assert run("train", toy, auto, "Train.batch_size=auto", again)[0] == 0
    assert no_trials == []
    assert run("train", toy, typed, "Train.batch_size=24", "Train.epochs_iters=1")[0] == 0
    assert run("train", toy, typed, "Train.batch_size=24", again)[0] == 0
    assert_same_ending(auto, typed)


def test_an_evaluation_needs_no_size(toy: Path, copy_of_run: Path, run: Run, no_trials: list[int]):
    assert run("evaluate", toy, copy_of_run, "Train.batch_size=auto")[0] == 0
    assert no_trials == []
