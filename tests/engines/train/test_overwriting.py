# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from paddlex_ml.artifacts import checkpoint
from paddlex_ml.engines.train import overwriting, start
from paddlex_ml.training import saving

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
    run: Run, toy: Path, evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, aside = names(evaluated), Path(f"{evaluated}.old")
    staying = {"check_dataset/histogram.png", "check_dataset_result.json", "notes.txt"}

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(saving.Keeper, "on_step", kill)
        with pytest.raises(Killed):
            run("train", toy, evaluated, OVERWRITE)
    left = names(evaluated) - {".train.lock", "train_result.json"}
    assert left == {"run.json", "config.yaml", "label_dict.txt", "train.log", *staying}
    expected = before - staying - {".train.lock"}
    assert names(aside) == expected | {".set_aside"}

    code, err = run("train", toy, evaluated, "Train.resume_path=auto", "Train.epochs_iters=1")
    assert code == 0, err
    assert "no checkpoint yet, starting a new run" in err
    assert "[Epoch 1/1]" in err
    assert not aside.exists()


def test_a_second_overwrite_keeps_the_run_that_has_results(
    run: Run, toy: Path, evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aside = Path(f"{evaluated}.old")
    assert overwriting.set_aside(evaluated) == aside
    before = names(aside)
    (evaluated / "train.log").write_text("a start that came to nothing")
    assert overwriting.set_aside(evaluated) == aside
    assert names(aside) == before
    assert not (evaluated / "train.log").exists()


def test_files_of_others_are_never_removed(
    evaluated: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (evaluated / "best_model" / "mine.txt").write_text("mine")
    aside = overwriting.set_aside(evaluated)
    assert aside is not None
    overwriting.remove(aside)
    assert names(aside) == {"best_model/mine.txt"}
    assert "keeps files that this tool has not written" in caplog.text


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


@pytest.fixture
def other_disk() -> Iterator[Path]:
    """A folder on another disk than the temporary one, where this machine has one."""
    memory = Path("/dev/shm")
    parent = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        yield Path(folder)


def test_checkpoints_that_are_links_to_another_disk_stay_there(
    run: Run, toy: Path, start_weights: Path, tmp_path: Path, other_disk: Path
) -> None:
    output, key = tmp_path / "out", f"Train.pretrain_weight_path={start_weights}"
    output.mkdir()
    for name in ("latest", "best_model"):
        (output / name).symlink_to(other_disk / f"of_{name}")
    code, err = run("train", toy, output, key, "Train.epochs_iters=1")
    assert code == 0, err
    resume = f"Train.resume_path={output / 'latest'}"
    code, err = run("train", toy, output, key, "Train.epochs_iters=2", resume)
    assert code == 0, err
    assert "resumed after 1 epochs and 0 steps" in err
    first = json.loads((output / "run.json").read_text())["id"]
    code, err = run("train", toy, output, key, "Train.epochs_iters=1", OVERWRITE)
    assert code == 0, err
    second = json.loads((output / "run.json").read_text())["id"]
    assert second != first
    for mode in ("export", "evaluate"):
        weights = output / "best_model" / "best_model.pdparams"
        code, err = run(mode, toy, output, f"{mode.title()}.weight_path={weights}")
        assert code == 0, err
    for name in ("latest", "best_model"):
        assert os.readlink(output / name) == str(other_disk / f"of_{name}")
        info = checkpoint.read_model_info(output / name / f"{name}.pdparams")
        assert info is not None
        assert info.run is not None
        assert info.run.id == second
    assert sorted(os.listdir(other_disk)) == ["of_best_model", "of_latest"]
    assert not Path(f"{output}.old").exists()
    assert (output / "best_model" / "inference" / "inference.yml").is_file()


def test_killed_while_links_are_set_aside_the_next_start_goes_on(
    run: Run, toy: Path, copy_of_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    (copy_of_run / "latest").rename(place)
    (copy_of_run / "latest").symlink_to(place)

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "readlink", kill)
        with pytest.raises(Killed):
            overwriting.set_aside(copy_of_run)
    assert overwriting.set_aside(copy_of_run) == Path(f"{copy_of_run}.old")
    assert checkpoint.is_complete(Path(f"{copy_of_run}.old", "latest"))
    assert (copy_of_run / "latest").is_symlink()
    assert not place.exists()
    code, err = run("train", toy, copy_of_run, OVERWRITE, "Train.epochs_iters=1")
    assert code == 0, err
    assert checkpoint.is_complete(copy_of_run / "latest")
    assert place.is_dir()
    assert not Path(f"{place}.old").exists()
