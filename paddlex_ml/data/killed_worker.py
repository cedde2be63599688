# SPDX-License-Identifier: Apache-2.0
"""Why a worker process ended without an answer, with the numbers that a user can act on.

Linux ends a process with SIGKILL where the memory of the machine or of a container is used up, and
nobody gets a message: the signal, the limits and the kernel's own count of such ends tell it.
"""

from __future__ import annotations

import signal
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from paddlex_ml.data import decode_memory
from paddlex_ml.data.image_cache import available_memory
from paddlex_ml.errors import PaddlexMLError

_END_LIMIT = 2.0
"""Seconds that the thread of a broken pool has to end the other workers."""
_FOR_MEMORY = {-9, -7}
"""SIGKILL, and SIGBUS, which ends a process whose shared memory cannot grow."""


class Workers(NamedTuple):
    """What is told about the workers of a pool when one of them has ended."""

    task: str
    """What each of them does: "decodes images"."""
    takes: str
    """What takes memory: "2 worker processes, ..."."""
    fix: str
    """What takes less memory."""
    ends_before: int
    """`count_memory_ends` before the pool started."""


def explain(pool: ProcessPoolExecutor, workers: Workers, where: str) -> PaddlexMLError:
    """The error to raise for a pool that is broken, and that nobody has ended yet."""
    code = _find_code(pool)
    total, free = decode_memory.total_memory(), available_memory()
    where += f": {workers.takes}; of {total / 1e9:.1f} GB of memory here, "
    where += f"{free / 1e9:.1f} GB are free now"
    if code in _FOR_MEMORY or code is None:
        sure = count_memory_ends() > workers.ends_before
        return PaddlexMLError(
            f"a process that {workers.task} was killed by the system, "
            + ("because memory ran out" if sure else "most likely for memory"),
            where=where,
            fix=workers.fix,
        )
    if code < 0:
        known = {int(number) for number in signal.Signals}
        name = signal.Signals(-code).name if -code in known else f"signal {-code}"
        how = f"was ended by {name}" if -code == signal.SIGTERM else f"crashed ({name})"
    else:
        how = f"ended with exit code {code}"
    return PaddlexMLError(
        f"a process that {workers.task} {how}",
        where=where,
        fix="run the command again; where it ends so again, a damaged image or library is the "
        f"cause, and with less memory in use it may pass: {workers.fix}",
    )


def count_memory_ends(
    cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> int:
    """How many processes the kernel has ended for memory in the cgroups of this process so far.

    0 where it does not say so.
    """
    counts = [0]
    with suppress(OSError):
        lines = own.read_text().splitlines()
        for _, controllers, inner in (line.split(":", 2) for line in lines if line.count(":") >= 2):
            if controllers and "memory" not in controllers.split(","):
                continue
            root = cgroups / "memory" if controllers else cgroups
            name = "memory.oom_control" if controllers else "memory.events"
            path = Path(inner.lstrip("/"))
            for folder in (root / part for part in (path, *path.parents)):  # up to the root
                with suppress(OSError, ValueError):  # no such controller here
                    pairs = (line.split() for line in (folder / name).read_text().splitlines())
                    counts.append(sum(int(count) for key, count in pairs if key == "oom_kill"))
    return max(counts)


def _find_code(pool: ProcessPoolExecutor) -> int | None:
    """Exit code of the worker that broke the pool; None: unknown. The pool ends all others."""
    processes: list[Any] = list((pool._processes or {}).values())
    manager: Any = pool._executor_manager_thread
    if manager is not None:
        manager.join(_END_LIMIT)
    codes = {process.exitcode for process in processes} - {0, None}
    causes = codes - {-signal.SIGTERM} or codes
    return min(causes & _FOR_MEMORY or causes, default=None)
