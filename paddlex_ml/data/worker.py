# SPDX-License-Identifier: Apache-2.0
"""What every worker process does first, so that none outlives its command or answers for it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing import connection


def begin(*_: object) -> None:
    """Leave Ctrl-C to the main process, and die with it. Takes what pools hand to a worker."""
    # Ctrl-C reaches every process of the terminal; the main process saves its state and ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """A killed main process must not leave workers behind: they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
