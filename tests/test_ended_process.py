# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import signal

import pytest

from paddlex_ml import ended_process, machine_memory


@pytest.mark.parametrize(
    ("code", "ends", "how"),
    [
        (-signal.SIGKILL, 3, "was killed by the system, most likely for memory"),
        (-signal.SIGBUS, 3, "was killed by the system, most likely for memory"),
        (None, 3, "was killed by the system, most likely for memory"),
        (-signal.SIGKILL, 4, "was killed by the system, because memory ran out"),
        (-signal.SIGSEGV, 4, "crashed (SIGSEGV)"),
        (-signal.SIGTERM, 4, "was ended by SIGTERM"),
        (-99, 4, "crashed (signal 99)"),
        (7, 4, "ended with exit code 7"),
        (0xC0000005, 4, "crashed (0xC0000005)"),
        (0, 3, "ended with exit code 0"),
    ],
)
def test_an_end_is_told_by_the_signal_and_the_count_of_the_kernel(
    monkeypatch: pytest.MonkeyPatch, code: int | None, ends: int, how: str
) -> None:
    monkeypatch.setattr(machine_memory, "count_ends", lambda: ends)
    end = ended_process.explain(code, ends_before=3)
    assert end.how == how
    assert end.is_for_memory == ("killed" in how)
