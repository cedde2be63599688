# SPDX-License-Identifier: Apache-2.0
"""Files of the same content: sizes are compared first, SHA-256 only where they agree."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

_PIECE = 2**20  # bytes read at once


def find_copies(
    root: Path, paths: Sequence[str], step: Callable[[], None]
) -> tuple[dict[str, str], dict[str, str]]:
    """Find the files whose content an earlier one of `paths` has: path -> that earlier path.

    Also returns the files that cannot be read: path -> why. Empty files and links to nowhere do
    not count as copies. `step` is called once for each path.
    """
    sizes: dict[str, int] = {}
    for path in paths:
        try:
            sizes[path] = os.stat(root / path).st_size
        except OSError:
            sizes[path] = -1
    files_of_size = Counter(sizes.values())
    first: dict[tuple[int, bytes], str] = {}
    copies: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    for path, size in sizes.items():
        step()
        if size <= 0 or files_of_size[size] == 1:
            continue
        try:
            digest = _digest(root / path)
        except OSError as error:
            unreadable[path] = str(error.strerror)
            continue
        earlier = first.setdefault((size, digest), path)
        if earlier != path:
            copies[path] = earlier
    return copies, unreadable


def _digest(path: Path) -> bytes:
    content = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            content.update(piece)
    return content.digest()
