# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import pytest

from paddlex_ml import cli
from paddlex_ml.artifacts import checkpoint, run_lock
from paddlex_ml.artifacts.run_lock import FolderInUse
from tests import repairs

Run = Callable[..., tuple[int, str]]
HOLD = """
import sys, time
from pathlib import Path
from paddlex_ml.artifacts import run_lock
with run_lock.writing(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(folder: Path, mode: str) -> Iterator[subprocess.Popen[str]]:
    """A process that writes into the folder until the context ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "_WAIT", 0.05)


@pytest.mark.parametrize("mode", ["check_dataset", "train", "evaluate", "export", "predict"])
def test_a_second_run_of_a_mode_is_refused_by_name_and_changes_nothing(
    run: Run, toy: Path, tmp_path: Path, mode: str
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / f"{mode}_result.json").write_text("of the first")
    with another_process(output, mode) as process:
        code, err = run(mode, toy, output, "Predict.input=photo.jpg")
        assert code == 2
        assert f"another {mode} is writing into this folder: process {process.pid} on " in err
        assert f"-o Global.output={output}_2" in err.partition("fix:")[2]
    assert (output / f"{mode}_result.json").read_text() == "of the first"


def test_the_folder_that_is_proposed_is_free_and_keeps_the_model(
    run: Run, toy: Path, tmp_path: Path
) -> None:
    output = tmp_path / "my out"
    (output / "best_model").mkdir(parents=True)
    Path(f"{output}_2").mkdir()
    with another_process(output, "evaluate"):
        code, err = run("evaluate", toy, output)
    assert code == 2
    weights = output / "best_model" / "best_model.pdparams"
    assert repairs.find(err) == [[f"Global.output={output}_3", f"Evaluate.weight_path={weights}"]]


def test_two_predictions_cannot_save_into_one_folder(run: Run, toy: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    saved.mkdir()
    with another_process(saved, "predict"):
        keys = f"Predict.save_path={saved}", "Predict.input=photo.jpg"
        code, err = run("predict", toy, tmp_path / "out", *keys)
    assert code == 2
    assert "another predict is writing into this folder" in err
    assert f"-o Predict.save_path={saved}_2" in err


def test_another_mode_may_work_beside_it(tmp_path: Path) -> None:
    with another_process(tmp_path, "train"), run_lock.writing(tmp_path, "evaluate"):
        assert json.loads((tmp_path / ".evaluate.json").read_text())["pid"] == os.getpid()


def test_a_killed_holder_leaves_the_folder_free(tmp_path: Path) -> None:
    with another_process(tmp_path, "train") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        with run_lock.writing(tmp_path, "train"):
            pass
    assert not (tmp_path / ".train.json").exists()


def test_two_threads_are_two_writers(tmp_path: Path) -> None:
    seen: list[bool] = []

    def try_it() -> None:
        try:
            with run_lock.writing(tmp_path, "train"):
                seen.append(True)
        except FolderInUse:
            seen.append(False)

    with run_lock.writing(tmp_path, "train"):
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
    try_it()
    assert seen == [False, True]


def test_a_holder_without_description_is_refused_too(tmp_path: Path) -> None:
    with another_process(tmp_path, "train"):
        (tmp_path / ".train.json").write_text("[]")
        with (
            pytest.raises(FolderInUse, match="its process is not known"),
            run_lock.writing(tmp_path, "train"),
        ):
            pass


def test_a_disk_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with run_lock.writing(tmp_path, "train"):
        assert "do not start a second train there" in caplog.text


def test_a_reader_repairs_nothing_while_a_training_lives(tmp_path: Path) -> None:
    # As on systems that cannot exchange two names: the old folder is aside, the new one not yet in.
    (tmp_path / ".latest.old").mkdir()
    (tmp_path / ".latest.old" / "latest.pdparams").write_text("old")
    (tmp_path / ".latest.new").mkdir()
    with another_process(tmp_path, "train"):
        checkpoint.finish_interrupted(tmp_path / "latest")
        assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == [
            ".latest.new",
            ".latest.old",
        ]
    checkpoint.finish_interrupted(tmp_path / "latest")
    assert (tmp_path / "latest").is_dir()


def test_a_reader_without_a_lock_file_leaves_none(tmp_path: Path) -> None:
    with run_lock.alone(tmp_path) as is_alone:
        assert is_alone
    assert list(tmp_path.iterdir()) == []


def test_the_holder_itself_is_alone(tmp_path: Path) -> None:
    with run_lock.writing(tmp_path, "train"), run_lock.alone(tmp_path) as is_alone:
        assert is_alone


def test_the_result_file_says_that_the_folder_of_the_pictures_is_taken(tmp_path: Path) -> None:
    output, taken = tmp_path / "output", tmp_path / "taken"
    taken.mkdir()
    keys = ["Global.mode=predict", f"Global.output={output}", f"Predict.save_path={taken}"]
    with another_process(taken, "predict"):
        assert cli.main(["-c", "PP-LCNet_x1_0_ML", "-o", *keys, "Predict.input=a.jpg"]) == 2
    content = json.loads((output / "predict_result.json").read_text("utf-8"))
    assert content["err_type"] == "FolderInUse"
    assert "another predict is writing into this folder: process" in content["err_msg"]


def test_what_was_made_for_a_writer_that_wrote_nothing_is_removed(tmp_path: Path) -> None:
    made = [tmp_path / "a" / "b", tmp_path / "a"]
    for name in ("", "mine.txt"):
        made[0].mkdir(parents=True)
        with run_lock.writing(made[0], "sweep"):
            pass
        if name:
            (made[0] / name).touch()
        run_lock.remove_unused(made, "sweep")
        assert made[1].exists() == bool(name)
    assert sorted(path.name for path in made[0].iterdir()) == [".sweep.lock", "mine.txt"]
