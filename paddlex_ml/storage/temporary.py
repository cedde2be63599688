# SPDX-License-Identifier: Apache-2.0
"""The folder for temporary files: a part of it for this user alone, and paths for sockets."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from contextlib import suppress
from multiprocessing import process, util
from pathlib import Path

from paddlex_ml.storage import ownership

SOCKETS = "PADDLEX_ML_SOCKETS"
"""Environment variable by which a server of workers knows the folder of its socket, and the process
that has made it: "4711:/tmp/pymp-abc". multiprocessing lets a child share its parent's folder."""
_LONGEST = 70
"""Bytes of a folder in which multiprocessing can bind a socket: it adds 32, macOS takes 103."""
_SHORT = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108  of sockets, in folders of their own


@functools.cache
def own_folder() -> Path:
    """A folder that only this user can write, the same one in each of its processes.

    Where another user has taken its name, a new folder for this process alone.
    """
    folder = _usual_folder()
    if not hasattr(os, "getuid"):  # on Windows the temporary folder is the user's own
        folder.mkdir(exist_ok=True)
        return folder
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if ownership.is_private(folder):
        return folder
    folder = Path(tempfile.mkdtemp(prefix="paddlex_ml-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def has_own_folder() -> bool:
    """Whether `own_folder` may have something already, without making it."""
    return _usual_folder().is_dir()


def _usual_folder() -> Path:
    name = f"paddlex_ml-{os.getuid()}" if hasattr(os, "getuid") else "paddlex_ml"
    return Path(tempfile.gettempdir(), name)


def shorten_socket_paths() -> bool:
    """Let multiprocessing make its sockets where their paths are short enough for the system.

    Its own choice is below TMPDIR, whatever its length. Returns whether there is such a place.
    """
    usual = tempfile.gettempdir()
    for folder in (usual, os.environ.get("XDG_RUNTIME_DIR", usual), *_SHORT):
        if len(os.fsencode(folder)) > _LONGEST:
            continue
        before, tempfile.tempdir = tempfile.tempdir, folder
        try:
            # The first call makes the folder, and the process keeps it, as do those it starts.
            is_made_here = "tempdir" not in getattr(process.current_process(), "_config", {})
            made = util.get_temp_dir()
            if is_made_here:
                os.environ[SOCKETS] = f"{os.getpid()}:{made}"
            return len(os.fsencode(os.path.dirname(made))) <= _LONGEST
        except OSError:
            continue
        finally:
            tempfile.tempdir = before
    return False
