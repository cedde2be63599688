# SPDX-License-Identifier: Apache-2.0
"""The callback with which long work reports its progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

ReportProgress: TypeAlias = Callable[[int, int], None]
"""Called with (done, total): `terminal.progress` shows a bar, `ignore_progress` nothing."""


def ignore_progress(done: int, total: int) -> None:
    """Show nothing: for callers without a terminal."""
