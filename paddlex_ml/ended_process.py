# SPDX-License-Identifier: Apache-2.0
"""Why a process ended without an answer, in words that a user can act on.

Linux ends a process with SIGKILL where the memory of the machine or of a container is used up, and
nobody gets a message: the signal and the kernel's own count of such ends tell it.
"""

from __future__ import annotations

import signal
from typing import NamedTuple

from paddlex_ml import machine_memory

FOR_MEMORY = frozenset({-9, -7})
"""SIGKILL, and SIGBUS, which ends a process whose shared memory cannot grow."""
_FIRST_EXCEPTION = 0xC0000000
"""Exit codes of Windows from here on are exceptions: 0xC0000005 is an access violation."""


class End(NamedTuple):
    """How a process ended."""

    how: str
    """The rest of a sentence that begins with the process."""
    is_for_memory: bool


def explain(code: int | None, ends_before: int) -> End:
    """Explain the exit code of a process; None: unknown, which is taken for SIGKILL.

    ends_before: `machine_memory.count_ends` about when the process started.
    """
    if code in FOR_MEMORY or code is None:
        is_sure = machine_memory.count_ends() > ends_before
        why = "because memory ran out" if is_sure else "most likely for memory"
        return End(f"was killed by the system, {why}", is_for_memory=True)
    if code >= _FIRST_EXCEPTION:
        return End(f"crashed (0x{code:08X})", is_for_memory=False)
    if code >= 0:
        return End(f"ended with exit code {code}", is_for_memory=False)
    known = {int(number) for number in signal.Signals}
    name = signal.Signals(-code).name if -code in known else f"signal {-code}"
    how = f"was ended by {name}" if -code == signal.SIGTERM else f"crashed ({name})"
    return End(how, is_for_memory=False)
