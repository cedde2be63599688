# SPDX-License-Identifier: Apache-2.0
"""Compiles functions with numba, once for a machine, and keeps the code in one folder.

A process that compiles and a process that loads what another one has compiled compute the same
bits. For that a compiled function must call no other compiled function, except those that are
`forceinline`: of several versions of a called function, all of one name, the first that is in
memory runs, and which one that is depends on what was compiled and what was loaded.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from filelock import Timeout

from paddlex_ml.storage import cache, files, ownership, temporary

logger = logging.getLogger(__name__)

VARIABLE = "NUMBA_CACHE_DIR"
"""Environment variable of the folder, which numba reads when it is imported."""
WAIT = 120.0
"""Seconds to wait for another process that compiles; after them this one compiles too."""
_warned: list[Exception] = []


def load(name: str) -> ModuleType | None:
    """Import the module of this name, whose functions are `compiled`.

    One process compiles at a time, because numba's index of the folder is not made for two. Returns
    None where numba is not installed, or does not work, which is a warning.
    """
    if importlib.util.find_spec("numba") is None:
        return None
    folder = _find_folder()
    os.environ[VARIABLE] = str(folder)
    with ExitStack() as stack:
        with suppress(OSError, NotImplementedError, Timeout):  # the lock is not indispensable
            lock = files.lock_at(folder / "paddlex_ml.lock")
            stack.enter_context(lock.acquire(timeout=WAIT))
        try:
            return importlib.import_module(name)
        except (ImportError, RuntimeError, OSError) as fault:  # for example an unsuitable numpy
            logger.warning("numba does not work here, so this process is slower: %s", fault)
            return None


def _find_folder() -> Path:
    """The folder for compiled code, which must be safe: numba runs what others put there."""
    wanted = Path(os.environ.get(VARIABLE) or cache.folder() / "numba").absolute()
    try:
        cache.make(wanted)
        if ownership.is_safe(wanted) and ownership.is_all_own(wanted):
            return wanted
        own = temporary.own_folder() / "numba"
        logger.warning(
            "other users may have written into %s: compiled code is kept in %s", wanted, own
        )
        cache.make(own)
    except OSError:
        return wanted  # it cannot be made or read, and each process compiles
    return own


def compiled(signature: Any, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: compile a function for the types of `signature`, or load its code.

    Without Python's lock (nogil); `options` are further ones of numba's njit. Where the folder
    cannot be used, the code is the same, and every process compiles it again.
    """
    njit = functools.partial(importlib.import_module("numba").njit, signature, nogil=True)

    def compile(function: Callable[..., Any]) -> Callable[..., Any]:
        result: Callable[..., Any]
        try:
            result = njit(cache=True, **options)(function)
        except Exception as fault:  # no folder to write to, a full disk, a damaged file
            result = njit(**options)(function)  # raises again what is no fault of the folder
            _warn(fault)
        return result

    return compile


def _warn(fault: Exception) -> None:
    if _warned:
        return
    _warned.append(fault)
    logger.warning(
        "compiled code cannot be kept in %s, so every process compiles for some seconds (%s: %s); "
        "to repair it, free some space there, or remove that folder, or move it: "
        "%s=/another/folder",
        os.environ.get(VARIABLE),
        type(fault).__name__,
        str(fault).partition("\n")[0],
        cache.VARIABLE,
    )
