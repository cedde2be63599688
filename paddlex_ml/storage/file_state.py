# SPDX-License-Identifier: Apache-2.0
"""Whether a file is still the one that something was made of, without reading it.

Length and time alone do not tell: `cp -p`, `rsync -t` and `tar -x` give a new content an old time.
The system sets the time of the last change of the entry itself (ctime), which no tool can choose,
and a file that takes another's name brings its own inode.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

TICK_NS = 2 * 10**9
"""The coarsest clock of a file system: two changes within it may leave the same times."""


def describe(path: Path) -> str:
    """Length, both times and inode: equal only where the content is. Raises OSError.

    The reverse does not hold: a copy, or a disk that was mounted again, may have other numbers.
    """
    return _describe(path.stat())


def describe_settled(path: Path) -> str | None:
    """The same; None for a file so new that another change may leave all of it as it is."""
    status = path.stat()
    newest = max(status.st_mtime_ns, status.st_ctime_ns)
    return _describe(status) if time.time_ns() - newest > TICK_NS else None


def _describe(status: os.stat_result) -> str:
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
