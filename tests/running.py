# SPDX-License-Identifier: Apache-2.0
"""Commands in processes of their own, for tests that live a whole story; and kills in this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import PIPE
from typing import Any

import psutil
import pytest

from paddlex_ml import paddle_runtime

# Without the number of threads, which this process has set for itself.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in paddle_runtime.THREADS}
ENVIRONMENT |= {"PYTHONFAULTHANDLER": "1"}  # SIGABRT lets a program say where it is
LIMIT = 300.0
"""Seconds that a command may take on a busy machine, before pytest ends the test itself."""
MAIN = Path(__file__).resolve().with_name("small_main.py")


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run main.py, with small models, in `folder` to its end."""
    command = [sys.executable, str(MAIN), *arguments]
    with subprocess.Popen(
        command, cwd=folder, env=ENVIRONMENT, stdout=PIPE, stderr=PIPE, text=True
    ) as process:
        try:
            said, errors = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            abort(process)
            said, errors = process.communicate(timeout=LIMIT)
            pytest.fail(f"{command} did not end within {LIMIT} s:\n{errors}")
    return subprocess.CompletedProcess(command, process.returncode, said, errors)


def abort(process: subprocess.Popen[Any]) -> None:
    """End a program that hangs, and its helpers; each of them says where it is."""
    main = psutil.Process(process.pid)
    main.suspend()  # else it would answer the end of its helpers, and might end by itself
    for each in (*main.children(recursive=True), main):
        with suppress(psutil.NoSuchProcess):
            each.send_signal(signal.SIGABRT)
    main.resume()


class Background:
    """A training in a process of its own, with what it says in a file."""

    def __init__(self, arguments: list[str], folder: Path, script: Path = MAIN) -> None:
        self.said = folder / "said.txt"
        with self.said.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, str(script), *arguments],
                cwd=folder,
                env=ENVIRONMENT,
                stdout=file,
                stderr=file,
                start_new_session=True,  # a group of its own, as a terminal gives it
            )

    def text(self) -> str:
        return self.said.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, words: str) -> None:
        """Wait until it says `words`, or ends."""
        deadline = time.monotonic() + LIMIT
        while words not in self.text() and self.process.poll() is None:
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.01)

    def wait(self) -> int:
        """Wait for the end; returns the exit code."""
        try:
            return self.process.wait(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            abort(self.process)
            self.process.wait(timeout=LIMIT)
            pytest.fail(f"{self.process.args!r} did not end:\n{self.text()}")

    def end(self) -> str:
        """Wait for the end; returns what was said."""
        self.wait()
        return self.text()

    def send(self, number: int) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def send_to_all(self, number: int) -> int:
        """Send a signal as a terminal does, to its helpers too; returns the exit code."""
        os.killpg(self.process.pid, number)
        return self.wait()

    def wait_for_helper(self, word: str) -> None:
        """Wait until it has started a process with `word` in the command line, or ends."""
        deadline = time.monotonic() + LIMIT
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        while self.process.poll() is None:
            pids = children.read_text().split()
            if any(word.encode() in command_line(Path("/proc", pid)) for pid in pids):
                return
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.002)


def wait_until_gone(output: Path) -> None:
    """Wait until no process, as the workers of a killed training, has this output folder."""
    deadline = time.monotonic() + 10
    while any(
        str(output).encode() in command_line(entry) for entry in Path("/proc").glob("[0-9]*")
    ):
        assert time.monotonic() < deadline, "a worker process outlives its training"
        time.sleep(0.05)


def command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:  # it has just ended
        return b""


class Killed(BaseException):
    """What no `except Exception` answers, as nothing answers SIGKILL."""


@contextmanager
def killed_at(owner: Any, name: str) -> Iterator[None]:
    """The body must call this function, and dies there."""

    def kill(*_: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, kill)
        with pytest.raises(Killed):
            yield
