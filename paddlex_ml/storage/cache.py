# SPDX-License-Identifier: Apache-2.0
"""The user's cache: one path for every URL, and a lock for every path.

    <cache>/<host>/<path of the URL>     the file; one that was put there by hand serves as well
    <the same>.part, .part.json          a download that broke off, and what it is a part of
    <the same>.lock                      held by the process that fetches or unpacks it

A URL with a query, with capitals, or with letters that file names cannot have, gets a short hash
into its name.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from unicodedata import normalize
from urllib.parse import unquote, urlsplit

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.safe_text import url_without_secrets
from paddlex_ml.storage import files, temporary, user_folders

logger = logging.getLogger(__name__)

VARIABLE = "PADDLEX_ML_CACHE"
_OURS = (".part", ".part.json", ".lock")
_DEVICE = r"^(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?=\.|$)"  # of Windows, with any ending
_UNFIT = re.compile(rf"[^\w.+=@~-]|^\.+|\.$|{_DEVICE}", re.IGNORECASE)


def folder() -> Path:
    """Where files are kept: the folder of PADDLEX_ML_CACHE, else the user's cache.

    A user without a home folder that can be written, as in many containers, has it in the
    temporary folder.
    """
    if moved := os.environ.get(VARIABLE):
        return Path(os.path.expanduser(moved)).absolute()
    usual = user_folders.find("cache", "paddlex_ml")
    return usual if usual and is_usable(usual) else _in_temporary_folder()


def give_to_library(variable: str, name: str, *usual: Path | None) -> None:
    """Name a folder in an environment variable where a library may keep files from now on.

    Left alone: a variable that the user has set, and a library whose `usual` folders can be
    written. Without any of those it gets `<cache>/<name>`, if that can be written.
    """
    if os.environ.get(variable) or (usual and all(path and is_usable(path) for path in usual)):
        return
    os.environ[variable] = str(for_library(name))


def for_library(name: str) -> Path:
    """The folder `<cache>/<name>`, made; where that cannot be written, one that can."""
    own = folder() / name
    with suppress(OSError):
        make(own)
    return own if is_usable(own) else _in_temporary_folder() / name


def make(place: Path) -> None:
    """Make a folder in the cache, or another one of that kind: new ones are for this user alone.

    Raises OSError as the system does.
    """
    top = folder()
    below = [each for each in place.parents if each.is_relative_to(top)]
    for each in (*reversed(below), place):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)


@functools.cache
def is_usable(folder: Path) -> bool:
    """Whether a file can be made there."""
    if not folder.is_absolute():  # "~" stays where nobody knows the home folder
        return False
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
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
    except ValueError:  # whose text may have a part of a password
        is_valid, reason = False, "its port is no number, or its brackets are malformed"
    if not is_valid:
        raise PaddlexMLError(
            f"not a URL of the web: {reason}",
            where=url_without_secrets(url),
            fix="correct it, or download the file yourself and name its path",
        )
    host = f"{parts.hostname}+{parts.port}" if parts.port else str(parts.hostname)
    segments = [host, *map(unquote, parts.path.split("/")[1:])]
    # Names that every file system takes, and that never lead to a folder above.
    names = [_UNFIT.sub("_", part)[:70] for part in segments if part]
    is_plain = names == segments and len(names) > 1 and not names[-1].endswith(_OURS)
    # Of names that differ in capitals alone, some disks know one.
    is_folded = all(normalize("NFC", name.casefold()) == name for name in names)
    if is_plain and not parts.query and not is_folded and _is_kept(names):
        return folder().joinpath(*names)
    if parts.query or not is_plain or not is_folded:  # the names alone would be ambiguous
        full = parts._replace(netloc=host, fragment="").geturl()
        digest = hashlib.sha256(full.encode("utf-8", "replace")).hexdigest()[:8]
        last = Path(names.pop() if len(names) > 1 else "index")
        names.append(f"{last.stem}-{digest}{last.suffix}")
    return folder().joinpath(*names)


def _is_kept(names: Sequence[str]) -> bool:
    """Whether version 0.1.0, or a hand, has put a file there, or its archive was unpacked there.

    With these capitals: a listing has them on every disk.
    """
    place = folder()
    for name in names[:-1]:
        if name not in _list(place):
            return False
        place /= name
    return not {names[-1], f"{names[-1]}.unpacked"}.isdisjoint(_list(place))


def _list(place: Path) -> list[str]:
    with suppress(OSError):
        return os.listdir(place)
    return []


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes away from `path`, and explain errors of its disk."""
    try:
        make(path.parent)
        with files.wait_for(files.lock_at(beside(path, ".lock")), path):
            yield
    except (OSError, NotImplementedError) as error:  # the second: a disk that knows no locks
        raise unusable(error, path.parent) from error


def explain(error: OSError) -> PaddlexMLError | None:
    """The clear error for a fault of the disk; None for what no user can repair.

    A fault of the cache is told as such, not as one of the output folder.
    """
    known, name = files.explain(error), error.filename2 or error.filename
    if known is not None and isinstance(name, str) and Path(name).is_relative_to(folder()):
        return unusable(error, Path(name).parent)
    return known


def unusable(error: Exception, place: Path, kept: str = "") -> PaddlexMLError:
    """The error to raise for a cache whose disk is full or closed; kept: what is there by now."""
    return PaddlexMLError(
        f"the cache cannot be used: {getattr(error, 'strerror', None) or error}",
        where=str(place),
        fix=f"free space or give permission there, or move it: {VARIABLE}=/another/folder{kept}",
    )


def without_password(url: str) -> str:
    """The URL without name and password, for requests; `safe_text` has what may be shown."""
    return re.sub(r"(?<=//)[^/?#]*@", "", url, count=1)


def beside(path: Path, suffix: str) -> Path:
    """The path with `suffix` added to its name."""
    return path.with_name(path.name + suffix)
