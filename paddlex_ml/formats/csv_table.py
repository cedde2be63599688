# SPDX-License-Identifier: Apache-2.0
"""Tables of images and their labels (`src_dataset_type: CSV`): .csv, .tsv, .tab, .txt, .xlsx.

    image,cat,dog           image,labels          fname,tags,is_valid
    images/a.jpg,1,0        images/a.jpg,cat|dog  a.jpg,"['cat', 'dog']",False
    images/b.jpg,0,1        images/b.jpg,         b.jpg,[],True

- **Tables.** A table has a column whose cells are images of the data set. Where there are several,
  those named for train and val are read (`train.csv`, `val_labels.csv`, `train/_classes.csv` as
  Roboflow writes it); `test.csv` and a sample submission are not. Tables with the same columns
  and different images are read together. A workbook (.xlsx) needs `paddlex-ml[excel]`; each sheet
  is a table. Merged cells count for each row that they span. Sheets of one column beside those
  with tables are left out. Save an old .xls as .xlsx in Excel. A .txt file must have a first line
  with names of columns.
- **Titles.** Up to ten rows above a table are left out, which is told: rows with one cell, and any
  row above one that is a header beyond doubt. That one has a name such as `image` or `file` above a
  column of images; or as its first name, and alone has as many cells as all rows below.
- **First line.** It names the columns, which are separated by a tab, comma, semicolon or bar. A
  first line that names an image is data, and the columns are `column 1`, `column 2` and so on.
- **Images.** `CheckDataset.convert.image_column`, else the column most of whose cells are images:
  paths, names, or names without ending. Of numbers (000123, which a spreadsheet makes 123, and
  pandas 123.0) the value counts, if it is that of one image: beside 123.jpg and 000123.jpg, 123 is
  refused. One image may have several rows: their labels count together. Images are looked for in
  the folder of the table, in `images/`, in the folder of the list (`train/`), then anywhere in the
  data set.
- **Labels.** `CheckDataset.convert.label_columns`, else what is found. Columns with 1, 1.0, true,
  yes, y, t, x and 0, 0.0, -1, false, no, n, f, or nothing, have one class each, in the order of
  the columns; ja, wahr, oui, vrai, si and nein, falsch, non, faux mean the same. With
  `CheckDataset.convert.label_value` the cells with this value count as 1, all others as 0.
- **Unknown.** Where the columns have -1 beside 0 (or false, no, ...), -1 is unknown, as CheXpert
  writes what its authors were not certain about; `CheckDataset.convert.uncertain=positive` or
  `=negative` takes it for present or absent. An empty cell is unknown in a column that also has 0
  or -1, and in a column of nothing else beside such a one. Columns of 1 and -1, and of 1 and
  nothing, mean absent by these. NA, N/A, NaN, null and None are empty cells. Notes tell the counts.
- **Other columns.** A column of other text has names of labels, and counts before others when it is
  called label, tag, class or category. Numbers, boxes, ages and so on are no labels; the columns
  that are not used are told. Where the columns leave a doubt, the table is refused with the options
  to choose from.
- **Names in a cell.** Lists as Python or JSON write them; else names divided by
  `CheckDataset.convert.separator` (`space`, `tab`, `",;"`: each of these signs, `"space,"`: spaces
  too; other texts as a whole); else by every one of `|` `;` `、` tab and line end that occurs, and
  by `,` `，` `/` `+` and space where the cells show that these are not parts of names:
    - names become at most half as many (fewer, in a column of tags or labels), and three of four
      parts are in several different cells (the 449 combinations of the Planet set are 17 tags); or
    - every part is also a name by itself (`complex`, `scab`, `scab complex`); or
    - for `,` `，` `/` `+`: half of the parts are in several cells; for `,` and space: all parts are
      whole numbers; for space: in a column of tags or labels, one cell has all words of another
      and more.

  Names of `classes.txt` are never cut. A note tells the choice and the number of names each way. A
  doubt is an error with both options: no other sign separates and there are less than ten names, of
  whose parts half are in several cells (any part, in a column of tags or labels); cutting does not
  make more names, and three of four parts are in several cells; for `,` `，` `/`
  `+`, a quarter of the parts is.
- **Division.** A column `split`, `set`, `subset`, `partition`, `phase` or `fold` with words such as
  train and val, another column with only such words, or a column `is_valid`, `is_train` divides.
- The classes of names are in the order of `classes.txt`, else in alphabetical order.

The way that pandas, fastai (https://docs.fast.ai/vision.data.html) and Kaggle write tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import compress
from operator import itemgetter
from pathlib import Path

from paddlex_ml.data.image_finder import Guess, ImageFinder
from paddlex_ml.data.inventory import Inventory
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats.collector import (
    CLASS_FILE,
    Collector,
    Options,
    SourceDataset,
    check_class_name,
    order_names,
)
from paddlex_ml.formats.column_names import is_plural
from paddlex_ml.formats.csv_sources import (
    find_sources,
    is_mask_list,
    is_table_of_images,
    is_unused,
    list_candidates,
)
from paddlex_ml.formats.flag_cells import BLANK, FALSE, MINUS, TRUE, fold, is_blank, matcher
from paddlex_ml.formats.overrides import write_override
from paddlex_ml.formats.subsets import (
    SourceTable,
    assign_lists,
    list_image_folders,
    parse_subset,
)
from paddlex_ml.formats.table_cells import CellReader, choose_reader, find_combinations
from paddlex_ml.formats.table_columns import ColumnChooser, Roles
from paddlex_ml.formats.table_files import (
    Table,
    is_closed_workbook,
    peek,
    read_tables,
)
from paddlex_ml.formats.table_rows import TableRow
from paddlex_ml.wording import count, first_names

_STEP = 1000  # rows between two calls of progress
_ONE_HOT = (
    "write 1 or 0; or choose the columns with labels: -o CheckDataset.convert.label_columns=[...], "
    "or the value that means 1: -o CheckDataset.convert.label_value=..."
)
_LAYOUT = "put one table with a column of images into the data set, or train.csv and val.csv"
_Rows = Iterator[tuple[str, list[str], TableRow]]


def recognise(inventory: Inventory) -> str:
    """The table by whose content the format is known."""
    finder = ImageFinder(inventory.root, inventory)
    for path in list_candidates(inventory):
        if is_unused(path):
            continue
        table = peek(inventory, path)
        if table and is_mask_list(table):
            return f"{path}, the classes of masks"
        if is_closed_workbook(inventory, path):
            return f"{path}, a workbook"
        if table and len(table.columns) > 1 and is_table_of_images(table, inventory, finder):
            return f"{path}, a table of images"
    return ""


def read(root: Path, options: Options) -> SourceDataset:
    """Read the tables. Raises one PaddlexMLError with every fault."""
    if options.separator == "":
        raise PaddlexMLError(
            "an empty separator cannot separate names",
            where="CheckDataset.convert.separator",
            fix="give the text between two names, or null to detect it",
        )
    collector = Collector(root, options, layout=_LAYOUT)
    sources = find_sources(collector)
    tables = [table for source in sources for table in read_tables(collector, source.path)]
    collector.raise_faults()  # a damaged table cannot be checked further
    subset_of = {source.path: source.subset for source in sources}
    return _TableReader(collector, tables, subset_of).read()


class _TableReader:
    """Adds the rows of all tables to the lists."""

    def __init__(
        self, collector: Collector, tables: list[Table], subset_of: dict[str, str]
    ) -> None:
        self._collector = collector
        self._options = collector.options
        self._tables = tables
        sheets = {parse_subset(table.sheet) for table in tables if table.sheet}
        self._subsets = [parse_subset(table.sheet) or subset_of[table.path] for table in tables]
        self._divided = len(set(self._subsets) | sheets) > 1
        self._values: dict[str, set[str]] = {}
        self._roles: list[Roles] = []
        self._open: dict[str, frozenset[str]] = {}  # class of a column -> cells that are unknown
        self._uncertain: set[str] = set()  # classes of columns whose -1 is not simply absent

    def read(self) -> SourceDataset:
        """Choose columns and separators, then add every row."""
        collector = self._collector
        for table in self._tables:
            for i, key in enumerate(table.keys):
                self._values.setdefault(key, set()).update(table.values(i))
        for table, subset in zip(self._tables, self._subsets, strict=True):
            folders = list_image_folders(SourceTable(table.path, subset), subset)
            chooser = ColumnChooser(collector, table, self._values, folders, not self._divided)
            if roles := chooser.choose():
                self._roles.append(roles)
        collector.raise_faults()
        self._compare_tables()
        for note in dict.fromkeys(
            note
            for table, roles in zip(self._tables, self._roles, strict=True)
            for note in roles.describe(table.columns)
        ):
            collector.notes.append(note)
        self._find_open_cells()
        reader = self._choose_separators()
        collector.raise_faults()
        names, seen = self._add_rows(reader)
        classes = list(dict.fromkeys(names))
        if any(roles.names for roles in self._roles):
            if (collector.root / CLASS_FILE).is_file():
                collector.account.use(CLASS_FILE)
            classes, faults = order_names(collector.root, seen | set(classes))
            collector.faults += faults
            self._note_combinations(classes)
        return collector.finish(classes)

    def _compare_tables(self) -> None:
        first = self._tables[0]
        classes = set(self._roles[0].flags.values())
        kinds = {bool(roles.names) for roles in self._roles}
        for table, roles in zip(self._tables[1:], self._roles[1:], strict=True):
            odd = sorted(classes ^ set(roles.flags.values()))
            if odd:
                text = f"these columns are not in both tables: {first_names(odd, 5)}"
                fix = f"give it the columns of {first.name}, in any order"
                where = table.locate(table.header)
                self._collector.add_fault("wrong columns", where, text, fix)
        if len(kinds) > 1 and not self._collector.faults:
            text = "some tables have names of labels, others a column for each class"
            fix = f"choose: {write_override('convert.label_columns', ['...'])}"
            self._collector.add_fault("wrong columns", first.locate(first.header), text, fix)
        self._check_classes()
        self._collector.raise_faults()

    def _check_classes(self) -> None:
        table, roles = self._tables[0], self._roles[0]
        where = table.locate(table.header)
        faults = (check_class_name(name, where) for name in roles.flags.values())
        self._collector.faults += filter(None, faults)

    def _find_open_cells(self) -> None:
        """Find which cells of columns of one class are unknown, and tell what counts as what."""
        collector, chosen = self._collector, self._options.uncertain
        said = {
            name: {fold(cell) for cell in self._values[table.keys[i]]}
            for table, roles in zip(self._tables, self._roles, strict=True)
            for i, name in roles.flags.items()
        }
        are_denied = any(cells & (FALSE - MINUS - BLANK) for cells in said.values())
        minus = {name for name, cells in said.items() if cells & MINUS}
        if self._options.label_value is not None or not (minus and (are_denied or chosen)):
            if chosen is not None:
                text = "convert.label_value decides" if minus else "no column has -1"
                collector.notes.append(f"convert.uncertain has no effect: {text}")
            minus = set()
        if self._options.label_value is not None:
            return
        # A column without any value says nothing of its class where others say what is absent.
        are_told = any(cells & (FALSE - BLANK) for cells in said.values())
        blank = {name: cells & BLANK for name, cells in said.items() if cells & BLANK}
        for name, cells in said.items():
            hidden = MINUS if name in minus and chosen in (None, "unknown") else frozenset()
            if cells & (FALSE - BLANK) or (are_told and is_blank(cells)):
                hidden |= blank.get(name, set())
            if hidden:
                self._open[name] = hidden
        self._uncertain = minus
        if absent := [name for name in blank if not blank[name] & self._open.get(name, set())]:
            shown = first_names(absent, 5)
            collector.notes.append(f"empty cells count as 0 in the columns {shown}")

    def _tell_open_cells(self, counts: Counter[tuple[str, str]]) -> None:
        """Tell how many cells are uncertain or open; `counts`: by column, and cell or ""."""
        word = {"positive": "present", "negative": "absent"}.get(self._options.uncertain or "")
        option = write_override("convert.uncertain", "positive")
        every = list(self._roles[0].flags.values())
        options = (
            write_override("convert.label_value", "1"),
            write_override("convert.label_columns", every),
        )
        kinds = {
            "-1": ("cell of -1", "cells of -1", f"; to take them for present: {option}"),
            "": (
                *("empty cell", "empty cells"),
                f"; to take them for absent, and -1 as well: {' '.join(options)}",
            ),
        }
        for cell, (noun, nouns, way) in kinds.items():
            found = {name: n for (name, kind), n in counts.items() if kind == cell and n}
            if not found:
                continue
            shown = first_names([f"{name} ({number:,})" for name, number in found.items()], 5)
            total = sum(found.values())
            what = "is unknown" if total == 1 else "are unknown"
            if cell and word:
                what, way = f"count{'s' * (total == 1)} as {word}", ""
            self._collector.notes.append(f"{count(total, noun, nouns)}, in {shown}, {what}{way}")

    def _choose_separators(self) -> CellReader:
        """Choose how cells are divided, by the cells of all columns with names of labels."""
        collector, cells, columns = self._collector, set(), set()
        for table, roles in zip(self._tables, self._roles, strict=True):
            for i in roles.names:
                cells |= self._values[table.keys[i]]
                columns.add(table.columns[i])
        if not columns:
            if self._options.separator is not None:
                note = "convert.separator has no effect: no column has names of labels"
                collector.notes.append(note)
            return CellReader()
        known, _ = order_names(collector.root, ())
        many = any(map(is_plural, columns))
        reader, note, doubt = choose_reader(cells, self._options.separator, known, many)
        if note:
            collector.notes.append(note)
        if doubt:
            where = next(
                table.locate(row)
                for table, roles in zip(self._tables, self._roles, strict=True)
                for row in table.rows
                if any(doubt.cell in row.cells[i] for i in roles.names)
            )
            collector.add_fault("separator in doubt", where, doubt.text, doubt.fix)
        return reader

    def _note_combinations(self, classes: list[str]) -> None:
        if self._options.separator is None and (odd := find_combinations(classes)):
            shown = first_names(list(map(repr, odd)), 5)
            option = write_override("convert.separator", odd[min(odd)])
            nouns = "name looks like a combination", "names look like combinations"
            self._collector.notes.append(
                f"{count(len(odd), *nouns)} of others: "
                f"{shown}; if they are, choose what separates them, such as {option}"
            )

    def _add_rows(self, reader: CellReader) -> tuple[list[str], set[str]]:
        """Add the rows; return the classes of columns, and the names in cells."""
        collector = self._collector
        if self._options.label_value is not None:
            is_yes = matcher(self._options.label_value)
        else:
            is_yes = lambda cell: fold(cell) in TRUE  # noqa: E731
        seen: set[str] = set()
        classes: list[str] = []
        counts: Counter[tuple[str, str]] = Counter()
        for table, roles, rows in self._list_rows():
            flags = list(roles.flags.values())
            classes += flags
            keys = [table.keys[i] for i in roles.flags]
            yes = {value for key in keys for value in self._values[key] if is_yes(value)}
            self._find_odd_cells(table, roles)
            pick = itemgetter(roles.image, roles.image, *roles.flags)
            told = [name in self._open or name in self._uncertain for name in flags]
            for list_name, folders, row in rows:
                cells = row.cells
                _, image, *values = pick(cells)
                labels = [name for name, value in zip(flags, values, strict=True) if value in yes]
                where = f"{table.name}:{row.number}"
                unknown: list[str] = []
                for name, cell in zip(compress(flags, told), compress(values, told), strict=True):
                    cell = fold(cell)
                    if cell in MINUS and name in self._uncertain:
                        counts[name, "-1"] += 1
                        labels += [name] * (self._options.uncertain == "positive")
                    if cell in self._open.get(name, ()):
                        unknown.append(name)
                        counts[name, ""] += cell not in MINUS
                for column in roles.names:
                    found = reader.read(cells[column])
                    for name in found:
                        if name not in seen:
                            seen.add(name)
                            if fault := check_class_name(name, where):
                                collector.faults.append(fault)
                    labels += found
                collector.add(list_name, image, folders, labels, where, unknown=unknown)
        self._tell_open_cells(counts)
        return classes, seen

    def _find_odd_cells(self, table: Table, roles: Roles) -> None:
        """Cells of columns of one class that are neither 0 nor 1 are faults."""
        if self._options.label_value is not None:
            return
        for column, name in roles.flags.items():
            values = self._values[table.keys[column]]
            if not {value for value in values if fold(value) not in TRUE | FALSE}:
                continue
            for row in table.rows:
                cell = row.cells[column]
                if fold(cell) not in TRUE | FALSE:
                    text = f"the value of {name} is {cell[:40]!r}, neither 0 nor 1"
                    where = table.locate(row)
                    self._collector.add_fault("value other than 0 or 1", where, text, _ONE_HOT)

    def _list_rows(self) -> Iterator[tuple[Table, Roles, _Rows]]:
        """Each table with its rows that are for train or val; opens the lists."""
        subsets: set[str] = set()
        for table, roles, subset in zip(self._tables, self._roles, self._subsets, strict=True):
            if roles.subset is None:
                subsets.add(subset)
            else:
                used = table.values(roles.subset)
                subsets |= {roles.subset_of[value] for value in used}
        lists = {"": "train", **assign_lists(subsets)}
        for name in sorted({lists[subset] for subset in subsets if subset in lists}):
            self._collector.open_list(name)
        total = sum(len(table.rows) for table in self._tables)
        done = 0
        for table, roles, subset in zip(self._tables, self._roles, self._subsets, strict=True):
            yield table, roles, self._walk(table, roles, subset, lists, done, total)
            done += len(table.rows)

    def _walk(
        self, table: Table, roles: Roles, own: str, lists: dict[str, str], done: int, total: int
    ) -> _Rows:
        collector, test = self._collector, 0
        folders_of = {
            subset: list_image_folders(SourceTable(table.path, own), subset or own)
            for subset in ("train", "val", "test", "")
        }
        unused_flag = set(roles.subset_of.values()) == {"test", ""}  # is_test
        for number, row in enumerate(table.rows, done + 1):
            subset = own if roles.subset is None else roles.subset_of[row.cells[roles.subset]]
            if roles.subset is not None and not subset and not unused_flag:
                self._refuse_subset(table, roles, row)
            elif not row.cells[roles.image]:
                fix = "name the image, or remove the row"
                collector.add_fault("no image", table.locate(row), "the row names no image", fix)
            elif subset == "test":
                test += 1
                self._leave_out(row.cells[roles.image], folders_of[subset])
            else:
                yield lists[subset], folders_of[subset], row
            if number % _STEP == 0 or number == total:
                self._options.progress(number, total)
        if test:
            collector.account.drop(table.path, "of the test subset", count=test)

    def _refuse_subset(self, table: Table, roles: Roles, row: TableRow) -> None:
        assert roles.subset is not None
        word, column = row.cells[roles.subset], table.columns[roles.subset]
        text = f"{word!r} in the column {column} is neither train nor val nor test"
        self._collector.add_fault("unknown subset", table.locate(row), text, "write train or val")

    def _leave_out(self, image: str, folders: list[str]) -> None:
        found = self._collector.finder.find(image, folders)
        if not isinstance(found, str):
            guess = self._collector.finder.guess(image, folders)
            found = guess.path if isinstance(guess, Guess) else image
        self._collector.account.left_out.setdefault(found, "of the test subset")
