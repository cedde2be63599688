# SPDX-License-Identifier: Apache-2.0
"""How every command speaks to its user: log lines, progress, errors with their exit codes.

Exit codes: 0 done, 1 a bug of ours, 2 something the user can repair, 130 and 143 stopped by SIGINT
and SIGTERM.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple, NoReturn

from tqdm import tqdm

from paddlex_ml.errors import PaddlexMLError, Stopped
from paddlex_ml.storage import files

logger = logging.getLogger(__name__)


class Parser(argparse.ArgumentParser):
    """Reports bad arguments like every other fault of the user's, instead of a page of usage."""

    def error(self, message: str) -> NoReturn:
        """Raise PaddlexMLError."""
        raise PaddlexMLError(message, where="the command line", fix=f"see {self.prog} --help")


def door(body: Callable[[], None]) -> int:
    """Run a small program: log lines on stderr, errors told; returns the exit code."""
    with speaking():
        try:
            body()
        except (Exception, KeyboardInterrupt, Stopped) as error:
            return tell(error).code
    return 0


class Told(NamedTuple):
    """What was told of an error, for a result file."""

    code: int
    """Exit code."""
    kind: str
    message: str


def tell(error: BaseException, hint: str = "") -> Told:
    """Print an error as its kind asks for; `hint` follows when the user has stopped the program."""
    if isinstance(error, OSError):
        error = files.explain(error) or error
    if isinstance(error, KeyboardInterrupt):
        error = Stopped(signal.SIGINT)
    if isinstance(error, Stopped):
        code = 128 + error.signal_number
        message = f"stopped by {signal.Signals(error.signal_number).name}{hint}"
        print(message, file=sys.stderr)
    elif isinstance(error, PaddlexMLError):
        code, message = 2, str(error)
        print(f"error: {message}", file=sys.stderr)
    else:
        code, message = 1, str(error)
        traceback.print_exception(error)
        print("this is a bug in paddlex_ml: please report the lines above", file=sys.stderr)
    return Told(code, type(error).__name__, message)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function of (done, total): a bar with counts and time left on a terminal.

    Elsewhere a log line for every tenth, so that log files stay short. `what` is "decoded images".
    """
    if not sys.stderr.isatty():
        yield _Tenths(what)
        return
    with tqdm(desc=what, file=sys.stderr, delay=0.5) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


class _Tenths:
    """Remembers which tenth was logged last, and when the work began."""

    def __init__(self, what: str) -> None:
        self._what, self._last, self._begin = what, 0, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        tenth = done * 10 // total if total else 10
        if tenth <= self._last:
            return
        self._last = tenth
        left = (time.monotonic() - self._begin) * (total - done) / max(1, done)
        eta = "" if done == total else f", {tqdm.format_interval(left)} left"
        logger.info("%s: %d of %d%s", self._what, done, total, eta)


@contextmanager
def speaking(*, silent: bool = False) -> Iterator[None]:
    """While a command runs: log lines go to stderr, SIGTERM ends it like Ctrl-C.

    `silent` is for all but one of several processes that do the same.
    """
    with _logging_to_stderr(silent=silent), _sigterm_raises_stopped(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"paddle\b")  # nothing a user could act on
        yield


class _LineFormatter(logging.Formatter):
    """`[12:03:41] text`, with the level in front of the text when it is not plain information."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        time = self.formatTime(record, "%H:%M:%S")
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        return f"[{time}] {level}{record.message}"


@contextmanager
def _logging_to_stderr(*, silent: bool) -> Iterator[None]:
    """Send what the package logs to stderr while a command runs; stdout is for its results."""
    package = logging.getLogger("paddlex_ml")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter())
    level = package.level
    package.setLevel(logging.CRITICAL if silent else logging.INFO)
    package.propagate = False  # Paddle gives the root logger a handler: every line would come twice
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.propagate = True
        package.setLevel(level)


@contextmanager
def _sigterm_raises_stopped() -> Iterator[None]:
    """Let SIGTERM end the run like Ctrl-C does, so that its result file is written too."""
    if threading.current_thread() is not threading.main_thread():  # where Python allows no handlers
        yield
        return
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            raise Stopped(number)
        signal.signal(number, signal.SIG_DFL)  # a forked worker: it has nothing to report
        os.kill(os.getpid(), number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
