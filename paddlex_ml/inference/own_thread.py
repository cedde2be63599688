# SPDX-License-Identifier: Apache-2.0
"""One thread that runs functions one after the other, whoever calls.

oneDNN and OpenMP keep buffers, weights among them, for every thread that runs a network. Forty
threads that share a model would have forty copies.

The thread starts with the first call, and again in a process that was forked. It ends when its
owner is collected, and at the exit of the interpreter, after the function that is running.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True)
class _Job:
    function: Callable[[], Any]
    result: Future[Any] = field(default_factory=Future)

    def run(self) -> None:
        if self.result.set_running_or_notify_cancel():
            try:
                self.result.set_result(self.function())
            except BaseException as error:  # raised again by the caller
                self.result.set_exception(error)


_Jobs: TypeAlias = SimpleQueue[_Job | None]


class OwnThread:
    """Runs what `call` is given, in the order of the calls; any thread may call."""

    def __init__(self, name: str) -> None:
        """The thread gets this name; it starts with the first call."""
        self._name = name
        self.restart()
        _every.add(self)

    def call(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run the function on the thread and return its result, or raise what it raises.

        A caller that is interrupted (KeyboardInterrupt) does not wait for the end. After the exit
        of the interpreter has begun, the function runs on the thread that calls, one at a time; a
        daemon thread ends there instead (SystemExit).
        """
        job = _Job(partial(function, *args, **kwargs))
        with self._lock:
            is_open = not self._is_closed and threading.current_thread() is not self._thread
            if is_open:
                self._start()
                self._jobs.put(job)
        if not is_open:
            caller = threading.current_thread()
            if _exit.is_set() and caller.daemon and caller is not self._thread:
                # Python ends it somewhere in the network, whose C++ would abort the process.
                raise SystemExit
            with self._alone:  # the network gives wrong scores where two threads run it
                return function(*args, **kwargs)
        try:
            return cast(_T, job.result.result())
        finally:
            job.result.cancel()  # of a caller that was interrupted before its turn
            del job  # an error refers to this frame, which would keep the error

    def restart(self) -> None:
        """Begin anew with the next call: a forked process has no thread of its parent."""
        self._lock = threading.Lock()
        self._alone = threading.RLock()  # the own thread may call again
        self._jobs: _Jobs = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def close(self) -> None:
        """End the thread and wait for the function that is running."""
        with self._lock:
            self._is_closed, thread = True, self._thread
        if thread is not None and thread is not threading.current_thread():
            self._jobs.put(None)
            thread.join()

    def _start(self) -> None:
        if self._thread is None:
            # A daemon, because Python would wait for another thread's end before `_close_all`.
            self._thread = threading.Thread(
                target=_work, args=(self._jobs,), name=self._name, daemon=True
            )
            self._thread.start()
            _threads.add(self._thread)
            weakref.finalize(self, self._jobs.put, None).atexit = False


_every: weakref.WeakSet[OwnThread] = weakref.WeakSet()
_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
_exit = threading.Event()
"""Whether the exit of the interpreter has begun."""


def _work(jobs: _Jobs) -> None:
    """Run the jobs until None comes; without a reference to the owner, which may be collected."""
    while (job := jobs.get()) is not None:
        job.run()
        del job  # it holds images and scores


@atexit.register
def _begin_exit() -> None:
    _exit.set()
    _close_all()


def _close_all() -> None:
    """A thread within Paddle at the end of the interpreter would abort the process."""
    for each in list(_every):
        each.close()
    # Also those whose owners are collected, as when a stop interrupts the loading of a model.
    for thread in list(_threads):
        thread.join()


def _restart_all() -> None:
    for each in list(_every):
        each.restart()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restart_all)
