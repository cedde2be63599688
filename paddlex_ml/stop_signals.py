# SPDX-License-Identifier: Apache-2.0
"""The signals that ask a command to stop, and how they are received. No slow import.

SIGINT (Ctrl-C), SIGTERM (batch systems, containers), SIGHUP (a terminal that was closed), SIGUSR1
(batch systems that announce the end of the time), SIGBREAK (Ctrl-Break, on Windows). One that was
ignored when the command started, such as SIGHUP under nohup, stays ignored.
"""

from __future__ import annotations

import _thread
import atexit
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

STOPS = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGBREAK")
    if hasattr(signal, name)
)
"""Besides SIGINT. On Windows nobody can send SIGTERM to another process: that ends it at once."""
ALL = (signal.SIGINT, *STOPS)

READING = threading.Event()
"""Set while the main thread of a training waits for data."""
_STEP = 0.5
"""Seconds between two looks for a signal."""
_LEAVE = 2.0
"""Seconds that Python has to end after a stop."""

Handler = Callable[[int, FrameType | None], Any]


@contextmanager
def received_by(handler: Handler, numbers: tuple[int, ...] = ALL) -> Iterator[None]:
    """Let `handler` receive these signals, and the earlier handlers afterwards.

    In a thread other than the main one, where Python allows no handlers, nothing changes.
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            # None: a handler that was not set by Python, which Python cannot set again.
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)


@contextmanager
def postponed() -> Iterator[None]:
    """Receive signals at the end: what runs inside, such as an import, must not break in two.

    A library may replace the handlers inside; those of before are back at the end.
    """
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)

    with received_by(note):
        has_mask = hasattr(signal, "pthread_sigmask")
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ALL) if has_mask else None
        try:
            yield
        finally:
            for number in ALL:
                if signal.getsignal(number) is note:
                    signal.signal(number, note)  # the library's own handler is behind it
            if mask is not None:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if received:
        signal.raise_signal(received[0])


def log_received(logger: logging.Logger, message: str, *values: object) -> None:
    """Log a warning in a handler of a signal.

    The code that the signal interrupted may be writing to the stream of the log, which no second
    call of the same thread may enter: a thread of its own waits for its end.
    """
    _thread.start_new_thread(lambda: logger.warning(message, *values), ())


def start_tracker() -> None:
    """Start multiprocessing's process that tracks semaphores, where no stop of a group ends it.

    It ignores SIGINT and SIGTERM by itself. The others of a terminal or job would end it, and its
    successor, which knows of no semaphore, would write a traceback for each of them.
    """
    if hasattr(signal, "pthread_sigmask"):
        from multiprocessing import resource_tracker

        with postponed():
            resource_tracker.ensure_running()


def start_fork_server() -> None:
    """Start multiprocessing's server of workers; it and its workers begin with stops blocked.

    Its own import takes a second, and a stop that reaches the whole group must not end it
    meanwhile: it ends with this process. A worker receives them again with `unblock`.
    """
    from multiprocessing import forkserver

    start_tracker()  # of its own, because the start of the tracker ends with SIGINT let through
    with postponed():
        forkserver.ensure_running()


def unblock() -> None:
    """Receive, in a new process, what was blocked where it was started."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ALL)


@contextmanager
def ended_when_stalled(is_waiting: Callable[[], bool], limit: float) -> Iterator[None]:
    """End the process some seconds after a stop that its main thread does not answer.

    A read on a disk that does not answer lets no handler of Python run. `is_waiting` says whether
    the process may be ended: it is asked again and again, and a process that computes or saves is
    left alone. limit: seconds from the signal on. Only on Linux and other POSIX systems, in the
    main thread; elsewhere nothing happens.
    """
    if not hasattr(signal, "pthread_sigmask") or (
        threading.current_thread() is not threading.main_thread()
    ):
        yield
        return
    receiver, sender = os.pipe()
    for end in (receiver, sender):
        os.set_blocking(end, False)
    before, over = signal.set_wakeup_fd(sender, warn_on_full_buffer=False), threading.Event()

    def watch() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, ALL)  # else this thread would receive them
        number, waited = None, 0.0
        while not over.wait(_STEP):
            number = number or _read_signal(receiver) or _find_pending()
            waited = waited + _STEP if number is not None and is_waiting() else 0.0
            if number is not None and waited >= limit:
                text = f"stopped by {signal.Signals(number).name}: a disk or pipe does not answer\n"
                with suppress(OSError):
                    os.write(2, text.encode())
                os._exit(128 + number)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        over.set()
        thread.join()
        os.close(receiver)
        os.close(sender)


def _read_signal(receiver: int) -> int | None:
    """A stop whose handler of C has run: each signal is a byte."""
    try:
        return next((number for number in os.read(receiver, 64) if number in ALL), None)
    except BlockingIOError:
        return None


def _find_pending() -> int | None:
    """A stop that no thread has received: all of them sleep in the kernel. Linux alone tells it."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    pending = int((status.partition("ShdPnd:")[2].split() or ["0"])[0], 16)
    return next((number for number in ALL if pending >> (number - 1) & 1), None)


def leave(code: int) -> NoReturn:
    """End this program with the exit code; after a stop within seconds.

    A thread that waits for a disk or pipe which does not answer would keep Python from ending.
    """
    if code - 128 in ALL:
        timer = threading.Timer(_LEAVE, os._exit, (code,))
        timer.daemon = True
        timer.start()
        for number in ALL:  # of an impatient user: a traceback would tell nothing
            signal.signal(number, lambda *_: os._exit(code))
        atexit.register(_ignore_stops)
    sys.exit(code)


def _ignore_stops() -> None:
    """For the last steps of Python: it gives up handlers, and a signal would become the end."""
    for number in ALL:
        signal.signal(number, signal.SIG_IGN)
