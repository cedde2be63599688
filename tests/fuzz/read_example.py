# SPDX-License-Identifier: Apache-2.0
"""Readers with faults, which `test_readers.py` looks for: no group of the search has them."""

from __future__ import annotations

import ctypes
from pathlib import Path

from tests.fuzz.harness import Reader


def _raise(_: Path, content: bytes) -> object:
    return {b"good": 1}[content] if b"bad" in content else 0


def _crash(_: Path, content: bytes) -> object:
    return ctypes.string_at(0) if b"bad" in content else 0


READERS = [
    Reader(name, read, lambda: [b"good"], (b"bad",))
    for name, read in (("raising", _raise), ("crashing", _crash))
]
