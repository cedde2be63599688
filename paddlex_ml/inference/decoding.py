# SPDX-License-Identifier: Apache-2.0
"""How much memory images take while they are read, whatever the number of callers.

A photograph of 12 megapixels takes 48 MB until it is reduced to the input of the network. More at
once than there are cores take more memory, and no less time; and each thread that has read one
would keep its memory.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import BoundedSemaphore

from paddlex_ml.cores import usable_cores
from paddlex_ml.data import decode_memory

PATIENCE = 5.0
"""Seconds to wait for a turn: an image on a disk that does not answer must not stop the others."""
LARGE = 2**22
"""Pixels of an image whose memory is given back: this takes about 5 ms, its decoding ten times."""

_turns = BoundedSemaphore(usable_cores())
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


@dataclass
class Turn:
    """The reading of one image."""

    pixels: int = 0
    """Of the image, once it is known."""


@contextmanager
def turn(*, wait: bool = True) -> Iterator[Turn]:
    """Wait until fewer images than there are cores are read in this process, then read one.

    The image must be released before the end, where its memory is given back.
    wait: False for those that come from the network, which take long and no core.
    """
    turns, own = _turns, Turn()  # a fork replaces `_turns`
    has_turn = wait and turns.acquire(timeout=PATIENCE)
    try:
        with decode_memory.reading():
            yield own
    finally:
        if _trim is not None and own.pixels >= LARGE:
            _trim(0)
        if has_turn:
            turns.release()


def _restart() -> None:
    """A child process has none of the threads that had a turn."""
    global _turns
    _turns = BoundedSemaphore(usable_cores())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restart)
