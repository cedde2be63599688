# SPDX-License-Identifier: Apache-2.0
"""Phrases that messages of several rooms share."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from paddlex_ml import systems


def first_names(names: Sequence[str], most: int = 10) -> str:
    """Join names by commas. After the first `most` the others are counted: "a, b and 7 more"."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def count(number: int, one: str, many: str = "") -> str:
    """A number with its noun: `1 image`, `1,000 images`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def part_of(number: int, whole: int, nouns: tuple[str, str], verbs: tuple[str, str]) -> str:
    """A part of a number of things with its verb: `1 of 20 classes has`, `2 of 3 images are`.

    `nouns` and `verbs`: for one, and for several.
    """
    return f"{number:,} of {count(whole, *nouns)} {verbs[number != 1]}"


def literal_path(path: Path) -> str:
    """The text of a path that means it as an argument too: no option, and no home folder."""
    written = str(path)
    return os.path.join(os.curdir, written) if written.startswith(("-", "~")) else written


def path_override(key: str, path: Path) -> str:
    """The command-line text that sets `key` to a path, ready for a shell."""
    return f"-o {systems.quote(f'{key}={literal_path(path)}')}"


def text_width(text: str) -> int:
    """Columns on a terminal: Chinese characters take two, accents and joiners none."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.category(c) in ("Mn", "Me", "Cf") for c in text)
