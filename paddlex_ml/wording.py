# SPDX-License-Identifier: Apache-2.0
"""Phrases that messages of several rooms share."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path


def first_names(names: Sequence[str], most: int = 10) -> str:
    """Join names by commas. After the first `most` the others are counted: "a, b and 7 more"."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def literal_path(path: Path) -> str:
    """The text of a path that means it as an argument too: no option, and no home folder."""
    written = str(path)
    return os.path.join(os.curdir, written) if written.startswith(("-", "~")) else written


def path_override(key: str, path: Path) -> str:
    """The command-line text that sets `key` to a path, ready for a shell."""
    return f"-o {shlex.quote(f'{key}={literal_path(path)}')}"
