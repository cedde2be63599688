# SPDX-License-Identifier: Apache-2.0
"""Folders of exported models, made anew as a whole: never half of one, never a mixture of two."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paddlex_ml.storage import files

PRODUCTS = frozenset(
    f"inference.{end}" for end in ("json", "onnx", "pdiparams", "pdiparams.info", "pdmodel", "yml")
)
"""What an export may have left in its folder, whatever its format: none outlives the next one."""


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside `folder`; on success it takes the name, on failure it vanishes.

    What a user has put into the old folder is there again in the new one. A kill leaves the old
    folder or the new one under the name, complete. Raises OSError as the system does.
    """
    folder = folder.resolve()  # a link stays a link
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    fresh = folder.with_name(f".{folder.name}.new")
    _finish_interrupted(fresh, folder)
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        yield fresh
        if folder.is_dir():
            _carry_over(folder, fresh)
        _flush(fresh)
        if folder.is_dir():
            _exchange(fresh, folder)
        else:
            fresh.rename(folder)
        files.flush_folder(folder.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _carry_over(old: Path, fresh: Path) -> None:
    for entry in old.iterdir():
        if entry.name in PRODUCTS:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, fresh / entry.name, symlinks=True, copy_function=_link)
        else:
            _link(entry, fresh / entry.name)


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # a disk without hard links
        shutil.copy2(source, target, follow_symlinks=False)


def _flush(folder: Path) -> None:
    for name in PRODUCTS:
        if (folder / name).is_file():
            files.flush(folder / name)
    files.flush_folder(folder)


def _exchange(first: Path, second: Path) -> None:
    """Let two folders of one disk swap their names, in one step where system and disk can.

    Elsewhere `second` names nothing for an instant; `_finish_interrupted` repairs what a kill
    leaves then.
    """
    swap = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    here, both = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if swap and swap(here, os.fsencode(first), here, os.fsencode(second), both) == 0:
        return
    spare = _spare(first)
    second.rename(spare)
    first.rename(second)
    spare.rename(first)


def _finish_interrupted(first: Path, second: Path) -> None:
    """Finish an exchange of the same two folders that a kill interrupted."""
    spare = _spare(first)
    if spare.is_dir() and not second.exists():
        spare.rename(second)
    shutil.rmtree(spare, ignore_errors=True)


def _spare(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.old")
