# SPDX-License-Identifier: Apache-2.0
"""Folders that change as a whole: after a kill at any moment the old one or the new one is there.

    .<name>.new            the new folder while it is built, beside the old one
    .<name>.old            the old folder between two renames, on systems that cannot exchange names
    .<name>.*.unfinished   a folder of `building`, whose name was free before

A new folder is complete and on the disk before it takes the name. Linux exchanges two names in one
step. Elsewhere the name is free for an instant, and `finish_interrupted` completes the replacement
when a kill came right then.
"""

from __future__ import annotations

import ctypes
import errno
import glob
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from paddlex_ml import systems
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import files

IsOurs = Callable[[Path], bool]
"""Whether an entry of the old folder was written by this tool: everything else is carried over."""

_log = logging.getLogger(__name__)


@contextmanager
def replacing(folder: Path, is_ours: IsOurs) -> Iterator[Path]:
    """Yield a new folder beside `folder`; on success it takes the name, on failure it vanishes.

    What a user has put into the old folder is in the new one too, unless it has an entry of that
    name itself. A link to a folder is set aside. Raises OSError as the system does.
    """
    folder = _place(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    files.set_link_aside(folder)
    refuse_file(folder)
    fresh = _beside(folder, "new")
    with files.one_at_a_time(folder):  # two runs may have one output folder
        finish_interrupted(folder, is_ours)
        discard(fresh)  # what a kill left there
        fresh.mkdir(parents=True)
        try:
            yield fresh
            flush(fresh)
            if folder.is_dir():
                carry_over(folder, fresh, is_ours)
                with files.where_possible("folders keep the permissions that it gives them"):
                    shutil.copymode(folder, fresh)  # a folder that a group shares stays shared
            _swap_in(fresh, folder)
        finally:
            discard(fresh)


def discard(folder: Path) -> None:
    """Remove a folder, if it is there, or give it another name where the disk keeps it.

    Disks of networks may answer that an empty folder is not empty. A later call removes it.
    """
    for left in (folder, *folder.parent.glob(f"{glob.escape(folder.name)}.left.*")):
        files.set_link_aside(left)
        shutil.rmtree(left, ignore_errors=True)
    if folder.is_dir():
        with files.where_possible("empty folders stay"):
            folder.rmdir()
            return
        numbered = (folder.with_name(f"{folder.name}.left.{number}") for number in count(1))
        free = next(name for name in numbered if not os.path.lexists(name))
        systems.rename(folder, free)


def finish_interrupted(folder: Path, is_ours: IsOurs) -> None:
    """Complete a replacement of `folder` that a kill interrupted; else it costs two looks."""
    folder = _place(folder)
    if not folder.name:  # the folder of all others, which nothing replaces
        return
    fresh, old = _beside(folder, "new"), _beside(folder, "old")
    # Version 0.1.0 set the old folder of an export aside under another name.
    for aside in (old, fresh.with_name(f"{fresh.name}.old")):
        if not aside.is_dir() or aside.is_symlink() or folder.is_symlink():
            continue  # a kill leaves no links: what they lead to is not ours
        if not folder.exists():
            systems.rename(fresh if aside == old and fresh.is_dir() else aside, folder)
        if aside.is_dir():
            # Today they are all in the new folder by now; version 0.1.0 moved them last.
            for entry in aside.iterdir():
                if not is_ours(entry) and not os.path.lexists(folder / entry.name):
                    systems.rename(entry, folder / entry.name)
            shutil.rmtree(aside, ignore_errors=True)
    if folder.is_dir() and not folder.is_symlink() and fresh.is_dir() and not fresh.is_symlink():
        shutil.rmtree(fresh, ignore_errors=True)  # the user's entries are in the folder, too


def carry_over(old: Path, fresh: Path, is_ours: IsOurs) -> None:
    """Give the entries that are not ours a second name in `fresh`: `old` stays complete."""
    for entry in old.iterdir():
        target = fresh / entry.name
        if not is_ours(entry) and not os.path.lexists(target):
            _copy(entry, target)
    files.flush_folder(fresh)


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the name `folder` at the end, and vanishes on failure.

    It is built beside `folder`, on the same disk. A kill leaves it there, and the next call names
    it in a warning. Raises PaddlexMLError as `refuse_full`.
    """
    refuse_full(folder)
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    prefix, suffix = f".{folder.name}.", ".unfinished"
    for left in sorted(folder.parent.glob(f"{prefix}*{suffix}")):
        _log.warning("%s is from a run that was killed or is still at work", left)
    with tempfile.TemporaryDirectory(
        prefix=prefix, suffix=suffix, dir=folder.parent, ignore_cleanup_errors=True
    ) as aside:
        fresh = Path(aside, folder.name)  # the outer folder is private, this one is not
        fresh.mkdir()
        yield fresh
        if hasattr(os, "sync"):
            os.sync()  # once for all: a flush for each of 100,000 images would take hours
        if systems.IS_WINDOWS and folder.is_dir():
            folder.rmdir()  # it does not rename onto an empty folder
        systems.rename(fresh, folder)
        files.flush_folder(folder.parent)


def refuse_file(folder: Path) -> None:
    """Raise NotADirectoryError where a file has the name of a folder that is to be written."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def refuse_full(folder: Path) -> None:
    """Raise PaddlexMLError unless `folder` is empty or not there: nothing is overwritten."""
    if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return
    what = "is a folder with files in it" if folder.is_dir() else "is a file"
    raise PaddlexMLError(
        f"the output {what}; nothing is overwritten",
        where=str(folder),
        fix="choose another folder, or move this one away",
    )


def flush(folder: Path) -> None:
    """Wait until the files of a folder, their bytes and their names, are on the disk."""
    for path, _, names in os.walk(folder):
        for file in (Path(path, name) for name in names):
            if file.is_file() and not file.is_symlink():
                files.flush(file)
        files.flush_folder(Path(path))


def _copy(entry: Path, target: Path) -> None:
    """Give a file, a link or a folder with its content a second name."""
    if entry.is_symlink() or not entry.is_dir():
        files.link(entry, target)
        return
    target.mkdir()
    for inner in entry.iterdir():
        _copy(inner, target / inner.name)
    with files.where_possible("copies are without times and permissions"):
        shutil.copystat(entry, target)
    files.flush_folder(target)


def _swap_in(fresh: Path, folder: Path) -> None:
    """Give `fresh` the name `folder`. What had it before is `fresh` then, or is removed."""
    old = _beside(folder, "old")
    if not folder.is_dir():
        systems.rename(fresh, folder)
    elif not _exchange(fresh, folder):
        discard(old)
        try:
            systems.rename(folder, old)
            systems.rename(fresh, folder)
        except BaseException:
            if not folder.exists():
                systems.rename(old, folder)
            raise
    files.flush_folder(folder.parent)
    discard(old)


def _exchange(first: Path, second: Path) -> bool:
    """Let two folders of one disk exchange their names in one step. False: it is not possible."""
    swap = getattr(ctypes.CDLL(None), "renameat2", None) if systems.IS_LINUX else None
    at_cwd, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    names = os.fsencode(first), os.fsencode(second)
    return swap is not None and swap(at_cwd, names[0], at_cwd, names[1], exchange) == 0


def _place(folder: Path) -> Path:
    """The folder by its own name, even where that is a link, in the real folder around it."""
    absolute = Path(os.path.abspath(folder))
    return absolute.parent.resolve() / absolute.name


def _beside(folder: Path, state: str) -> Path:
    return folder.with_name(f".{folder.name}.{state}")
