# SPDX-License-Identifier: Apache-2.0
"""How long work shows that it goes on: counts where it has them, else a line that names it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from tqdm import tqdm

logger = logging.getLogger(__name__)

SHORTEST_PAUSE = 2.0
"""Seconds without a line after which a person begins to doubt that anything happens."""
PATIENCE = 1.5
"""Seconds after which work is named, so that a person need not wonder for longer than 2."""
WORTH_TELLING = 5.0
"""Seconds of work whose end is told too."""
TICK = 1.0
"""Seconds between two drawings of a bar whose count stands."""
LONGEST_SILENCE = 30.0
"""Seconds between two lines of one piece of work: a log file stays short."""

ReportProgress: TypeAlias = Callable[[int, int], None]
"""Called with (done, total): `terminal.progress` shows a bar, `ignore_progress` nothing."""


def ignore_progress(done: int, total: int) -> None:
    """Show nothing: for callers without a terminal."""


_OWN = threading.local()


@contextmanager
def named(what: str) -> Iterator[None]:
    """Log `what` ("converting the model to ONNX") when the work inside is not done in 1.5 seconds.

    Then every 30 seconds how long it has taken, and at the end its time, from 5 seconds on.
    Of work within work the outer one is told.
    """
    if getattr(_OWN, "is_named", False):
        yield
        return
    _OWN.is_named = True
    begin, is_over = time.perf_counter(), threading.Event()

    def tell() -> None:
        if is_over.wait(PATIENCE):
            return
        logger.info("%s ...", what)
        while not is_over.wait(LONGEST_SILENCE):
            logger.info("%s: %.0f s so far", what, time.perf_counter() - begin)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        is_over.set()
        teller.join()
        _OWN.is_named = False
        if (passed := time.perf_counter() - begin) >= WORTH_TELLING:
            logger.info("%s: %.0f s", what, passed)


@contextmanager
def ticking(bar: tqdm[Any]) -> Iterator[tqdm[Any]]:
    """Show a bar, drawn again each second: its clock goes on while a step takes longer."""
    with bar:
        if bar.disable:
            yield bar
            return
        is_over = threading.Event()

        def tick() -> None:
            while not is_over.wait(TICK):
                bar.delay = 0.0  # else its end would not remove what was drawn before its time
                bar.refresh()

        ticker = threading.Thread(target=tick, daemon=True)
        ticker.start()
        try:
            yield bar
        finally:
            is_over.set()
            ticker.join()
