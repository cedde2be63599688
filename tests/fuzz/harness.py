# SPDX-License-Identifier: Apache-2.0
"""One reader of foreign bytes, and what counts as its fault.

A reader answers a damaged input with what it could read, or with a PaddlexMLError. Faults are

    another exception, a MemoryError behind the answer,
    a process that is started, a connection that is made,
    a file outside of its own folders that is opened to be written, renamed, removed or made, or
    opened at all where neither the system nor Python is,
    more memory than `Reader.memory`, more time than `SECONDS`.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from paddlex_ml.errors import PaddlexMLError

SECONDS = 10.0
"""The most time for one input, of the processor."""
WAITING = 6
"""How many times as long it may take with all waiting."""
MEMORY = 300 << 20
"""The most bytes for one input, where the reader has no budget of its own."""
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Reader:
    """How one kind of foreign bytes comes in."""

    name: str
    read: Callable[[Path, bytes], object]
    """Gets an empty folder and the input. Every Exception but PaddlexMLError is a fault. What it
    returns, as text, is the answer."""
    seeds: Callable[[], Sequence[bytes]]
    """Sound inputs, which the damaged ones are made of."""
    words: tuple[bytes, ...] = ()
    """The dictionary of the format."""
    memory: int = MEMORY
    """Bytes that one input may take."""
    server: int | None = None
    """Port on this machine that it may connect to."""


class Outcome(NamedTuple):
    """What came of one input."""

    fault: str
    """"" for none, else its description, with the traceback."""
    answer: str
    """The same for inputs that are answered in the same way."""
    is_read: bool
    """Whether the input was read, and not refused."""


class ForbiddenError(BaseException):
    """The reader did what none may do. A BaseException: no reader catches it."""


class TooSlowError(BaseException):
    """The time of an input is used up."""


# Files: a name of several parts, each below its own line.
_HEADER = re.compile(rb"(?:\A|\n)=== ([^\n]{1,300}) ===\n")


def pack(files: Mapping[str, bytes]) -> bytes:
    """One input that stands for several files: `plant` makes them."""
    return b"\n".join(b"=== %s ===\n%s" % (os.fsencode(name), files[name]) for name in files)


def pack_folder(root: Path) -> bytes:
    """The files below a folder as one input."""
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    return pack({path.relative_to(root).as_posix(): path.read_bytes() for path in paths})


def plant(content: bytes, root: Path) -> None:
    """Make the files of an input below `root`; those whose names no disk takes are left out."""
    root.mkdir(parents=True, exist_ok=True)
    _, *parts = _HEADER.split(content)
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        steps = os.fsdecode(name).split("/")
        if not {"", ".", ".."} & {*steps} and b"\0" not in name:
            with suppress(OSError):
                target = root.joinpath(*steps)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(body)


def judge(reader: Reader, content: bytes, folder: Path) -> Outcome:
    """Give one input to a reader, in an empty folder within `folder`, and look what it does."""
    inside, working = folder / "in", folder / "working"
    inside.mkdir(parents=True)
    working.mkdir(exist_ok=True)
    os.chdir(working)
    before = _restart_peak()
    raised: BaseException | None = None
    answer = ""
    with _watched(reader, folder) as seen, _limited():
        try:
            answer = str(reader.read(inside, content))[:1000]
        except BaseException as error:  # whatever it is, the search goes on
            raised = error
    faults = [*seen.faults, *_judge_error(raised)]
    if isinstance(raised, PaddlexMLError):
        answer = re.sub(r"'[^']*'|\"[^\"]*\"|\d+|/\S+", "_", raised.what)[:120]
    taken = _peak() - before
    if taken > reader.memory:
        faults.append(f"{taken >> 20} MiB of memory, at most {reader.memory >> 20} are allowed")
    if found := os.listdir(working):
        faults.append(f"files in the working folder: {found}")
        shutil.rmtree(working)
    shutil.rmtree(inside, ignore_errors=True)
    return Outcome("\n".join(dict.fromkeys(faults)), answer, raised is None)


def _judge_error(error: BaseException | None) -> Iterator[str]:
    if isinstance(error, PaddlexMLError):
        if any(isinstance(each, MemoryError) for each in _causes(error)):
            yield f"MemoryError became: {error}"
    elif isinstance(error, TooSlowError):
        yield f"more than {SECONDS:g} s\n" + "".join(traceback.format_exception(error))
    elif error is not None and not isinstance(error, ForbiddenError):  # the watch tells that
        yield "".join(traceback.format_exception(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    step: BaseException | None = error
    seen: set[int] = set()
    while step is not None and id(step) not in seen:
        seen.add(id(step))
        yield step
        step = step.__cause__ or step.__context__


@contextmanager
def _limited() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooSlowError

    # Of the processor, so that a machine with other work is not blamed; a reader may also wait.
    timers = (
        (signal.SIGPROF, signal.ITIMER_PROF, SECONDS),
        (signal.SIGALRM, signal.ITIMER_REAL, WAITING * SECONDS),
    )
    before = [signal.signal(number, stop) for number, _, _ in timers]
    for _, timer, seconds in timers:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for (number, timer, _), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


def _status(key: str) -> int:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith(key):
                return int(line.split()[1]) << 10
    return 0


def _restart_peak() -> int:
    """Let the peak of the memory begin at what is taken now, in bytes."""
    with suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    return _peak()


def _peak() -> int:
    with suppress(OSError):
        return _status("VmHWM:")
    return 0


# What the system, Python and installed packages have; readers look nothing up elsewhere.
_READABLE = tuple(
    map(
        os.path.realpath,
        (
            *(
                str(ROOT / "paddlex_ml"),
                str(ROOT / "tests"),
                str(ROOT / "configs"),
                str(ROOT / ".venv"),
            ),
            *(sys.prefix, sys.base_prefix, *filter(None, sys.path), "/proc", "/sys", "/dev/null"),
            *("/dev/urandom", "/usr", "/lib", "/lib64", "/etc/localtime", "/etc/ssl"),
            *(
                "/etc/mime.types",
                "/etc/hosts",
                "/etc/resolv.conf",
                "/etc/nsswitch.conf",
                "/etc/fonts",
            ),
        ),
    )
)
_STARTS = (
    *("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system"),
    *("subprocess.Popen", "pty.spawn", "pickle.find_class"),
)
_CHANGES = {
    **dict.fromkeys(("os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.utime"), 1),
    **dict.fromkeys(("os.truncate", "os.mkfifo", "os.mknod"), 1),
    **dict.fromkeys(("os.rename", "os.link"), 2),
}
"""Event -> how many of its first arguments are paths that change."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass
class _Watch:
    """What the hook allows; None while no reader is watched."""

    reader: Reader
    own: tuple[str, ...]
    faults: list[str] = field(default_factory=list)

    def see(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Judge one event of `sys.addaudithook`."""
        if event in _STARTS:
            self._refuse(f"{event} {arguments}"[:500])
        elif event in _CHANGES:
            for path in arguments[: _CHANGES[event]]:
                if not self._is_within(path, arguments, self.own):
                    self._refuse(f"{event} {arguments}"[:500])
        elif event == "os.symlink":
            if not self._is_within(arguments[1], arguments, self.own):
                self._refuse(f"{event} {arguments}"[:500])
        elif event == "open":
            self._see_open(*arguments)
        elif event in ("socket.connect", "socket.getaddrinfo"):
            self._see_network(event, arguments)

    def _see_open(self, path: Any, _: object, flags: Any) -> None:
        is_written = isinstance(flags, int) and flags & _WRITING
        roots = (*self.own, "/dev/null") if is_written else (*self.own, *_READABLE)
        if not isinstance(path, int) and not self._is_within(path, (), roots):
            self._refuse(f"{'writes' if is_written else 'reads'} {path!r}")

    def _see_network(self, event: str, arguments: tuple[Any, ...]) -> None:
        port = self.reader.server
        place = arguments[1] if event == "socket.connect" else arguments[:2]
        if port is not None and tuple(place)[:2] in (("127.0.0.1", port), ("localhost", port)):
            return
        if port is None:
            self._refuse(f"{event} {place}"[:500])
        if event == "socket.connect":  # a redirect may lead anywhere: there is no network here
            raise ConnectionRefusedError(errno.ECONNREFUSED, "no network")
        raise socket.gaierror(socket.EAI_NONAME, "no network")

    def _is_within(self, path: Any, arguments: tuple[Any, ...], roots: tuple[str, ...]) -> bool:
        if isinstance(path, int):  # a file or folder that is open: it was judged then
            return True
        text = os.fsdecode(path)
        opened = arguments[-1] if arguments else -1  # the folder that the path begins in
        if not os.path.isabs(text) and isinstance(opened, int) and opened >= 0:
            text = os.path.join(os.readlink(f"/proc/self/fd/{opened}"), text)
        head, name = os.path.split(text)
        place = os.path.join(os.path.realpath(head), name)  # a link itself is what is changed
        return any(place == root or place.startswith(f"{root}/") for root in roots)

    def _refuse(self, what: str) -> None:
        self.faults.append(what + "\n" + "".join(traceback.format_stack(limit=12)))
        raise ForbiddenError(what)


_watch: _Watch | None = None
_is_hooked = False
_thread = threading.local()


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    watch = _watch
    if watch is not None and not getattr(_thread, "is_judging", False):
        _thread.is_judging = True  # what the watch itself opens does not count
        try:
            watch.see(event, arguments)
        finally:
            _thread.is_judging = False


class _Formatter(logging.Handler):
    """Formats what is logged, as the command does, and keeps nothing."""

    def emit(self, record: logging.LogRecord) -> None:
        record.getMessage()


@contextmanager
def _watched(reader: Reader, folder: Path) -> Iterator[_Watch]:
    """Forbid what no reader may do; files below `folder` are its own."""
    global _is_hooked, _watch
    if not _is_hooked:
        sys.addaudithook(_hook)  # there is no way to take it back: it does nothing without a watch
        _is_hooked = True
    loggers = [logging.getLogger(name) for name in ("", "paddlex_ml")]
    handlers = [logger.handlers for logger in loggers]
    for logger in loggers:
        logger.handlers = [_Formatter(logging.DEBUG)]
    watch = _watch = _Watch(reader, (os.path.realpath(folder),))
    try:
        yield watch
    finally:
        _watch = None
        for logger, before in zip(loggers, handlers, strict=True):
            logger.handlers = before
