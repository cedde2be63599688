# SPDX-License-Identifier: Apache-2.0
"""What Linux, macOS and Windows do differently; docs/platforms.md has what they document.

Command lines in messages are for the shell of the user: a POSIX shell, and PowerShell on Windows.
"""

from __future__ import annotations

import ntpath
import os
import re
import shlex
import sys
import time
from collections.abc import Sequence

IS_LINUX = sys.platform == "linux"
IS_MACOS = sys.platform == "darwin"
IS_WINDOWS = os.name == "nt"

_PATIENCE = 3.0
"""Seconds for which a rename is tried again on Windows."""
_PAUSE = 0.05
_WORD = re.compile(r"[\w.:/\\=+-]+")
_IN_DOUBLE_QUOTES = re.compile(r'[^"$`]+')
_QUOTED = re.compile(r"""'((?:[^']|'')*)'|"([^"]*)\"""")
_WORDS = re.compile(rf"""(?:[^\s'"]|{_QUOTED.pattern})+""")


def rename(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Give a file or a folder another name; a file that has it is replaced.

    Windows refuses this while a program has one of them open, or a file in the folder, as virus
    scanners and search indexes have for an instant: it is tried again for `_PATIENCE` seconds.
    Raises OSError as the system does.
    """
    latest = time.monotonic() + _PATIENCE
    while True:
        try:
            return os.replace(source, target)
        except PermissionError:
            if not IS_WINDOWS or time.monotonic() >= latest:
                raise
        time.sleep(_PAUSE)


def relative(path: str | os.PathLike[str], start: str | os.PathLike[str]) -> str | None:
    """`os.path.relpath`; None between two drives of Windows, where there is no such path."""
    try:
        return os.path.relpath(path, start)
    except ValueError:
        return None


def is_anchored(path: str) -> bool:
    r"""Whether a path does not continue the folder that it is joined to: `/a`, and on Windows `C:a`
    and `\a` too, which `os.path.isabs` does not count.
    """
    if IS_WINDOWS:
        return path.startswith(("/", "\\")) or bool(ntpath.splitdrive(path)[0])
    return os.path.isabs(path)


def most_workers() -> int:
    """Processes that a pool can have: 61 on Windows, which waits for 63 handles at a time."""
    return 61 if IS_WINDOWS else sys.maxsize


def quote(text: str) -> str:
    """The text as one word of a command line.

    On Windows without quotes or in double ones where that is possible: cmd.exe takes these too.
    """
    if not IS_WINDOWS:
        return shlex.quote(text)
    if _WORD.fullmatch(text):
        return text
    if _IN_DOUBLE_QUOTES.fullmatch(text) and not text.endswith("\\"):
        return f'"{text}"'
    return "'" + text.replace("'", "''") + "'"


def join(words: Sequence[str]) -> str:
    """The words as a command line."""
    return " ".join(map(quote, words))


def split(line: str) -> list[str]:
    """The words of a command line that `join` has written.

    Raises ValueError for quotes without their end, in a POSIX shell.
    """
    if not IS_WINDOWS:
        return shlex.split(line)

    def unquote(match: re.Match[str]) -> str:
        return match[2] if match[1] is None else match[1].replace("''", "'")

    return [_QUOTED.sub(unquote, word[0]) for word in _WORDS.finditer(line)]


def in_turn(commands: Sequence[str]) -> str:
    """Several commands in one line; PowerShell 5 has no `&&`."""
    return ("; " if IS_WINDOWS else " && ").join(commands)
