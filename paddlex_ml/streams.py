# SPDX-License-Identifier: Apache-2.0
"""stdout and stderr that never end a run: the work goes on where nobody reads or can read them.

A reader that has left (`| head`), a closed terminal, a full disk, a terminal that cannot show
Chinese: the results are in files, and the exit code is that of the work.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

logger = logging.getLogger(__name__)


class LastingStream:
    """A text stream whose writes never fail: after the first failure they go to the null device."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name, self._is_lost = stream, name, False

    def write(self, text: str) -> int:
        """Write, or lose the text where the stream cannot take it; returns its length."""
        if not self._is_lost:
            try:
                return self._stream.write(text)
            except UnicodeEncodeError:  # the stream has no way to show these letters
                encoding = self._stream.encoding or "ascii"
                plain = text.encode(encoding, "backslashreplace").decode(encoding)
                return self.write(plain)
            except (OSError, ValueError) as error:
                self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Flush, as far as the stream can."""
        if not self._is_lost:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._lose(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lose(self, error: Exception) -> None:
        self._is_lost = True
        # What is still buffered is flushed when Python ends: it must have a place to go.
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
        if self._name == "stdout":
            logger.warning("stdout cannot be written (%s): the work goes on without it", error)


def open_closed() -> None:
    """Give the null device to standard streams that were closed when the program started.

    Otherwise the next file that is opened gets their number, and a library that prints would
    write into it.
    """
    for number, (name, mode) in enumerate([("stdin", "r"), ("stdout", "w"), ("stderr", "w")]):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


@contextmanager
def lasting() -> Iterator[None]:
    """Let sys.stdout and sys.stderr be lasting streams."""
    open_closed()
    before = sys.stdout, sys.stderr
    lasting_streams = LastingStream(sys.stdout, "stdout"), LastingStream(sys.stderr, "stderr")
    sys.stdout, sys.stderr = lasting_streams
    try:
        yield
    finally:
        for stream in lasting_streams:
            stream.flush()
        sys.stdout, sys.stderr = before
