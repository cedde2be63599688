# SPDX-License-Identifier: Apache-2.0
"""What was seen once of a model, and need not be tried again: that oneDNN gives its exact scores.

The trial takes as long as the answers for many images, with plain Paddle, and twice the memory. So
an empty file in the user's cache keeps its outcome, named after all that the outcome depends on.
"""

from __future__ import annotations

import hashlib
import platform
from contextlib import suppress
from pathlib import Path

from paddlex_ml.storage import cache, files


def place(graph: Path, weights: Path, *conditions: str) -> Path:
    """The file that stands for this graph, these weights, this processor and the `conditions`."""
    digest = hashlib.sha256(graph.read_bytes())
    state = weights.stat()
    for part in (state.st_size, state.st_mtime_ns, _processor(), *conditions):
        digest.update(f"\0{part}".encode())
    return cache.folder() / "proofs" / digest.hexdigest()[:32]


def keep(path: Path) -> None:
    """Remember it. Where nothing can be written the trial is made again next time."""
    with suppress(OSError):
        files.write_bytes(path, b"")


def _processor() -> str:
    """Its name: another one may run other kernels."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line
    return f"{platform.machine()} {platform.processor()}"
