# SPDX-License-Identifier: Apache-2.0
"""Writing files so that a kill at any moment leaves the old file or the new one, never half."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from paddlex_ml.errors import PaddlexMLError

logger = logging.getLogger(__name__)

_REPAIRS = {
    errno.ENOSPC: "free some space there, or choose another folder with -o Global.output=...",
    errno.EDQUOT: "your disk quota is used up: free some space, or -o Global.output=...",
    errno.EACCES: "give yourself write permission, or choose another folder: -o Global.output=...",
    errno.EPERM: "give yourself write permission, or choose another folder: -o Global.output=...",
    errno.EROFS: "the disk is read-only: choose another folder with -o Global.output=...",
    errno.ENOTDIR: "a file is where a folder is needed: move it, or -o Global.output=...",
    errno.EEXIST: "a file is where a folder is needed: move it, or -o Global.output=...",
    errno.EISDIR: "a folder is where a file is needed: move it, or -o Global.output=...",
}

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
        where = error.filename2 or error.filename
        _warn_once(step, os.strerror(error.errno), f" (first: {where})" if where else "")


_told: set[str] = set()


def _warn_once(step: str, reason: str, where: str) -> None:
    if step not in _told:
        _told.add(step)
        logger.warning("the disk does not support it, so %s: %s%s", step, reason, where)


def explain(error: OSError) -> PaddlexMLError | None:
    """The clear error for an error of the system that a user can repair; None for all others."""
    if error.errno not in _REPAIRS:
        return None
    # A rename has two names, and the first is that of a temporary file.
    where = str(error.filename2 or error.filename or "the output folder")
    return PaddlexMLError(os.strerror(error.errno), where=where, fix=_REPAIRS[error.errno])


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it becomes `path`, on failure it vanishes.

    The bytes are flushed to the disk before the rename, so that a power cut cannot leave an empty
    file behind the final name. Raises OSError as the system does; `explain` makes it readable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        flush(temporary)
        os.umask(umask := os.umask(0))
        with where_possible("files keep the permissions that it gives them"):
            temporary.chmod(0o666 & ~umask)  # mkstemp makes files for the owner alone
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def flush(path: Path) -> None:
    """Wait until the bytes of a file are on the disk."""
    with path.open("rb") as file:
        sync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk: a rename before a power cut stays done."""
    if os.name == "nt":  # Windows cannot open folders
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
    with where_possible("copies are without times and permissions"):
        shutil.copystat(source, target, follow_symlinks=False)
    if not target.is_symlink():
        flush(target)


def lock_of(folder: Path) -> FileLock:
    """The lock that processes hold while they change a folder; a process may hold it twice.

    Its file is not in the folder: where nothing is changed in the end, nothing at all appears.
    """
    digest = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:16]
    user = os.getuid() if hasattr(os, "getuid") else ""
    path = Path(tempfile.gettempdir()) / f"paddlex_ml-{user}-{digest}.lock"
    return FileLock(path, is_singleton=True)


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait until no other process changes `folder`, and keep the others away meanwhile.

    Where the system has no room or no locks for this, the work goes on without: a training must
    not lose its checkpoint to a full folder for temporary files.
    """
    with ExitStack() as held:
        with suppress(OSError, NotImplementedError):  # the second: a disk without locks
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
    """Write `value` as indented JSON; non-ASCII text stays readable, NaN is refused (not JSON)."""
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
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
