# SPDX-License-Identifier: Apache-2.0
"""The models for which oneDNN was compared with plain Paddle once, and gave the same scores.

The comparison takes as long as many images, and twice the memory. So an empty file in the user's
cache records that a model has passed; its name is a digest of everything the outcome depends on.
"""

from __future__ import annotations

import hashlib
import platform
from contextlib import suppress
from pathlib import Path

from paddlex_ml.storage import cache, file_state, ownership


def find(graph: Path, weights: Path, *conditions: str) -> Path:
    """The record of this graph, these weights, this processor and the `conditions`."""
    digest = hashlib.sha256(graph.read_bytes())
    for part in (file_state.describe(weights), name_processor(), *conditions):
        digest.update(f"\0{part}".encode())
    return cache.folder() / "proofs" / digest.hexdigest()[:32]


def is_there(record: Path) -> bool:
    """Whether this user, and no other one, has made the record."""
    try:
        return ownership.belongs_to_us(record.lstat()) or ownership.is_safe(record)
    except OSError:
        return False


def name_processor() -> str:
    """The processor, as the system calls it: another one may run other kernels."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line
    return f"{platform.machine()} {platform.processor()}"
