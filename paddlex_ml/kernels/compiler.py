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
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from filelock import Timeout

from paddlex_ml.storage import cache, files, ownership, temporary

logger = logging.getLogger(__name__)

VARIABLE = "NUMBA_CACHE_DIR"
"""Environment variable of the folder, which numba reads when it is imported."""
WAIT = 120.0
"""Seconds to wait for another process that compiles; after them this one compiles too."""
HELPER = """
import sys
sys.path[:] = sys.argv[2:]
from paddlex_ml.kernels import compiler
compiler.assist(sys.argv[1])
"""
_warned: list[Exception] = []


@dataclass(frozen=True)
class Kernel:
    """A function that `load` compiles, for the types of its signature."""

    function: Callable[..., Any]
    signature: Any
    options: Mapping[str, Any]
    """Further ones of numba's njit."""

    def __call__(self, *_: Any) -> NoReturn:
        """Not before it is loaded: a RuntimeError."""
        raise RuntimeError(f"{self.function.__name__} is to be loaded first")

    def is_stored(self, folder: Path) -> bool:
        """Whether `folder` has code of this function: a guess by names and times."""
        with suppress(OSError):
            return any(index.stat().st_mtime >= self.changed() for index in self.indexes(folder))
        return True

    def changed(self) -> float:
        """When its file was written or installed: seconds since 1970."""
        source = os.stat(self.function.__code__.co_filename)
        return max(source.st_mtime, source.st_ctime)

    def indexes(self, folder: Path) -> list[Path]:
        """Numba's files about it, of this and other versions of Python."""
        stem = Path(self.function.__code__.co_filename).stem
        return list(folder.glob(f"*/{stem}.{self.function.__qualname__}-*.nbi"))

    def compile(self) -> Callable[..., Any]:
        """Compile it, or load its code.

        Without Python's lock (nogil). Where the folder cannot be used, the code is the same, and
        every process compiles it again.
        """
        numba = importlib.import_module("numba")
        njit = functools.partial(numba.njit, self.signature, nogil=True, **self.options)
        result: Callable[..., Any]
        try:
            result = njit(cache=True)(self.function)
        except Exception as fault:  # no folder to write to, a full disk, a damaged file
            result = njit()(self.function)  # raises again what is no fault of the folder
            _warn(fault, Path(os.environ[VARIABLE]))
        return result


def compiled(signature: Any, **options: Any) -> Callable[[Callable[..., Any]], Kernel]:
    """Decorator: the function is a kernel of its module, compiled for `signature` by `load`."""
    return lambda function: Kernel(function, signature, options)


def load(name: str, *, shares_work: bool = False) -> ModuleType | None:
    """Import the module of this name and compile its KERNELS, or load their code.

    One process compiles a function at a time, because numba's index of it is not made for two;
    several processes compile several functions. shares_work: start another process for that where
    nothing is stored; it begins at the other end of KERNELS. Returns None where numba is not
    installed, or does not work, which is a warning.
    """
    if importlib.util.find_spec("numba") is None:
        return None
    folder = _find_folder()
    os.environ[VARIABLE] = str(folder)
    try:
        try:  # a program that has imported numba before has the folder of that time
            importlib.import_module("numba").config.CACHE_DIR = str(folder)
        except AttributeError as fault:  # what an import with an unsuitable numpy may end in
            raise ImportError(str(fault)) from fault
        module = importlib.import_module(name)
        kernels: list[Kernel] = [*module.KERNELS]
        missing = [kernel for kernel in kernels if not kernel.is_stored(folder)]
        if missing:
            logger.info("compiling functions for this processor, once: up to a minute")
        keeps = os.access(folder, os.W_OK)
        with _helper(name) if shares_work and keeps and len(missing) > 1 else nullcontext():
            for wait in (0.0, WAIT):  # first those that no other process compiles
                kernels = [each for each in kernels if not _load_kernel(module, each, folder, wait)]
        for kernel in missing:
            for index in kernel.indexes(folder):
                with suppress(OSError):
                    os.utime(index)  # older than the file of the function, but of use
    except (ImportError, RuntimeError, OSError) as fault:
        logger.warning("numba does not work here, so this process is slower: %s", fault)
        return None
    return module


def assist(name: str) -> None:
    """Compile what no process has stored or compiles, for a process that loads this module."""
    folder, module, parent = Path(os.environ[VARIABLE]), importlib.import_module(name), os.getppid()
    for kernel in reversed(module.KERNELS):
        if not kernel.is_stored(folder) and os.getppid() == parent:
            _load_kernel(module, kernel, folder, 0)


@contextmanager
def _helper(name: str) -> Iterator[None]:
    """While the body runs, another process compiles, too."""
    process = None
    with suppress(OSError):  # no further process may be started: it is not indispensable
        process = subprocess.Popen(  # noqa: S603  # this Python, with a text of this file
            [sys.executable, "-I", "-c", HELPER, name, *sys.path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the training, which waits for the kernels
        )
    try:
        yield
    finally:
        if process is not None:
            process.kill()  # it has nothing left to do
            process.wait()


def _load_kernel(module: ModuleType, kernel: Kernel, folder: Path, wait: float) -> bool:
    """Put the compiled function into its module; False where another process compiles it now."""
    name = kernel.function.__name__
    with ExitStack() as stack:
        try:
            lock = files.lock_at(folder / f"{module.__name__}.{name}.lock")
            stack.enter_context(lock.acquire(timeout=wait))
        except Timeout:
            if wait == 0:
                return False
        except (OSError, NotImplementedError):  # the lock is not indispensable
            pass
        setattr(module, name, kernel.compile())
    return True


def _find_folder() -> Path:
    """The folder for compiled code, which must be safe: numba runs what others put there."""
    wanted = Path(os.environ.get(VARIABLE) or cache.folder() / "numba").absolute()
    unsafe = None
    try:
        cache.make(wanted)
        if ownership.is_safe(wanted) and ownership.is_all_own(wanted):
            return wanted
        unsafe = "other users may have written into %s: compiled code is kept in %s"
    except OSError as fault:  # else numba would put the code beside the package, unseen
        _warn(fault, wanted)
    try:
        own = temporary.own_folder() / "numba"
        cache.make(own)
    except OSError:
        return wanted  # each process compiles
    if unsafe is not None:
        logger.warning(unsafe, wanted, own)
    return own


def _warn(fault: Exception, folder: Path) -> None:
    if _warned:
        return
    _warned.append(fault)
    logger.warning(
        "compiled code cannot be kept in %s, so other processes compile again for some seconds "
        "(%s: %s); "
        "to repair it, free some space there, or remove that folder, or move it: "
        "%s=/another/folder",
        folder,
        type(fault).__name__,
        str(fault).partition("\n")[0],
        cache.VARIABLE,
    )
