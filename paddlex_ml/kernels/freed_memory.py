# SPDX-License-Identifier: Apache-2.0
"""What the C library does with large blocks that a training step has freed."""

from __future__ import annotations

import ctypes
import sys


def keep() -> None:
    """Let the C library of Linux (glibc) keep large blocks that were freed, for the next step.

    Otherwise each goes back to the system, which fills the next one with zeros, page by page.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-4, 0)  # M_MMAP_MAX: no block has a mapping of its own
        mallopt(-1, -1)  # M_TRIM_THRESHOLD: free memory at the end of the heap stays
        mallopt(-2, 2**26)  # M_TOP_PAD: grow by 64 MB
