# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml import stop_signals, terminal

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def begun(script: str, *arguments: str) -> Iterator[Any]:
    """A script in a process of its own that has printed "begun", with its streams as pipes."""
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        yield process


@pytest.mark.parametrize("number", stop_signals.STOPS)
def test_each_of_them_ends_a_program_with_its_code(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)

    def wait() -> None:
        os.kill(os.getpid(), number)
        time.sleep(5)  # the signal comes first

    assert terminal.run_script(wait) == 128 + number
    assert f"stopped by {signal.Signals(number).name}" in capsys.readouterr().err
    assert signal.getsignal(number) is before


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        assert terminal.run_script(lambda: os.kill(os.getpid(), signal.SIGHUP)) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_postponed_signal_comes_at_the_end() -> None:
    order: list[str] = []
    with stop_signals.received_by(lambda *_: order.append("signal")):
        with stop_signals.postponed():
            os.kill(os.getpid(), signal.SIGTERM)
            order.append("work")
        order.append("after")
    assert order == ["work", "signal", "after"]


def test_ctrl_c_while_something_is_imported_comes_afterwards() -> None:
    done = []

    def work() -> None:
        with stop_signals.postponed():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["all of it"]


@pytest.mark.story
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_stop_during_the_import_of_paddle_is_no_traceback(
    toy: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import builtins, os, signal\n"
        "real = builtins.__import__\n"
        "def watch(name, *rest, **more):\n"
        "    if name.startswith('paddle.') and not hasattr(builtins, 'sent'):\n"
        "        builtins.sent = True\n"
        f"        os.kill(os.getpid(), signal.{name})\n"
        "    return real(name, *rest, **more)\n"
        "builtins.__import__ = watch\n"
    )
    (tmp_path / "w.pdparams").touch()  # it is not read before the stop
    keys = ["Global.mode=evaluate", f"Global.dataset_dir={toy}", "Global.output=out"]
    keys.append("Evaluate.weight_path=w.pdparams")
    done = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "-c", "PP-LCNet_x1_0_ML", "-o", *keys],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 128 + getattr(signal, name), done.stderr
    assert "Traceback" not in done.stderr
    assert "FatalError" not in done.stderr
    assert f"stopped by {name}" in done.stderr


STALLED = """
import os, sys, threading
from concurrent.futures import ThreadPoolExecutor
from paddlex_ml import stop_signals, terminal
def in_a_thread():
    with ThreadPoolExecutor() as pool:
        pool.submit(open, sys.argv[1])
        print('begun', flush=True)
def in_a_thread_of_the_end():
    pool = ThreadPoolExecutor()
    pool.submit(open, sys.argv[1])
    print('begun', flush=True)
    threading.Event().wait()
terminal.END_LIMIT, stop_signals._LEAVE, stop_signals._STEP = 0.3, 0.3, 0.1
stop_signals.leave(terminal.run_script(globals()[sys.argv[2]]))
"""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a pipe with a name")
@pytest.mark.parametrize("where", ["in_a_thread", "in_a_thread_of_the_end"])
def test_a_thread_that_never_ends_does_not_keep_a_stopped_program(
    tmp_path: Path, where: str
) -> None:
    os.mkfifo(tmp_path / "never")
    with begun(STALLED, str(tmp_path / "never"), where) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 143


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a pipe with a name")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_second_stop_ends_the_program_at_once_and_without_a_traceback(
    tmp_path: Path, name: str
) -> None:
    os.mkfifo(tmp_path / "never")
    script = STALLED.replace("stop_signals._LEAVE, ", "stop_signals.nothing, ")
    with begun(script, str(tmp_path / "never"), "in_a_thread_of_the_end") as process:
        process.send_signal(getattr(signal, name))
        assert process.stderr.readline() == f"stopped by {name}\n"
        time.sleep(0.3)  # it waits for its thread
        process.send_signal(getattr(signal, name))
        assert process.wait(timeout=60) == 128 + getattr(signal, name)
        assert process.stderr.read() == ""


ENDING = """
import os, signal, sys
from paddlex_ml import stop_signals
class Late:
    def __del__(self, kill=os.kill, own=os.getpid(), number=int(sys.argv[1])):
        kill(own, number)
keep = Late()  # until Python has given up the handlers of signals
stop_signals.leave(128 + int(sys.argv[1]))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_second_stop_in_the_last_moment_changes_no_exit_code(name: str) -> None:
    number = getattr(signal, name)
    done = subprocess.run([sys.executable, "-c", ENDING, str(int(number))], capture_output=True)
    assert (done.returncode, done.stderr) == (128 + number, b"")


HELPED = """
import multiprocessing, os, signal, sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import resource_tracker
from paddlex_ml import stop_signals
from paddlex_ml.data import worker
if __name__ == '__main__':
    for number in stop_signals.ALL:
        signal.signal(number, lambda *_: None)
    stop_signals.start_fork_server()
    tracker = resource_tracker._resource_tracker._pid
    for number in stop_signals.ALL:
        os.killpg(0, number)
    context = multiprocessing.get_context('forkserver')
    pool = ProcessPoolExecutor(1, context, worker.start)
    print(pool.submit(os.getppid).result() != os.getpid())  # in a child of the server
    for number in set(stop_signals.ALL) - {signal.SIGTERM}:
        os.killpg(0, number)
    print(pool.submit(pow, 2, 3).result())
    resource_tracker.ensure_running()
    print(resource_tracker._resource_tracker._pid == tracker)
    pool.shutdown()
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_a_signal_to_the_group_leaves_the_tracker_the_server_and_its_workers(
    tmp_path: Path,
) -> None:
    (tmp_path / "helped.py").write_text(HELPED)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "helped.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
    )
    assert (done.stdout, done.stderr) == ("True\n8\nTrue\n", "")


STALL_IN_C = """
#include <unistd.h>
int stall(void) {
    if (write(1, "begun\\n", 6) == 6) for (;;) pause();
    return 0;
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_read_that_never_returns_does_not_keep_a_stopped_program(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "stall.c").write_text(STALL_IN_C)
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", "stall.so", "stall.c"], cwd=tmp_path, check=True
    )
    script = (
        "import ctypes, sys\n"
        "from paddlex_ml import stop_signals, terminal\n"
        "def body():\n"
        "    ctypes.CDLL(sys.argv[1]).stall()\n"
        "terminal.END_LIMIT, stop_signals._STEP = 0.3, 0.1\n"
        "stop_signals.leave(terminal.run_script(body))\n"
    )
    with begun(script, str(tmp_path / "stall.so")) as process:
        process.send_signal(getattr(signal, name))
        assert process.wait(timeout=10) == 128 + getattr(signal, name)
        assert f"stopped by {name}: a disk or pipe does not answer" in process.stderr.read()


def test_in_another_thread_nothing_is_received() -> None:
    seen: list[object] = []

    def look() -> None:
        with stop_signals.received_by(lambda *_: None):
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [before]
