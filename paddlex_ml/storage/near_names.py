# SPDX-License-Identifier: Apache-2.0
"""The path that a mistyped one probably means: "demo/scene/a.jpg" -> "demo/scenes/a.jpg"."""

from __future__ import annotations

import os
from collections.abc import Iterator
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

_MOST = 2000
"""Names of a folder that are compared: enough for what people name by hand."""


def find(path: Path) -> Path | None:
    """The existing path whose parts are like those of `path`; None where none is, or it exists."""
    found = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts:
        if (found / part).exists():
            found /= part
            continue
        near = get_close_matches(part, _list_names(found), n=1, cutoff=0.75)
        if not near:
            return None
        found /= near[0]
    return None if found == path else found


def _list_names(folder: Path) -> list[str]:
    def read() -> Iterator[str]:
        with os.scandir(folder) as entries:
            yield from (entry.name for entry in entries if not entry.name.startswith("."))

    try:
        return list(islice(read(), _MOST))
    except OSError:  # no folder, or none that may be listed
        return []
