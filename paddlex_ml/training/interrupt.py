# SPDX-License-Identifier: Apache-2.0
"""SIGINT, SIGTERM and the like as a request to save and stop, not as an end within a step."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import FrameType

from paddlex_ml import stop_signals
from paddlex_ml.distributed.group import PeerLost, ProcessGroup
from paddlex_ml.errors import Lines, PaddlexMLError

logger = logging.getLogger(__name__)

SIGINT, SIGTERM = signal.SIGINT, signal.SIGTERM
DATA_LIMIT = 3.0
"""Seconds that a stop waits for data: a disk or pipe may never answer."""


class DataStalled(Exception):
    """The data do not arrive, and a stop was asked for."""


@dataclass(eq=False)
class Interrupt:
    """Context in which the first signal is only noted; a second SIGINT interrupts.

    Everything that ends a training early is recorded here. All ranks of a group stop at the same
    step, because all of them call `agree` together.
    """

    group: ProcessGroup = field(default_factory=ProcessGroup)
    signal: int | None = None
    """The signal that asked for the stop; after `agree`, the same on every rank."""
    error: Exception | None = None
    """Why this rank cannot go on; raised when the state is saved."""
    stopped: bool = False
    """Whether the group has agreed to stop."""
    _held: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Interrupt:
        # A worker process ignores some of them: its supervisor receives those.
        self._held.enter_context(stop_signals.received_by(self._note))
        in_main_thread = threading.current_thread() is threading.main_thread()
        if hasattr(signal, "setitimer") and in_main_thread:
            self._held.enter_context(
                stop_signals.received_by(self._stop_reading, (signal.SIGALRM,))
            )
            self._held.callback(signal.setitimer, signal.ITIMER_REAL, 0)
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Wait for data inside: raises DataStalled some seconds after a stop was asked for."""
        stop_signals.READING.set()
        try:
            yield
        finally:
            stop_signals.READING.clear()

    def agree(self, *wishes: bool) -> Sequence[bool]:
        """Find out whether any rank must stop; returns for each wish whether any rank has it.

        The answer is the same on every rank.
        """
        asked = self.group.shared.stop[0] or self.signal or 0  # the first may come as SIGTERM here
        mine = [float(asked), float(self.error is not None), *map(float, wishes)]
        number, failed, *wanted = self.group.all_reduce_max(mine)
        if number:
            self.signal = int(number)
        self.stopped = bool(number or failed)
        if self.stopped and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        return [bool(wish) for wish in wanted]

    def raise_error(self, is_saved: bool) -> None:
        """Raise what has ended the training, here or in another process, unless it was a signal."""
        error = self.error
        if isinstance(error, PaddlexMLError) and is_saved:
            fix = f"{error.fix}; the state is saved, and -o Train.resume_path=auto goes on from it"
            raise error.replace(fix=Lines(fix)) from error
        if error is not None:
            raise error
        if self.signal is None:
            raise PeerLost("another process cannot go on")

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None and number == SIGINT:
            raise KeyboardInterrupt
        self.signal = number
        if not self.group.shared.stop[0]:  # else the supervisor has said so
            name = signal.Signals(number).name
            stop_signals.log_received(logger, "%s: saving the state after this step", name)
        if hasattr(signal, "setitimer"):  # again and again: the step may end first
            signal.setitimer(signal.ITIMER_REAL, DATA_LIMIT, DATA_LIMIT / 3)

    def _stop_reading(self, *_: object) -> None:
        if stop_signals.READING.is_set():
            raise DataStalled
