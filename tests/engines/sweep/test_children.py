# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from paddlex_ml.engines.sweep import children
from paddlex_ml.engines.sweep.children import ChildTask, Ended
from paddlex_ml.errors import Stopped
from tests.running import ENVIRONMENT, LIMIT

ROOT = Path(__file__).resolve().parents[3]


def make(folder: Path, name: str, code: str) -> ChildTask:
    return ChildTask(name, [sys.executable, "-c", code], folder / "logs" / f"{name}.txt")


def run(tasks: list[ChildTask], jobs: int = 1) -> list[Ended]:
    ends: list[Ended] = []
    children.run_all(tasks, jobs, ends.append)
    return ends


def test_each_task_runs_to_its_end_and_one_that_fails_stops_no_other(tmp_path):
    codes = ("print('one')", "import sys; sys.exit('two')", "import os; os.abort()", "print(4)")
    ends = run([make(tmp_path, str(n), code) for n, code in enumerate(codes)])
    assert [(each.name, each.code) for each in ends] == [
        ("0", 0), ("1", 1), ("2", -signal.SIGABRT), ("3", 0),
    ]  # fmt: skip
    assert (tmp_path / "logs" / "0.txt").read_text() == "one\n"
    assert "two" in (tmp_path / "logs" / "1.txt").read_text()
    run([make(tmp_path, "0", "print('again')")])
    assert (tmp_path / "logs" / "0.txt").read_text() == "one\nagain\n"


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs cores to be bound")
def test_jobs_run_at_a_time_on_cores_of_their_own(tmp_path):
    own = sorted(os.sched_getaffinity(0))
    meet = (
        "import os, sys, time; from pathlib import Path\n"
        f"here = Path({str(tmp_path)!r}); name = sys.argv[0]\n"
        "(here / str(os.getpid())).write_text(str(sorted(os.sched_getaffinity(0))))\n"
        "while len([f for f in here.iterdir() if f.name.isdecimal()]) < 2: time.sleep(0.02)\n"
    )
    ends = run([make(tmp_path, name, meet) for name in "ab"], jobs=2)
    assert [each.code for each in ends] == [0, 0]
    cores = [eval(f.read_text()) for f in tmp_path.iterdir() if f.name.isdecimal()]
    if len(own) > 1:
        assert sorted(cores[0] + cores[1]) == own
    assert sorted(os.sched_getaffinity(0)) == own


def test_a_stop_is_passed_on_and_the_ends_are_awaited(tmp_path):
    code = (
        "import signal, sys, time\n"
        "def stop(*_): print('saved', flush=True); time.sleep(0.3); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "print('ready', flush=True); time.sleep(600)\n"
    )
    log = tmp_path / "logs" / "a.txt"

    def stop_when_ready() -> None:
        while not (log.is_file() and "ready" in log.read_text()):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_when_ready, daemon=True).start()
    ends: list[Ended] = []
    with pytest.raises(Stopped) as caught:
        children.run_all(
            [make(tmp_path, "a", code), make(tmp_path, "b", "print(1)")], 1, ends.append
        )
    assert caught.value.signal_number == signal.SIGTERM
    assert [(each.name, each.code) for each in ends] == [("a", 143)]
    assert log.read_text() == "ready\nsaved\n"
    assert not (tmp_path / "logs" / "b.txt").exists()


def test_windows_stops_them_by_another_signal_than_the_one_that_kills(tmp_path, monkeypatch):
    """There SIGTERM is a kill; SIGINT stands for CTRL_BREAK_EVENT here."""
    monkeypatch.setattr(children, "_STOP", signal.SIGINT)
    code = (
        "import os, signal, sys, time\n"
        "def stop(*_): print('saved', flush=True); sys.exit(149)\n"
        "signal.signal(signal.SIGINT, stop)\n"
        "print('ready', flush=True); time.sleep(0.2); os.kill(os.getppid(), signal.SIGTERM)\n"
        "time.sleep(600)\n"
    )
    ends: list[Ended] = []
    with pytest.raises(Stopped):
        children.run_all([make(tmp_path, "a", code)], 1, ends.append)
    assert [each.code for each in ends] == [149]
    assert (tmp_path / "logs" / "a.txt").read_text() == "ready\nsaved\n"


def test_tasks_are_taken_when_there_is_room_and_one_may_be_told_to_stop(tmp_path):
    wait = (
        "import signal, sys, time\n"
        "def stop(*_): print('saved', flush=True); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "print('ready', flush=True); time.sleep(600)\n"
    )
    log, told = tmp_path / "logs" / "a.txt", list[str]()

    def choose() -> Iterator[ChildTask]:
        yield make(tmp_path, "a", wait)
        told.append("taken")
        yield make(tmp_path, "b", "print(1)")

    def should_stop(name: str) -> bool:
        is_ready = name == "a" and log.is_file() and "ready" in log.read_text()
        if is_ready and "stop" not in told:
            told.append("stop")
            return True
        return False

    def tell(ended: Ended) -> None:
        told.append(f"{ended.name} {ended.code}")

    children.run_all(choose(), 1, tell, should_stop)
    assert told == ["stop", "a 143", "taken", "b 0"]
    assert "saved" in log.read_text()


def test_an_error_lets_those_that_run_end(tmp_path):
    sleep = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    log = tmp_path / "logs" / "a.txt"

    def should_stop(_: str) -> bool:
        if log.read_text().endswith("\n"):
            raise ValueError("no answer")
        return False

    with pytest.raises(ValueError, match="no answer"):
        children.run_all([make(tmp_path, "a", sleep)], 1, print, should_stop)
    assert not psutil.pid_exists(int(log.read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells the children")
def test_where_the_sweep_is_killed_its_trainings_are_told_to_stop(tmp_path):
    code = (
        "import sys; from pathlib import Path; from paddlex_ml.engines.sweep import children\n"
        "sleep = [sys.executable, '-c', 'import os, time; print(os.getpid(), flush=True); '\n"
        "         'time.sleep(600)']\n"
        f"task = children.ChildTask('a', sleep, Path({str(tmp_path)!r}) / 'a.txt')\n"
        "children.run_all([task], 1, print)\n"
    )
    environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    log, deadline = tmp_path / "a.txt", time.monotonic() + LIMIT
    while not (log.is_file() and log.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child = psutil.Process(int(log.read_text()))
    process.kill()
    process.wait()
    child.wait(timeout=LIMIT)


def test_the_package_is_found_by_the_children(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    ends = run([make(tmp_path, "a", "import paddlex_ml; print(paddlex_ml.__version__)")])
    assert ends[0].code == 0
