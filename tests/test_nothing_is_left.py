# SPDX-License-Identifier: Apache-2.0
"""After any end of a command its temporary folder and the shared memory are as before."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests import running
from tests.running import Background

pytestmark = [
    pytest.mark.story,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc and /dev/shm"),
]
Command = Callable[..., list[str]]

WITH_A_BUG = """
import runpy, sys
if __name__ == "__main__":
    sys.path.insert(0, {root!r})
    import paddlex_ml.stop_signals
    from paddlex_ml import paddle_runtime
    paddle_runtime.prepare()
    from paddlex_ml.training import loop
    def fail(*_, **__):
        raise RuntimeError("a bug")
    loop.train_step = fail
    runpy.run_path({main!r}, run_name="__main__")
"""
FIRST_STEP = "[Train][Epoch 1/"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The temporary folder of the commands; their home is a file, and they have a cache."""
    with tempfile.TemporaryDirectory() as folder:  # whose path is short enough for sockets
        variables = {"TMPDIR": folder, "PADDLEX_ML_CACHE": tmp_path / "cache", "HOME": os.devnull}
        for name, value in variables.items():
            monkeypatch.setitem(running.ENVIRONMENT, name, str(value))
        yield Path(folder)


@pytest.fixture
def training(toy: Path, command: Command, tmp_path: Path, temporary: Path) -> list[str]:
    """Arguments of a training that goes on until it is ended."""
    keys = "Train.epochs_iters=1000", "Train.num_workers=1", "Train.log_interval=1"
    return command("train", toy, tmp_path / "output", *keys)


def processes(started: Background) -> list[psutil.Process]:
    """The command and its helpers that still run."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            is_over = process.status() == psutil.STATUS_ZOMBIE
            if os.getpgid(process.pid) == started.process.pid and not is_over:
                found.append(process)
    return found


def shared_memory(started: Background) -> set[str]:
    """Names in /dev/shm that the command and its helpers have open."""
    names = set()
    for process in processes(started):
        with suppress(OSError):
            maps = Path(f"/proc/{process.pid}/maps").read_text()
            names |= {line.split()[5] for line in maps.splitlines() if " /dev/shm/" in line}
    return names


def assert_nothing_is_left(started: Background, folder: Path, shared: set[str]) -> None:
    """All helpers end by themselves within seconds, and what they had is removed."""
    deadline = time.monotonic() + 15
    while processes(started):
        assert time.monotonic() < deadline, processes(started)
        time.sleep(0.05)
    assert [str(path) for path in folder.rglob("*")] == [], started.text()
    assert [name for name in shared if os.path.exists(name)] == []


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        pytest.param([signal.SIGINT], 130, marks=pytest.mark.heavy),
        ([signal.SIGTERM], 143),
        pytest.param([signal.SIGINT, signal.SIGINT], 130, marks=pytest.mark.heavy),
        ([signal.SIGKILL], -signal.SIGKILL),
    ],
)
def test_a_training_that_is_stopped(
    training: list[str], tmp_path: Path, temporary: Path, numbers: list[int], code: int
) -> None:
    started = Background(training, tmp_path)
    started.wait_for(FIRST_STEP)
    shared = shared_memory(started)
    assert any("/sem.mp-" in name for name in shared)
    assert list(temporary.glob("pymp-*"))
    for number in numbers:
        started.process.send_signal(number)
    assert started.wait() == code, started.text()
    assert_nothing_is_left(started, temporary, shared)


def test_a_training_whose_worker_is_killed(
    training: list[str], tmp_path: Path, temporary: Path
) -> None:
    started = Background(training, tmp_path)
    started.wait_for(FIRST_STEP)
    shared = shared_memory(started)
    # A worker has the command line of the server that it was forked from.
    children = psutil.Process(started.process.pid).children()
    (server,) = (each for each in children if "forkserver" in " ".join(each.cmdline()))
    (worker,) = server.children()
    worker.kill()
    assert started.wait() == 2
    told = started.text().partition("error: ")[2]
    assert told.startswith(
        "a process that prepares batches was killed by the system, most likely for memory\n"
        "  where: data loader: 1 worker processes, each with up to 2 batches of 8 images of 32 x 32"
    )
    assert "fewer workers: -o Train.num_workers=0" in told
    assert "the state is saved, and -o Train.resume_path=auto goes on from it" in told
    assert "Traceback" not in started.text()
    assert_nothing_is_left(started, temporary, shared)


@pytest.mark.heavy
def test_a_training_that_ends_with_a_bug(
    training: list[str], tmp_path: Path, temporary: Path
) -> None:
    script = tmp_path / "with_a_bug.py"
    root = str(running.MAIN.parent.parent)
    script.write_text(WITH_A_BUG.format(root=root, main=str(running.MAIN)))
    started = Background(training, tmp_path, script)
    assert started.wait() == 1, started.text()
    assert "RuntimeError: a bug" in started.text()
    assert "this is a bug in paddlex_ml" in started.text()
    assert_nothing_is_left(started, temporary, set())


@pytest.mark.heavy
def test_a_training_of_two_processes_that_is_stopped(
    training: list[str], tmp_path: Path, temporary: Path
) -> None:
    started = Background([*training, "-o", "Global.device=cpu:0,1"], tmp_path)
    started.wait_for(FIRST_STEP)
    shared = shared_memory(started)
    assert started.send(signal.SIGTERM) == 143, started.text()
    assert_nothing_is_left(started, temporary, shared)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.heavy),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.heavy),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_a_check_that_is_stopped(
    draw_set: Callable[..., Path],
    command: Command,
    tmp_path: Path,
    temporary: Path,
    number: int,
    code: int,
) -> None:
    root = draw_set(tmp_path / "set", train=3000)
    started = Background(command("check_dataset", root, tmp_path / "output"), tmp_path)
    started.wait_for("decoded images: ")
    shared = shared_memory(started)
    assert started.send(number) == code, started.text()
    assert_nothing_is_left(started, temporary, shared)


@pytest.mark.heavy
def test_a_command_that_is_refused(
    draw_set: Callable[..., Path], command: Command, tmp_path: Path, temporary: Path
) -> None:
    root = draw_set(tmp_path / "set")
    (root / "images" / "train_3.png").write_bytes(b"no image")
    arguments = command("train", root, tmp_path / "output", "Train.num_workers=1")
    started = Background(arguments, tmp_path)
    assert started.wait() == 2
    assert "images/train_3.png" in started.text()
    assert_nothing_is_left(started, temporary, set())
