# SPDX-License-Identifier: Apache-2.0
"""A process of ours that measures something for this one, and answers through a pipe.

It has a memory, an import and threads of its own, and what ends it does not end the command.
"""

from __future__ import annotations

import importlib
import logging
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import psutil

from paddlex_ml import ended_process, machine_memory, paddle_runtime, stop_signals
from paddlex_ml.distributed.parent import exit_with_parent
from paddlex_ml.errors import PaddlexMLError

_END_LIMIT = 5.0  # seconds that a process has to end by itself
_LOOK = 0.1  # seconds between two looks at the memory

Reply = TypeVar("Reply")
Own = TypeVar("Own", bound="AnsweringProcess")
Serve = Callable[[Connection, Any], None]


class OutOfMemory(PaddlexMLError):
    """The process has ended, or could not go on, for want of memory."""


class AnsweringProcess:
    """The parent's side. Close it, or use it in `with`."""

    def __init__(self, serve: Serve, task: Any) -> None:
        """Start a process that calls `serve` with its end of the pipe and `task`."""
        stop_signals.start_tracker()
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._ends_before = machine_memory.count_ends()
        self._process = context.Process(target=serve, args=(theirs, task))
        with paddle_runtime.home_for_paddle():
            self._process.start()
        theirs.close()  # so that the end of the process closes the pipe

    def send(self, request: Any) -> None:
        """Ask for something; the answer of a process that has ended says why it has."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self._connection.send(request)

    def receive(self, kind: type[Reply], look: Callable[[], None] = lambda: None) -> Reply:
        """Wait for the next answer. Raises the error that the process sent in its place.

        look: called again and again meanwhile; may raise. Raises PaddlexMLError where the process
        has ended, which is an OutOfMemory where the system has killed it.
        """
        try:
            while not self._connection.poll(_LOOK):
                look()
            reply = self._connection.recv()
        except (EOFError, ConnectionError):  # the second from `poll`, on Windows
            self._process.join(_END_LIMIT)
            end = ended_process.explain(self._process.exitcode, self._ends_before)
            kind_of_error = OutOfMemory if end.is_for_memory else PaddlexMLError
            raise kind_of_error(
                f"the process that runs it {end.how}",
                where=machine_memory.describe(),
                fix="free memory" if end.is_for_memory else "another version of its runtime",
            ) from None
        if isinstance(reply, BaseException):
            raise reply
        assert isinstance(reply, kind)
        return reply

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def close(self) -> None:
        """End the process."""
        self._connection.close()  # what it waits for
        self._process.join(_END_LIMIT)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def serve_with_paddle(connection: Connection, module: str) -> None:
    """Import Paddle quietly, and let `serve` of a module that needs it do the task that is sent."""
    paddle_runtime.prepare()
    importlib.import_module(module).serve(connection, connection.recv())


def begin_answering() -> list[str]:
    """What the process does first; returns the list of warnings that the package will log.

    It ends with its parent, which alone receives the signals of a terminal.
    """
    exit_with_parent()
    for number in stop_signals.ALL:
        signal.signal(number, signal.SIG_IGN)
    told = _Warnings()
    package = logging.getLogger("paddlex_ml")
    package.addHandler(told)
    package.propagate = False
    return told.texts


def find_peak() -> int | None:
    """Most bytes of memory that this process has had; None where the system does not tell.

    What getrusage says on Linux includes the memory of the process that has started this one.
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    peak: int | None = getattr(psutil.Process().memory_info(), "peak_wset", None)  # Windows
    return peak


class _Warnings(logging.Handler):
    """Keeps what is logged, from warnings on."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())
