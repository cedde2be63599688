# SPDX-License-Identifier: Apache-2.0
"""Cells of a table with names of labels -> the names: lists, and separators with their evidence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from paddlex_ml.formats.overrides import write_override
from paddlex_ml.wording import count

SURE = ("|", "｜", ";", "；", "、", "\t", "\n", "\u3000")
"""Separators that names do not have in them."""
COMMAS = (",", "，")
SIGNS = ("/", "+", "&", "＆")
UNSURE = (*COMMAS, *SIGNS, " ")
"""Separators that names may have in them: Paris, France; R&B/Soul; C++; red car."""
_JOINTS = (" ", *COMMAS, *SIGNS, "_", "-", "和", "与", " and ")  # of names put together
_FEW = 10  # names: too few to tell from them alone
_WORDS = {"\t": "a tab", "\n": "a line end", " ": "a space", "\u3000": "a wide space"}
_SPELT = {"space": " ", "tab": "\t"}  # how an option may name what is hard to write
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_STRING = r"""[uU]?(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")"""
_WORD = r"""[^\s,'"\[\]{}()][^\s,\[\]{}()]*(?:\s+[^\s,\[\]{}()]+)*"""
_ITEM = re.compile(rf"""\s*(?:{_STRING}(?:\s*(?:,|\Z)|\s+)|({_WORD})\s*(?:,|\Z))\s*""")
_HOT = re.compile(r"[\[({]?\s*[01](?:\.0*)?(?:[\s,;|]+[01](?:\.0*)?)+\s*[\])}]?")
_HOT_VALUE = re.compile(r"[01](?:\.0*)?")
_PLUS = re.compile(r"(?:(?<=[^+])|(?<=\+\+))\+(?=[^+])")  # a+b and C+++b, not C++
_BRACKETS = {"[": "]", "{": "}", "(": ")"}
_NOTHING = {"none", "null", "nan"}
_EMPTY_LISTS = {"()", "set()", "frozenset()"}
_NO_LABEL = {*_NOTHING, "<na>", "#n/a", "n/a", "-", "--"}  # cells that programs write for nothing


class Doubt(NamedTuple):
    """A separator that the cells do not decide about."""

    cell: str
    text: str
    fix: str


@dataclass
class CellReader:
    """Divides cells into names, each different cell once."""

    separators: tuple[str, ...] = ()
    whole: frozenset[str] = frozenset()
    """Names that are not divided."""
    one_hot: tuple[str, ...] = ()
    """The classes of cells that have 0 or 1 for each of them."""
    _known: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def read(self, cell: str) -> tuple[str, ...]:
        """The names of a cell, without spaces around them; none for an empty cell."""
        names = self._known.get(cell)
        if names is None:
            found = parse_list(cell)
            if self._is_nothing(cell):
                found = []
            elif self.one_hot:
                values = map(float, _HOT_VALUE.findall(cell))
                found = [name for name, value in zip(self.one_hot, values, strict=False) if value]
            if found is None:
                found = list(cut(cell, self.separators, self.whole))
            names = self._known[cell] = tuple(dict.fromkeys(found))
        return names

    def _is_nothing(self, cell: str) -> bool:
        return cell.casefold() in _NO_LABEL and cell not in self.whole


def parse_list(cell: str) -> list[str] | None:
    """The items of a list as JSON, Python, NumPy or PostgreSQL write it; None for other text.

    `["a", "b"]`, `['a', "b's"]`, `('a',)`, `['a' 'b']`, `[a, b]`, `{a,"b c"}`, `[1, 2]`, `[]`.
    """
    if cell in _EMPTY_LISTS:
        return []
    if len(cell) < 2 or _BRACKETS.get(cell[0]) != cell[-1]:
        return None
    inner = cell[1:-1].strip()
    if not inner:
        return []
    if cell[0] == "(" and inner[0] not in "'\"":
        return None  # a remark in brackets
    if cell[0] == "[":
        try:
            items = msgspec.json.decode(cell, type=list[str | int | float | bool | None])
            return [str(item).strip() for item in items if item not in (None, "")]
        except msgspec.DecodeError:
            pass
    names, at = [], 0
    while at < len(inner):
        item = _ITEM.match(inner, at)
        if item is None or item.end() == at:
            return None
        single, double, bare = item.groups()
        quoted = single if single is not None else double
        if quoted is not None:
            names.append(re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), quoted).strip())
        elif bare.casefold() not in _NOTHING:
            names.append(bare.strip())
        at = item.end()
    return [name for name in names if name]


def cut(cell: str, separators: Collection[str], whole: Collection[str] = ()) -> Iterator[str]:
    """Divide a cell at every separator, but for the parts that are in `whole`."""
    cell = cell.strip()
    if not cell:
        return
    present = [separator for separator in separators if separator in cell]
    if not present or cell in whole:
        yield cell
        return
    for part in _divide(cell, present[0]):
        yield from cut(part, present[1:], whole)


def _divide(text: str, sign: str) -> list[str]:
    return _PLUS.split(text) if sign == "+" else text.split(sign)


def choose_reader(
    cells: Collection[str], given: str | None, class_names: Collection[str], many: bool
) -> tuple[CellReader, str, Doubt | None]:
    """Choose how to divide different cells into names: the reader, a note, and a doubt.

    `given` is what the user chose: a text, or several of the signs below, which each separate (a
    space only as the first of them, where it may be written "space"). `class_names` are known
    names, and `many` tells whether the column is named as one of several labels ("tags").

    - A bar, semicolon, enumeration comma, tab or line end always separates.
    - A comma, slash, plus or space separates when names become at most half as many (fewer, in a
      column of several labels), and three of four parts are in several cells; or when every part
      is also a name by itself. All but a space also do when half of the parts are in several
      cells, a comma or a space between whole numbers, and a space in a column of several labels
      when one cell has all words of another and more.
    - Else it is a part of names. In doubt where no other separates: less than ten names and half of
      the parts are in several cells (any part, in a column of several labels), where names would
      not become more although three of four parts are in several cells, and for a comma, slash or
      plus also where a quarter is.
    """
    whole = frozenset(class_names)
    if given is None and (size := _count_flags(cells)):
        return _read_flags(cells, size, class_names)
    nothing = {cell for cell in cells if cell.casefold() in _NO_LABEL} - whole
    plain = {cell for cell in cells if cell and parse_list(cell) is None} - nothing
    if given is not None:
        kept = frozenset(name for name in whole if name.casefold() in _NO_LABEL)
        return CellReader(parse_signs(given), kept), _describe((), (), (), nothing), None
    found = [sign for sign in SURE if any(sign in cell for cell in plain)]
    names = _cut_all(plain, found, whole)
    doubt = None
    for sign in UNSURE:
        evidence = _Evidence.find(names, sign, whole)
        if evidence is None:
            continue
        if evidence.separates(many):
            found.append(sign)
            names = _cut_all(names, [sign], whole)
        elif doubt is None and evidence.is_doubtful(many, first=not found):
            doubt = evidence.explain(found)
    note = _describe(found, names, plain, nothing)
    return CellReader(tuple(found), whole), note, _find_broken_list(plain, cells) or doubt


def _read_flags(
    cells: Collection[str], size: int, class_names: Collection[str]
) -> tuple[CellReader, str, Doubt | None]:
    text = f"{max(cells)!r} has 0 or 1 for each of {count(size, 'class', 'classes')}"
    fix = f"write their {count(size, 'name')} into classes.txt in the data set folder, one a line"
    doubt = Doubt(max(cells), text, fix) if size != len(class_names) else None
    return CellReader(one_hot=tuple(class_names)), f"{text}: those of classes.txt", doubt


def _describe(
    found: Sequence[str], names: Collection[str], plain: Collection[str], nothing: Collection[str]
) -> str:
    """The note on what separates names, how many these are, and which cells are no label."""
    notes = []
    if nothing:
        shown = ", ".join(map(repr, sorted(nothing)))
        notes.append(f"cells {shown} are no label (as a class it must be in classes.txt)")
    if plain:
        how = "each cell is one name"
        if found:
            how = f"label names are separated by {join_signs(found)}"
        note = f"{how}: {count(len(names), 'name')}"
        if found:
            note += f" ({len(plain):,} if each cell were one name)"
        notes.append(f"{note}; to choose: {_propose(found)}")
    return "; ".join(notes)


def _count_flags(cells: Collection[str]) -> int:
    """How many values, 0 or 1, every cell has; 0 where they may be numbers of classes."""
    filled = [cell for cell in cells if cell]
    if not all(map(_HOT.fullmatch, filled)):
        return 0
    rows = [_HOT_VALUE.findall(cell) for cell in filled]
    sizes = set(map(len, rows))
    repeats = any(len(set(row)) < len(row) for row in rows)
    return sizes.pop() if len(sizes) == 1 and repeats else 0


def parse_signs(given: str) -> tuple[str, ...]:
    """The separators of an option: each of its signs, or the whole of a text of other letters."""
    for word, sign in _SPELT.items():
        given = sign + given.removeprefix(word) if given.startswith(word) else given
    signs = given[:1] + given[1:].replace(" ", "")
    several = len({*signs} & {*SURE, *UNSURE}) == len(signs)
    return tuple(sign for sign in (*SURE, *UNSURE) if sign in signs) if several else (given,)


@dataclass
class _Evidence:
    """What cutting at one separator would do with the names."""

    sign: str
    names: set[str]
    parts_of: dict[str, list[str]]
    whole: Collection[str]

    @classmethod
    def find(cls, names: set[str], sign: str, whole: Collection[str]) -> _Evidence | None:
        """None where no name can be cut."""
        parts_of = {}
        for name in names:
            if sign not in name or name in whole:
                continue
            parts = [part.strip() for part in _divide(name, sign)]
            if len(parts) == 1:
                continue
            if sign in SIGNS and not all(parts):
                return None  # the sign begins or ends a name
            if filled := [part for part in parts if part]:
                parts_of[name] = filled
        return cls(sign, names, parts_of, whole) if parts_of else None

    def __post_init__(self) -> None:
        alone = {*(self.names - self.parts_of.keys()), *self.whole}
        cells = Counter(part for parts in self.parts_of.values() for part in set(parts))
        self.parts = set(cells)
        self.shared = sum(part in alone or count > 1 for part, count in cells.items())
        self.all_alone = self.parts <= alone
        self.after = len((self.names - self.parts_of.keys()) | self.parts)

    def separates(self, many: bool) -> bool:
        """Whether the names show beyond doubt that the sign separates."""
        is_comma = self.sign in COMMAS
        if self.sign not in SIGNS and all(part.isdecimal() for part in self.parts):
            return True
        if self.all_alone and (is_comma or len(self.parts_of) > 1):
            return True
        fewer = self.after < len(self.names) if many else 2 * self.after <= len(self.names)
        if fewer and self._most_are_shared():
            return True
        if self.sign != " ":
            return 2 * self.shared >= len(self.parts)
        return many and self._has_nested()

    def is_doubtful(self, many: bool, first: bool) -> bool:
        """Whether the sign may separate all the same; `first`: no other sign separates."""
        names, parts = len(self.names), len(self.parts)
        if self.after <= names and self._most_are_shared():
            return True
        if self.sign != " " and 4 * self.shared >= parts:
            return True
        if names >= _FEW or not first:
            return False
        return 2 * self.shared >= parts or (many and (self.shared > 0 or self.sign in COMMAS))

    def explain(self, found: Sequence[str]) -> Doubt:
        """The question to the user; `found` are the separators that are not in doubt."""
        shown = min(self.parts_of)
        text = (
            f"{shown!r} may be one name or {len(self.parts_of[shown])}: cut at "
            f"{join_signs([self.sign])} there are {count(self.after, 'name')}, else "
            f"{len(self.names):,}"
        )
        cut_it = _propose([*found, self.sign])
        fix = f"{cut_it} to cut, or {_propose(found)} to keep it whole"
        return Doubt(shown, text, fix)

    def _most_are_shared(self) -> bool:
        return 4 * self.shared >= 3 * len(self.parts)

    def _has_nested(self) -> bool:
        """Whether one name has all words of another, which has several, and more."""
        sets = sorted({frozenset(parts) for parts in self.parts_of.values()}, key=len)[:1000]
        return any(
            1 < len(first) < len(second) and first < second
            for i, first in enumerate(sets)
            for second in sets[i + 1 :]
        )


def _find_broken_list(plain: Collection[str], cells: Collection[str]) -> Doubt | None:
    """A cell that begins like a list but is none."""
    lists = len(plain) < len({*cells} - {""})
    for cell in sorted(plain):
        if cell[0] in "[{" and (lists or re.search("['\"]", cell)):
            text = f"{cell[:60]!r} is not a list of names"
            return Doubt(cell, text, "write it like ['cat', 'dog'], or choose other label_columns")
    return None


def find_combinations(names: Iterable[str]) -> dict[str, str]:
    """Names that are put together from other names, "cat dog" where there are cat and dog, and
    the text between these."""
    known = set(names)
    found = {}
    for name in sorted(known):
        for joint in _JOINTS:
            parts = {part.strip() for part in name.split(joint)} if joint in name else set()
            if len(parts) > 1 and parts <= known:
                found[name] = joint
    return found


def _propose(signs: Collection[str]) -> str:
    """The option that chooses these separators; "|", which no cell has, for none of them."""
    kept = set(signs) - {"\n"}
    text = "".join(sorted(kept, key=lambda sign: (sign not in _SPELT.values(), sign)))
    for word, sign in _SPELT.items():
        text = text.replace(sign, word)
    return write_override("convert.separator", text or "|")


def join_signs(signs: Iterable[str]) -> str:
    """Separators in words: "a tab and ;"."""
    return " and ".join(_WORDS.get(sign, sign) for sign in signs)


def _cut_all(names: Iterable[str], signs: Collection[str], whole: Collection[str]) -> set[str]:
    return {part for name in names for part in cut(name, signs, whole)}
