# SPDX-License-Identifier: Apache-2.0
"""Signs what a later command of the same user may carry out, such as the record of a change.

A data set may be a stranger's, with records that he wrote. The secret that signs our own is in the
user's folder for the state of programs: ~/.local/state/paddlex_ml/secret on Linux.
"""

from __future__ import annotations

import errno
import hmac
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from paddlex_ml import systems
from paddlex_ml.storage import cache, ownership, temporary, user_folders

_FILE = "secret"
_LENGTH = 32


def sign(content: bytes) -> str:
    """The signature of `content` by this user's secret (HMAC-SHA-256, 64 hexadecimal digits).

    The first call makes the secret. Raises OSError where it cannot be kept.
    """
    return _digest(next(_find_secrets(), None) or _make_secret(), content)


def is_own(content: bytes, signature: str) -> bool:
    """Whether `sign` of this user made the signature for this content."""
    given = signature.encode("utf-8", "surrogatepass")
    return any(
        hmac.compare_digest(_digest(secret, content).encode(), given) for secret in _find_secrets()
    )


def _digest(secret: bytes, content: bytes) -> str:
    return hmac.new(secret, content, "sha256").hexdigest()


def _folders(*, make: bool) -> Iterator[Path]:
    """Where the secret may be. The first that can be used is used; containers may lack some.

    make: for writing; who only reads leaves nothing in the temporary folder.
    """
    if usual := user_folders.find("state", "paddlex_ml"):
        yield usual
    yield cache.folder() / f".state-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    if make or temporary.has_own_folder():
        yield temporary.own_folder() / ".state"


def _find_secrets() -> Iterator[bytes]:
    """Those that are there; more than one after a home folder could not be written for a while."""
    for folder in _folders(make=False):
        with suppress(OSError):
            if ownership.is_private(folder) and len(found := (folder / _FILE).read_bytes()) > 0:
                yield found


def state_folder() -> Path:
    """The folder for the secret and other states, which is made where it is missing.

    Raises OSError where there is none that this user alone can write.
    """
    if (folder := next(_usable_folders(), None)) is None:
        raise PermissionError(errno.EACCES, "no folder that this user alone can write")
    return folder


def _usable_folders() -> Iterator[Path]:
    """Those that this user alone can write, made where they are missing."""
    for folder in _folders(make=True):
        with suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if ownership.is_private(folder):
                yield folder


def _make_secret() -> bytes:
    """Make the file with its whole content in one step; of two processes the first one wins.

    It is in the first folder that has room for it.
    """
    refused = OSError(errno.EACCES, "no folder that this user alone can write")
    for folder in _usable_folders():
        name = None
        try:
            handle, name = tempfile.mkstemp(dir=folder)  # for the owner alone
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(_LENGTH))
            path = folder / _FILE
            try:
                os.link(name, path)
            except FileExistsError:
                pass
            except OSError:  # a disk without hard links
                systems.rename(name, path)
            return path.read_bytes()
        except OSError as error:
            refused = error
        finally:
            if name is not None:
                with suppress(OSError):
                    os.unlink(name)
    raise refused
