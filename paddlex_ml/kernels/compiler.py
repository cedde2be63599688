# SPDX-License-Identifier: Apache-2.0
"""Compiles functions with numba, once for a machine, and keeps the code in one folder.

A process that compiles and a process that loads what another one has compiled compute the same
bits. For that a compiled function must call no other compiled function, except those of its own
file that are `inline="always"` or `forceinline`, which become part of it: of several versions of a
called function, all of one name, the first that is in memory runs, and which one that is depends on
what was compiled and what was loaded.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from filelock import Timeout

from paddlex_ml import systems
from paddlex_ml.storage import cache, files, ownership, temporary

logger = logging.getLogger(__name__)

VARIABLE = "NUMBA_CACHE_DIR"
"""Environment variable of the folder, which numba reads when it is imported."""
WAIT = 120.0
"""Seconds to wait for another process that compiles; after them this one compiles too."""
HELPER = """
import sys
sys.path[:] = sys.argv[3:]
from paddlex_ml.kernels import compiler
compiler.assist(sys.argv[1].split(","), int(sys.argv[2]))
"""
OPTIONS = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
"""Of every function: without Python's lock, and without code for what no function here does."""
_warned: list[Exception] = []
_helpers: list[subprocess.Popen[bytes]] = []  # processes that compile for this one


@dataclass(frozen=True)
class Kernel:
    """A function that `load` compiles, for the types of its signature."""

    function: Callable[..., Any]
    signature: Any
    options: Mapping[str, Any]
    """Further ones of numba's njit."""

    def __call__(self, *_: Any) -> NoReturn:
        """Not before it is loaded: a RuntimeError."""
        raise RuntimeError(f"{self.name} is to be loaded first")

    @property
    def name(self) -> str:
        """Of its module: where the compiled function will stand."""
        return self.function.__name__

    @property
    def source(self) -> Path:
        """The file of the function."""
        return Path(self.function.__code__.co_filename)

    def compile(self) -> Callable[..., Any]:
        """Compile it, or load its code.

        Where the folder cannot be used, the code is the same, and every process compiles it again.
        """
        numba = importlib.import_module("numba")
        njit = functools.partial(numba.njit, self.signature, **OPTIONS, **self.options)
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


def load(
    name: str, only: Collection[str] | None = None, *, shares_work: bool = False
) -> ModuleType | None:
    """Import the module of this name and compile its KERNELS, or `only` some; or load their code.

    One process compiles a function at a time, because numba's index of it is not made for two;
    several processes compile several functions. shares_work: start another process for that where
    nothing is stored and none has been started by `assisted`; it begins at the other end of
    KERNELS. Returns None where numba is not installed, or does not work, which is a warning.
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
        kernels: list[Kernel] = [k for k in module.KERNELS if only is None or k.name in only]
        unstored = [k for k in kernels if not _is_stored(folder, k.source, k.name)]
        if unstored:
            _say_once()
        helps = shares_work and not _helpers and os.access(folder, os.W_OK) and len(unstored) > 1
        wanted = [f"{name}.{kernel.name}" for kernel in unstored]
        with assisted(wanted) if helps else nullcontext():
            for wait in (0.0, WAIT):  # first those that no other process compiles
                kernels = [each for each in kernels if not _load_kernel(module, each, folder, wait)]
        for kernel in unstored:
            for index in _indexes(folder, kernel.source, kernel.name):
                with suppress(OSError):
                    os.utime(index)  # older than the file of the function, but of use
    except (ImportError, RuntimeError, OSError) as fault:
        logger.warning("numba does not work here, so this process is slower: %s", fault)
        return None
    return module


def missing(names: Collection[str]) -> list[str]:
    """Those of the kernels `names` (package.module.function) that are to be compiled and stored.

    Only what stands in `paddlex_ml.kernels`. Fast: numba is not imported.
    """
    result: list[str] = []
    if importlib.util.find_spec("numba") is None:
        return result
    folder, here = _find_folder(), Path(__file__).parent
    for name in names if os.access(folder, os.W_OK) else ():
        module, _, function = name.rpartition(".")
        source = here / f"{module.rpartition('.')[2]}.py"
        result += [] if _is_stored(folder, source, function) else [name]
    return result


def assist(names: Collection[str], parent: int) -> None:
    """Compile those kernels of `names`, last ones first, that no process has stored or compiles.

    It ends when the process `parent`, which has started this one, is gone.
    """
    import psutil  # in the process that compiles: the command itself need not wait for it

    folder = Path(os.environ[VARIABLE])
    for name in reversed([*names]):
        module = importlib.import_module(name.rpartition(".")[0])
        (kernel,) = (k for k in module.KERNELS if k.name == name.rpartition(".")[2])
        # On Windows the parent may be the launcher of a virtual environment.
        lives = psutil.pid_exists(parent) if systems.IS_WINDOWS else os.getppid() == parent
        if lives and not _is_stored(folder, kernel.source, kernel.name):
            _load_kernel(module, kernel, folder, 0)


@contextmanager
def assisted(names: Collection[str]) -> Iterator[None]:
    """While the body runs, another process compiles these kernels, from the last to the first."""
    _say_once()
    os.environ[VARIABLE] = str(_find_folder())
    with suppress(OSError):  # no further process may be started: it is not indispensable
        process = subprocess.Popen(  # noqa: S603  # this Python, with a text of this file
            [sys.executable, "-I", "-c", HELPER, ",".join(names), str(os.getpid()), *sys.path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the training, which waits for the kernels
        )
        _helpers.append(process)
    try:
        yield
    finally:
        for process in _helpers:
            process.kill()  # it has nothing left to do
            process.wait()
        _helpers.clear()


def _is_stored(folder: Path, source: Path, name: str) -> bool:
    """Whether `folder` has code of this function: a guess by names and times."""
    with suppress(OSError):
        file = source.stat()
        changed = max(file.st_mtime, file.st_ctime)  # when it was written, or installed
        return any(index.stat().st_mtime >= changed for index in _indexes(folder, source, name))
    return True


def _indexes(folder: Path, source: Path, name: str) -> list[Path]:
    """Numba's files about a function, of this and other versions of Python."""
    return list(folder.glob(f"*/{source.stem}.{name}-*.nbi"))


@functools.cache
def _say_once() -> None:
    logger.info("compiling functions for this processor, once: some seconds")


def _load_kernel(module: ModuleType, kernel: Kernel, folder: Path, wait: float) -> bool:
    """Put the compiled function into its module; False where another process compiles it now."""
    with ExitStack() as stack:
        try:
            lock = files.lock_at(folder / f"{module.__name__}.{kernel.name}.lock")
            stack.enter_context(lock.acquire(timeout=wait))
        except Timeout:
            if wait == 0:
                return False
        except (OSError, NotImplementedError):  # the lock is not indispensable
            pass
        setattr(module, kernel.name, kernel.compile())
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
