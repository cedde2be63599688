# SPDX-License-Identifier: Apache-2.0
"""The lines of a YOLO label file -> ids of classes: boxes, polygons, key points, oriented boxes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Literal

from paddlex_ml.data.lines import to_utf8
from paddlex_ml.wording import count

FIX = (
    'write "<class id> <x> <y> <width> <height>", or a class id and the points of a polygon; or, '
    'as DOTA does, "<x1> <y1> <x2> <y2> <x3> <y3> <x4> <y4> <class name> <difficult>"'
)
"""The repair of a line that is neither."""

_HEADER = re.compile(r"['\"]?(imagesource|gsd|acquisition ?dates?)['\"]?\s*:", re.IGNORECASE)
_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_BY_ID = re.compile(rf"[0-9]+(?:\.0*)?(?:\s+{_NUMBER}){{4,}}")
_BY_NAME = re.compile(rf"(?:{_NUMBER}\s+){{8}}\S.*")
_WHOLE = re.compile(r"[0-9]{1,9}")
_LINES = 20  # enough to see what a file is


class ClassIds:
    """The ids of the classes, by which or by whose names lines tell what an object is."""

    def __init__(self, names: Sequence[str], count: int | None, *, grow: bool = False) -> None:
        """`count` is the number of ids, None where damaged names do not give it; with `grow` the
        names of DOTA lines become classes."""
        self._count = count
        self._grow = grow
        self._ids = {name: number for number, name in enumerate(names)}

    @property
    def names(self) -> list[str]:
        """Names in the order of the ids."""
        return list(self._ids)

    def parse(self, line: str) -> int | str | None:
        """The id of a line, None where it has no object, or what is wrong with it."""
        fields = line.split()
        if not fields or (":" in line and _HEADER.match(line.strip())):
            return None
        if name := self._find_name(fields):
            return self._find_id(name)
        if len(fields) < 5:
            return f"the line has {len(fields)} fields, a class id and four numbers are five"
        number = _parse_whole(fields[0])
        if number is None:
            return f"the class id {fields[0][:20]!r} is not a whole number"
        if self._grow:
            return f"the class id {number} has no name: other lines have names in their place"
        if self._count is not None and number >= self._count:
            return (
                f"the class id {number} has no name: "
                f"{count(self._count, 'class is', 'classes are')} named"
            )
        if not _are_finite(fields[1:]):
            return "not all fields behind the class id are numbers"
        return number

    def _find_name(self, fields: list[str]) -> str:
        """The name in a line of DOTA: behind eight numbers, before the difficulty."""
        if len(fields) < 9 or not _are_finite(fields[:8]):
            return ""
        rest = fields[8:]
        if len(rest) > 1 and re.fullmatch("[0-9]", rest[-1]):
            rest = rest[:-1]
        name = " ".join(rest)
        if _parse_number(rest[0]) is None:
            return name
        # A name may be a number. Then the points tell: those of DOTA are pixels, others below 1.
        is_pixels = len(fields) == 10 and max(map(float, fields[1:8])) > 2
        return name if is_pixels and name in self._ids else ""

    def _find_id(self, name: str) -> int | str:
        if name not in self._ids and not self._grow and self._count is not None:
            return f"the class {name[:40]!r} is not one of the {self._count:,} that are named"
        return self._ids.setdefault(name, len(self._ids))


def sniff(head: bytes) -> Literal["ids", "names", ""]:
    """Whether the lines at the beginning of a file tell classes by ids or, as DOTA, by names.

    "" for every other file, and for an empty one.
    """
    text = to_utf8(head)[0].decode("utf-8", "replace")
    lines = [line.strip() for line in text.split("\n")[: _LINES + 1]]
    lines = [line for line in lines[:_LINES] if line and not _HEADER.match(line)]
    if lines and all(map(_BY_ID.fullmatch, lines)):
        return "ids"
    if lines and all(_BY_NAME.fullmatch(line) for line in lines):
        return "names"
    return ""


def _parse_whole(text: str) -> int | None:
    """A whole number, which some programs write as 1.0 or 1.0e+00."""
    if _WHOLE.fullmatch(text):
        return int(text)
    number = _parse_number(text)
    return int(number) if number is not None and number.is_integer() and 0 <= number < 1e9 else None


def _parse_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _are_finite(fields: list[str]) -> bool:
    try:
        return all(map(math.isfinite, map(float, fields)))
    except ValueError:
        return False
