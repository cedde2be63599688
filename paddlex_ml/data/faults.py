# SPDX-License-Identifier: Apache-2.0
"""Faults of a data set: found one by one, reported to the user in one error."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paddlex_ml.errors import Lines, PaddlexMLError
from paddlex_ml.safe_text import one_line
from paddlex_ml.storage import csv_text
from paddlex_ml.wording import count, first_names

SHOWN = 20  # of each kind: enough to see the pattern, few enough to read


@dataclass(frozen=True)
class DatasetFault:
    """One thing to repair. `where` is relative to the data set: "train.txt:7"; "" is the folder."""

    kind: str
    where: str
    text: str
    fix: str


COLUMNS = ("file", "line", "kind", "what", "repair")
"""Of the table of all faults."""


def combine(faults: Sequence[DatasetFault], root: Path) -> PaddlexMLError:
    """Make one error of at least one fault: grouped by kind, with counts and the first `SHOWN`.

    All of them are in its `rows`. What repairs all alike is the repair of the error.
    """
    rows = [row for fault in faults for row in _list_rows(fault)]
    if len(faults) == 1:
        only = faults[0]
        is_key = only.where.startswith("CheckDataset.")  # no file: the fault is of an option
        where = only.where if is_key else str(root / only.where)
        return PaddlexMLError(only.text, where=where, fix=only.fix, rows=rows)
    groups: dict[str, list[DatasetFault]] = {}
    for fault in faults:
        groups.setdefault(fault.kind, []).append(fault)
    kinds = "1 kind" if len(groups) == 1 else f"{len(groups)} kinds"
    counts = first_names([f"{kind} ({len(group):,})" for kind, group in groups.items()])
    lines = [f"the data set has {count(len(faults), 'fault')} of {kinds}: {counts}"]
    first, *other_fixes = dict.fromkeys(fault.fix for fault in faults)
    for kind, group in groups.items():
        shown = group[:SHOWN]
        lines.append(f"\n  {kind}: {len(group):,}")
        lines += [
            f"    {one_line(fault.where) or 'folder'}: {one_line(fault.text)}" for fault in shown
        ]
        if len(group) > SHOWN:
            lines.append(f"    ... and {len(group) - SHOWN:,} more")
        fixes = dict.fromkeys(each.fix for each in shown) if other_fixes else ()
        lines += [f"    fix: {one_line(fix)}" for fix in fixes]
    return PaddlexMLError(
        Lines("\n".join([*lines, ""])),
        where=str(root),
        fix="repair each kind as its fix line says, then run the command again"
        if other_fixes
        else one_line(first),
        rows=rows,
    )


def format_csv(rows: Sequence[tuple[str, ...]]) -> str:
    """The table of all faults, `rows` of an error, as CSV."""
    return csv_text.write([COLUMNS, *rows])


def _list_rows(fault: DatasetFault) -> list[tuple[str, ...]]:
    """One row for each line that has the fault: "train.txt:7, val.txt:3" are two."""
    places = re.findall(r"(?:\A|, )(.*?):(\d+)(?=, |\Z)", fault.where) or [(fault.where, "")]
    return [(file, line, fault.kind, fault.text, fault.fix) for file, line in places]
