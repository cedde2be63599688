# SPDX-License-Identifier: Apache-2.0
"""The folder or file that a data set is made of: what is seen of its path alone, without numpy."""

from __future__ import annotations

from pathlib import Path

from paddlex_ml import program, systems
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import near_names
from paddlex_ml.wording import path_override

KEY = "Global.dataset_dir"
_ARCHIVES = (".zip", ".7z", ".rar", ".gz", ".tgz", ".bz2", ".xz")


def refuse(source: Path) -> None:
    """Raise PaddlexMLError where nothing is there, and for an archive, with how to unpack it."""
    if source.is_dir():
        return
    if not source.is_file():
        fix = "name a folder of photographs, or a table with their names and labels"
        if near := near_names.find(source):
            fix = f"{path_override(KEY, near)} is there; or {fix}"
        raise PaddlexMLError(f"{source} does not exist", where=KEY, fix=fix)
    suffix = source.suffix.lower()
    if suffix in _ARCHIVES:
        target = source.with_suffix("")
        fix = f"unpack it, and name the folder that it gives, such as {target}"
        if suffix == ".zip":
            words = ["-m", "zipfile", "-e", str(source), str(target)]
            fix = f"{program.python()} {systems.join(words)}, and then name {target}"
        raise PaddlexMLError(f"{source} is an archive, which must be unpacked", where=KEY, fix=fix)
