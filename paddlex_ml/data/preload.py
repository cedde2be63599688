# SPDX-License-Identifier: Apache-2.0
"""Imported once by the server process that workers are forked from: it loads the compiled loops.

Loading takes a second, and each worker inherits it. OpenCV is imported, but no function of it is
called here, because the threads that it then starts would not survive the fork.
"""

import atexit
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from types import TracebackType

import psutil

from paddlex_ml import stop_signals
from paddlex_ml.kernels import pillow
from paddlex_ml.storage import temporary

# Workers inherit this: they ignore Ctrl-C and the like already before `worker.start` runs.
for number in set(stop_signals.ALL) - {signal.SIGTERM}:
    signal.signal(number, signal.SIG_IGN)
pillow.loops()


def _report(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    """Say nothing of a worker whose main process was stopped while it was starting the worker.

    What it then lacks is the rest of its message, or the semaphores that it would share.
    """
    if not isinstance(error, EOFError | UnpicklingError | FileNotFoundError):
        sys.__excepthook__(kind, error, at)


sys.excepthook = _report


def _remove_sockets(server: int, maker: int, folder: Path) -> None:
    """Remove the folder of the server's socket where the process that made it was killed.

    A maker that still runs may have a server of its own with a socket in there.
    """
    if os.getpid() != server or os.getppid() == maker:  # a worker, or at the end of the maker
        return
    with suppress(psutil.NoSuchProcess):
        if psutil.Process(maker).status() != psutil.STATUS_ZOMBIE:
            return
    with suppress(OSError):
        for socket in folder.glob("listener-*"):
            socket.unlink()
        folder.rmdir()


if temporary.SOCKETS in os.environ:
    _maker, _, _folder = os.environ[temporary.SOCKETS].partition(":")
    atexit.register(_remove_sockets, os.getpid(), int(_maker), Path(_folder))
