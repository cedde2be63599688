# SPDX-License-Identifier: Apache-2.0
"""Commands in processes of their own, for tests that live a whole story."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from paddlex_ml import paddle_runtime

# Without the number of threads, which this process has set for itself.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in paddle_runtime.THREADS}
MAIN = Path(__file__).resolve().parent.parent / "main.py"


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run main.py in `folder` to its end."""
    return subprocess.run(
        [sys.executable, str(MAIN), *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )


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
            )

    def text(self) -> str:
        return self.said.read_text(encoding="utf-8", errors="replace")

    def wait_for(self, words: str) -> None:
        """Wait until it says `words`, or ends."""
        deadline = time.monotonic() + 120
        while words not in self.text() and self.process.poll() is None:
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.01)

    def end(self) -> str:
        """Wait for the end; returns what was said."""
        self.process.wait(timeout=120)
        return self.text()

    def send(self, number: int) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=120)


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
