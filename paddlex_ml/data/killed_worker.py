# SPDX-License-Identifier: Apache-2.0
"""Why a worker of a pool ended without an answer, with the numbers that a user can act on."""

from __future__ import annotations

import signal
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

from paddlex_ml import ended_process, machine_memory
from paddlex_ml.errors import PaddlexMLError

_END_LIMIT = 2.0
"""Seconds that the thread of a broken pool has to end the other workers."""


class Workers(NamedTuple):
    """What is told about the workers of a pool when one of them has ended."""

    task: str
    """What each of them does: "decodes images"."""
    takes: str
    """What takes memory: "2 worker processes, ..."."""
    fix: str
    """What takes less memory."""
    ends_before: int
    """`machine_memory.count_ends` before the pool started."""


def explain(pool: ProcessPoolExecutor, workers: Workers, where: str) -> PaddlexMLError:
    """The error to raise for a pool that is broken, and that nobody has ended yet."""
    end = ended_process.explain(_find_code(pool), workers.ends_before)
    fix = workers.fix
    if not end.is_for_memory:
        fix = (
            "run the command again; where it ends so again, a damaged image or library is the "
            f"cause, and with less memory in use it may pass: {fix}"
        )
    where += f": {workers.takes}; {machine_memory.describe()}"
    return PaddlexMLError(f"a process that {workers.task} {end.how}", where=where, fix=fix)


def _find_code(pool: ProcessPoolExecutor) -> int | None:
    """Exit code of the worker that broke the pool; None: unknown. The pool ends all others."""
    processes: list[Any] = list((pool._processes or {}).values())
    manager: Any = pool._executor_manager_thread
    if manager is not None:
        manager.join(_END_LIMIT)
    codes = {process.exitcode for process in processes} - {0, None}
    causes = codes - {-signal.SIGTERM} or codes
    return min(causes & ended_process.FOR_MEMORY or causes, default=None)
