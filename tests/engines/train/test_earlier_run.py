# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from paddlex_ml.engines.train import earlier_run
from paddlex_ml.training import saving
from tests.running import killed_at

Run = Callable[..., tuple[int, str]]


def test_a_folder_with_another_training_is_refused_and_both_are_named(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    result = (copy_of_run / "train_result.json").read_bytes()
    before = sorted(path for path in copy_of_run.rglob("*"))
    code, err = run("train", toy, copy_of_run, "Train.epochs_iters=7")
    assert code == 2
    assert "error: the output folder holds another training: PP-LCNet_x1_0_ML on " in err
    assert f"{toy}, 2 epochs (best mAP 0." in err
    assert f"up to epoch 2); this one is PP-LCNet_x1_0_ML on {toy}, 7 epochs" in err
    assert f"-o Global.output={copy_of_run}_2 keeps both" in err
    assert (copy_of_run / "train_result.json").read_bytes() == result
    assert sorted(path for path in copy_of_run.rglob("*")) == before


@pytest.mark.parametrize("slip", ["Train.batch_size=0", "Train.resume_path=missing"])
def test_a_command_that_is_refused_keeps_the_result_of_the_finished_run(
    run: Run, toy: Path, copy_of_run: Path, slip: str, tmp_path: Path
) -> None:
    assert run("train", toy, tmp_path / "new", slip)[0] == 2  # there it is the result
    assert json.loads((tmp_path / "new/train_result.json").read_text())["done_flag"] is False
    result = (copy_of_run / "train_result.json").read_bytes()
    assert run("train", toy, copy_of_run, slip)[0] == 2
    assert (copy_of_run / "train_result.json").read_bytes() == result
    assert not list(copy_of_run.glob(".train_result*"))


@pytest.mark.parametrize("lost", ["config.yaml", "metrics.csv"])
def test_it_is_refused_as_well_where_its_files_are_lost(
    run: Run, toy: Path, copy_of_run: Path, lost: str
) -> None:
    (copy_of_run / lost).unlink()
    code, err = run("train", toy, copy_of_run)
    assert code == 2
    assert "the output folder holds another training: " in err
    assert ("one without a readable config.yaml" in err) == (lost == "config.yaml")


@pytest.mark.parametrize("name", ["sweep.json", "search.json"])
@pytest.mark.parametrize("word", ["Global.overwrite=true", "Train.resume_path=auto"])
def test_the_folder_of_a_sweep_is_refused_whatever_is_allowed(
    run: Run, toy: Path, tmp_path: Path, name: str, word: str
) -> None:
    output = tmp_path / "sweep"
    output.mkdir()
    (output / name).write_text("{}")
    code, err = run("train", toy, output, word)
    assert code == 2
    assert "error: the output folder is that of a sweep" in err
    assert f"-o Global.output={output}_2" in err
    assert [path.name for path in output.iterdir()] == [name]


def leave(run: Path, *names: str) -> None:
    """Remove all from the folder of a run but these files and folders."""
    for path in run.iterdir():
        if path.name not in names:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


LEFT = {
    "without weights": ["run.json", "config.yaml", "metrics.csv", "best_model"],
    "without checkpoints": ["run.json", "config.yaml", "train_result.json", "curves.png"],
    "curves": ["run.json", "curves.png"],
    "scores": ["metrics.csv"],
    "its end": ["train_result.json"],
    "an export": ["best_model"],
}


@pytest.mark.parametrize("start", ["Train.resume_path=null", "Train.resume_path=auto"])
@pytest.mark.parametrize("left", LEFT.values(), ids=LEFT)
def test_any_result_of_a_training_is_refused_and_the_repair_keeps_the_runs_apart(
    run: Run, toy: Path, copy_of_run: Path, left: list[str], start: str
) -> None:
    leave(copy_of_run, *left)
    for path in copy_of_run.glob("best_model/best_model.*"):
        path.unlink()
    before = {p: p.stat().st_ino for p in copy_of_run.rglob("*") if p.is_file()}
    code, err = run("train", toy, copy_of_run, start)
    assert code == 2, err
    assert "the output folder holds " in err
    assert f"-o Global.output={copy_of_run}_2 " in err
    assert "Train.resume_path=auto goes on" not in err  # nothing is left to go on from
    assert all(path.stat().st_ino == inode for path, inode in before.items())
    code, err = run("train", toy, copy_of_run, "Global.overwrite=true", "Train.epochs_iters=1")
    assert code == 0, err
    # Nothing of the old run stands beside the new one.
    assert [p for p, inode in before.items() if p.exists() and p.stat().st_ino == inode] == []
    assert not Path(f"{copy_of_run}.old").exists()


def test_the_result_of_a_finished_run_counts_where_a_kill_has_left_it_hidden(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    leave(copy_of_run, "run.json", "train_result.json")
    earlier_run.hide_result(copy_of_run)
    code, err = run("train", toy, copy_of_run, "Train.resume_path=auto")
    assert code == 2
    assert "holds results of a training, but no sound checkpoint" in err


def test_a_start_that_came_to_nothing_and_other_modes_are_no_training(
    run: Run, toy: Path, copy_of_run: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    weights = f"Evaluate.weight_path={copy_of_run / 'best_model/best_model.pdparams'}"
    assert run("check_dataset", toy, output)[0] == 0
    assert run("evaluate", toy, output, weights)[0] == 0
    with killed_at(saving.Keeper, "on_step"):
        run("train", toy, output)
    assert (output / "run.json").is_file()
    code, err = run("train", toy, output, "Train.epochs_iters=1")
    assert code == 0, err


@pytest.mark.parametrize("name", ["epoch_1", "epoch_1/epoch_1.pdparams", "epoch_1/epoch_1"])
def test_a_copy_of_a_checkpoint_below_the_folder_is_refused_as_another_training(
    run: Run, toy: Path, copy_of_run: Path, name: str
) -> None:
    (copy_of_run / "backup").mkdir()
    shutil.copytree(copy_of_run / "epoch_1", copy_of_run / "backup" / "epoch_1")
    result = (copy_of_run / "train_result.json").read_bytes()
    code, err = run("train", toy, copy_of_run, f"Train.resume_path={copy_of_run}/backup/{name}")
    assert code == 2
    assert "the output folder holds another training" in err
    assert (copy_of_run / "train_result.json").read_bytes() == result


def test_overwrite_replaces_it(run: Run, toy: Path, copy_of_run: Path) -> None:
    code, err = run("train", toy, copy_of_run, "Global.overwrite=true", "Train.epochs_iters=1")
    assert code == 0, err
    assert "[Epoch 1/1]" in err


def test_auto_starts_a_new_run_and_goes_on_with_its_own(
    run: Run, toy: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    auto = "Train.resume_path=auto"
    code, err = run("train", toy, output, auto, "Train.epochs_iters=1")
    assert code == 0, err
    assert "Train.resume_path=auto: no checkpoint yet, starting a new run" in err
    code, err = run("train", toy, output, auto, "Train.epochs_iters=2")
    assert code == 0, err
    assert f"Train.resume_path=auto: {output / 'latest'}" in err
    assert ", after 1 epoch and 0 steps" in err
    assert "[Epoch 1/2]" not in err
    assert "resume_path: auto\n" in (output / "config.yaml").read_text(encoding="utf-8")


def test_the_working_folder_as_output_has_a_free_folder_beside_it(
    run: Run, toy: Path, copy_of_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copy_of_run)
    code, err = run("train", toy, Path())
    assert code == 2
    assert f"-o Global.output={copy_of_run}_2 keeps both" in err
