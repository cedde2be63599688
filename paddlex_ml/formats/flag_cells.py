# SPDX-License-Identifier: Apache-2.0
"""Cells of the columns of a table that have one class each: yes, no, unknown or no value."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

TRUE = frozenset(
    (
        *("1", "true", "yes", "y", "t", "x", "✓", "✔", "√", "是", "有"),
        *("ja", "wahr", "oui", "vrai", "si", "sí", "sì"),
    )
)
BLANK = frozenset(("", "na", "n/a", "#n/a", "<na>", "nan", "null", "none"))
"""Cells without a value: empty, or as R, pandas and workbooks write it."""
FALSE = BLANK | frozenset(
    (
        *("0", "-1", "false", "no", "n", "f", "×", "✗", "✘", "否", "无"),
        *("nein", "falsch", "non", "faux"),
    )
)
MINUS = frozenset(("-1",))
KINDS = 20
"""Different cells: a column with more is not one of a class with some wrong cells."""


@lru_cache(maxsize=1000)
def fold(cell: str) -> str:
    """A cell as `TRUE`, `BLANK`, `FALSE` and `MINUS` have it: no capitals; 1.00 and 1e+00 are 1."""
    number = to_number(cell)
    return str(int(number)) if number in (0, 1, -1) else cell.casefold()


def is_flag(values: set[str]) -> bool:
    """Whether cells say yes or no, and not only nothing."""
    filled = {fold(value) for value in values} - BLANK
    return 0 < len(filled) <= KINDS and filled <= TRUE | FALSE


def is_blank(values: set[str]) -> bool:
    """Whether no cell has a value."""
    return all(fold(value) in BLANK for value in values)


def matcher(value: str) -> Callable[[str], bool]:
    """A test whether a cell has a value: capitals do not count, and 1 is 1.0."""
    wanted, number = value.casefold(), to_number(value)

    def matches(cell: str) -> bool:
        return cell.casefold() == wanted or (number is not None and to_number(cell) == number)

    return matches


def to_number(text: str) -> float | None:
    """The number of a cell; None where it is none."""
    try:
        return float(text)
    except ValueError:
        return None
