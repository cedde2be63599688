# SPDX-License-Identifier: Apache-2.0
"""The text of label.txt, a class a line: `<id> <name>`, ids 0..C-1, each once."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from paddlex_ml.data import inventory
from paddlex_ml.data.faults import DatasetFault
from paddlex_ml.errors import PaddlexMLError

_UNFIT = re.compile("[\0-\x08\x0a-\x1f\x7f\ud800-\udfff]")
"""Control codes and halves of characters: not every file that holds a class name can hold them."""


def parse(
    texts: Sequence[str | None], name: str, is_read: bool
) -> tuple[list[str], list[DatasetFault]]:
    """Class names by id (by line where ids are wrong), and the faults of the file `name`.

    A line that is None, and a file that is not `is_read`, have a fault already.
    """
    faults: list[DatasetFault] = []
    entries: dict[int, tuple[int, str]] = {}  # id -> line number, name
    fix = 'write "<id> <name>", one class a line, ids from 0: "0 cat"'
    for number, text in enumerate(texts, 1):
        where = f"{name}:{number}"
        match = re.fullmatch(r"\s*([0-9]{1,9})\s+(\S.*)", text or "", re.DOTALL)
        if match is None:
            if text is not None:
                what = f"the line {text!r} is not a class id and a name"
                faults.append(DatasetFault("malformed line", where, what, fix))
            continue
        if code := _UNFIT.search(match[2].strip()):
            what = f"the class name {match[2].strip()!r} has the control code {code[0]!r}"
            faults.append(DatasetFault("class name", where, what, "write the name without it"))
            continue
        class_id = int(match[1])
        if class_id in entries:
            what = f"id {class_id} is already in line {entries[class_id][0]}"
            faults.append(DatasetFault("class ids", where, what, "number the classes 0, 1, 2, ..."))
        entries.setdefault(class_id, (number, match[2].strip()))
    if not texts and is_read:
        faults.append(DatasetFault("empty list", name, f"{name} names no class", fix))
    faults += _check_classes(entries, name)
    return [entries[i][1] for i in sorted(entries)], faults


def labels_text(names: Sequence[str]) -> str:
    """Content of label.txt. Raises PaddlexMLError for names that would be read back differently."""
    for name, count in Counter(names).items():
        if count > 1 or not name or name != name.strip() or _UNFIT.search(name):
            raise PaddlexMLError(
                f"the class name {name!r} cannot be written to label.txt: it is empty, is "
                "given twice, has a line end or control code, or has spaces around it",
                where=inventory.LABEL_FILE,
                fix="give every class a different name, without spaces around it",
            )
    return "".join(f"{i} {name}\n" for i, name in enumerate(names))


def _check_classes(entries: dict[int, tuple[int, str]], file: str) -> list[DatasetFault]:
    """Faults of ids with gaps and of names given twice; `entries`: id -> line number, name."""
    faults = []
    before = -1
    for class_id in sorted(entries):
        if class_id != before + 1:
            jump = f"jump from {before} to {class_id}" if before >= 0 else f"start at {class_id}"
            fix = "number the classes 0, 1, 2, ... in the order of the values in train.txt"
            where = f"{file}:{entries[class_id][0]}"
            faults.append(DatasetFault("class ids", where, f"the ids {jump}", fix))
        before = class_id
    first: dict[str, int] = {}
    for number, name in sorted(entries.values()):
        if first.setdefault(name, number) != number:
            text = f"the name {name!r} is already in line {first[name]}"
            fix = "give every class a different name"
            faults.append(DatasetFault("duplicate class name", f"{file}:{number}", text, fix))
    return faults
