# SPDX-License-Identifier: Apache-2.0
"""Phrases that messages of several rooms share."""

from __future__ import annotations

from collections.abc import Sequence


def first_names(names: Sequence[str], most: int = 10) -> str:
    """Join names by commas. After the first `most` the others are counted: "a, b and 7 more"."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
