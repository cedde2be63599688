# SPDX-License-Identifier: Apache-2.0
"""How much memory the images take that are decoded at one time, by all readers of a command.

A small image is decoded at once. Of large ones, each reader takes a small share, or waits for its
turn: one at a time is larger. So all together stay within half of the memory, and no pixel depends
on how many readers there are.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, NamedTuple

from paddlex_ml import machine_memory
from paddlex_ml.cores import usable_cores

if sys.platform == "linux":
    import fcntl

LARGEST = 10**9
"""Bytes that one image may take, with every conversion on the way to RGB. A photograph of 200
million pixels, the most that phones make, takes 800 MB; a file of a few bytes can ask for more than
any machine has."""
_SHARE = 4  # a quarter of the memory is for the one large image, a quarter for all others


class SharedLock(AbstractContextManager[None]):
    """A lock for the threads of several processes; the system frees it where one is killed.

    A semaphore of multiprocessing would stay locked, and without owner, behind a killed process.
    On other systems than Linux it is one for each process.
    """

    def __init__(self, path: str = "") -> None:
        """path: the same file in another process; pickling gives it."""
        self._threads, self._file, self._path = threading.Lock(), -1, path
        if sys.platform == "linux":
            with suppress(OSError):  # the other process has ended
                opened = os.open(path, os.O_RDWR) if path else os.memfd_create("paddlex_ml turns")
                weakref.finalize(self, os.close, opened)
                self._file, self._path = opened, path or f"/proc/{os.getpid()}/fd/{opened}"

    def __reduce__(self) -> tuple[object, ...]:
        return SharedLock, (self._path,)

    def __enter__(self) -> None:
        self._threads.acquire()
        if self._file >= 0:
            fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        if self._file >= 0:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        self._threads.release()


class Readers(NamedTuple):
    """What the processes that read images for one command have in common."""

    number: int
    turn: AbstractContextManager[Any]
    """A lock: who has it decodes a large image."""


_readers = Readers(usable_cores(), threading.Lock())
_own = threading.local()


def join(readers: Readers) -> None:
    """Take turns with other processes from now on."""
    global _readers
    _readers = readers


def limit() -> int:
    """Bytes that one image may take on this machine."""
    return min(LARGEST, machine_memory.total() // _SHARE // _trainings())


@contextmanager
def reading() -> Iterator[None]:
    """What is decoded in the body counts until its end, where the image must be released."""
    if getattr(_own, "turns", None) is not None:  # the caller reads this image
        yield
        return
    _own.turns = []
    try:
        yield
    finally:
        turns, _own.turns = _own.turns, None
        for turn in turns:
            turn.__exit__(None, None, None)


def wait_for(needed: int) -> None:
    """Wait until an image that takes so many bytes can be decoded, in the body of `reading`."""
    share = machine_memory.total() // _SHARE // _trainings() // _readers.number
    if needed > share and not _own.turns:  # who has a turn never waits: no two wait for each other
        turn = _readers.turn
        turn.__enter__()
        _own.turns.append(turn)


def _trainings() -> int:
    """Processes of a training on several devices: each has readers of its own."""
    return max(1, int(os.environ.get("PADDLE_TRAINERS_NUM", "1")))


def _restart() -> None:
    """A child process has none of the threads that had a turn."""
    join(Readers(usable_cores(), threading.Lock()))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restart)
