# SPDX-License-Identifier: Apache-2.0
"""Lets a process on Linux look like one on Windows or macOS to the modules of the package.

A test puts `enter` into a sitecustomize.py, so that worker processes have it too. The library of
Python and all others stay on Linux: only what the package imports is another view of a module, and
only its calls are refused. What is refused is what the documentation of the systems says
(docs/platforms.md); these are no such systems.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import sys
import types
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Any

VARIABLE = "PADDLEX_ML_TEST_SYSTEM"
"""Environment variable: windows or macos."""

_LIBRARY = {"pathlib", "shutil", "os", "tempfile", "contextlib", "posixpath", "genericpath"}
"""Modules of Python that call the system for the module that calls them."""
_LINUX_ALONE = (
    *("sched_getaffinity", "sched_setaffinity", "memfd_create", "O_TMPFILE", "posix_fadvise"),
)
_MISSING: dict[str, dict[str, tuple[str, ...]]] = {
    "macos": {"os": _LINUX_ALONE},
    "windows": {
        "os": (
            *_LINUX_ALONE,
            *("getuid", "geteuid", "getgid", "setpgid", "killpg", "fork", "register_at_fork"),
            *("statvfs", "pread", "pwrite", "preadv", "pwritev", "mkfifo", "uname", "chown"),
            *("sync", "O_NOFOLLOW", "O_NONBLOCK", "SEEK_HOLE", "fchmod"),
        ),
        "signal": (
            *("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGALRM", "SIGCHLD", "SIGQUIT"),
            *("pthread_sigmask", "pthread_kill", "setitimer", "ITIMER_REAL", "sigwait"),
            *("SIG_BLOCK", "SIG_UNBLOCK", "SIG_SETMASK"),
        ),
    },
}
_ABSENT = {"macos": (), "windows": ("fcntl", "resource", "grp", "pwd", "termios")}

_stat, _lstat, _open, _listdir = os.stat, os.lstat, os.open, os.listdir


class View(types.ModuleType):
    """A module without some of its names, and with others in their place."""

    def __init__(self, real: Any, missing: tuple[str, ...], own: Mapping[str, Any]) -> None:
        super().__init__(real.__name__)
        vars(self).update(own, _real=real, _missing=frozenset(missing))

    def __getattr__(self, name: str) -> Any:
        if name in vars(self)["_missing"]:
            raise AttributeError(name)
        return getattr(vars(self)["_real"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(vars(self)["_real"], name, value)

    def __delattr__(self, name: str) -> None:
        delattr(vars(self)["_real"], name)


def enter() -> None:
    """Be the system that VARIABLE names. Before the package is imported."""
    system = os.environ[VARIABLE]
    _find_in_any_spelling(forms=system == "macos")
    own: dict[str, dict[str, Any]] = {"os": {}, "signal": {}, "sys": {"platform": "darwin"}}
    if system == "windows":
        for name in ("unlink", "remove", "rmdir", "rename", "replace"):
            setattr(os, name, _refusing(getattr(os, name)))
        own["os"] = {"name": "nt", "fsync": _fsync, "open": _open_file}
        own["signal"] = {"SIGBREAK": 21, "CTRL_BREAK_EVENT": 21}  # SIGTTIN, for which nobody waits
        own["sys"] = {"platform": "win32"}
    import ctypes
    import importlib
    import multiprocessing
    import signal

    find: Any = importlib.import_module
    junctions: Any = types.SimpleNamespace(CreateJunction=os.symlink)
    importlib.import_module = lambda *names: junctions if names == ("_winapi",) else find(*names)
    multiprocessing.get_all_start_methods = lambda: ["spawn"]
    own["ctypes"] = {"CDLL": _load_library}
    reals = {"os": os, "signal": signal, "sys": sys, "ctypes": ctypes}
    missing = _MISSING[system]
    views = {name: View(real, missing.get(name, ()), own[name]) for name, real in reals.items()}
    before = builtins.__import__

    def import_view(name: str, globals: Any = None, *rest: Any, **more: Any) -> Any:
        if (globals or {}).get("__name__", "").partition(".")[0] == "paddlex_ml":
            if name in _ABSENT[system]:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            if name in views:
                return views[name]
        return before(name, globals, *rest, **more)

    builtins.__import__ = import_view


def _is_ours(depth: int = 2) -> bool:
    """Whether a module of the package has called the function that calls this one."""
    frame: Any = sys._getframe(depth)
    while frame is not None and frame.f_globals.get("__name__") in _LIBRARY:
        frame = frame.f_back
    name = "" if frame is None else str(frame.f_globals.get("__name__", ""))
    return name.partition(".")[0] == "paddlex_ml"


def _refusing(real: Callable[..., Any]) -> Callable[..., Any]:
    """A function that changes names, as Windows has it: not for what somebody has open."""

    def call(path: Any, *targets: Any, **keys: Any) -> Any:
        if _is_ours():
            for each in (path, *targets):
                whole = os.path.realpath(os.path.dirname(os.path.abspath(each)))
                whole = os.path.join(whole, os.path.basename(os.path.abspath(each)))
                if any(name == whole or name.startswith(f"{whole}/") for name in _list_open()):
                    raise PermissionError(errno.EACCES, "it is used by a process", whole)
            if targets and os.path.isdir(path) and os.path.lexists(targets[0]):
                raise PermissionError(errno.EACCES, "a folder replaces nothing", str(targets[0]))
        return real(path, *targets, **keys)

    return call


def _list_open() -> Iterator[str]:
    """Files and folders that this process and its children have open or in their memory."""
    processes = ["self"]
    for process in processes:
        place = f"/proc/{process}"
        try:
            for task in _listdir(f"{place}/task"):
                with io.open_code(f"{place}/task/{task}/children") as file:
                    processes += file.read().decode().split()
            for number in _listdir(f"{place}/fd"):
                try:
                    yield os.readlink(f"{place}/fd/{number}")
                except OSError:  # closed meanwhile
                    continue
            with io.open_code(f"{place}/maps") as file:
                lines = file.read().decode().splitlines()
            yield from (line.split(maxsplit=5)[-1] for line in lines)
        except OSError:  # it has ended
            continue


def _fsync(file: int) -> None:
    """Windows flushes what is open for writing."""
    import fcntl

    if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    os.fsync(file)


def _open_file(path: Any, *arguments: Any, **keys: Any) -> int:
    if os.path.isdir(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    return os.open(path, *arguments, **keys)


def _load_library(name: Any, *_: Any, **__: Any) -> Any:
    raise OSError(f"the package asks for the C library of Linux: {name}")


def _find_in_any_spelling(*, forms: bool) -> None:
    """Find files by names with other capitals, and, with `forms`, in other forms of Unicode.

    The package finds no /proc, no /sys.
    """

    def fold(name: str) -> str:
        return (unicodedata.normalize("NFC", name) if forms else name).casefold()

    def spell(path: Any) -> Any:
        if not isinstance(path, str | os.PathLike) or isinstance(path, bytes):
            return path
        text = os.fspath(path)
        if text.startswith(("/proc/", "/sys/")) and _is_ours(3):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), text)
        try:
            _lstat(text)
            return path
        except OSError:
            pass
        found = "/" if os.path.isabs(text) else "."
        for part in text.split("/"):
            here = os.path.join(found, part)
            try:
                _lstat(here)
            except OSError:
                try:
                    names = _listdir(found)
                except OSError:
                    return path
                same = [name for name in names if fold(name) == fold(part)]
                if not same:
                    return path
                here = os.path.join(found, same[0])
            found = here
        return found

    def spelling(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any = ".", *arguments: Any, **keys: Any) -> Any:
            return real(path if keys.get("dir_fd") is not None else spell(path), *arguments, **keys)

        return call

    for name in ("stat", "lstat", "open", "scandir", "listdir", "access"):
        setattr(os, name, spelling(getattr(os, name)))
    builtins.open = io.open = spelling(builtins.open)
