# SPDX-License-Identifier: Apache-2.0
"""Who writes into a folder: one process for each mode, and a second one is refused by name.

    <folder>/.<mode>.lock   empty; the system frees it when the writer ends or is killed
    <folder>/.<mode>.json   process, host and start of the writer, for the message

A reader repairs what a kill interrupted only where no training lives (`alone`).
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import files, regular_file
from paddlex_ml.wording import path_override

_LARGEST = 10_000
"""Bytes of the description of a writer: it has less than 200."""
_WAIT = 1.0
"""Seconds for which a start waits: a reader may just be repairing something."""

logger = logging.getLogger(__name__)


class FolderInUse(PaddlexMLError):
    """Another process writes there."""


@contextmanager
def writing(folder: Path, mode: str, key: str = "Global.output", model: str = "") -> Iterator[None]:
    """Be the only process that writes the results of `mode` into `folder`, which must be there.

    key: the option that names the folder; model: the override that keeps the model, if the mode
    reads that from there. Raises FolderInUse where another process is at work.
    On a disk without locks the work goes on without one, and a warning says so.
    """
    holder = folder / f".{mode}.json"
    other = folder if folder.name else folder.resolve()  # "." has no name to count from
    with ExitStack() as held:
        try:
            held.enter_context(_lock(folder, mode).acquire(timeout=_WAIT))
        except Timeout:
            numbered = (other.with_name(f"{other.name}_{number}") for number in count(2))
            free = next(path for path in numbered if not os.path.lexists(path))
            elsewhere = f"{path_override(key, free)} {model}".rstrip()
            raise FolderInUse(
                f"another {mode} is writing into this folder: {_describe(holder)}",
                where=str(folder),
                fix=f"wait until it has ended; otherwise write elsewhere: {elsewhere}",
            ) from None
        except (OSError, NotImplementedError) as error:
            logger.warning(
                "%s cannot be locked (%s): do not start a second %s there", folder, error, mode
            )
        content = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "start": datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        with suppress(OSError):  # a full disk is reported by the files that matter
            files.write_json(holder, content)
        try:
            yield
        finally:
            with suppress(OSError):
                holder.unlink()


@contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Yield whether no other process trains into `folder`; none can begin meanwhile."""
    if not _path(folder, "train").exists():  # no training has been here
        yield True
        return
    with ExitStack() as held:
        is_alone = True
        try:
            held.enter_context(_lock(folder, "train").acquire(blocking=False))
        except Timeout:
            is_alone = False
        except (OSError, NotImplementedError):  # no permission, or a disk without locks
            is_alone = not (folder / ".train.json").exists()
        yield is_alone


def remove_unused(folders: Sequence[Path], mode: str) -> None:
    """Remove folders that were made for a writer, the innermost first, where it has written nothing
    into them but its lock.
    """
    lock = _path(folders[0], mode)
    with suppress(OSError):
        if list(folders[0].iterdir()) == [lock]:
            lock.unlink()
            for folder in folders:
                folder.rmdir()


def warn_of_training(written: Path) -> None:
    """Warn where a training of another process will remove `written` with its checkpoint folder."""
    checkpoint = Path(os.path.abspath(written)).parent
    if checkpoint not in (each.folder for each in RunFolder(checkpoint.parent).checkpoints()):
        return
    with alone(checkpoint.parent) as is_alone:
        if not is_alone:
            logger.warning(
                "a training is writing into %s (%s): it removes %s when it replaces %s; write it "
                "again when that has ended, or copy %s into another folder now",
                checkpoint.parent, _describe(checkpoint.parent / ".train.json"), written.name,
                checkpoint.name, written,
            )  # fmt: skip


def _path(folder: Path, mode: str) -> Path:
    return folder / f".{mode}.lock"


def _lock(folder: Path, mode: str) -> FileLock:
    """The lock of a folder; the thread that holds it may acquire it again."""
    return files.lock_at(_path(folder, mode))


def _describe(holder: Path) -> str:
    try:
        content = regular_file.read_json(holder, _LARGEST)
        return f"process {content['pid']} on {content['host']}, since {content['start']}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "its process is not known"
