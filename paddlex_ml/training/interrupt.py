# SPDX-License-Identifier: Apache-2.0
"""SIGINT and SIGTERM as a request to save and stop, not as an end in the middle of a step."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from paddlex_ml.distributed.group import PeerLost, ProcessGroup
from paddlex_ml.errors import PaddlexMLError

logger = logging.getLogger(__name__)

SIGINT, SIGTERM = signal.SIGINT, signal.SIGTERM


@dataclass(eq=False)
class Interrupt:
    """Context in which the first SIGINT or SIGTERM is only noted; a second SIGINT interrupts.

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
    _previous: dict[int, Any] = field(default_factory=dict)
    """The handlers of before, by signal number."""

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():  # others may not set handlers
            for number in (SIGINT, SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # else a supervisor handles it
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def agree(self, *wishes: bool) -> Sequence[bool]:
        """Find out whether any rank must stop; returns for each wish whether any rank has it.

        The answer is the same on every rank.
        """
        asked = self.signal or self.group.shared.stop[0]
        mine = [float(asked), float(self.error is not None), *map(float, wishes)]
        number, failed, *wanted = self.group.all_reduce_max(mine)
        if number:
            self.signal = int(number)
        self.stopped = bool(number or failed)
        return [bool(wish) for wish in wanted]

    def raise_error(self, is_saved: bool) -> None:
        """Raise what has ended the training, here or in another process, unless it was a signal."""
        error = self.error
        if isinstance(error, PaddlexMLError) and is_saved:
            fix = f"{error.fix}; the state is saved, and -o Train.resume_path=auto goes on from it"
            raise PaddlexMLError(error.what, where=error.where, fix=fix) from error
        if error is not None:
            raise error
        if self.signal is None:
            raise PeerLost("another process cannot go on")

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None and number == SIGINT:
            raise KeyboardInterrupt
        self.signal = number
        logger.warning("%s: saving the state after this step", signal.Signals(number).name)
