# SPDX-License-Identifier: Apache-2.0
"""Whole searches through main.py, in processes of their own, as a user starts them."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from paddlex_ml import cli
from paddlex_ml.artifacts import sweep_folder
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.artifacts.sweep_folder import PlannedRun, SweepFolder
from paddlex_ml.config import load, shipped
from paddlex_ml.engines.leaderboard import collect
from paddlex_ml.engines.search import run as searches
from paddlex_ml.engines.sweep.run import SweepCommand
from tests.running import LIMIT, Background, run, wait_until_gone

Command = Callable[..., list[str]]
SPACE = ["--sweep", "Train.learning_rate=1e-5..1e-2", "--sweep", "Train.loss.name=bce,asymmetric"]
TIMES = ("seconds", "memory_mib")

needs_optuna = pytest.mark.skipif(
    find_spec("optuna") is None, reason="Optuna is not installed (pip install optuna)"
)


@pytest.fixture
def search(toy: Path, start_weights: Path, command: Command) -> Callable[..., list[str]]:
    """Arguments of a search on `toy`."""

    def write(output: Path, trials: int, *words: str, epochs: int = 3) -> list[str]:
        options = [f"Train.epochs_iters={epochs}", f"Train.pretrain_weight_path={start_weights}"]
        asked = ["--search", "tpe", "--trials", str(trials), *SPACE]
        return [*command("train", toy, output, *options), *asked, *words]

    return write


def table(output: Path) -> list[dict[str, str]]:
    """The rows of the leaderboard without what a clock tells."""
    with (output / "leaderboard.csv").open(encoding="utf-8-sig") as file:
        return [{k: row[k] for k in row if k not in TIMES} for row in csv.DictReader(file)]


def wait_for_epoch(background: Background, output: Path, first: str, epoch: int) -> Path:
    """Wait until the run whose name begins with `first` has ended an epoch; returns its folder."""
    deadline = time.monotonic() + LIMIT
    while background.process.poll() is None:
        for log in output.glob(f"{first}*/train.log"):
            if f"[Epoch {epoch}/" in log.read_text("utf-8"):
                return log.parent
        assert time.monotonic() < deadline, background.text()
        time.sleep(0.02)
    pytest.fail(background.text())


@needs_optuna
@pytest.mark.story
def test_a_search_that_is_killed_ends_with_the_table_of_an_unbroken_one(search, tmp_path, capsys):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    done = run(*search(whole, 3), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Train.learning_rate: from 1e-05 to 0.01, logarithmic scale" in done.stderr
    assert "trials: 3 trained to the end, 0 pruned, 0 failed" in done.stdout
    assert "best: trial " in done.stdout
    background = Background(search(broken, 3), tmp_path)
    wait_for_epoch(background, broken, "trial=1,", 1)
    assert background.send(signal.SIGKILL) == -signal.SIGKILL
    wait_until_gone(broken)
    done = run(*search(broken, 3), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "going on with what an earlier start has left: trial 1\n" in done.stderr
    assert len(table(whole)) == 3
    assert table(broken) == table(whole)
    record = json.loads((broken / "sweep.json").read_text(encoding="utf-8"))
    assert [each["name"] for each in record["runs"]] == sorted(row["run"] for row in table(broken))
    code, _, err = call(search(broken, 3), capsys)
    assert (code, "trial 0" in err) == (0, False)  # nothing is left to train
    assert table(broken) == table(whole)
    code, _, err = call(search(broken, 3, epochs=2), capsys)
    assert code == 2
    assert "the study there is of another configuration: Train.epochs_iters" in err
    assert "(Train.epochs_iters: 3, here 2)" in err


@needs_optuna
@pytest.mark.story
def test_a_run_that_is_pruned_is_told_and_stays_an_ordinary_run(search, toy, tmp_path):
    output, epochs = tmp_path / "out", 60
    arguments = search(output, 7, "--prune", "median", epochs=epochs)
    background = Background(arguments, tmp_path)
    first = wait_for_epoch(background, output, "trial=0,", 1)
    assert background.send(signal.SIGTERM) == 128 + signal.SIGTERM
    assert RunFolder(first).latest.weights.is_file()
    add_perfect_trials(output, epochs)
    done = run(*arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "trial 0: pruned after epoch " in done.stderr
    assert "trial 6: pruned after epoch 1 of 60" in done.stderr
    assert "2 pruned" in done.stdout
    assert f"  {first.name}: pruned by a search after epoch " in done.stdout
    pruned = next(output.glob("trial=6,*"))
    checked = run("-c", str(pruned / "config.yaml"), "-o", "Global.mode=evaluate", folder=tmp_path)
    assert checked.returncode == 0, checked.stderr
    resumed = Background(
        ["-c", str(pruned / "config.yaml"), "-o", "Train.resume_path=auto"], tmp_path
    )
    before = len((pruned / "metrics.csv").read_text().splitlines())
    resumed.wait_for(f"[Epoch {before + 1}/60]")
    assert resumed.send(signal.SIGTERM) == 128 + signal.SIGTERM, resumed.text()
    [problem] = [each.problem for each in collect.collect([pruned])]
    assert not problem.startswith("pruned")


def add_perfect_trials(output: Path, epochs: int) -> None:
    """Trials of a machine whose every epoch was perfect, in the study of the folder."""
    import optuna

    study = optuna.load_study(study_name="search", storage=f"sqlite:///{output}/study.db")
    rates = optuna.distributions.FloatDistribution(1e-5, 1e-2, log=True)
    names = optuna.distributions.CategoricalDistribution(("bce", "asymmetric"))
    for number in range(5):
        study.add_trial(
            optuna.create_trial(
                params={"Train.learning_rate": 1e-3 + number * 1e-4, "Train.loss.name": "bce"},
                distributions={"Train.learning_rate": rates, "Train.loss.name": names},
                value=1.0,
                intermediate_values=dict.fromkeys(range(1, epochs + 1), 1.0),
                user_attrs={"worker": "another", "host": "far"},
            )
        )


@needs_optuna
@pytest.mark.story
def test_two_processes_work_on_one_study(search, tmp_path, capsys):
    shared = ["--storage", str(tmp_path / "journal.log"), "--study", "s"]
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        (folder / "said").mkdir(parents=True)
    both = [Background(search(each, 4, *shared, epochs=2), each / "said") for each in folders]
    assert [each.wait() for each in both] == [0, 0], both[0].text() + both[1].text()
    names = [row["run"] for each in folders for row in table(each)]
    assert sorted(name.partition(",")[0] for name in names) == [f"trial={n}" for n in range(4)]
    assert all(len(table(each)) >= 1 for each in folders)
    assert "trials: 4 trained to the end" in both[0].text() + both[1].text()
    assert sweep_folder.read_search(folders[0] / "search.json") is not None
    other = ["--storage", str(tmp_path / "b.log"), "--study", "s"]
    code, _, err = call(search(folders[0], 4, *other, epochs=2), capsys)
    assert code == 2
    assert f"the folder has runs of another study: s in {tmp_path}/journal.log" in err


def call(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main(arguments)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_dry_run_tells_the_space_and_touches_nothing(search, tmp_path, capsys):
    output = tmp_path / "out"
    code, said, _ = call(search(output, 12, "--dry-run"), capsys)
    assert code == 0
    assert said.splitlines() == [
        "Train.learning_rate: from 1e-05 to 0.01, logarithmic scale",
        "Train.loss.name: one of bce, asymmetric",
        "12 trials; each is chosen when one before it has ended",
    ]
    assert not output.exists()


def test_without_optuna_the_command_that_installs_it_is_told(search, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(searches, "find_spec", lambda _: None)
    code, _, err = call(search(tmp_path / "out", 3), capsys)
    assert code == 2
    assert "error: a search needs the package optuna" in err
    assert "-m pip install 'paddlex-ml[search]'" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--sweep", "Train.batch_size=4..0"], "Train.batch_size: 4..0 does not go up"),
        (["--sweep", "Train.lerning_rate=1..2"], "there is no key Train.lerning_rate"),
        (["--sweep", "Train.amp=O1,O9"], "the run learning_rate=1e-05"),
        (["--sweep", "Train.warmup_steps=0..9"], "the run learning_rate=1e-05"),
        (["--max-runs", "2"], "these are 3 trainings, one for each trial"),
        (["--seeds", "2"], "--seeds is given, but a search trains each combination once"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_started(
    search, tmp_path, capsys, words, what
):
    output = tmp_path / "out"
    code, _, err = call(search(output, 3, *words), capsys)
    assert code == 2
    assert f"error: {what}" in err
    assert not output.exists()


def test_a_space_that_is_smaller_than_the_trials_is_refused(command, toy, tmp_path, capsys):
    few = ["--sweep", "Train.loss.name=bce,asymmetric", "--search", "random", "--trials", "2"]
    code, _, err = call([*command("train", toy, tmp_path / "out"), *few], capsys)
    assert code == 2
    assert "error: the space has 2 combinations, and --trials is 2" in err
    assert "leave out --search and --trials" in err


@needs_optuna
def test_a_storage_that_does_not_answer_starts_nothing_and_keeps_its_secrets(
    search, tmp_path, capsys
):
    output = tmp_path / "out"
    url = "postgresql://bob:s3cret@127.0.0.1:1/db"
    code, said, err = call(search(output, 3, "--storage", url, "--study", "s"), capsys)
    assert code == 2
    assert "error: the storage of the search" in err
    assert "where: postgresql://127.0.0.1:1/db" in err
    assert not any(word in text for text in (said, err) for word in ("bob", "s3cret"))
    assert not output.exists()
    code, _, err = call(search(output, 3, "--storage", "redis://h/1", "--study", "t"), capsys)
    assert code == 2
    assert "error: there is no storage redis://" in err
    assert not output.exists()
    (output / "mine").mkdir(parents=True)
    code, _, err = call(search(output, 3, "--storage", url, "--study", "s"), capsys)
    assert code == 2
    assert (output / "mine").is_dir()


def test_a_search_with_another_teacher_is_another_one_and_its_folder_may_be_any(
    command, toy, tmp_path
):
    notes = []
    for teacher in ("null", "[/a/large]", "[/b/large]", "[/b/larger, /c]"):
        words = command("train", toy, tmp_path, f"Train.teacher={teacher}")
        path, _ = shipped.find(words[1])
        options = searches._describe(load.load(path, words[3:]).config, {}).options
        notes.append(options["Train.teacher"])
    assert notes == ["", "large", "large", "larger, c"]


def test_no_training_gets_the_url_of_a_storage(command, toy, tmp_path):
    url = "postgresql://bob:s3cret@127.0.0.1:1/db"
    typed = ["Global.mode=train", f"Sweep.storage={url}", "Sweep={study: s}", "Train.amp=OFF"]
    sweep = SweepCommand(True, "PP-LCNet_x1_0_ML", tmp_path / "a.yaml", typed)
    words = sweep.words(PlannedRun(name="a", overrides=["Train.seed=1"], group=""), tmp_path)
    assert words[2:8] == ["-o", "Global.mode=train", "-o", "Train.amp=OFF", "-o", "Sweep=null"]
    sweep.record(SweepFolder(tmp_path), [])
    assert "Sweep" not in (tmp_path / "sweep.json").read_text("utf-8")


@needs_optuna
@pytest.mark.story
def test_a_storage_that_is_lost_lets_the_trainings_save_their_states(search, tmp_path):
    output, journal = tmp_path / "out", tmp_path / "journal.log"
    shared = ["--storage", str(journal), "--study", "s"]
    background = Background(search(output, 3, *shared, epochs=60), tmp_path)
    first = wait_for_epoch(background, output, "trial=0,", 1)
    os.rename(journal, tmp_path / "away.log")
    os.mkdir(journal)
    assert background.wait() == 2
    assert "error: the storage of the search does not answer" in background.text()
    assert RunFolder(first).latest.weights.is_file()
    wait_until_gone(output)


@needs_optuna
@pytest.mark.story
def test_a_training_that_fails_is_told_and_made_up_for(search, toy, tmp_path):
    """Seven classes where there are three: each training refuses it."""
    output = tmp_path / "out"
    done = run(*search(output, 2, "-o", "Train.num_classes=7"), folder=tmp_path)
    assert done.returncode == 2
    assert "error: 2 of 2 runs failed: trial=0," in done.stderr
    assert "makes other trials in place of the failed ones" in done.stderr
    assert "trials: 0 trained to the end, 0 pruned, 2 failed" in done.stdout
