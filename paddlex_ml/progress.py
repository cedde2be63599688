# SPDX-License-Identifier: Apache-2.0
"""How long work tells its caller how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

ReportProgress: TypeAlias = Callable[[int, int], None]
"""Called with (done, total): `terminal.progress` shows a bar, `ignore_progress` nothing."""


def ignore_progress(done: int, total: int) -> None:
    """Show nothing: for callers without a terminal."""
