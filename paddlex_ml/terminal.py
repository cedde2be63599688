# SPDX-License-Identifier: Apache-2.0
"""What every command prints: log lines, progress, errors with their exit codes.

Exit codes: 0 done, 1 a bug in paddlex_ml, 2 an error that the user can repair, 3 a run that was
trained again has other numbers, 128 + number stopped by a signal: 130 SIGINT, 143 SIGTERM,
129 SIGHUP, 138 SIGUSR1, 149 SIGBREAK.
"""

from __future__ import annotations

import argparse
import copy
import logging
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple, NoReturn

from paddlex_ml import stop_signals, streams
from paddlex_ml.errors import Lines, PaddlexMLError, Stopped
from paddlex_ml.progress import LONGEST_SILENCE, SHORTEST_PAUSE, ReportProgress, ticking
from paddlex_ml.safe_text import one_line, visible, without_secrets
from paddlex_ml.storage import cache

logger = logging.getLogger(__name__)

MANY = 1000
"""Pieces of work that surely take long enough to be told from the start."""
END_LIMIT = 8.0
"""Seconds that a stopped run has to write what it has; batch systems kill after 10."""


class Parser(argparse.ArgumentParser):
    """Reports bad arguments like every other error, without a page of usage."""

    def error(self, message: str) -> NoReturn:
        """Raise PaddlexMLError."""
        raise PaddlexMLError(message, where="the command line", fix=f"{self.prog} --help")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """End after --help or --version. Raises PaddlexMLError where the text was lost."""
        streams.refuse_loss()
        super().exit(status, message)


def run_script(body: Callable[[], None]) -> int:
    """Run a small program: log lines and errors go to stderr; returns the exit code."""
    with session():
        try:
            body()
        except (Exception, KeyboardInterrupt, Stopped) as error:
            return print_error(error).code
    return 0


class ErrorReport(NamedTuple):
    """What was printed about an error, for a result file."""

    code: int
    """Exit code."""
    kind: str
    message: str


def print_error(error: BaseException, hint: str = "") -> ErrorReport:
    """Print an error as its kind requires; a stop by the user is followed by `hint`."""
    if isinstance(error, OSError):
        error = cache.explain(error) or error
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
        code, message = 1, without_secrets(str(error))
        summary = one_line(f"{type(error).__name__}: {message}")
        print(f"error: {summary} (a bug; its traceback follows)", file=sys.stderr)
        traceback.print_exception(error)
        print("this is a bug in paddlex_ml: please report the lines above", file=sys.stderr)
    return ErrorReport(code, type(error).__name__, message)


@contextmanager
def progress(
    what: str, *, log: ReportProgress | None = None, always: bool = True
) -> Iterator[ReportProgress]:
    """Yield a function of (done, total): a bar with counts and time left on a terminal.

    Elsewhere log lines, few enough for a log file: one after 2 seconds, then for every tenth, at
    most every 2 seconds and at least every 30, and one at the end. `what` is "decoded images".
    log: what writes other lines in their place. always: also the end of what took less than 2 s.
    """
    from tqdm import tqdm  # with the first bar: a sixth of the start of `--help`

    begin = written = time.monotonic()
    last, is_over = 0, False
    first: tuple[float, int] | None = None  # processes may take long to start: no measure of speed

    def log_tenths(done: int, total: int) -> None:
        nonlocal first, last, written, is_over
        now, tenth = time.monotonic(), done * 10 // total if total else 10
        if done == total and not is_over:
            is_over = True
            if always or written > begin:
                logger.info("%s: %d of %d", what, done, total)
        if not done:
            if total >= MANY:
                logger.info("%s: 0 of %d", what, total)
            return
        first = first or (now, done)
        passed = now - written
        is_due = written == begin or tenth > last or passed >= LONGEST_SILENCE
        if done == total or passed < SHORTEST_PAUSE or not is_due:
            return
        last, written = tenth, now
        left = ""
        if done > first[1]:
            seconds = (now - first[0]) * (total - done) / (done - first[1])
            left = f", {tqdm.format_interval(seconds)} left"
        logger.info("%s: %d of %d%s", what, done, total, left)

    if not sys.stderr.isatty():
        yield log or log_tenths
        return
    with ticking(tqdm(desc=what, file=sys.stderr, delay=0.5, leave=always)) as bar:

        def draw_bar(done: int, total: int) -> None:
            bar.total = total
            if not done and total >= MANY:  # it will not be gone at once
                bar.refresh()
            bar.update(done - bar.n)

        yield draw_bar


@contextmanager
def session(*, silent: bool = False) -> Iterator[None]:
    """While a command runs: log lines go to stderr, and SIGTERM raises Stopped, like Ctrl-C.

    Both streams never fail (`streams`); stdout is for results. `silent` is for all except one of
    several processes that do the same.
    """
    with (
        streams.lasting(),
        _logging(silent),
        _stops_raise(),
        _safe_path(),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", module=r"paddle\b")  # a user cannot act on them
        # On a disk without flock, filelock keeps a file instead, which serves as well.
        warnings.filterwarnings("ignore", "flock not supported", module=r"filelock\b")
        yield


@contextmanager
def _safe_path() -> Iterator[None]:
    """Let the processes that are started take no module from the working folder.

    It may be a stranger's data set, and Python looks there first for the modules of its helpers
    (`python -c`). Python 3.10 cannot leave it out.
    """
    name = "PYTHONSAFEPATH"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _logging(silent: bool) -> Iterator[None]:
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


class SafeFormatter(logging.Formatter):
    """Shows codes for a terminal as text and leaves out the secrets of URLs, as the streams do."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, without the line end.

        A name with line ends must not look like a line of ours.
        """
        args = record.args
        if isinstance(args, tuple):
            record = copy.copy(record)
            record.args = tuple(map(_keep_on_line, args))
        return visible(without_secrets(super().format(record)))


def _keep_on_line(value: object) -> object:
    is_name = isinstance(value, str | Path) and not isinstance(value, Lines)
    return one_line(str(value)) if is_name else value


class _LineFormatter(SafeFormatter):
    """`[12:03:41] text`, with the level before the text for all except plain information."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        time = self.formatTime(record, "%H:%M:%S")
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        return f"[{time}] {level}{record.message}"


@contextmanager
def _stops_raise() -> Iterator[None]:
    """Let SIGTERM and the like end a run as Ctrl-C does, so that its result file is written too.

    Where the run does not come to its end, because a thread waits for a disk or pipe that does not
    answer, the process is ended after some seconds.
    """
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            raise Stopped(number)
        signal.signal(number, signal.SIG_DFL)  # a forked worker has nothing to report
        os.kill(os.getpid(), number)

    def is_waiting() -> bool:
        # A training receives the signals itself and saves: only its reading may be ended.
        return signal.getsignal(signal.SIGTERM) is stop or stop_signals.READING.is_set()

    with (
        stop_signals.received_by(stop, stop_signals.STOPS),
        stop_signals.ended_when_stalled(is_waiting, END_LIMIT),
    ):
        yield
