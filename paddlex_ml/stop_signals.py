# SPDX-License-Identifier: Apache-2.0
"""The signals that ask a command to stop, and how they are received. No slow import.

SIGINT (Ctrl-C), SIGTERM (batch systems, containers), SIGHUP (a terminal that was closed), SIGUSR1
(batch systems that announce the end of the time). One that was ignored when the command started,
such as SIGHUP under nohup, stays ignored.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

STOPS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)
)
"""Besides SIGINT. Windows has SIGTERM alone."""
ALL = (signal.SIGINT, *STOPS)

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
    """Receive signals at the end: what runs inside, such as an import, must not break in two."""
    received: list[int] = []
    try:
        with received_by(lambda number, _: received.append(number)):
            yield
    finally:
        if received:
            signal.raise_signal(received[0])


def leave(code: int) -> NoReturn:
    """End this program with the exit code. After a stop by a signal it ends at once.

    A thread that waits for a disk or pipe which does not answer would keep Python from ending.
    """
    if code - 128 not in ALL:
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            try:
                stream.flush()
            except (OSError, ValueError):
                continue
    os._exit(code)
