# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from paddlex_ml import stop_signals, terminal

ROOT = Path(__file__).resolve().parent.parent


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
def test_ctrl_c_during_the_import_of_paddle_is_no_traceback(toy: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import builtins, os, signal\n"
        "real = builtins.__import__\n"
        "def watch(name, *rest, **more):\n"
        "    if name.startswith('paddle.') and not hasattr(builtins, 'sent'):\n"
        "        builtins.sent = True\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return real(name, *rest, **more)\n"
        "builtins.__import__ = watch\n"
    )
    keys = ["Global.mode=evaluate", f"Global.dataset_dir={toy}", "Global.output=out"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "-c", "PP-LCNet_x1_0_ML", "-o", *keys],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert "stopped by SIGINT" in done.stderr


def test_a_thread_that_never_ends_does_not_keep_a_stopped_program(tmp_path: Path) -> None:
    fifo = tmp_path / "never"
    os.mkfifo(fifo)
    script = (
        "import sys, threading, time\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from paddlex_ml import stop_signals, terminal\n"
        "def body():\n"
        "    with ThreadPoolExecutor() as pool:\n"
        "        reading = pool.submit(open, sys.argv[1])\n"
        "        print('begun', flush=True)\n"
        "        reading.result()\n"
        "terminal.END_LIMIT = 0.2\n"
        "stop_signals.leave(terminal.run_script(body))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(fifo)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 143


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
