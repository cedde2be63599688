# SPDX-License-Identifier: Apache-2.0
"""Writing files so that a kill at any moment leaves the old file or the new one, never half."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from paddlex_ml import systems
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.safe_text import without_secrets
from paddlex_ml.wording import path_override

logger = logging.getLogger(__name__)

_REPAIRS = {
    errno.ENOSPC: "free some space there; otherwise choose another folder",
    errno.EDQUOT: "your disk quota is used up: free some space; otherwise choose another folder",
    errno.EACCES: "give yourself write permission; otherwise choose another folder",
    errno.EPERM: "give yourself write permission; otherwise choose another folder",
    errno.EROFS: "the disk is read-only: choose another folder",
    errno.ENOTDIR: "a file is where a folder is needed: move it; otherwise choose another folder",
    errno.EEXIST: "a file is where a folder is needed: move it; otherwise choose another folder",
    errno.EISDIR: "a folder is where a file is needed: move it; otherwise choose another folder",
}

_NO_LINK_NO_WAIT = (
    getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
)
_NOT_SUPPORTED = {
    *(errno.EINVAL, errno.EPERM, errno.EACCES, errno.EBADF, errno.ENOSYS, errno.EOPNOTSUPP),
    *(errno.ENOTSUP, errno.ENOTTY, errno.EXDEV, errno.EMLINK, errno.ENOTEMPTY),
}
"""What network disks and those in user space answer where they do not support a step."""


@contextmanager
def where_possible(step: str) -> Iterator[None]:
    """Go on where the disk does not support what is done, and say so once for each `step`.

    step: what is not done, for the warning. Raises OSError as the system does for all else, such as
    a full or a broken disk.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        where, reason = error.filename2 or error.filename, os.strerror(error.errno)
        if step not in _told:
            _told.add(step)
            first = f" (first: {where})" if where else ""
            logger.warning("the disk does not support it, so %s: %s%s", step, reason, first)


_told: set[str] = set()


def explain(error: OSError, key: str = "Global.output") -> PaddlexMLError | None:
    """The clear error for an error of the system that a user can repair; None for all others.

    key: the option that names the folder.
    """
    if error.errno not in _REPAIRS:
        return None
    # A rename has two names, and the first is that of a temporary file.
    where = str(error.filename2 or error.filename or "the output folder")
    repair = _REPAIRS[error.errno]
    if systems.IS_WINDOWS and error.errno == errno.EACCES:
        repair = f"close the program that has it open, such as Excel; otherwise {repair}"
    fix = f"{repair}: {write_elsewhere(where, key)}"
    return PaddlexMLError(os.strerror(error.errno), where=where, fix=fix)


def write_elsewhere(where: str | os.PathLike[str], key: str = "Global.output") -> str:
    """The override of `key` by a folder that can be made, since `where` cannot be used.

    On another disk if there is one: that of `where` may be full or read-only.
    """
    parents = [Path(), Path(os.path.expanduser("~")), Path(tempfile.gettempdir())]
    usable = [parent for parent in parents if os.access(parent, os.W_OK) and parent.is_dir()]
    near = next((path for path in Path(where).absolute().parents if path.is_dir()), None)
    if near is not None:
        usable.sort(key=lambda parent: parent.stat().st_dev == near.stat().st_dev)
    names = ("output", *(f"output_{number}" for number in range(2, 1000)))
    places = (parent / name for parent in usable for name in names)
    place = next((path for path in places if not os.path.lexists(path)), Path("output"))
    return path_override(key, place)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on failure it vanishes.

    The bytes are flushed to the disk before the rename, so that a power cut cannot leave an empty
    file behind the final name. Raises OSError as the system does; `explain` makes it readable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    set_link_aside(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        flush(temporary)
        os.umask(umask := os.umask(0))
        with where_possible("files keep the permissions that it gives them"):
            temporary.chmod(0o666 & ~umask)  # mkstemp makes files for the owner alone
        systems.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def set_link_aside(path: Path) -> None:
    """Rename a link that stands where this tool writes: nothing is changed where it leads.

    A named pipe, which would make a writer wait for ever, and a device too. It gets a name of a
    backup, and a warning tells it. Does nothing where there is no such thing.
    """
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        is_link = stat.S_ISLNK(mode)
        what = f"a link to {os.path.realpath(path)}" if is_link else "no plain file"
        free = (path.with_name(name) for name in backup_names(path.name))
        backup = next(name for name in free if not os.path.lexists(name))
        systems.rename(path, backup)
        nothing = ", where nothing is changed; the link" if is_link else ": it"
        logger.warning("%s was %s%s is %s now", path, what, nothing, backup.name)


def make_folder(folder: Path) -> None:
    """Make a folder of this tool in a folder that the user named, and the ones above it.

    A link there is set aside. Raises OSError as the system does.
    """
    set_link_aside(folder)
    folder.mkdir(parents=True, exist_ok=True)


def make_output(folder: Path) -> None:
    """Make the folder of Global.output, and write in it once: so one that cannot be written is
    found before the work begins. Raises PaddlexMLError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)  # an empty file can be made on a full disk
    except OSError as error:
        raise explain(error) or PaddlexMLError(
            f"the output folder cannot be written: {error.strerror}",
            where=str(folder),
            fix=f"choose another folder: {write_elsewhere(folder)}",
        ) from error


_modes: dict[Path, int] = {}


def lock_at(path: Path) -> FileLock:
    """The lock with this file; the thread that holds it may acquire it again. No link is followed.

    A new file has the permissions of the folder: who may write there may lock, too. Its owner may
    always: filelock asks for that, and in a folder that is only read the system refuses the file.
    """
    place = Path(os.path.realpath(path.parent)) / path.name
    set_link_aside(place)
    mode = place.parent.stat().st_mode & 0o666 | 0o600 if place.parent.is_dir() else 0o644
    # One lock for one place has one mode, also where the permissions of the folder have changed.
    return FileLock(place, is_singleton=True, mode=_modes.setdefault(place, mode))


def read_regular(path: Path, largest: int) -> bytes:
    """The bytes of a file that a stranger may have put there: no link, pipe or device, no giant.

    largest: bytes. Raises OSError for all of these, and as the system does.
    """
    handle = os.open(path, os.O_RDONLY | _NO_LINK_NO_WAIT)
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        content = file.read(largest + 1)
        if len(content) > largest:
            raise OSError(errno.EFBIG, f"more than {largest} bytes", str(path))
    return content


def flush(path: Path) -> None:
    """Wait until the bytes of a file are on the disk."""
    # Windows flushes only what is open for writing.
    with path.open("r+b" if systems.IS_WINDOWS else "rb") as file:
        sync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk: a rename before a power cut stays done."""
    if systems.IS_WINDOWS:  # it cannot open folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        sync(handle)
    finally:
        os.close(handle)


def sync(handle: int) -> None:
    """Wait until what was written to an open file or folder is on the disk."""
    with where_possible("a power cut may lose what was written last"):
        os.fsync(handle)


def link(source: Path, target: Path) -> None:
    """Give a file or link a second name; on a disk without hard links, copy it."""
    with where_possible("files are copied, where hard links would save room"):
        os.link(source, target, follow_symlinks=False)
        return
    shutil.copyfile(source, target, follow_symlinks=False)
    if not target.is_symlink():
        flush(target)
    with where_possible("copies are without times and permissions"):
        shutil.copystat(source, target, follow_symlinks=False)


def lock_of(folder: Path) -> FileLock:
    """The lock that processes hold while they change a folder; a process may hold it twice.

    Its file is beside the folder, where everybody who can replace the folder finds the same one;
    folders beside each other share it.
    """
    return lock_at(folder.parent / ".paddlex_ml.lock")


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait until no other process changes `folder`, and keep the others away meanwhile.

    Where the system has no room or no locks for this, the work goes on without: a training must
    not lose its checkpoint to a full disk. Where `folder` cannot be, because the one around it is
    not there, nothing is made.
    """
    with ExitStack() as held:
        with suppress(OSError, NotImplementedError):  # the second: a disk without locks
            if folder.parent.is_dir():  # the lock would make it
                held.enter_context(wait_for(lock_of(folder), folder))
        yield


def wait_for(lock: FileLock, path: Path, timeout: float = -1) -> AbstractContextManager[Any]:
    """Acquire `lock`, and log it when another process holds it; leaving the context releases it.

    Raises OSError, NotImplementedError on a disk without locks, and filelock.Timeout after
    `timeout` seconds; a negative one never ends.
    """
    try:
        return lock.acquire(blocking=False)
    except Timeout:
        logger.info("another process is at work on %s: waiting for it", path)
        return lock.acquire(timeout=timeout)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically; missing folders are made."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with `\\n` line ends to `path` atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON; non-ASCII text stays readable, NaN is refused (not JSON).

    URLs in it are without their secrets.
    """
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    text = without_secrets(text)
    # A file name that is not UTF-8 arrives as lone surrogates; JSON can hold them as \udcff.
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def back_up(path: Path) -> Path:
    """Give the content of `path` a second name: `.bak`, or `.bak.1` and so on. No name is reused.

    `path` stays until something replaces it, so that it is there at every moment.
    """
    for name in backup_names(path.name):
        copy = path.with_name(name)
        try:
            os.link(path, copy)
        except FileExistsError:
            continue
        except OSError:  # a disk without hard links
            if copy.exists():
                continue
            write_bytes(copy, path.read_bytes())
        break
    return copy


def backup_names(name: str, ending: str = "bak") -> Iterator[str]:
    """Yield the names of backups of a file, for ever: `a.txt.bak`, `a.txt.bak.1`, and so on."""
    yield f"{name}.{ending}"
    yield from (f"{name}.{ending}.{number}" for number in count(1))
