# SPDX-License-Identifier: Apache-2.0
"""What one record of a format says of its image: labels of any kind -> names, numbers or values."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from paddlex_ml.formats.flag_cells import BLANK, FALSE, MINUS, TRUE, fold
from paddlex_ml.formats.table_cells import SURE, cut
from paddlex_ml.wording import count

Labels: TypeAlias = str | list[str] | list[int] | dict[str, Any]
"""A text, which may be several names; names; numbers of classes; or class -> 1, 0, -1 or None."""
DIGITS = 9
"""Of the number of a class."""
_NAME_KEYS = (
    *("name", "label", "displayName", "class", "class_name"),
    *("category", "category_id", "categories"),
)
OTHER_KEYS = ("unknown", "absent")
"""Where a record has classes that are no labels."""
_VALUES = (0, 1, -1)
_YES_NO = (
    *(["no", "yes"], ["false", "true"], ["0", "1"]),
    *(["absent", "present"], ["negative", "positive"]),
)
"""Names of two classes that are values of one: of 0 and 1."""
_LONGEST_LIST = 2**18  # letters of a list in a text: parsed, each takes a hundred times its bytes


class UnusableRecord(Exception):
    """Why a record cannot be used, in words for the user; `fix` where the format's is not right."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.fix = fix


def parse_labels(value: object) -> Labels:
    """Labels of any of the usual kinds: a name, a number, a list of these, objects with a name, or
    an object with a value for each class: 1, 0, -1 or none. Raises UnusableRecord for others."""
    if value is None:
        fix = "write [] where the image shows none of the classes, and leave out images that "
        raise UnusableRecord("there is no value for the labels (null)", f"{fix}nobody has labelled")
    if isinstance(value, str):
        text = value.strip()
        if not (text.startswith("[") and text.endswith("]")):
            return text
        if len(text) > _LONGEST_LIST:
            what = f"{len(text):,} letters, at most {_LONGEST_LIST:,} are read"
            raise UnusableRecord(f"a list of labels that is written as text has {what}")
        try:  # a list that was written as text: "['cat', 'dog']"
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return text
    if isinstance(value, int | float) and not isinstance(value, bool) and value % 1 == 0:
        if abs(value) >= 10**DIGITS:  # Python gives many of them one hash
            raise UnusableRecord(f"no class has the number {value!r:.40}")
        return [int(value)]
    if isinstance(value, dict):
        if key := next((key for key in _NAME_KEYS if key in value), ""):
            return _flatten([parse_labels(value[key])], value)
        if value and all(flag in (*_VALUES, None) for flag in value.values()):
            return value
    if isinstance(value, list):
        if all(isinstance(item, str) for item in value):
            return [item.strip() for item in value]
        if all(isinstance(item, int | float) for item in value):
            return [int(number) for item in value for number in parse_labels(item)]
        return _flatten([parse_labels(item) for item in value], value)
    raise UnusableRecord(f"the labels are not a list of names: {value!r:.40}")


def _flatten(parsed: Iterable[Labels], value: object) -> list[str] | list[int]:
    """Labels of several objects, each once: 0 and 1 for each class would come more than once."""
    flat: dict[str | int, None] = {}
    for labels in parsed:
        flat.update(dict.fromkeys(list_shown(labels)))
    names = [label for label in flat if isinstance(label, str)]
    if names and len(names) < len(flat):
        raise UnusableRecord(f"the labels are names and numbers: {value!r:.40}")
    return names or [label for label in flat if isinstance(label, int)]


def list_shown(labels: Labels) -> Sequence[str | int]:
    """The labels one by one; of values for each class, the classes with 1."""
    if isinstance(labels, dict):
        return [name.strip() for name, value in labels.items() if value == 1]
    return [labels] if isinstance(labels, str) else labels


def is_flag(value: object) -> bool:
    """Whether a value may say of a class that it is there, or not, or unknown."""
    return isinstance(value, int | float) and value in _VALUES


class ColumnValues(dict[str, Any]):
    """Values of several keys that the user chose. Only all records together tell what they are:
    where all have 0, 1, -1 or nothing, also as words (yes, no), each key is a class; else they have
    the labels together."""

    def find_flags(self) -> dict[str, int | None] | None:
        """1, 0, -1 or None for each key, also of yes and no; None where one is no class."""
        flags: dict[str, int | None] = {}
        for key, value in self.items():
            flag = _to_flag(value)
            if flag is not None and not is_flag(flag):
                return None
            flags[key] = None if flag is None else int(flag)
        return flags

    def join(self, divide: Callable[[str], Sequence[str]]) -> list[str] | list[int]:
        """The labels of all keys; `divide` makes names of a text. Raises UnusableRecord."""
        filled = {key: value for key, value in self.items() if not _is_nothing(value)}
        if not filled:
            parse_labels(None)
        named: dict[str, str] = {}
        numbered: dict[int, str] = {}
        for key, value in filled.items():
            parsed = parse_labels(value)
            labels = divide(parsed) if isinstance(parsed, str) else list_shown(parsed)
            named.update({label: key for label in labels if isinstance(label, str)})
            numbered.update({label: key for label in labels if isinstance(label, int)})
        if named and numbered:
            text, number = next(iter(named.items())), next(iter(numbered.items()))
            what = f"{text[1]!r} has names ({text[0]}), and {number[1]!r} numbers ({number[0]})"
            fix = "choose keys of one kind, or write names in all of them"
            raise UnusableRecord(f"{what}: both are chosen", fix)
        return list(named) or list(numbered)


def _is_nothing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _to_flag(value: Any) -> Any:
    """What a value says of a class: 1, 0, -1 or nothing; other values stay."""
    if not isinstance(value, str):
        return None if _is_nothing(value) else value
    cell = fold(value.strip())
    if cell not in TRUE | FALSE:
        return value
    return None if cell in BLANK else -1 if cell in MINUS else int(cell in TRUE)


def read_columns(
    record: Mapping[str, Any],
    columns: Sequence[str],
    names: Mapping[str, Sequence[str]] | None = None,
) -> Labels:
    """Labels of the keys that the user chose: of one the labels, of several `ColumnValues`.

    `names`: of the numbers of a key, by number. Raises UnusableRecord.
    """
    if missing := [key for key in columns if key not in record]:
        raise UnusableRecord(f"there is no key {missing[0]!r}; there are: {', '.join(record):.60}")
    values = [_name_ids(record, key, names or {}, len(columns) > 1) for key in columns]
    if len(columns) == 1:
        return parse_labels(values[0])
    return ColumnValues(zip(columns, values, strict=True))


def _name_ids(
    record: Mapping[str, Any], key: str, names: Mapping[str, Sequence[str]], is_of_several: bool
) -> object:
    """The value of a key, with names for its numbers; in `is_of_several` keys yes and no are 1 and
    0, whichever of them has the number 1."""
    value, own = record[key], names.get(key, ())
    if value is None or not own:
        return value
    said = [*map(str.casefold, own)]
    if is_of_several and said in _YES_NO:
        return value
    if is_of_several and said[::-1] in _YES_NO:
        return 1 - value if value in (0, 1) else value
    ids = parse_labels(value)
    if ids and all(isinstance(name, str) for name in list_shown(ids)):
        return value  # it has names already
    if isinstance(ids, dict) or any(type(i) is not int or not 0 <= i < len(own) for i in ids):
        classes = count(len(own), "class", "classes")
        raise UnusableRecord(f"{key!r} has the labels {value!r:.80}, of {classes}")
    return [own[int(i)] for i in ids]


def read_others(
    record: Mapping[str, Any], labels: Labels, chosen: Sequence[str] = ()
) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """The classes of the keys `unknown` and `absent` of a record, which are no labels; None: there
    is no `absent`. `chosen` are keys that have labels. Raises UnusableRecord where they say what
    cannot be."""
    unknown, absent = (_read_names(record, key, chosen) for key in OTHER_KEYS)
    if unknown is not None and absent is not None:
        fix = "keep `unknown` (all others are absent), or `absent` (all others are unknown)"
        raise UnusableRecord("the line has both `unknown` and `absent`", fix)
    check_others(labels, unknown or (), absent)
    return unknown or (), absent


def check_others(labels: Labels, unknown: Sequence[str], absent: Sequence[str] | None) -> None:
    """Raise UnusableRecord where a label is also a class of `unknown` or `absent`."""
    key = "unknown" if absent is None else "absent"
    if both := set(unknown or absent or ()).intersection(list_shown(labels)):
        name = min(map(str, both))
        fix = f"keep it in the labels where the image shows the class, else in `{key}`"
        raise UnusableRecord(f"{name!r} is a label of the image, and in `{key}`", fix)


def _read_names(
    record: Mapping[str, Any], key: str, chosen: Sequence[str]
) -> tuple[str, ...] | None:
    given = record.get(key) if key not in chosen else None
    if not isinstance(given, str | list | dict):
        return None
    labels = parse_labels(given)
    if isinstance(given, dict):
        raise UnusableRecord(f"`{key}` is not a list of class names: {given!r:.40}")
    names = list(cut(labels, SURE)) if isinstance(labels, str) else list_shown(labels)
    if any(not isinstance(name, str) for name in names):
        raise UnusableRecord(f"`{key}` is not a list of class names: {given!r:.40}")
    return tuple(map(str, names))
