# SPDX-License-Identifier: Apache-2.0
"""The path that a mistyped one probably means: "demo/scene/a.jpg" -> "demo/scenes/a.jpg"."""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

_MOST = 2000
"""Names of a folder that are compared. Of more names only those with the same digits are, as a
photograph is no slip for another one of its series."""
_NO_DIGIT = re.compile(r"\D+")


def find(path: Path) -> Path | None:
    """The existing path whose parts are like those of `path`; None where none is, or it exists."""
    found = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts:
        if os.path.exists(found / part):  # False where a folder cannot be entered
            found /= part
            continue
        near = _find_name(part, found)
        if not near:
            return None
        found /= near
    return None if found == path else found


def _find_name(part: str, folder: Path) -> str | None:
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError:  # no folder, or none that may be listed
        return None
    if len(names) > _MOST:
        digits = _NO_DIGIT.sub("", part)
        names = list(islice((n for n in names if _NO_DIGIT.sub("", n) == digits), _MOST))
    folded = {name.casefold(): name for name in names}
    near = get_close_matches(part.casefold(), folded, n=1, cutoff=0.75)
    return folded[near[0]] if near else None
