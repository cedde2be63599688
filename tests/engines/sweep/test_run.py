# SPDX-License-Identifier: Apache-2.0
"""Whole sweeps through main.py, in processes of their own, as a user starts them."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from paddlex_ml import cli, command_line
from paddlex_ml.artifacts import saved_scores
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.artifacts.sweep_folder import PlannedRun, SweepFolder
from paddlex_ml.config import load, run_config, shipped
from paddlex_ml.config.schema import Config
from paddlex_ml.engines.sweep import join_folds
from paddlex_ml.engines.sweep import run as sweeps
from paddlex_ml.engines.sweep.children import Ended
from paddlex_ml.engines.sweep.join_folds import JoinedFolds
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import files
from tests.finished_runs import draw_scores, draw_targets, write_run
from tests.running import LIMIT, Background, run

Command = Callable[..., list[str]]
RATES = "Train.learning_rate=1e-4,5e-4"
TIMES = ("seconds", "memory_mib")


@pytest.fixture
def sweep(toy: Path, start_weights: Path, command: Command) -> Callable[..., list[str]]:
    """Arguments of a sweep on `toy`."""

    def write(output: Path, *words: str, epochs: int = 3) -> list[str]:
        options = [f"Train.epochs_iters={epochs}", f"Train.pretrain_weight_path={start_weights}"]
        return [*command("train", toy, output, *options), *words]

    return write


def table(output: Path) -> list[dict[str, str]]:
    """The rows of the leaderboard without what a clock tells."""
    with (output / "leaderboard.csv").open(encoding="utf-8-sig") as file:
        return [{k: row[k] for k in row if k not in TIMES} for row in csv.DictReader(file)]


@pytest.mark.story
def test_a_sweep_that_is_killed_ends_with_the_table_of_an_unbroken_one(sweep, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    done = run(*sweep(whole, "--sweep", RATES), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "run 2 of 2" in done.stderr
    assert f"report: {whole}/leaderboard.html" in done.stdout
    names = ["learning_rate=1e-4", "learning_rate=5e-4"]
    for kill in (1, 2):
        background = Background(sweep(broken, "--sweep", RATES), tmp_path)
        log = RunFolder(broken / names[kill - 1]).train_log
        deadline = time.monotonic() + LIMIT
        while background.process.poll() is None:
            if log.is_file() and f"[Epoch {kill}/3]" in log.read_text("utf-8"):
                break
            assert time.monotonic() < deadline, background.text()
            time.sleep(0.02)
        assert background.send(signal.SIGKILL) == -signal.SIGKILL
    done = run(*sweep(broken, "--sweep", RATES), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 runs, 1 done before" in done.stderr
    assert table(broken) == table(whole)
    again = run(*sweep(broken, "--sweep", RATES), folder=tmp_path)
    assert "2 runs, 2 done before" in again.stderr
    assert table(broken) == table(whole)
    scores = [RunFolder(each / names[1]).val_scores.read_bytes() for each in (whole, broken)]
    assert scores[0] == scores[1]
    other = run(*sweep(broken, "--sweep", RATES, epochs=2), folder=tmp_path)
    assert other.returncode == 2
    assert "has other options than this sweep: Train.epochs_iters (3, here 2)" in other.stderr


@pytest.mark.story
def test_a_run_that_fails_is_named_and_the_others_go_on(sweep, tmp_path):
    output = tmp_path / "out"
    done = run(
        *sweep(output, "--sweep", "Train.num_classes=7,3", "--jobs", "2", epochs=1),
        folder=tmp_path,
    )
    assert done.returncode == 2
    assert "error: 1 of 2 runs failed: num_classes=7: Train.num_classes is 7" in done.stderr
    assert "repeat the command" in done.stderr
    assert [row["run"] for row in table(output)] == ["num_classes=3"]
    assert "num_classes=3" in done.stdout
    record = json.loads((output / "sweep.json").read_text(encoding="utf-8"))
    assert [each["name"] for each in record["runs"]] == ["num_classes=7", "num_classes=3"]


@pytest.mark.story
def test_folds_score_every_image_once_and_a_section_of_the_file_asks_for_them(sweep, toy, tmp_path):
    output, file = tmp_path / "out", tmp_path / "mine.yaml"
    shown = run("-c", "PP-LCNet_x1_0_ML", "--print-config", folder=tmp_path)
    file.write_text(f"{shown.stdout}Sweep:\n  folds: 2\n", encoding="utf-8")
    arguments = sweep(output, epochs=1)
    arguments[1] = str(file)
    done = run(*arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "all 36 images out of fold" in done.stdout
    scores, _ = saved_scores.read_table(output / "out_of_fold" / "all" / "val_scores.npz")
    assert len(scores) == 36
    rows = table(output)
    assert sorted(row["fold"] for row in rows) == ["1 of 2", "2 of 2"]
    assert (output / "out_of_fold" / "all" / "label_errors.csv").is_file()
    saved = output / "fold=1of2" / "config.yaml"
    checked = run("-c", str(saved), "-o", "Global.mode=evaluate", folder=tmp_path)
    assert checked.returncode == 0, checked.stderr  # an ordinary run


def call(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main(arguments)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_dry_run_prints_commands_and_touches_nothing(sweep, tmp_path, capsys):
    output = tmp_path / "out"
    words = ["--sweep", RATES, "--seeds", "2", "--dry-run"]
    code, said, _ = call(sweep(output, *words), capsys)
    lines = said.splitlines()
    assert code == 0
    assert len(lines) == 4
    name = "learning_rate=1e-4,seed=42"
    ending = "-o Train.learning_rate=1e-4 -o Global.seed=42 -o Train.resume_path=auto -o "
    assert lines[0].endswith(f"{ending}Global.output={output}/{name}")
    assert "Sweep=null" not in said
    assert not output.exists()


def test_each_model_gets_its_own_file_where_that_of_a_model_is_given(sweep, tmp_path, toy, capsys):
    models = ["PP-LCNet_x1_0_ML", "PP-HGNetV2-B0_ML"]
    words = ["--sweep", f"Global.model={','.join(models)}", "--dry-run"]
    _, said, _ = call(sweep(tmp_path / "out", *words), capsys)
    assert [shlex.split(line)[3:5] for line in said.splitlines()] == [["-c", m] for m in models]
    file = tmp_path / "mine.yaml"
    file.write_bytes((shipped.folder() / f"{models[0]}.yaml").read_bytes())
    typed = sweep(tmp_path / "out", *words)
    typed[1] = str(file)
    _, said, _ = call(typed, capsys)
    assert said.count(f"-c {file} ") == 2


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--sweep", "Train.lerning_rate=1,2"], "there is no key Train.lerning_rate"),
        (["--sweep", "Train.learning_rate="], "Train.learning_rate has no values"),
        (["--sweep", "Global.output=a,b"], "Global.output cannot be swept"),
        (["--seeds", "100", "--folds", "100"], "these are 10,000 runs: 100 seeds x 100 folds"),
        (
            ["--sweep", "Train.learning_rate=1e-4,fast"],
            "the run learning_rate=fast cannot start: Train.learning_rate is 'fast'",
        ),
        (
            ["--sweep", "Train.batch_size=0,none"],
            "the run batch_size=0 cannot start: Train.batch_size is 0",
        ),
        (
            ["--sweep", "Train.learning_rate=1e-4,0.0001"],
            "learning_rate=1e-4 and learning_rate=0.0001 are the same training",
        ),
        (
            ["--sweep", RATES, "-o", "Global.dataset_dir=missing"],
            "the data set folder missing does not exist",
        ),
        (["--folds", "37"], "36 images with certain labels cannot be divided into 37 folds"),
        (
            ["--folds", "2", "-o", "CheckDataset.convert.src_dataset_type=auto"],
            "folds divide the lists of a data set, and here is none yet",
        ),
        (
            ["--folds", "2", "--emit", "slurm", "-o", "CheckDataset.convert.src_dataset_type=auto"],
            "folds divide the lists of a data set, and here is none yet",
        ),
        (
            ["--sweep", RATES, "--emit", "slurm", "-o", "Global.dataset_dir=missing"],
            "the data set folder missing does not exist",
        ),
        (["--sweep", RATES, "--json"], "a sweep prints no JSON"),
        (["-o", "Sweep.seeds=2", "--json"], "a sweep prints no JSON"),
        (["--sweep", RATES, "--dry-run", "--emit", "slurm"], "argument --emit: not allowed with"),
        (["--sweep", RATES, "--print-config"], "--print-config prints one configuration and stops"),
        (["--max-runs", "5"], "--max-runs is for a sweep"),
        (["--dry-run"], "--dry-run is for a sweep"),
        (["--sweep", RATES, "-o", "Global.mode=evaluate"], "a sweep trains: the mode is evaluate"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_started(
    sweep, tmp_path, capsys, words, what
):
    output = tmp_path / "new" / "out"
    code, _, err = call(sweep(output, *words), capsys)
    assert code == 2
    assert f"error: {what}" in err
    assert not output.parent.exists()


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that cannot be written")
def test_a_folder_that_cannot_be_made_is_one_clear_error(sweep, capsys):
    code, _, err = call(sweep(Path("/proc/none"), "--sweep", RATES), capsys)
    assert code == 2
    assert "error: the output folder cannot be written" in err


def test_the_same_sweep_from_another_working_folder_goes_on(
    sweep, copy_of_run, toy, tmp_path, capsys, monkeypatch
):
    output = tmp_path / "out"
    run_folder = output / "learning_rate=0.0001"
    output.mkdir()
    copy_of_run.rename(run_folder)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    relative = ["-o", f"Global.dataset_dir={os.path.relpath(toy)}", "Global.output=../out"]
    words = [*sweep(output, "--sweep", "Train.learning_rate=0.0001", epochs=2), *relative]
    code, said, err = call(words, capsys)
    assert code == 0, err
    assert "1 run, 1 done before" in err
    assert "learning_rate=0.0001" in said


def test_what_a_training_chose_by_itself_is_no_other_option(sweep, copy_of_run, toy):
    saved = RunFolder(copy_of_run).config_yaml
    found = run_config.read_texts(saved)
    auto = ["-o", "Train.batch_size=auto", f"Global.output={copy_of_run}"]
    config = read_config(sweep(copy_of_run, *auto, epochs=2))
    assert found["Train.batch_size"] == "8"
    assert sweeps.is_done(copy_of_run, config, {})
    source = [*auto, "-o", "CheckDataset.convert.src_dataset_type=auto", "Train.image_size=448"]
    config = read_config(sweep(copy_of_run, *source, "Global.dataset_dir=/source", epochs=20))
    assert sweeps.is_done(copy_of_run, config, {})
    config = read_config(sweep(copy_of_run, *source, "Train.learning_rate=0.002", epochs=20))
    with pytest.raises(
        PaddlexMLError, match=r"other options than this sweep: Train\.learning_rate"
    ):
        sweeps.is_done(copy_of_run, config, {})


def test_a_sweep_with_folds_that_was_moved_goes_on(sweep, copy_of_run, tmp_path):
    saved = RunFolder(copy_of_run).config_yaml
    text = saved.read_text("utf-8")
    there = run_config.split_texts(text)
    text = text.replace(there["Global.dataset_dir"], "/old/folds/fold_1_of_2")
    files.write_text(saved, text.replace(there["Global.output"], "/old/run"))
    for fold, is_own in (("folds/fold_1_of_2", True), ("folds/fold_2_of_2", False)):
        words = sweep(copy_of_run, "-o", f"Global.dataset_dir={tmp_path / fold}", epochs=2)
        if is_own:
            assert sweeps.is_done(copy_of_run, read_config(words), {})
            continue
        with pytest.raises(PaddlexMLError, match=r"other options than this sweep: Global\.dataset"):
            sweeps.is_done(copy_of_run, read_config(words), {})


def test_a_run_of_other_lists_is_refused(sweep, copy_of_run):
    config = read_config(sweep(copy_of_run, epochs=2))
    [lists] = sweeps.digest_lists([config])
    assert sorted(lists) == ["label.txt", "train.txt", "val.txt"]
    assert sweeps.is_done(copy_of_run, config, lists)
    with pytest.raises(PaddlexMLError, match=r"train\.txt changed since the run there began"):
        sweeps.is_done(copy_of_run, config, {**lists, "train.txt": "0"})


@pytest.mark.parametrize(
    ("code", "by"), [(143, "SIGTERM"), (130, "SIGINT"), (-15, "SIGTERM"), (2, ""), (-9, "")]
)
def test_a_training_that_was_stopped_has_not_failed(tmp_path, code, by):
    folder = SweepFolder(tmp_path)
    failed = {"done_flag": False, "err_msg": "no space left"}
    files.write_json(RunFolder(tmp_path / "a").result("train"), failed)
    problem = sweeps.find_problem(Ended("a", code, 1.0, 0), folder)
    told = f"it was stopped by {by}, and the same command goes on with it"
    assert problem == f"{told if by else 'no space left'} (log: {tmp_path}/logs/a.txt)"


def test_folds_that_are_not_whole_are_not_joined(tmp_path, monkeypatch, caplog):
    runs = [
        PlannedRun(name=f"{group},fold={k}of2", overrides=[], group=group)
        for group in ("good", "failed", "lost", "damaged")
        for k in (1, 2)
    ]
    targets = draw_targets(20)
    write_run(tmp_path / runs[0].name, draw_scores(targets, 1.0, 0), targets)

    def join(_: SweepFolder, group: str, names: Sequence[str]) -> JoinedFolds | None:
        if group == "damaged":
            raise PaddlexMLError("it is damaged", where=names[0], fix="")
        return None if group == "lost" else JoinedFolds(40, 0.5, 3, tmp_path)

    monkeypatch.setattr(join_folds, "join", join)
    problems = {"failed,fold=2of2": "it was killed"}
    outcome = sweeps._sum_up(SweepFolder(tmp_path), runs, problems)
    joined = [line for line in outcome.lines if "out of fold" in line]
    assert joined == [
        f"good: mAP 0.5000 of all 40 images out of fold, 3 doubtful labels: {tmp_path}"
    ]
    assert "the folds of lost are not joined: the scores of a run are not kept" in caplog.text
    assert "the folds of damaged are not joined: damaged,fold=1of2: it is damaged" in caplog.text
    assert outcome.error is not None


def read_config(arguments: list[str]) -> Config:
    """The configuration of a command."""
    given = command_line.parse(arguments)
    return load.load(shipped.find(given.config)[0], given.override).config


def test_the_folder_of_another_training_is_refused(sweep, copy_of_run, capsys):
    code, _, err = call(sweep(copy_of_run, "--sweep", RATES), capsys)
    assert code == 2
    assert "the folder of the sweep holds a training" in err
    assert f"-o Global.output={copy_of_run}_2" in err


def test_a_section_in_the_file_is_told_where_another_mode_runs(sweep, toy, tmp_path, capsys):
    arguments = sweep(tmp_path / "out", "-o", "Sweep.seeds=3", "Global.mode=check_dataset")
    code, _, err = call(arguments, capsys)
    assert code == 0
    assert "the section Sweep has a meaning in mode train alone, and is ignored" in err
