# SPDX-License-Identifier: Apache-2.0
"""The columns of a table -> which has the images, which have labels, which divides into subsets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from paddlex_ml.data.image_finder import Guess, ImageFinder
from paddlex_ml.data.walk import is_image
from paddlex_ml.formats import image_folder
from paddlex_ml.formats.collector import Collector
from paddlex_ml.formats.column_names import (
    IMAGE_WORDS,
    OTHER_FLAGS,
    OTHER_WORDS,
    WEIGHTS,
    is_label_word,
    simplify,
)
from paddlex_ml.formats.flag_cells import (
    BLANK,
    FALSE,
    KINDS,
    TRUE,
    fold,
    is_blank,
    is_flag,
    matcher,
    to_number,
)
from paddlex_ml.formats.overrides import write_override
from paddlex_ml.formats.subsets import parse_subset
from paddlex_ml.formats.table_files import Table
from paddlex_ml.wording import first_names

_SAMPLE = 100  # cells of a column that are looked for among the images
SUBSET_COLUMNS = ("split", "set", "subset", "partition", "fold", "phase")
_SUBSET_FLAGS = {  # name of a column -> what its true and false mean
    **dict.fromkeys(("is_valid", "isvalid", "is_val", "is_validation"), ("val", "train")),
    **dict.fromkeys(("is_train", "is_training", "istrain"), ("train", "val")),
    **dict.fromkeys(("is_test", "istest"), ("test", "")),
}
_FOLDERS = "-o CheckDataset.convert.src_dataset_type=ImageFolder"
_SUBSET_WORDS = {"training": "train", "testing": "test"}


@dataclass
class Roles:
    """What the columns of a table are for."""

    image: int
    flags: dict[int, str] = field(default_factory=dict)
    """Columns of one class -> the class."""
    names: list[int] = field(default_factory=list)
    """Columns with names of labels."""
    subset: int | None = None
    subset_of: dict[str, str] = field(default_factory=dict)
    """Cell of the subset column -> train, val or test; "" for a word that is neither."""
    ignored: dict[str, str] = field(default_factory=dict)
    """Name of a column -> why it has no part."""

    def describe(self, columns: Sequence[str]) -> list[str]:
        """Notes on what was found."""
        labels = [columns[i] for i in (*self.names, *self.flags)]
        word = "column" if len(labels) == 1 else "columns"
        notes = [
            f"images are in the column {columns[self.image]!r}, "
            f"labels in the {word} {first_names(labels, 10)}"
        ]
        if self.subset is not None:
            notes[0] += f"; the column {columns[self.subset]!r} divides the images"
        if self.ignored:
            shown = first_names([f"{name} ({why})" for name, why in self.ignored.items()], 20)
            option = write_override("convert.label_columns", labels[:2])
            notes.append(f"columns that are not used: {shown}; to choose: {option}")
        return notes


class ColumnChooser:
    """Chooses the columns of one table by the user's options, else by names and cells."""

    def __init__(
        self,
        collector: Collector,
        table: Table,
        values: Mapping[str, set[str]],
        folders: Sequence[str],
        divides: bool,
    ) -> None:
        self._collector = collector
        self._options = collector.options
        self._table = table
        self._columns = table.columns
        self._values = [values[key] for key in table.keys]
        self._folders = folders
        self._divides = divides
        self._roles = Roles(0)

    def choose(self) -> Roles | None:
        """Choose; None where that is a fault."""
        before = len(self._collector.faults)
        self._choose_image()
        self._check_names()
        if len(self._collector.faults) == before:
            self._choose_subset()
            self._choose_labels()
        return self._roles if len(self._collector.faults) == before else None

    def _fault(self, text: str, fix: str, kind: str = "wrong columns") -> None:
        where = self._table.locate(self._table.header)
        self._collector.add_fault(kind, where, text, fix)

    def _check_names(self) -> None:
        filled = [name for i, name in enumerate(self._columns) if name and i != self._roles.image]
        for name in sorted({name for name in filled if filled.count(name) > 1}):
            text = f"the column {name!r} is there twice"
            self._fault(text, "give every column a different name")
        for i, name in enumerate(self._columns):
            if name or not self._values[i] - {""}:
                continue
            if not all(map(_is_number, self._values[i])):
                fix = "name every column, or remove the empty ones"
                self._fault(f"column {i + 1} has no name", fix)
        if len(self._columns) == 1:
            fix = "write a column with names of labels, or one for each class"
            self._fault("the table has only one column", fix)

    def _find_named(self, name: str, key: str) -> int | None:
        """Number of the column that an option names; an unknown name is a fault."""
        image = self._roles.image if key.endswith("s") else None
        for i, column in enumerate(self._columns):
            if column == name and i != image:
                return i
        folded = {column.casefold(): column for column in reversed(self._columns) if column}
        near = get_close_matches(name.casefold(), folded, n=1, cutoff=0)
        fix = "name a column of the table"
        if near:
            value = folded[near[0]]
            fix = write_override(key, [value] if key.endswith("s") else value)
        shown = first_names([column for column in self._columns if column], 20)
        self._fault(f"there is no column {name!r}; the columns are {shown}", fix)
        return None

    # Images

    def _choose_image(self) -> None:
        if self._options.image_column is not None:
            found = self._find_named(self._options.image_column, "convert.image_column")
            self._roles.image = found or 0
            return
        best = rank_image_columns(self._table, self._collector.finder, self._folders)
        self._roles.image = best[0]
        if len(best) > 1:
            names = [self._columns[i] for i in best]
            text = f"several columns name images: {first_names(names)}"
            fix = " or ".join(write_override("convert.image_column", name) for name in names)
            self._fault(text, fix)

    # Subsets

    def _choose_subset(self) -> None:
        chosen = set(self._options.label_columns or ())
        found: dict[int, dict[str, str]] = {}
        for i, name in enumerate(self._columns):
            if i == self._roles.image or name in chosen:
                continue
            if words := self._read_subsets(i):
                found[i] = words
        if not self._divides:
            why = "the tables divide the images"
            self._roles.ignored.update((self._columns[i], why) for i in found)
            return
        if len(found) > 1:
            names = " and ".join(self._columns[i] for i in found)
            self._fault(
                f"the columns {names} both divide the rows into train and val", "remove one"
            )
        for i, words in found.items():
            self._roles.subset, self._roles.subset_of = i, words

    def _read_subsets(self, column: int) -> dict[str, str]:
        """Subset of each cell of a column that divides; {} for other columns."""
        values, name = self._values[column], simplify(self._columns[column])
        if not 0 < len(values) <= KINDS:
            return {}
        if name in _SUBSET_FLAGS and is_flag(values):
            true, false = _SUBSET_FLAGS[name]
            words = {value: true if fold(value) in TRUE else false for value in values}
            return words | {value: "" for value in values if value and is_blank({value})}
        words = {
            value: parse_subset(value) or _SUBSET_WORDS.get(value.strip().casefold(), "")
            for value in values
        }
        known = sum(map(bool, words.values()))
        named = name in SUBSET_COLUMNS or name.endswith(("_split", "_subset"))
        if (named and known) or (known == len(values) > 1):
            return words
        is_split = self._divides and name in ("split", "set", "subset", "partition")
        if is_split and is_flag(values - {"2"}):
            text = f"the column {self._columns[column]} has {first_names(sorted(values))}"
            self._fault(
                f"{text}: it may be a class, or divide the images",
                "write train and val in it, or choose the columns with labels: "
                + self._propose([i for i in self._rest() if i != column]),
            )
        return {}

    # Labels

    def _rest(self) -> list[int]:
        """Columns that may have labels."""
        taken = (self._roles.image, self._roles.subset)
        return [
            i
            for i, name in enumerate(self._columns)
            if i not in taken and name and name not in self._roles.ignored
        ]

    def _propose(self, columns: Sequence[int]) -> str:
        return write_override("convert.label_columns", [self._columns[i] for i in columns])

    def _choose_labels(self) -> None:
        roles, rest = self._roles, self._rest()
        if self._options.label_columns is not None:
            key = "convert.label_columns"
            found = [self._find_named(name, key) for name in self._options.label_columns]
            chosen = [i for i in found if i is not None]
        elif self._options.label_value is not None:
            chosen = [i for i in rest if self._shows(i)]
            if not chosen:
                text = f"no column has the value {self._options.label_value!r}"
                every = sorted(set().union(*(self._values[i] for i in rest)) - {""})
                choices = (write_override("convert.label_value", value) for value in every[:3])
                fix = " or ".join(choices) or "fill the columns with labels"
                self._fault(f"{text}; there are {first_names(every)}", fix)
        else:
            chosen = self._find_labels(rest)
        flags = [i for i in chosen if is_flag(self._values[i])]
        for i in chosen:
            is_class = i in flags or (flags and self._is_broken_flag(i))
            is_empty = bool(flags) and is_blank(self._values[i])
            if self._options.label_value is not None or is_class or is_empty:
                roles.flags[i] = self._columns[i]
            else:
                roles.names.append(i)
        if chosen:
            left = (i for i in range(len(self._columns)) if i not in (*chosen, roles.image))
            for i in left:
                if i != roles.subset:
                    name = self._columns[i] or f"column {i + 1}"
                    roles.ignored.setdefault(name, self._describe(i))
        if roles.flags:
            self._check_flags()

    def _shows(self, column: int) -> bool:
        value = self._options.label_value
        return value is not None and any(map(matcher(value), self._values[column]))

    def _is_broken_flag(self, column: int) -> bool:
        """Whether half of the cells that are not empty are 0 or 1, but others are not."""
        values = self._values[column]
        if len(values) > KINDS or not is_flag({v for v in values if fold(v) in TRUE | FALSE}):
            return False
        cells = [fold(row.cells[column]) for row in self._table.rows]
        filled = [cell for cell in cells if cell not in BLANK]
        return 2 * sum(cell in TRUE | FALSE for cell in filled) >= len(filled)

    def _find_labels(self, rest: list[int]) -> list[int]:
        """Columns with labels by their names and cells; a doubt is a fault, and returns none."""
        other = [i for i in rest if not self._is_other(i)]
        empty = [i for i in other if is_blank(self._values[i])]
        flags = [i for i in other if i not in empty and is_flag(self._values[i])]
        texts = [
            i
            for i in other
            if i not in (*empty, *flags) and not all(map(_is_number, self._values[i]))
        ]
        strong = [i for i in texts if is_label_word(self._columns[i])]
        if strong:
            same = {re.sub(r"[\W_]*[0-9]+", "", self._columns[i]) for i in strong}
            if absent := [i for i in flags if self._may_deny(i)]:
                return self._refuse_denied(absent[0], strong)
            flags = [i for i in flags if not self._is_named_as_other(i)]
            if flags:
                return self._ask([strong, flags, [*strong, *flags]])
            if len(same) > 1:
                return self._ask([*([i] for i in strong), strong])
            return strong
        broken = [i for i in other if i not in (*flags, *empty) and self._is_broken_flag(i)]
        if flags:
            doubtful = [i for i in texts if i not in broken and self._recurs(i)]
            if doubtful:
                return self._ask([flags, doubtful, [*flags, *doubtful]])
            blank = empty if any(is_blank({v}) for i in flags for v in self._values[i]) else []
            return sorted({*flags, *broken, *blank})
        ids = [i for i in other if is_label_word(self._columns[i]) and self._has_ids(i)]
        if ids and texts:
            texts = [i for i in texts if self._recurs(i)]
            return self._ask([ids, texts, [*ids, *texts]]) if texts else ids
        if len(texts) > 1:
            texts = [i for i in texts if self._recurs(i)] or texts
        if texts and (names := image_folder.find_classes(self._collector.inventory)):
            text = f"labels may be in {self._columns[texts[0]]!r}, or be the folders "
            fix = f"{self._propose(texts[:1])} or {_FOLDERS}"
            self._fault(text + first_names(names, 3), fix, "columns in doubt")
            return []
        if len(texts) == 1:
            return texts
        if texts:
            return self._ask([*([i] for i in texts), texts])
        return self._find_numbers([i for i in other if i not in empty], empty)

    def _find_numbers(self, numbers: list[int], empty: list[int]) -> list[int]:
        """Columns whose cells are ids of classes."""
        whole = list(filter(self._has_ids, numbers))
        named = [i for i in whole if is_label_word(self._columns[i])]
        found = named or whole
        if len(found) > 1:
            return self._ask([[i] for i in found])
        if not found and len(empty) == 1 and not numbers:
            return empty  # names of labels, of which there is none
        if not found:
            fix = "write a column with names of labels, or one for each class"
            if rest := self._rest():
                shown = first_names([self._columns[i] for i in rest], 20)
                fix += f"; or choose from {shown}: -o CheckDataset.convert.label_columns=[...]"
            if folders := image_folder.find_classes(self._collector.inventory):
                fix = f"{_FOLDERS} for the folders {first_names(folders, 3)}; or {fix}"
            self._fault("no column has labels", fix)
        return found

    def _has_ids(self, column: int) -> bool:
        filled = self._values[column] - {""}
        return bool(filled) and all(map(_is_id, filled))

    def _may_deny(self, column: int) -> bool:
        """Whether 0 in a column may mean that the label of its row is not there."""
        values = set(map(fold, self._values[column]))
        weighs = simplify(self._columns[column]).split("_")[-1] in WEIGHTS
        several = len(self._values[self._roles.image]) < len(self._table.rows)
        may = weighs or (several and not self._is_named_as_other(column))
        return may and bool(values & TRUE) and bool(values & (FALSE - BLANK))

    def _refuse_denied(self, column: int, strong: list[int]) -> list[int]:
        text = f"0 in {self._columns[column]!r} may mean that the label of the row is not there"
        fix = f"remove those rows, or let all rows count: {self._propose(strong)}"
        self._fault(text, fix, "columns in doubt")
        return []

    def _ask(self, choices: list[list[int]]) -> list[int]:
        """Refuse a table whose label columns are in doubt."""
        names = [self._columns[i] for i in choices[-1]] if choices else []
        text = f"it is not clear which columns have the labels: {first_names(names, 20)}"
        fixes = [self._propose(columns) for columns in choices[:4]]
        if choices and (values := self._shared_pair(choices[-1])):
            text += f"; all have {' and '.join(map(repr, values))}, of which one may say that an "
            text += "image shows the class"
            fixes = [*(write_override("convert.label_value", value) for value in values), *fixes]
        self._fault(text, " or ".join(fixes), "columns in doubt")
        return []

    def _shared_pair(self, columns: Sequence[int]) -> list[str]:
        """The one or two values that several columns have together, as words for yes and no."""
        filled = [self._values[i] - {""} for i in columns]
        every = set().union(*filled)
        is_shared = len(columns) > 1 and len(every) <= 2 and set.intersection(*filled)
        return sorted(every) if is_shared else []

    def _is_other(self, column: int) -> bool:
        """Whether the name of a column is that of no label."""
        name = simplify(self._columns[column])
        words = name.split("_")
        if is_flag(self._values[column]):
            return name in OTHER_FLAGS or (words[-1] in ("id", "age", "index") and len(words) > 1)
        return not is_label_word(name) and self._is_named_as_other(column)

    def _is_named_as_other(self, column: int) -> bool:
        words = simplify(self._columns[column]).split("_")
        return bool(OTHER_WORDS & {"_".join(words), words[-1]} or "follow" in words)

    def _recurs(self, column: int) -> bool:
        """Whether the cells of a column come again, as names do and texts do not."""
        return len(self._values[column]) <= max(KINDS, 0.9 * len(self._table.rows))

    def _describe(self, column: int) -> str:
        values = self._values[column] - {""}
        if not values:
            return "empty"
        if is_flag(values):
            return "0 and 1"
        return "numbers" if all(map(_is_number, values)) else "text"

    def _check_flags(self) -> None:
        if not self._table.has_header:
            fix = "write a line with the names of the columns above it: image,cat,dog"
            self._fault("the first line has data, and the classes of the columns no names", fix)


def rank_image_columns(table: Table, finder: ImageFinder, folders: Sequence[str]) -> list[int]:
    """The column whose cells are images; several where they name different images as well.

    By the share of cells that are images of the data set as written, then by a guess, then by
    their endings, then by the name of the column; else the first column.
    """
    scores: dict[int, tuple[float, float, float, bool, float, bool]] = {}
    for i, name in enumerate(table.columns):
        cells = [cell for cell in _sample(table, i) if cell]
        if not cells:
            continue
        size = len(cells)
        exact = sum(isinstance(finder.find(cell, folders), str) for cell in cells) / size
        named, guessed = simplify(name) in IMAGE_WORDS, 0.0
        if exact < 1:  # 7 is hardly 007.jpg in a column of epochs or ages
            guesses = (finder.guess(cell, folders, by_number=named) for cell in cells)
            guessed = sum(guess is not None for guess in guesses) / size
        ending = sum(map(is_image, cells)) / size
        if exact >= 0.5 or guessed >= 0.5 or ending >= 0.5 or named:
            found, several = round(max(exact, guessed), 1), round(len(set(cells)) / size, 1)
            scores[i] = (found, round(exact, 1), round(ending, 1), named, several, i == 0)
    if not scores:
        return [0]
    top = max(scores.values())
    best = max(scores, key=lambda i: scores[i])
    rivals = [
        i
        for i, score in scores.items()
        if score[:5] == top[:5] and not _name_same_images(table, i, best, finder, folders)
    ]
    return [best, *(i for i in rivals if i != best)]


def names_images(table: Table, finder: ImageFinder, folders: Sequence[str]) -> bool:
    """Whether half of the cells of a column are images of the data set, or have such endings."""
    column = rank_image_columns(table, finder, folders)[0]
    cells = [cell for cell in _sample(table, column) if cell]
    if not cells:
        return False
    if 2 * sum(map(is_image, cells)) >= len(cells):
        return True
    found = [finder.find(cell, folders) for cell in cells]
    exact = sum(isinstance(path, str) for path in found)
    named = simplify(table.columns[column]) in IMAGE_WORDS
    guesses = (finder.guess(cell, folders, by_number=named) for cell in cells)
    guessed = sum(guess is not None for guess in guesses)
    return 2 * max(exact, guessed) >= len(cells)


def _name_same_images(
    table: Table, first: int, second: int, finder: ImageFinder, folders: Sequence[str]
) -> bool:
    def locate(cell: str) -> object:
        found = finder.find(cell, folders)
        if isinstance(found, str):
            return found
        guess = finder.guess(cell, folders)
        return guess.path if isinstance(guess, Guess) else cell

    rows = table.rows[:_SAMPLE]
    return all(locate(row.cells[first]) == locate(row.cells[second]) for row in rows)


def _sample(table: Table, column: int) -> list[str]:
    step = max(1, len(table.rows) // _SAMPLE)
    return [row.cells[column] for row in table.rows[::step]]


def _is_number(text: str) -> bool:
    return not text or to_number(text) is not None


def _is_id(text: str) -> bool:
    return not text or text.isdecimal() or (text.endswith(".0") and text[:-2].isdecimal())
