# SPDX-License-Identifier: Apache-2.0
"""How long work shows that it goes on: counts where it has them, else a line that names it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

logger = logging.getLogger(__name__)

SHORTEST_PAUSE = 2.0
"""Seconds without a line after which a person begins to doubt that anything happens."""
LONGEST_SILENCE = 30.0
"""Seconds between two lines of one piece of work: a log file stays short."""

ReportProgress: TypeAlias = Callable[[int, int], None]
"""Called with (done, total): `terminal.progress` shows a bar, `ignore_progress` nothing."""


def ignore_progress(done: int, total: int) -> None:
    """Show nothing: for callers without a terminal."""


@contextmanager
def named(what: str) -> Iterator[None]:
    """Log `what` ("converting the model to ONNX") when the work inside takes more than 2 seconds.

    Then every 30 seconds how long it has taken, and its time at the end; nothing of shorter work.
    """
    begin, is_over = time.monotonic(), threading.Event()

    def tell() -> None:
        if is_over.wait(SHORTEST_PAUSE):
            return
        logger.info("%s ...", what)
        while not is_over.wait(LONGEST_SILENCE):
            logger.info("%s: %.0f s so far", what, time.monotonic() - begin)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        is_over.set()
        teller.join()
        if (passed := time.monotonic() - begin) >= SHORTEST_PAUSE:
            logger.info("%s: %.0f s", what, passed)
