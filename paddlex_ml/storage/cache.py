# SPDX-License-Identifier: Apache-2.0
"""The user's cache: one path for every URL, and a lock for every path.

    <cache>/<host>/<path of the URL>     the file; one that was put there by hand serves as well
    <the same>.part, .part.json          a download that broke off, and what it is a part of
    <the same>.lock                      held by the process that is at work on it

A URL with a query, or with letters that file names cannot have, gets a short hash into its name.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

import filelock
import platformdirs

from paddlex_ml.errors import PaddlexMLError

logger = logging.getLogger(__name__)

VARIABLE = "PADDLEX_ML_CACHE"
_OURS = (".part", ".part.json", ".lock")


def folder() -> Path:
    """Where files are kept: the folder of PADDLEX_ML_CACHE, else the user's cache."""
    if moved := os.environ.get(VARIABLE):
        return Path(moved).expanduser().absolute()
    return platformdirs.user_cache_path("paddlex_ml", appauthor=False)


def place(url: str) -> Path:
    """Path in the cache for `url`. Raises PaddlexMLError unless it is a URL of the web."""
    parts = _split(url)
    host = f"{parts.hostname}+{parts.port}" if parts.port else str(parts.hostname)
    words = [host, *map(unquote, parts.path.split("/")[1:])]
    names = [_safe(word) for word in words if word]
    plain = names == words and len(names) > 1 and not names[-1].endswith(_OURS)
    if parts.query or not plain:  # the names alone would be ambiguous
        whole = parts._replace(netloc=host, fragment="").geturl()
        digest = hashlib.sha256(whole.encode("utf-8", "replace")).hexdigest()[:8]
        last = Path(names.pop() if len(names) > 1 else "index")
        names.append(f"{last.stem}-{digest}{last.suffix}")
    return folder().joinpath(*names)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes away from `path`, and explain faults of the disk that it lies on."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(beside(path, ".lock"))
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            logger.info("another process is at work on %s: waiting for it", path)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()
    except (OSError, NotImplementedError) as error:  # the second: a disk that knows no locks
        raise PaddlexMLError(
            f"the cache cannot be used: {getattr(error, 'strerror', None) or error}",
            where=str(path.parent),
            fix=f"free space or give permission there, or move it: {VARIABLE}=/another/folder",
        ) from error


def shown(url: str) -> str:
    """The URL without a password: messages end in logs."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def beside(path: Path, suffix: str) -> Path:
    """The path with something added to its whole name."""
    return path.with_name(path.name + suffix)


def _safe(name: str) -> str:
    """A part of a URL as a name that every file system takes, and that never climbs up."""
    return re.sub(r"[^\w.+=@~-]|^\.+|\.$", "_", name)[:70]


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
        why = "it must begin with http:// or https:// and a host"
    except ValueError as error:  # brackets or a port that are none
        why = str(error)
    raise PaddlexMLError(
        f"not a URL of the web: {why}",
        where=url,
        fix="correct it, or download the file yourself and name its path",
    )
