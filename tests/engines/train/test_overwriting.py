# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from paddlex_ml.artifacts import checkpoint
from paddlex_ml.engines.train import overwriting, start
from paddlex_ml.training import saving
from tests.running import killed_at

Run = Callable[..., tuple[int, str]]
OVERWRITE = "Global.overwrite=true"


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def evaluated(copy_of_run: Path) -> Path:
    """A run with a page, a picture, the check of its data set, and files of its owner."""
    for name in ("evaluate/report.html", "predict/a.jpg", "check_dataset/histogram.png"):
        path = copy_of_run / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("old")
    table = '[\n{"input_path": "a.jpg", "picture": "a.jpg"}\n]\n'
    (copy_of_run / "predict" / "predictions.json").write_text(table)
    for name in ("evaluate_result.json", "check_dataset_result.json", "notes.txt"):
        (copy_of_run / name).write_text("{}")
    return copy_of_run


def test_no_file_of_two_runs_stands_together(run: Run, toy: Path, evaluated: Path) -> None:
    old = json.loads((evaluated / "run.json").read_text())["id"]
    code, err = run("train", toy, evaluated, OVERWRITE, "Train.epochs_iters=1")
    assert code == 0, err
    found = names(evaluated)
    assert not {n for n in found if n.startswith(("epoch_2", "evaluate", "predict"))}
    kept = {"check_dataset/histogram.png", "check_dataset_result.json", "notes.txt"}
    assert kept < found
    record = json.loads((evaluated / "run.json").read_text())
    assert record["id"] != old
    assert record["replaces"] is None
    assert not Path(f"{evaluated}.old").exists()


def test_killed_before_its_first_checkpoint_the_old_run_is_whole_and_auto_starts_anew(
    run: Run, toy: Path, evaluated: Path
) -> None:
    before, aside = names(evaluated), Path(f"{evaluated}.old")
    staying = {"check_dataset/histogram.png", "check_dataset_result.json", "notes.txt"}

    with killed_at(saving.Keeper, "on_step"):
        run("train", toy, evaluated, OVERWRITE)
    locks = {".train.lock", ".paddlex_ml.lock"}
    left = names(evaluated) - {*locks, "train_result.json"}
    assert left == {"run.json", "config.yaml", "label_dict.txt", "train.log", *staying}
    expected = before - staying - locks
    assert names(aside) == expected | {".set_aside"}

    code, err = run("train", toy, evaluated, "Train.resume_path=auto", "Train.epochs_iters=1")
    assert code == 0, err
    assert "no checkpoint yet, starting a new run" in err
    assert "[Epoch 1/1]" in err
    assert not aside.exists()


@pytest.mark.parametrize("resume", ["auto", "null"])
def test_killed_before_run_json_the_next_start_goes_on_with_overwriting(
    run: Run, toy: Path, evaluated: Path, resume: str
) -> None:
    aside = overwriting.set_aside(evaluated)
    assert aside is not None
    key = f"Train.resume_path={resume}"
    code, err = run("train", toy, evaluated, key, "Train.epochs_iters=1")
    assert code == 0, err
    assert f"the run in {aside} goes with the first checkpoint of this one" in err
    assert not aside.exists()


def test_a_second_overwrite_keeps_the_run_that_has_results(
    run: Run, toy: Path, evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aside = Path(f"{evaluated}.old")
    assert overwriting.set_aside(evaluated) == aside
    before = names(aside)
    for name in ("run.json", "train.log"):
        (evaluated / name).write_text("a start that came to nothing")
    assert overwriting.set_aside(evaluated) == aside
    assert names(aside) == before
    assert not (evaluated / "train.log").exists()


def test_files_of_others_are_never_removed(
    evaluated: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (evaluated / "events").mkdir()
    (evaluated / "events" / "events.out.tfevents.1.host").write_text("ours")
    mine = {"best_model/mine.txt", "evaluate/mine.txt", "events/mine.txt", "predict/mine.jpg"}
    for name in mine:
        (evaluated / name).write_text("mine")
    aside = overwriting.set_aside(evaluated)
    assert aside is not None
    overwriting.remove(aside)
    assert names(aside) == mine
    assert "keeps files that this tool has not written" in caplog.text


def test_a_project_without_a_training_keeps_its_files(run: Run, toy: Path, tmp_path: Path) -> None:
    """Its folders and files may have the names that a run gives to its own."""
    project = tmp_path / "project"
    mine = ("evaluate/a.py", "predict/a.py", "events/a.py", "epoch_plots/a.py", "curves.py")
    for name in (*mine, "config.yaml"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(f"mine: {name}")
    code, err = run("train", toy, project, OVERWRITE, "Train.epochs_iters=1")
    assert code == 0, err
    assert {*mine, "config.yaml.bak", "config.yaml"} < names(project)
    assert (project / "config.yaml.bak").read_text() == "mine: config.yaml"
    assert "config.yaml was not saved by a training: it is kept as " in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["project"]


def test_a_folder_of_that_name_is_not_touched(evaluated: Path) -> None:
    taken = Path(f"{evaluated}.old")
    taken.mkdir()
    (taken / "mine.txt").write_text("mine")
    aside = overwriting.set_aside(evaluated)
    assert aside == Path(f"{evaluated}.old.1")
    overwriting.remove(aside)
    assert names(taken) == {"mine.txt"}
    assert not aside.exists()


def test_where_the_parent_cannot_be_written_the_run_is_set_aside_inside(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    aside = overwriting.set_aside(evaluated)
    assert aside == evaluated / ".old"
    assert (aside / "best_model" / "best_model.pdparams").is_file()
    assert not (evaluated / "best_model").exists()
    overwriting.remove(aside)
    assert not aside.exists()


def test_a_kill_at_any_moment_leaves_the_old_run_whole_or_set_aside(
    kill_at_every_step: Callable[..., list[Path]],
) -> None:
    run_files = ("run.json", "best_model/best_model.pdparams", "latest/latest.pdopt", "train.log")

    def prepare(root: Path) -> None:
        for name in run_files:
            path = root / "out" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("old")

    roots = kill_at_every_step(prepare, lambda root: overwriting.set_aside(root / "out"))
    assert len(roots) > 5
    for root in roots:
        output, aside = root / "out", root / "out.old"
        together = [(output / name).exists() + (aside / name).exists() for name in run_files]
        assert together == [1] * len(run_files)
        overwriting.set_aside(output)
        left = {name for name in names(aside) if not name.startswith("..set_aside.")}
        assert left == {*run_files, ".set_aside"}
        assert not names(output)
        overwriting.remove(aside)
        assert not aside.exists()


def test_a_refused_training_leaves_the_old_run_where_it_is(
    run: Run, toy: Path, evaluated: Path, tmp_path: Path
) -> None:
    before = names(evaluated)
    wrong = f"Train.pretrain_weight_path={tmp_path / 'none.pdparams'}"
    code, err = run("train", toy, evaluated, OVERWRITE, wrong)
    assert code == 2
    assert "no such weight file" in err
    assert before <= names(evaluated)
    assert not Path(f"{evaluated}.old").exists()


def test_a_kill_between_first_checkpoint_and_removal_is_made_up_for(
    run: Run, toy: Path, evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(start, "remove_overwritten", lambda output: None)
        assert run("train", toy, evaluated, OVERWRITE, "Train.epochs_iters=1")[0] == 0
    assert Path(f"{evaluated}.old").is_dir()
    code, err = run("train", toy, evaluated, "Train.resume_path=auto", "Train.epochs_iters=1")
    assert code == 0, err
    assert not Path(f"{evaluated}.old").exists()


def test_nothing_changes_where_links_in_the_output_folder_lead(
    run: Run, toy: Path, start_weights: Path, tmp_path: Path
) -> None:
    output, key = tmp_path / "out", f"Train.pretrain_weight_path={start_weights}"
    victim = tmp_path / "victim"
    victim.mkdir()
    folders = ("latest", "best_model", "epoch_1", "events", "evaluate", "predict", "check_dataset")
    files = ("run.json", "config.yaml", "train.log", "metrics.csv", "train_result.json", "notes.md")
    for name in (*folders, *files):
        path = victim / name
        if name in folders:
            path.mkdir()
            path /= "mine.txt"
        path.write_text("mine")
    output.mkdir()
    for name in (*folders, *files):
        (output / name).symlink_to(victim / name)
    before = {path: path.read_bytes() for path in victim.rglob("*") if path.is_file()}
    more = ["Train.epochs_iters=1", "Train.save_interval=1", "Train.keep_last=1"]
    code, err = run("train", toy, output, key, *more)
    assert code == 0, err
    for mode in ("evaluate", "export", "check_dataset"):
        code, err = run(mode, toy, output)
        assert code == 0, err
    code, err = run("predict", toy, output, f"Predict.input={toy / 'images'}")
    assert code == 0, err
    code, err = run("train", toy, output, key, *more, OVERWRITE)
    assert code == 0, err
    assert {path: path.read_bytes() for path in victim.rglob("*") if path.is_file()} == before
    assert os.readlink(output / "best_model.bak") == str(victim / "best_model")
    assert os.readlink(output / "notes.md") == str(victim / "notes.md")
    assert checkpoint.is_complete(output / "best_model")


def test_a_run_whose_checkpoint_is_a_link_is_overwritten_here_alone(
    run: Run, toy: Path, copy_of_run: Path, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    (copy_of_run / "latest").rename(place)
    (copy_of_run / "latest").symlink_to(place)
    code, err = run("train", toy, copy_of_run, OVERWRITE, "Train.epochs_iters=1")
    assert code == 0, err
    assert checkpoint.is_complete(copy_of_run / "latest")
    assert not (copy_of_run / "latest").is_symlink()
    assert (place / "latest.pdparams").is_file()
    assert os.readlink(Path(f"{copy_of_run}.old", "latest")) == str(place)


def test_a_link_in_the_place_of_the_run_set_aside_is_not_followed(
    run: Run, toy: Path, copy_of_run: Path, tmp_path: Path
) -> None:
    victim, aside = tmp_path / "victim", Path(f"{copy_of_run}.old")
    victim.mkdir()
    for name in (".set_aside", "run.json", "train.log", "metrics.csv"):
        (victim / name).write_text("complete")
    aside.symlink_to(victim)
    code, err = run("train", toy, copy_of_run, OVERWRITE, "Train.epochs_iters=1")
    assert code == 0, err
    assert len(os.listdir(victim)) == 4
    assert os.readlink(aside) == str(victim)
