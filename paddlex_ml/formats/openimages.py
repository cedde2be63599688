# SPDX-License-Identifier: Apache-2.0
"""Open Images (`src_dataset_type: OpenImages`).

    train/0001eeaf4aed83f9.jpg   validation/...    (or images/train/, or train/data/)
    train-annotations-human-imagelabels.csv        ImageID,Source,LabelName,Confidence
    validation-annotations-bbox.csv                ImageID,Source,LabelName,Confidence,XMin,...
    class-descriptions.csv                         /m/011k07,Tortoise
    train-images-with-rotation.csv                 ImageID,Subset,OriginalURL,...

- Every table with the columns ImageID and LabelName counts: labels of images that people have
  verified, and boxes. A label with `Confidence` 1 is there, one with 0 is verified as absent. A
  class without a row for an image is unknown: people were asked about some classes of each image
  alone. `-o CheckDataset.convert.uncertain=negative` takes it for absent. Where no table has a 0
  (boxes, or positives alone), all classes without a row are absent, because nothing else would be;
  a note tells which it is. Labels that a machine proposed (`machine` in the name of the table or in
  `Source`) are not used.
- `class-descriptions*.csv` (or `classes.csv`) gives the name of each class, and their order. Two
  classes with one name keep their ids behind it. Without it the ids are the names.
- The subset (train, validation) is told by the name of a table or its folder, else by the column
  Subset of a table of images. Images of such a table that are there and have no row at all have no
  label, or none that is known. Tables of the test subset are not used.
- Usually only a part of the images has been downloaded: `CheckDataset.convert.skip_missing=true`
  leaves the others out.

The format: https://storage.googleapis.com/openimages/web/download_v7.html
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from paddlex_ml import program
from paddlex_ml.data.image_finder import Guess
from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats.collector import Collector, Options, SourceDataset, check_class_name
from paddlex_ml.formats.flag_cells import fold
from paddlex_ml.formats.subsets import SPELLINGS, assign_lists, parse_subset
from paddlex_ml.formats.table_files import Table, peek, read_tables
from paddlex_ml.wording import count

_CLASS_TABLE = re.compile(r"(.*class-descriptions.*|classes)\.csv", re.I)
_LAYOUT = "put the tables with ImageID and LabelName into the data set "
_LAYOUT += f"({program.page('data.md')})"
_MACHINE = "labels of a machine, which nobody verified"


def recognise(inventory: Inventory) -> str:
    """The file by whose content the format is known."""
    for path in inventory.find(".csv"):
        table = peek(inventory, path)
        if table and {"imageid", "labelname"} <= set(_fold(table)):
            return f"{path}, which has ImageID and LabelName"
    return ""


def read(root: Path, options: Options) -> SourceDataset:
    """Read the tables. Raises one PaddlexMLError with every fault."""
    return _OpenImagesReader(Collector(root, options, layout=_LAYOUT)).read()


def _fold(table: Table) -> list[str]:
    return [name.casefold() for name in table.columns]


def _parse_subset_of_table(path: str) -> str:
    """Subset by the words of the name of a file, then of its folders; "" for none."""
    for part in reversed(path.split("/")):
        for word in re.split(r"[^a-z]+", part.casefold()):
            if subset := parse_subset(word):
                return subset
    return ""


class _OpenImagesReader:
    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._labels: list[str] = []
        self._images: list[str] = []
        self._names: dict[str, str] = {}  # id of a class -> its name
        self._subset_of: dict[str, str] = {}  # image -> subset, from the tables of images
        self._present: dict[str, None] = {}
        self._absent: Counter[str] = Counter()
        self._is_open = False  # a class without a row is unknown

    def read(self) -> SourceDataset:
        """Read tables of classes, then of images, then of labels."""
        collector = self._collector
        self._sort_tables()
        if not self._labels:
            text = "there is no table with ImageID and LabelName for train or validation"
            collector.add_fault("nothing found", "", text, _LAYOUT)
        collector.raise_faults()
        listed: dict[str, str] = {}
        for path in self._images:
            self._read_images(path, listed)
        tables = {path: read_tables(collector, path) for path in self._labels}
        collector.raise_faults()
        self._choose_rule([table for read in tables.values() for table in read])
        subsets = {_parse_subset_of_table(path) for path in self._labels}
        if "" in subsets:
            subsets |= set(self._subset_of.values())
        lists = {"": "train", **assign_lists(subsets)}
        for name in sorted(set(lists.values())) if len(subsets - {"", "test"}) > 1 else ["train"]:
            collector.open_list(name)
        done: set[str] = set()
        for path, read in tables.items():
            for table in read:
                self._read_labels(table, _parse_subset_of_table(path), lists, done)
        self._add_bare(listed, lists, done)
        return self._finish()

    def _choose_rule(self, tables: list[Table]) -> None:
        """Decide, and tell, what a class without a row is; `uncertain=positive` is refused."""
        collector, chosen = self._collector, self._collector.options.uncertain
        if chosen == "positive":
            text = "uncertain=positive would give each image all classes that nobody looked for"
            fix = "-o CheckDataset.convert.uncertain=null (unknown), or "
            fix += "-o CheckDataset.convert.uncertain=negative (absent)"
            collector.add_fault("uncertain labels", "", text, fix)
            collector.raise_faults()
        are_denied = False
        for table in tables:
            if "confidence" in _fold(table):
                column = _fold(table).index("confidence")
                are_denied |= any(fold(row.cells[column]) == "0" for row in table.rows)
        self._is_open = are_denied and chosen != "negative"
        note = "a class without a row for an image is absent: no table has a Confidence of 0"
        if self._is_open:
            note = (
                "a class without a row for an image is unknown: nobody looked; to take it for "
                "absent: -o CheckDataset.convert.uncertain=negative"
            )
        elif are_denied:
            note = "a class without a row for an image is absent, as convert.uncertain says"
        collector.notes.append(note)

    def _sort_tables(self) -> None:
        """Tell the tables apart by their columns, and read those of classes."""
        collector = self._collector
        for path in collector.inventory.find(".csv"):
            table = peek(collector.inventory, path)
            columns = set(_fold(table)) if table else set()
            test = _parse_subset_of_table(path) == "test"
            if _CLASS_TABLE.fullmatch(path.rpartition("/")[2]):
                self._read_classes(path)
            elif "imageid" not in columns:
                continue
            elif test:
                collector.account.left_out[path] = "of the test subset"
            elif "labelname" not in columns:
                self._images.append(path)
            elif "machine" in path.rpartition("/")[2].casefold():
                collector.account.left_out[path] = _MACHINE
                collector.notes.append(f"{path} is not used: {_MACHINE}")
            else:
                self._labels.append(path)

    def _read_classes(self, path: str) -> None:
        for table in read_tables(self._collector, path):
            header = table.header
            rows = [row.cells for row in table.rows]
            if [name.casefold() for name in header.cells][:2] != ["labelname", "displayname"]:
                rows.insert(0, header.cells)
            for key, *names in rows:
                if key and names and names[0]:
                    self._names.setdefault(key, names[0])

    def _read_images(self, path: str, listed: dict[str, str]) -> None:
        """Enter the images of a table, and their subsets."""
        for table in read_tables(self._collector, path):
            columns = _fold(table)
            image = columns.index("imageid")
            subset = columns.index("subset") if "subset" in columns else None
            own = _parse_subset_of_table(path)
            for row in table.rows:
                word = parse_subset(row.cells[subset]) if subset is not None else ""
                self._subset_of[row.cells[image]] = word or own
                listed[row.cells[image]] = word or own

    def _read_labels(self, table: Table, own: str, lists: dict[str, str], done: set[str]) -> None:
        collector, columns = self._collector, _fold(table)
        image, label = columns.index("imageid"), columns.index("labelname")
        confidence = columns.index("confidence") if "confidence" in columns else None
        source = columns.index("source") if "source" in columns else None
        for row in table.rows:
            name, key = row.cells[image], row.cells[label]
            if source is not None and row.cells[source].casefold() == "machine":
                collector.account.drop(table.path, _MACHINE)
                continue
            value = fold(row.cells[confidence]) if confidence is not None else "1"
            if value not in ("1", "0"):
                text = f"the confidence is {value[:40]!r}, neither 0 nor 1"
                fix = "use the tables of labels that people verified (human-imagelabels)"
                where = table.locate(row)
                collector.add_fault("value other than 0 or 1", where, text, fix)
                continue
            subset = own or self._subset_of.get(name, "")
            if subset == "test":
                collector.account.drop(table.path, "of the test subset")
                continue
            done.add(name)
            if value == "0":
                self._absent[key] += 1
            else:
                self._present[key] = None
            labels = [key] if value == "1" else []
            denied = [key] if self._is_open and not labels else []
            collector.add(
                *(lists[subset], name, _list_folders(subset), labels, table.locate(row)),
                absent=denied if self._is_open else None,
            )

    def _add_bare(self, listed: dict[str, str], lists: dict[str, str], done: set[str]) -> None:
        """Add the images of the tables that are there and have no label."""
        collector, gone = self._collector, 0
        for name, subset in listed.items():
            if name in done or subset not in lists:
                continue
            folders = _list_folders(subset)
            found = collector.finder.find(name, folders)
            is_there = isinstance(found, str) or isinstance(
                collector.finder.guess(name, folders), Guess
            )
            gone += not is_there
            absent = () if self._is_open else None
            place = (lists[subset], name, folders, (), self._images[0])
            if is_there and (path := collector.add(*place, absent=absent)):
                collector.account.not_annotated[path] = None
        if gone:
            named = count(gone, "image")
            collector.notes.append(
                f"{named} of the tables of images: not there, and without labels"
            )

    def _finish(self) -> SourceDataset:
        collector = self._collector
        order = {key: i for i, key in enumerate(self._names)}
        keys = sorted(self._present, key=lambda key: (order.get(key, len(order)), key))
        twice = Counter(self._names.get(key, key) for key in keys)
        names = []
        for key in keys:
            name = self._names.get(key, key)
            names.append(f"{name} ({key})" if twice[name] > 1 else name)
            if fault := check_class_name(names[-1], self._labels[0]):
                collector.faults.append(fault)
        if bare := [key for key in keys if key not in self._names]:
            text = (
                f"{count(len(bare), 'class has', 'classes have')} no name in a table of "
                "class descriptions"
            )
            collector.notes.append(f"{text}: their ids are their names")
        for key in self._absent.keys() - self._present.keys():
            name = self._names.get(key, key)
            collector.account.names_left_out[name] = "only verified as absent (Confidence 0)"
        if self._absent:
            text = "labels are verified as absent (Confidence 0)"
            collector.notes.append(f"{self._absent.total():,} {text}")
        return collector.finish(names, keys)


def _list_folders(subset: str) -> list[str]:
    """Folders where the images of a subset are looked for."""
    folders = []
    for word in SPELLINGS.get(subset, []):
        folders += [word, f"images/{word}", f"{word}/data", f"{word}/images"]
    return [*folders, "images", ""]
