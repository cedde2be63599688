# SPDX-License-Identifier: Apache-2.0
"""A line of train.txt or val.txt -> its columns, or what is wrong with them.

<path><tab><values>             values: target_lines, soft_targets
<path><tab><values><tab><weight>
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from paddlex_ml import systems
from paddlex_ml.data import target_lines
from paddlex_ml.data.faults import DatasetFault
from paddlex_ml.data.lines import UTF16
from paddlex_ml.data.target_lines import shorten

LAYOUT = (
    "write the path of the image, ONE tab, then 0 or 1 (-1: unknown) for every class: "
    "images/a.jpg<tab>0,1"
)
_VALUES = re.compile(r"[-+0-9@.,:;?!|eE \uff0c\uff1b\u3001]+")
"""What the second of three columns has, where the third one is a weight."""
_CELLS = re.compile(r"[-+0-9@.,:;?!eE%\uff0c]+")
"""A word of values in a line without a tab."""
_SURE_CELL = re.compile(r"[-0-9@,\uff0c]")
"""What such a word has; other words may be the end of a name."""
_NO_TAB = re.compile(r"(.*\.\w{2,5})[,;|]([-0-9.,]+)")
"""A path with an ending and its values, divided by another sign than a tab."""
_ANSWERS = frozenset(("true", "false", "yes", "no", "nan", "none", "null", ""))
"""Words that stand for a label, as numbers do."""


class Line(NamedTuple):
    """A line of a list."""

    number: int
    """From 1."""
    path: str
    values: str
    weight: str = ""


def parse(text: str, number: int, file: Path, encoding: str) -> Line | DatasetFault:
    """The columns of line `number` of the list `file`, or its fault.

    `encoding` is the one that the file was read in, as of `lines`.
    """
    path, _, values = text.partition("\t")
    if number > 1 and path and values and "\t" not in values and "\0" not in text:
        return Line(number, path, values)  # nearly all lines: first, and without a list
    columns = text.split("\t")
    if "\0" in text:
        what = "the line has a NUL character, which no list has"
        fix = "remove the character, or write the list again"
        return DatasetFault("malformed line", f"{file.name}:{number}", what, fix)
    if number == 1 and (fault := _find_header(text, file, encoding)):
        return fault
    if len(columns) == 2 and columns[0]:
        return Line(number, *columns)
    if len(columns) == 3 and columns[0] and _VALUES.fullmatch(columns[1]):
        return Line(number, *columns)
    what, fix = "the line has no tab between path and values", LAYOUT
    if not text.strip():
        what, fix = "the line is empty", "remove the line"
    elif text.startswith("#") and len(columns) == 1:
        what, fix = "the line is a comment, which no list has", "remove the line"
    elif len(columns) > 2:
        what, cells = (
            f"the line has {len(columns) - 1} tabs",
            [text.strip() for text in columns[1:]],
        )
        is_value = columns[1].strip() in ("0", "1", "-1")  # of one class, beside unknown ones
        if columns[0] and not any(columns[2:]) and columns[1] and not is_value:
            fix = "remove the tabs at the end of the line"
        elif {"0", "1"} & {*cells} and {*cells} <= {"", "0", "1", "-1"}:
            fix = f"write commas between the values: {shorten(columns[0])}<tab>"
            fix += shorten(",".join(cells))
    elif "\t" not in text and (match := _NO_TAB.fullmatch(text)):
        fix = f"put ONE tab there: {shorten(match[1])}<tab>{shorten(match[2])}"
    elif "\t" not in text and (repaired := _put_tabs(text)):
        what, fix = "path and values are separated by spaces", repaired
    return DatasetFault("malformed line", f"{file.name}:{number}", what, fix)


def _find_header(text: str, file: Path, encoding: str) -> DatasetFault | None:
    """The fault of a first line that names columns: its first field is no image, and none of the
    others is a number."""
    path, *fields = text.split("\t") if "\t" in text else re.split("[ ,;]+", text.strip())
    words = [word.strip().lower() for field in fields for word in field.split(",")]
    labels = [word for word in words if word not in _ANSWERS]
    is_image = re.search(r"[/\\]|\.\w{2,5}\s*$", path) or os.path.isfile(file.parent / path)
    if not path or not labels or is_image or any(map(_is_number, words)):
        return None
    fix = "remove the line"
    if encoding != UTF16 and not systems.IS_WINDOWS:  # sed would leave half a letter
        fix += f" (sed -i.bak 1d {systems.quote(str(file))})"
    shown = shorten(text.replace("\t", "<tab>"))
    what = f"the line looks like a header: {shown}"
    fix += f": a list has no header ({LAYOUT})"
    return DatasetFault("header", f"{file.name}:1", what, fix)


def _is_number(word: str) -> bool:
    """Whether a word of a line may be a value, or a line of ids."""
    try:
        float(word.rstrip("%"))
    except ValueError:
        return word.startswith("@") or (word != "" and not re.search(r"[^\W\d_]", word))
    return True


def _are_cells(word: str) -> bool:
    return bool(_CELLS.fullmatch(word) and _SURE_CELL.search(word))


def _put_tabs(text: str) -> str:
    """The repair of a line whose columns are separated by spaces; "" where it has no values."""
    words = text.split(" ")
    at = len(words)
    while at > 1 and (not (word := words[at - 1]) or _are_cells(word)):
        at -= 1
    path, values = " ".join(words[:at]).rstrip(), [word for word in words[at:] if word]
    if not values or not path:
        return ""
    *head, last = values
    shown, weight = shorten(path), target_lines.read_weight(last)
    if len(values) > 1 and {*values} <= {"0", "1", "-1"}:
        return f"put ONE tab there, and commas: {shown}<tab>{shorten(','.join(values))}"
    is_vector = head and "," in "".join(head) + "," * head[0].startswith("@")
    if is_vector and weight and not head[-1].endswith(","):
        before = f"{shown}<tab>{shorten(''.join(head))}<tab>"
        return f"put ONE tab there, and one before the weight of the image: {before}{weight}"
    return f"put ONE tab there: {shown}<tab>..."
