# SPDX-License-Identifier: Apache-2.0
"""Files of a cache that other users may change: each is the same as when it was first used.

    <state folder>/files/<hash of the path>   the SHA-256 that the file had then

A file that only this user and root can change or replace is not looked at.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

from paddlex_ml import systems
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import cache, files, ownership, regular_file, signature

logger = logging.getLogger(__name__)


def check(path: Path) -> None:
    """Raise PaddlexMLError where a file has changed that other users may change or replace.

    Its first use is told. Raises OSError where the file cannot be read.
    """
    if ownership.is_safe(path):
        return
    found = hashlib.sha256()
    with regular_file.open_regular(path, 1 << 50, is_text=False) as file:
        while piece := file.read(2**20):
            found.update(piece)
    digest = found.hexdigest()
    name = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32]
    note = signature.state_folder() / "files" / name
    try:
        known = note.read_text(encoding="ascii")
    except OSError:
        logger.warning(
            "other users may change %s: from now on it is used with the SHA-256 %s alone",
            *(path, digest),
        )
        try:
            files.write_text(note, digest)
        except OSError as error:
            raise PaddlexMLError(
                f"the SHA-256 of a file that other users may change cannot be kept: "
                f"{error.strerror}",
                where=str(note),
                fix="free some space there, or use a cache of your own: "
                f"{cache.VARIABLE}=/another/folder",
            ) from error
        return
    if known != digest:
        raise PaddlexMLError(
            f"another user has changed this file since it was first used: its SHA-256 is {digest}, "
            f"and was {known}",
            where=str(path),
            fix=f"use a cache of your own: {cache.VARIABLE}=/another/folder; where the new file is "
            f"right, forget the old one: rm {systems.quote(str(note))}",
        )
