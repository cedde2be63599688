# SPDX-License-Identifier: Apache-2.0
"""Class names that people would read as the same."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def fold_name(name: str) -> str:
    """One spelling for names that people would read as the same.

    Capitals, the form of Unicode, the width of letters, characters without a picture (zero-width
    space, soft hyphen) and the number and kind of spaces do not count.
    """
    visible = "".join(letter for letter in name if unicodedata.category(letter) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", visible).casefold().split())


def show_name(name: str) -> str:
    """A name in quotes, with codes for what cannot be told apart by eye."""
    return repr(name) if unicodedata.is_normalized("NFC", name) else ascii(name)


def find_spellings(names: Iterable[str]) -> list[list[str]]:
    """Groups of at least two names that people would read as the same."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(fold_name(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]
