# SPDX-License-Identifier: Apache-2.0
"""The user's cache: one path for every URL, and a lock for every path.

    <cache>/<host>/<path of the URL>     the file; one that was put there by hand serves as well
    <the same>.part, .part.json          a download that broke off, and what it is a part of
    <the same>.lock                      held by the process that fetches or unpacks it

A URL with a query, or with letters that file names cannot have, gets a short hash into its name.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import platformdirs
from filelock import FileLock

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import files, temporary

logger = logging.getLogger(__name__)

VARIABLE = "PADDLEX_ML_CACHE"
_OURS = (".part", ".part.json", ".lock")


def folder() -> Path:
    """Where files are kept: the folder of PADDLEX_ML_CACHE, else the user's cache.

    A user without a home folder that can be written, as in many containers, has it in the
    temporary folder.
    """
    if moved := os.environ.get(VARIABLE):
        return Path(os.path.expanduser(moved)).absolute()
    usual = platformdirs.user_cache_path("paddlex_ml", appauthor=False)
    return usual if is_usable(usual) else _in_temporary_folder()


def give_to_library(variable: str, name: str, *usual: Path) -> None:
    """Name a folder in an environment variable where a library may keep files from now on.

    Left alone: a variable that the user has set, and a library whose `usual` folders can be
    written. Without any of those it gets `<cache>/<name>`, if that can be written.
    """
    if os.environ.get(variable) or (usual and all(map(is_usable, usual))):
        return
    own = folder() / name
    os.environ[variable] = str(own if is_usable(own) else _in_temporary_folder() / name)


@functools.cache
def is_usable(folder: Path) -> bool:
    """Whether a file can be made there."""
    if not folder.is_absolute():  # "~" stays where nobody knows the home folder
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


@functools.cache
def _in_temporary_folder() -> Path:
    path = temporary.own_folder() / ".cache" / "paddlex_ml"
    logger.info("the home folder or the cache in it cannot be written: the cache is in %s", path)
    return path


def path_for(url: str) -> Path:
    """Path in the cache for `url`. Raises PaddlexMLError unless it is a URL of the web."""
    reason = "it must begin with http:// or https:// and a host"
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError as error:  # malformed brackets or port
        is_valid, reason = False, str(error)
    if not is_valid:
        raise PaddlexMLError(
            f"not a URL of the web: {reason}",
            where=url,
            fix="correct it, or download the file yourself and name its path",
        )
    host = f"{parts.hostname}+{parts.port}" if parts.port else str(parts.hostname)
    segments = [host, *map(unquote, parts.path.split("/")[1:])]
    # Names that every file system takes, and that never lead to a folder above.
    names = [re.sub(r"[^\w.+=@~-]|^\.+|\.$", "_", part)[:70] for part in segments if part]
    is_plain = names == segments and len(names) > 1 and not names[-1].endswith(_OURS)
    if parts.query or not is_plain:  # the names alone would be ambiguous
        full = parts._replace(netloc=host, fragment="").geturl()
        digest = hashlib.sha256(full.encode("utf-8", "replace")).hexdigest()[:8]
        last = Path(names.pop() if len(names) > 1 else "index")
        names.append(f"{last.stem}-{digest}{last.suffix}")
    return folder().joinpath(*names)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes away from `path`, and explain errors of its disk."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.wait_for(FileLock(beside(path, ".lock")), path):
            yield
    except (OSError, NotImplementedError) as error:  # the second: a disk that knows no locks
        raise PaddlexMLError(
            f"the cache cannot be used: {getattr(error, 'strerror', None) or error}",
            where=str(path.parent),
            fix=f"free space or give permission there, or move it: {VARIABLE}=/another/folder",
        ) from error


def without_password(url: str) -> str:
    """The URL without name and password, for messages, which end in logs, and for requests."""
    return re.sub(r"(?<=//)[^/?#]*@", "", url, count=1)


def beside(path: Path, suffix: str) -> Path:
    """The path with `suffix` added to its name."""
    return path.with_name(path.name + suffix)
