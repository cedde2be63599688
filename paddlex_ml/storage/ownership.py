# SPDX-License-Identifier: Apache-2.0
"""Who can change a file or folder: on a machine that people share, what others wrote is not ours.

Root counts as this user: it can do everything anyway. Windows keeps permissions in another form,
and there each folder that we use is below the user's own.
"""

from __future__ import annotations

import functools
import os
import stat
from pathlib import Path


def is_private(folder: Path) -> bool:
    """Whether this is a folder, not a link to one, that belongs to this user and that nobody else
    may write. Raises OSError where it cannot be looked at.
    """
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and belongs_to_us(found) and not found.st_mode & stat.S_IWGRP


def belongs_to_us(found: os.stat_result) -> bool:
    """Whether nobody but this user and root can change a file, as `os.stat` describes it."""
    if not hasattr(os, "getuid"):  # Windows keeps permissions in another form
        return True
    others = found.st_mode & stat.S_IWOTH
    if found.st_gid != _own_group():
        others |= found.st_mode & stat.S_IWGRP
    return found.st_uid in (0, os.getuid()) and not others


def is_safe(path: Path) -> bool:
    """Whether nobody but this user and root can change a file or what is in a folder, or put
    another one in its place. Raises OSError where it cannot be looked at.

    Folders like /tmp, in which each user may change only what he owns, may be around it. Below a
    folder that nobody else may enter, permissions do not matter.
    """
    real = Path(os.path.realpath(path))
    if not hasattr(os, "getuid"):
        return True
    is_open = not belongs_to_us(real.stat())
    for place in real.parents:
        found = place.stat()
        is_own = found.st_uid in (0, os.getuid())
        if is_own and not found.st_mode & (stat.S_IXGRP | stat.S_IXOTH):
            is_open = False
        elif not (belongs_to_us(found) or (is_own and found.st_mode & stat.S_ISVTX)):
            is_open = True
    return not is_open


def is_all_own(folder: Path) -> bool:
    """Whether everything in a folder belongs to this user or to root, and nobody else can change
    it. Raises OSError.

    Where others may not enter the folder or one around it, permissions below do not matter.
    """
    if not hasattr(os, "getuid"):
        return True
    real = Path(os.path.realpath(folder))
    around = (place.stat() for place in (real, *real.parents))
    is_closed = any(
        found.st_uid in (0, os.getuid()) and not found.st_mode & (stat.S_IXGRP | stat.S_IXOTH)
        for found in around
    )
    below = os.walk(folder)
    paths = (os.path.join(at, name) for at, inner, names in below for name in (*inner, *names))
    each = (os.lstat(path) for path in paths)
    return all(
        found.st_uid in (0, os.getuid()) and (is_closed or belongs_to_us(found)) for found in each
    )


@functools.cache
def _own_group() -> int | None:
    """The group of this user alone, as many systems give it to each user; None: there is none."""
    import grp
    import pwd

    try:
        group = grp.getgrgid(os.getgid())
        is_own = group.gr_name == pwd.getpwuid(os.getuid()).pw_name and not group.gr_mem
    except KeyError:  # a user without a name, as in containers
        return None
    return group.gr_gid if is_own else None
