# SPDX-License-Identifier: Apache-2.0
"""The user's own folders for files of programs, as each system has them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import platformdirs


def find(kind: Literal["cache", "config", "state"], program: str) -> Path | None:
    """The folder of a program, such as ~/.cache/paddlex_ml; None where nobody knows the home.

    That is so for a user number without a name, as many containers have, and without HOME.
    """
    folders = platformdirs.PlatformDirs(program, appauthor=False)
    try:
        path = Path(getattr(folders, f"user_{kind}_dir"))
    except RuntimeError:  # of recent releases of platformdirs; others leave "~" as it is
        return None
    return path if path.is_absolute() else None
