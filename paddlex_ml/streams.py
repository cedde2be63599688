# SPDX-License-Identifier: Apache-2.0
"""stdout and stderr that never end a run: the work goes on where nobody reads or can read them.

A reader that has left (`| head`), a closed terminal, a full disk, a terminal that cannot show
Chinese: the results are in files, and the exit code is that of the work.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from paddlex_ml import systems
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.safe_text import visible, without_secrets

logger = logging.getLogger(__name__)

_BAR_MOVES = re.compile(r"\r|\n*(\x1b\[A)*")


class LastingStream:
    """A text stream whose writes never fail: after the first failure they go to the null device."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name = stream, name
        self.fault: Exception | None = None
        """Why text was lost; None: all of it was written."""

    def write(self, text: str) -> int:
        """Write, or lose the text where the stream cannot take it; returns its length.

        Secrets of URLs are left out, and codes that steer a terminal are written as text: they
        come from names and paths.
        """
        if self.fault is None:
            shown = _show(text)
            try:
                self._stream.write(shown)
            except UnicodeEncodeError:  # the stream has no way to show these letters
                encoding = self._stream.encoding or "ascii"
                return self.write(shown.encode(encoding, "backslashreplace").decode(encoding))
            except (OSError, ValueError) as error:
                self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Flush, as far as the stream can."""
        if self.fault is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._lose(error)

    def isatty(self) -> bool:
        """Whether a terminal shows it; not after a failure: a bar would be drawn for nobody."""
        return self.fault is None and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lose(self, error: Exception) -> None:
        self.fault = error
        # What is still buffered is flushed when Python ends: it must have a place to go.
        with suppress(OSError, ValueError):
            if (number := self._stream.fileno()) in (1, 2):
                _open_null(number)
        if self._name == "stdout":
            logger.warning("stdout cannot be written (%s): the work goes on without it", error)


def _show(text: str) -> str:
    """The text that is written; a progress bar may go to the start of its line, and up."""
    if _BAR_MOVES.fullmatch(text):
        return text
    moves = text[: len(text) - len(text.lstrip("\r"))]
    back = "\r" if moves and text.endswith("\r") else ""
    return moves + visible(without_secrets(text.strip("\r") if back else text[len(moves) :])) + back


def open_closed() -> set[str]:
    """Give the null device to standard streams that were closed when the program started.

    Otherwise the next file that is opened gets their number, and a library that prints would
    write into it. Returns their names.
    """
    closed = set()
    for number, (name, mode) in enumerate([("stdin", "r"), ("stdout", "w"), ("stderr", "w")]):
        try:
            os.fstat(number)
        except OSError:
            closed.add(name)
            _open_null(number)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    return closed


def refuse_loss() -> None:
    """Raise PaddlexMLError where stdout has failed: for a command whose only work is to print.

    A reader that has left has seen what it wanted.
    """
    sys.stdout.flush()
    fault = getattr(sys.stdout, "fault", None)
    has_left = isinstance(fault, BrokenPipeError)
    if systems.IS_WINDOWS:  # what its C library says of a pipe that nobody reads
        has_left |= isinstance(fault, OSError) and fault.errno == errno.EINVAL
    if fault is not None and not has_left:
        raise PaddlexMLError(
            f"the text could not be printed: {fault}",
            where="stdout",
            fix="send it to a file on a disk with free space: > file.txt",
        )


def _open_null(number: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null == number:
        os.set_inheritable(number, True)  # as the worker processes expect
    else:
        os.dup2(null, number)
        os.close(null)


@contextmanager
def lasting() -> Iterator[None]:
    """Let sys.stdout and sys.stderr be lasting streams."""
    closed = open_closed()
    before = sys.stdout, sys.stderr
    lasting_streams = LastingStream(sys.stdout, "stdout"), LastingStream(sys.stderr, "stderr")
    sys.stdout, sys.stderr = lasting_streams
    for stream, name in zip(lasting_streams, ("stdout", "stderr"), strict=True):
        if name in closed:
            stream.fault = OSError(errno.EBADF, os.strerror(errno.EBADF))
    try:
        yield
    finally:
        for stream in lasting_streams:
            stream.flush()
        sys.stdout, sys.stderr = before
