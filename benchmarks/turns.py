# SPDX-License-Identifier: Apache-2.0
"""Processes that take training steps in turns, for peer_speed.py and gpu_speed.py.

Every side of a comparison lives in processes of its own and waits at a socket until it is asked
for its next step, so that a noisy machine disturbs all sides alike and no two compute at the same
time. The standard library is enough here: the environment of PyTorch does not have this project.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, TextIO

POLL = 2.0  # seconds between two looks whether a process that starts still lives
GRACE = 30.0  # seconds that processes have to end


@dataclass(frozen=True)
class Task:
    """What a process trains: the images and targets of one step lie in its memory."""

    model: str
    peer: str
    """Name of the same network in timm."""
    dropout: float
    """Share of the features that training drops before the head."""
    batch: int
    """Images of a step, in all processes of the side."""
    size: int
    classes: int
    threads: int
    """In all processes of the side."""
    channels_last: bool = False
    compiled: bool = False
    processes: int = 1
    device: str = "cpu"
    """cpu or gpu; each process has its own GPU."""
    amp: str = ""
    """Format of mixed precision, bfloat16 or float16; empty: float32."""
    steps: int = 1
    """Of a turn."""


@dataclass(frozen=True)
class Facts:
    """What a process tells before its first step."""

    parameters: int
    """Numbers that the model has, those that do not learn included, without running statistics."""
    software: str


class Taken(NamedTuple):
    """What a step took."""

    seconds: float
    processor: float
    """Seconds of all threads on their cores: other programs change it little."""


def serve(address: str, facts: Facts, step: Callable[[], float], steps: int = 1) -> None:
    """Take a turn of some steps, and answer with what one took, whenever the other end asks.

    Returns when the other end is closed. Runs in the processes that train.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        with connection.makefile("rw", encoding="utf-8") as lines:
            print(json.dumps(asdict(facts)), file=lines, flush=True)
            while lines.readline():
                begin = time.process_time()
                seconds = sum(step() for _ in range(steps)) / steps
                taken = Taken(seconds, (time.process_time() - begin) / steps)
                print(json.dumps(taken), file=lines, flush=True)


class Side:
    """One side of a comparison: its command, and a line to each of its processes."""

    def __init__(
        self, command: Sequence[str], task: Task, environment: Mapping[str, str], folder: Path
    ) -> None:
        """Start the command with the address of a socket and the task as JSON.

        folder: an empty one, for the socket and the log. Raises RuntimeError with the end of the
        log when the command ends before all its processes are ready.
        """
        self.task, self.log = task, folder / "log.txt"
        server, address = socket.socket(socket.AF_UNIX), str(folder / "socket")
        server.bind(address)
        server.listen()
        server.settimeout(POLL)
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [*command, address, json.dumps(asdict(task))],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.lines: list[TextIO] = []
        with server:
            while len(self.lines) < task.processes:
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    if self.process.poll() is not None:
                        raise self._failed() from None
                    continue
                connection.settimeout(None)
                self.lines.append(connection.makefile("rw", encoding="utf-8"))
        self.facts = [Facts(**json.loads(self._answer(line))) for line in self.lines]
        """Of every process."""

    def turn(self) -> Taken:
        """A step: the time of the process that took longest, the processor time of all."""
        for line in self.lines:  # all before the first answer: they wait for each other
            print("step", file=line, flush=True)
        taken = [Taken(*json.loads(self._answer(line))) for line in self.lines]
        return Taken(max(t.seconds for t in taken), sum(t.processor for t in taken))

    def close(self) -> None:
        """End all processes of this side."""
        for line in self.lines:
            line.close()
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _answer(self, line: TextIO) -> str:
        answer = line.readline()
        if not answer:
            raise self._failed()
        return answer

    def _failed(self) -> RuntimeError:
        end = "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-20:])
        return RuntimeError(f"a process that trains {self.task} has ended:\n{end}")
