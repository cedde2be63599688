# SPDX-License-Identifier: Apache-2.0
"""The environment variables that must be set BEFORE Paddle is imported, and its import."""

from __future__ import annotations

import importlib
import io
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

from paddlex_ml import program, stop_signals, systems
from paddlex_ml.cores import usable_cores
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.progress import named
from paddlex_ml.storage import cache
from paddlex_ml.wording import count

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
MKL_PATH = "MKL_DEBUG_CPU_TYPE"
WAITING = ("KMP_BLOCKTIME", "OMP_WAIT_POLICY")
"""What a thread of a matrix product does that waits for the next one: either says it."""
LOG_LEVEL = "GLOG_minloglevel"

_prepared: set[str] = set()  # what `prepare` has set itself
_done = False  # whether `prepare` has run


@named("importing Paddle")
def prepare(meanwhile: Callable[[], object] = lambda: None) -> str:
    """Set what the user has not set and import Paddle; returns one line: what was set and why.

    meanwhile: called before the import, to start processes that have the same environment.

    Thread counts follow the cores this process may use (affinity and container quota), not those
    of the machine. On AMD processors with AVX2, MKL_DEBUG_CPU_TYPE=5 stops Paddle's MKL from using
    its slow code for processors of other makers (`benchmarks/train_speed.py` measures it). A thread
    without work sleeps after a millisecond: by default it spins for 200, while our kernels and the
    workers wait for its core (`benchmarks/waiting_threads.py`).
    Raises PaddlexMLError where Paddle is not installed.
    """
    global _done
    _done = True
    if "paddle" in sys.modules:
        late = "environment: left as it is, because Paddle was imported before paddlex_ml"
        slow = _is_amd_with_avx2() and MKL_PATH not in os.environ
        return f"{late}; set {MKL_PATH}=5 yourself for full speed" if slow else late
    cores = usable_cores()
    own = [name for name in THREADS if _set(name, str(cores))]
    notes = (
        [f"one thread for each of {count(cores, 'usable core')} ({', '.join(own)})"] if own else []
    )
    given = [name for name in THREADS if name not in own]
    if _is_amd_with_avx2():
        if _set(MKL_PATH, "5"):
            notes.append(f"fast matrix products on AMD ({MKL_PATH}=5)")
        else:
            given.append(MKL_PATH)
    if chosen := [name for name in WAITING if name in os.environ]:
        given += chosen
    elif _set(WAITING[0], "1"):
        notes.append(f"threads without work sleep ({WAITING[0]}=1)")
    notes += [f"{name}={os.environ[name]} as you have set it" for name in given]
    os.environ.setdefault(LOG_LEVEL, "2")  # only errors; lower levels log internals of Paddle
    meanwhile()
    _import_paddle()
    return "for speed: " + ", ".join(notes)


def is_prepared() -> bool:
    """Whether `prepare` has been called in this process."""
    return _done


def use_own_threads() -> None:
    """Give matrix products the number of threads that the environment names, or all usable cores.

    A static model that has run in this process with another number has changed it for all, and
    with it the last digits of every product.
    """
    importlib.import_module("paddle").base.core.set_num_threads(own_threads())


def own_threads() -> int:
    """The number of threads that the environment names, or all usable cores."""
    asked = os.environ.get(THREADS[0], "").split(",")[0]
    return int(asked) if asked.isdecimal() and asked != "0" else usable_cores()


def share_cores(processes: int) -> None:
    """Divide the cores among processes that are about to start, unless the user has set them."""
    for name in _prepared & set(THREADS):
        os.environ[name] = str(max(1, usable_cores() // processes))


@contextmanager
def home_for_paddle() -> Iterator[None]:
    """While Paddle is imported, here or in a process that starts: a home folder that it can use.

    Its import ends in an error where it cannot make `~/.cache/paddle`.
    """
    before = os.environ.get("HOME")
    if systems.IS_WINDOWS or cache.is_usable(Path(os.path.expanduser("~"), ".cache", "paddle")):
        yield
        return
    os.environ["HOME"] = str(cache.for_library("home"))
    try:
        yield
    finally:
        del os.environ["HOME"]
        if before is not None:
            os.environ["HOME"] = before


def reach(folder: Path) -> Path:
    """The path by which Paddle finds a folder in the body of `near`."""
    return Path() if systems.IS_WINDOWS and not str(folder).isascii() else folder


@contextmanager
def near(folder: Path) -> Iterator[Path]:
    """Let Paddle read or write in a folder; yields what `reach` gives.

    Its C++ takes paths in the code page of Windows, and other letters are lost. There such a folder
    is the working folder meanwhile, also for other threads.
    """
    place = reach(folder)
    if place == folder:
        yield place
        return
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield place
    finally:
        os.chdir(before)


def _import_paddle() -> None:
    """Import Paddle without its messages about ccache and thread counts.

    Paddle gives the root logger a handler and a level, which belong to the program.
    """
    on_sigterm = signal.getsignal(signal.SIGTERM)
    root = logging.getLogger()
    level, handlers = root.level, [*root.handlers]
    try:
        # A signal comes after the import: within it Python turns it into errors of all kinds.
        with (
            home_for_paddle(),
            stop_signals.postponed(),
            warnings.catch_warnings(),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            importlib.import_module("paddle")
    except ModuleNotFoundError as error:
        if error.name != "paddle":
            raise
        raise PaddlexMLError(
            "PaddlePaddle is not installed",
            where=f"the environment of {sys.executable}",
            fix=program.pip_install("paddlepaddle>=3.3,<3.4")
            + f", or for a GPU the command of {program.GPU_PAGE}",
        ) from error
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
    if threading.current_thread() is threading.main_thread() and on_sigterm is not None:
        signal.signal(signal.SIGTERM, on_sigterm)  # Paddle has replaced it by its own


def _is_amd_with_avx2(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    try:
        text = cpuinfo.read_text(errors="replace")
    except OSError:
        return False
    return "AuthenticAMD" in text and " avx2" in text


def _set(name: str, value: str) -> bool:
    """Set a variable of the environment that the user has not set; returns whether it is ours."""
    if name in os.environ:
        return False
    os.environ[name] = value
    _prepared.add(name)
    return True
