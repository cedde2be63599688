# SPDX-License-Identifier: Apache-2.0
"""Memory of this machine, as far as the containers (cgroups) of this process may use it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


class _Names(NamedTuple):
    """Files and keys of a version of cgroups."""

    limit: str
    used: str
    droppable: str
    """Key in memory.stat: pages of files that the kernel can drop."""
    ends: str
    """File with a line "oom_kill N"."""


_VERSION_1 = _Names(
    "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "memory.oom_control"
)
_VERSION_2 = _Names("memory.max", "memory.current", "inactive_file", "memory.events")


@cache
def total(cgroups: Path = _CGROUPS, own: Path = _OWN) -> int:
    """Bytes of the machine, or of the smallest limit of the cgroups of this process."""
    import psutil  # takes 10 ms, which --help need not wait for

    found = int(psutil.virtual_memory().total)
    for folder, names in _list_folders(cgroups, own):
        with suppress(OSError, ValueError):  # no such controller here, or "max": no limit
            found = min(found, int((folder / names.limit).read_text()))
    return found


def available(cgroups: Path = _CGROUPS, own: Path = _OWN) -> int:
    """Bytes that this process may still take: of the machine, cut by the limits of its cgroups.

    Pages of files that the kernel can drop count as free.
    """
    import psutil  # as above

    free = int(psutil.virtual_memory().available)
    for folder, names in _list_folders(cgroups, own):
        with suppress(OSError, ValueError):
            limit = int((folder / names.limit).read_text())
            droppable = _read_pairs(folder / "memory.stat").get(names.droppable, 0)
            free = min(free, limit - int((folder / names.used).read_text()) + droppable)
    return max(0, free)


def count_ends(cgroups: Path = _CGROUPS, own: Path = _OWN) -> int:
    """How many processes the kernel has ended for memory in the cgroups of this process so far.

    0 where it does not say so.
    """
    counts = [0]
    for folder, names in _list_folders(cgroups, own):
        with suppress(OSError, ValueError):
            counts.append(_read_pairs(folder / names.ends).get("oom_kill", 0))
    return max(counts)


def describe() -> str:
    """Two numbers for an error about memory: "of 24.0 GB of memory here, 3.1 GB are free now"."""
    return f"of {total() / 1e9:.1f} GB of memory here, {available() / 1e9:.1f} GB are free now"


def _list_folders(cgroups: Path, own: Path) -> Iterator[tuple[Path, _Names]]:
    """The folder of the cgroup of this process and all above it, with the names of its files."""
    try:
        lines = own.read_text().splitlines()
    except OSError:  # not Linux
        return
    for _, controllers, inner in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if controllers and "memory" not in controllers.split(","):
            continue
        root, names = (cgroups / "memory", _VERSION_1) if controllers else (cgroups, _VERSION_2)
        path = Path(inner.lstrip("/"))
        yield from ((root / part, names) for part in (path, *path.parents))


def _read_pairs(path: Path) -> dict[str, int]:
    pairs = (line.split(maxsplit=1) for line in path.read_text().splitlines())
    return {key: int(number) for key, number in pairs}
