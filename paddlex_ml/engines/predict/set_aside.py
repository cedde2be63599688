# SPDX-License-Identifier: Apache-2.0
"""The files of an earlier prediction make room for those of the next one, all together.

    predict/predictions.json  .csv  a.jpg  explain/a.jpg
    -> predict/predictions.bak/predictions.json  .csv  a.jpg  explain/a.jpg

Its tables name its pictures, also those that a kill cut in half: what they do not name is not ours
and stays. No backup is replaced: the second one is predictions.bak.1. The tables move last, so that
after a kill the next prediction moves the pictures that are left.
"""

from __future__ import annotations

import codecs
import csv
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from paddlex_ml.artifacts.run_folder import PredictFiles
from paddlex_ml.inference import inputs
from paddlex_ml.inference.result import name_picture
from paddlex_ml.storage import csv_text, files, regular_file
from paddlex_ml.wording import count

_HALF = re.compile(r"\.(.+(\.\w+))\.\w{8}\2", re.DOTALL)  # of `files.replacing`

_log = logging.getLogger(__name__)


def unfinished(table: Path) -> Path:
    """The name of a table while it is written, and after the process was killed meanwhile."""
    return table.with_name(f"{table.name}.unfinished")


def set_aside(saved: PredictFiles) -> Path | None:
    """Move the tables and pictures of earlier predictions into a new folder beside them.

    Returns that folder; None where there is nothing of an earlier prediction.
    """
    finished = [saved.predictions_json, saved.predictions_csv]
    tables = [path for path in (*finished, *map(unfinished, finished)) if path.is_file()]
    if not tables:
        return None
    backup = _make_backup(saved.folder)
    for table in tables:
        files.link(table, backup / table.name)
    pictures = 0
    halves = {folder: _find_halves(folder) for folder in (saved.folder, saved.explain)}
    for name in _list_pictures(tables):
        for folder, of_kill in halves.items():
            for each in (name, *of_kill.pop(name, ())):
                path = folder / each
                if os.path.isfile(path):
                    target = backup / folder.relative_to(saved.folder) / each
                    target.parent.mkdir(exist_ok=True)
                    shutil.move(path, target)
                    pictures += each == name
    with suppress(OSError):
        saved.explain.rmdir()  # only if it is empty
    for table in tables:
        table.unlink()
    _log.info(
        "the results of an earlier prediction are now in %s: %s and %s",
        backup, ", ".join(table.name for table in tables), count(pictures, "picture"),
    )  # fmt: skip
    return backup


def _find_halves(folder: Path) -> dict[str, list[str]]:
    """Pictures that a kill interrupted, `.a.jpg.x1y2z3_4.jpg`, by the name that they would have."""
    halves: dict[str, list[str]] = {}
    for name in os.listdir(folder) if folder.is_dir() else ():
        if match := _HALF.fullmatch(name):
            halves.setdefault(match[1], []).append(name)
    return halves


def list_own(saved: PredictFiles) -> list[Path]:
    """The tables and pictures of predictions in a folder, those of its backups included."""
    finished = [saved.predictions_json, saved.predictions_csv]
    tables = [path for path in (*finished, *map(unfinished, finished)) if path.is_file()]
    pictures = [
        folder / name for name in _list_pictures(tables) for folder in (saved.folder, saved.explain)
    ]
    own = [*tables, *(path for path in dict.fromkeys(pictures) if os.path.isfile(path))]
    for backup in sorted(saved.folder.glob("predictions.bak*")):
        own += list_own(PredictFiles(backup))
    return own


def _make_backup(folder: Path) -> Path:
    for name in files.backup_names("predictions"):
        backup = folder / name
        with suppress(FileExistsError):
            backup.mkdir()
            break
    return backup


def _list_pictures(tables: list[Path]) -> Iterator[str]:
    """The pictures that the tables name; those of 0.1.0 name only the images."""
    for table in tables:
        read = _read_json if ".json" in table.suffixes else _read_csv
        for row, name in zip(
            read(table), inputs.name_images(r.image for r in read(table)), strict=True
        ):
            picture = name_picture(name) if row.picture is None else row.picture
            if picture and os.path.basename(picture) == picture:
                yield picture


class _Row(NamedTuple):
    """What a table says of one image."""

    image: str | None
    picture: str | None
    """"" for none, None where the table has no pictures at all."""


def _read_json(table: Path) -> Iterator[_Row]:
    """One result a line; a line that is cut off, or that was edited, does not count."""
    with suppress(OSError):  # no file that a prediction wrote
        for line in regular_file.read_lines(table):
            with suppress(ValueError, AttributeError, TypeError, RecursionError):
                res = json.loads(_decode(line).strip().removesuffix(","))
                picture = res.get("picture", "" if "error" in res else None)
                yield _Row(_text(res.get("input_path")), _text(picture))


def _read_csv(table: Path) -> Iterator[_Row]:
    # A cell of more than 128 KiB; the JSON file has them all. Or no file that a prediction wrote.
    with suppress(csv.Error, OSError):
        for row in csv.DictReader(map(_decode, regular_file.read_lines(table))):
            picture = row.get("picture", "" if row.get("error") else None)
            yield _Row(_plain(row.get("image")) or None, _plain(picture))


def _decode(line: bytes) -> str:
    return line.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")


def _plain(cell: str | None) -> str | None:
    return None if cell is None else csv_text.plain(cell)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
