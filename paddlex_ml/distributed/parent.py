# SPDX-License-Identifier: Apache-2.0
"""End a worker process together with the process that started it. Does not import Paddle."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing import connection


def exit_with_parent() -> None:
    """End this process as soon as its parent process is gone: nothing else would end it."""

    def wait_for_parent() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=wait_for_parent, daemon=True).start()
