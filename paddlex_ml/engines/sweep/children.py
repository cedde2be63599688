# SPDX-License-Identifier: Apache-2.0
"""Trainings in processes of their own, several at a time, each with its part of the cores.

A stop is passed on: each training saves its state and ends. Where the sweep itself is killed, Linux
tells its trainings to stop too; elsewhere they go on, and a later sweep waits for them.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from paddlex_ml import machine_memory, paddle_runtime, stop_signals, systems
from paddlex_ml.cores import usable_cores
from paddlex_ml.errors import Stopped
from paddlex_ml.storage import files

_POLL = 0.1
"""Seconds between two looks at the processes."""
_PARENT_DEATH = 1  # PR_SET_PDEATHSIG of prctl(2)
_STOP = getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM)  # Windows kills instead of SIGTERM
_LIBC = ctypes.CDLL(None) if systems.IS_LINUX else None  # loaded before any fork

logger = logging.getLogger(__name__)


class ChildTask(NamedTuple):
    """A process to run."""

    name: str
    command: list[str]
    log: Path
    """Gets what it prints, behind what is there."""


class Ended(NamedTuple):
    """A process that has ended."""

    name: str
    code: int
    """Exit code; negative: the signal that ended it."""
    seconds: float
    ends_before: int
    """As `ended_process.explain` wants it."""


class _Running(NamedTuple):
    task: ChildTask
    process: subprocess.Popen[bytes]
    place: int
    began: float
    ends_before: int


def run_all(
    tasks: Iterable[ChildTask],
    jobs: int,
    tell: Callable[[Ended], None],
    should_stop: Callable[[str], bool] = lambda _: False,
) -> None:
    """Run all tasks, `jobs` at a time, and `tell` each end. Raises Stopped when a signal asks for
    it, after the trainings have saved their states and ended.

    Each task is taken when there is room for it. `should_stop` is asked again and again, with the
    name of each task that runs: where it answers yes, that training saves its state and ends.
    """
    arriving, running, received = iter(tasks), list[_Running](), list[int]()
    passed, is_over = 0, False

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)

    with stop_signals.received_by(note), _stopped_with_an_error(running):
        while running or not (is_over or received):
            while not (is_over or received) and len(running) < jobs:
                task = next(arriving, None)
                is_over = task is None
                if task is not None:
                    free = min(set(range(jobs)) - {each.place for each in running})
                    running.append(_start(task, free, jobs))
            if len(received) > passed:
                passed = len(received)
                name = signal.Signals(received[-1]).name
                logger.warning("%s: waiting until the trainings have saved their states", name)
                for each in running:
                    each.process.send_signal(_STOP)
            time.sleep(_POLL)
            for each in running:
                if should_stop(each.task.name):
                    each.process.send_signal(_STOP)
            for each in [each for each in running if each.process.poll() is not None]:
                running.remove(each)
                code, seconds = each.process.returncode, time.monotonic() - each.began
                tell(Ended(each.task.name, code, seconds, each.ends_before))
    if received:
        raise Stopped(received[0])


@contextmanager
def _stopped_with_an_error(running: Sequence[_Running]) -> Iterator[None]:
    """Where the body fails, let the trainings that run save their states and end."""
    try:
        yield
    except Exception:
        for each in running:
            each.process.send_signal(_STOP)
        for each in running:
            each.process.wait()
        raise


def _start(task: ChildTask, place: int, jobs: int) -> _Running:
    files.make_folder(task.log.parent)
    begin = partial(_begin, _choose_cores(place, jobs))
    ends_before, began = machine_memory.count_ends(), time.monotonic()
    with task.log.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603  # this program, and no shell
            task.command,
            env=_environment(jobs),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=None if systems.IS_WINDOWS else begin,
            # Of Windows: Ctrl-C reaches the sweep alone, and Ctrl-Break can be sent to the process.
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
    return _Running(task, process, place, began, ends_before)


def _environment(jobs: int) -> Mapping[str, str]:
    """That of this process, in which the package is found wherever it lies.

    Where a process cannot be bound to cores, the number of threads is divided, unless it is set.
    """
    package = str(Path(__file__).resolve().parents[3])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    if jobs > 1 and not hasattr(os, "sched_setaffinity"):
        for name in paddle_runtime.THREADS:
            found.setdefault(name, str(max(1, usable_cores() // jobs)))
    return found


def _begin(cores: Sequence[int]) -> None:
    """In the new process: Ctrl-C reaches the sweep alone, and the end of the sweep this process.

    It takes its cores here, and not before the fork: OpenMP, where it is loaded, gives a forked
    process those of the beginning again.
    """
    os.setpgid(0, 0)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    if _LIBC is not None:
        _LIBC.prctl(_PARENT_DEATH, signal.SIGTERM)


def _choose_cores(place: int, jobs: int) -> list[int]:
    """One of `jobs` equal parts of the cores that this process may use."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    every = sorted(os.sched_getaffinity(0))
    return every[place::jobs] or [every[place % len(every)]]
