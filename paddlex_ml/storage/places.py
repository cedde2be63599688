# SPDX-License-Identifier: Apache-2.0
"""Names that a file of a stranger may hold, such as a record in a data set: never one outside."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from paddlex_ml import systems
from paddlex_ml.errors import PaddlexMLError

_DRIVE = re.compile(r"[A-Za-z]:")


def is_inner(name: str) -> bool:
    """Whether this is a plain relative path with "/", on every system: no "..", no drive."""
    parts = name.split("/")
    is_plain = not {"", ".", ".."} & {*parts}
    return is_plain and "\\" not in name and "\0" not in name and _DRIVE.match(name) is None


def refuse_linked(root: Path, names: Iterable[str]) -> None:
    """Raise PaddlexMLError where a link leads out of `root` to the folder of one of these files.

    names: paths relative to `root`, with "/". A file that is a link itself may be renamed.
    """
    real = os.path.realpath(root)
    for folder in dict.fromkeys(name.rpartition("/")[0] for name in names):
        parts = folder.split("/") if folder else []
        for count in range(1, len(parts) + 1):
            path = root.joinpath(*parts[:count])
            inside = systems.relative(os.path.realpath(path), real)
            if inside is None or inside.split(os.sep, 1)[0] == os.pardir:
                place, copy = systems.quote(str(path)), systems.quote(f"{path}.copy")
                commands = f": cp -rL {place} {copy} && rm {place} && mv {copy} {place}"
                raise PaddlexMLError(
                    f"{path.name} is a link to {os.path.realpath(path)}, where nothing is changed",
                    where=str(path),
                    fix="put a copy in the place of the link" + commands * (not systems.IS_WINDOWS),
                )
