# SPDX-License-Identifier: Apache-2.0
"""SIGINT and SIGTERM as a request to save and stop, instead of death in the middle of a step."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)

SIGINT, SIGTERM = signal.SIGINT, signal.SIGTERM


class Interrupt:
    """Context in which the first SIGINT or SIGTERM is only noted; a second SIGINT interrupts."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():  # others may not set handlers
            for number in (SIGINT, SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None and number == SIGINT:
            raise KeyboardInterrupt
        self.signal = number
        logger.warning("%s: saving the state after this step", signal.Signals(number).name)
