# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from paddlex_ml.artifacts import checkpoint
from paddlex_ml.engines.train import preflight
from paddlex_ml.export import static
from paddlex_ml.storage import folders

TRY_EXPORT = preflight.try_export  # before tests/conftest.py replaces it
Run = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def real(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "try_export", TRY_EXPORT)


def forbid(*_: object, **__: object) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/home/me/.cache/paddle")


@pytest.mark.parametrize("resumed", [False, True])
def test_an_export_that_cannot_work_ends_the_command_before_the_first_epoch(
    run: Run, toy: Path, copy_of_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    resumed: bool,
) -> None:  # fmt: skip
    output = copy_of_run if resumed else tmp_path / "out"
    before = {path: path.stat().st_mtime_ns for path in output.glob("*_model/*")}
    monkeypatch.setattr(static, "write_graph", forbid)
    auto = ["Train.resume_path=auto", "Train.epochs_iters=3"] if resumed else []
    code, err = run("train", toy, output, *auto)
    assert code == 2
    told = err.partition("error: ")[2]
    assert told.startswith("the model could not be exported after the training: Read-only file")
    assert "where: /home/me/.cache/paddle\n" in told
    assert "HOME=/tmp TMPDIR=/tmp" in told
    assert "[Epoch" not in err
    assert {path: path.stat().st_mtime_ns for path in output.glob("*_model/*")} == before
    assert not list(output.rglob("*trial*"))
    if not resumed:
        assert {path.name for path in output.iterdir() if path.is_dir()} == set()


def test_a_run_that_is_refused_has_not_set_the_old_one_aside(
    run: Run, toy: Path, copy_of_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (copy_of_run / "run.json").read_bytes()
    monkeypatch.setattr(static, "write_graph", forbid)
    code, _ = run("train", toy, copy_of_run, "Global.overwrite=true")
    assert code == 2
    assert (copy_of_run / "run.json").read_bytes() == before
    assert checkpoint.is_complete(copy_of_run / "best_model")
    assert not Path(f"{copy_of_run}.old").exists()


@pytest.mark.parametrize("call", ["_swap_in", "flush"])
def test_a_disk_on_which_checkpoints_cannot_be_replaced_is_refused(
    run: Run, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(path: Path, *_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(folders, call, fail)
    code, err = run("train", toy, tmp_path / "out")
    assert code == 2
    assert "error: checkpoints and exports cannot be written there: Input/output error" in err
    assert f"where: {tmp_path / 'out'}\n" in err
    assert "[Epoch" not in err


@pytest.mark.parametrize(
    ("name", "is_folder"),
    [
        *((name, False) for name in ("latest", "best_model", "epoch_2", "events")),
        *((name, True) for name in ("metrics.csv", "curves.png", "train.log", "run.json")),
        ("val_scores.npz", True),
    ],
)
def test_a_file_in_the_place_of_a_folder_is_found_before_the_first_epoch(
    run: Run, toy: Path, tmp_path: Path, name: str, is_folder: bool
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    mine = output / name
    mine.mkdir() if is_folder else mine.write_text("mine")
    (output / "epoch_7").write_text("no epoch of this run")
    code, err = run("train", toy, output, "Train.save_interval=1", "Train.epochs_iters=2")
    assert code == 2
    first, second = ("folder", "file") if is_folder else ("file", "folder")
    assert f"error: a {first} stands where this training writes a {second}\n" in err
    assert f"where: {mine}\n" in err
    assert f"mv {mine} {mine}.mine; otherwise choose another folder: -o Global.output=" in err
    assert "[Epoch" not in err
    assert mine.is_dir() if is_folder else mine.read_text() == "mine"
    assert not (output / "config.yaml").exists()


def test_links_and_names_that_this_run_does_not_write_are_no_obstacle(
    run: Run, toy: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (tmp_path / "disk").mkdir()
    (output / "latest").symlink_to(tmp_path / "disk")
    (output / "best_model").mkdir()
    (output / "epoch_1").write_text("mine")
    code, err = run("train", toy, output, "Train.save_interval=9", "Train.epochs_iters=2")
    assert code == 0, err
    assert (output / "epoch_1").read_text() == "mine"


def test_it_changes_neither_the_numbers_nor_the_folder(
    run: Run, toy: Path, start_weights: Path, toy_run: Path, tmp_path: Path,
    assert_same_ending: Callable[[Path, Path], None], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    key = f"Train.pretrain_weight_path={start_weights}"
    monkeypatch.setattr(preflight, "check", lambda *_: None)
    code, err = run("train", toy, tmp_path / "out", key)
    assert code == 0, err
    assert "checked ahead" not in err
    log = (toy_run / "train.log").read_text()
    assert "checked ahead: a checkpoint can be saved, and the model exported (" in log
    assert_same_ending(tmp_path / "out", toy_run)
    assert {path.name for path in toy_run.iterdir()} == {
        path.name for path in (tmp_path / "out").iterdir()
    }
