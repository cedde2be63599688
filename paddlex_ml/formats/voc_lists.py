# SPDX-License-Identifier: Apache-2.0
"""The lists of a Pascal VOC set: those that divide its images, and those of the single classes.

ImageSets/Main/train.txt       a line: the name of an image or of its XML file
ImageSets/Main/cat_train.txt   a line: a name, and 1 (shows a cat), 0 (difficult) or -1 (none)
train_list.txt                 a line: JPEGImages/a.jpg Annotations/a.xml (PaddleLabel, PaddleX)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.data.walk import is_image, join
from paddlex_ml.formats.collector import Collector, check_class_name
from paddlex_ml.formats.encoded_text import show_head
from paddlex_ml.formats.name_index import NameIndex
from paddlex_ml.formats.subsets import SPELLINGS, note_unused_test, parse_subset
from paddlex_ml.wording import first_names

OF_TEST = "of the test subset"
_WORDS = [*(word for words in SPELLINGS.values() for word in words), "trainval", "default"]
_CLASS_LINE = re.compile(r"(.+?)\s+([+-]?[0-9]{1,9})\s*")
_PAIRS = re.compile(r"(train|val|valid|validation|trainval|test)(_list)?\.txt", re.I)
_OTHER_TASKS = ("/layout/", "/segmentation/", "/action/")


class ListedImage(NamedTuple):
    """A line of a list, or a file where there are no lists."""

    xml: str
    """Path of the XML file; "" for an image that has none."""
    image: str = ""
    """The image: its path without an XML file, else the name that the line has for it."""
    where: str = ""
    """The line."""


class VocLists(NamedTuple):
    """What the lists say."""

    lists: dict[str, list[ListedImage]]
    tags: dict[str, set[str]]
    """XML file, or image without one -> classes that the lists of the classes give it."""
    difficult: dict[str, set[str]]
    """The same for classes that these lists call difficult (0)."""
    unshown: list[str]
    """Classes that their lists give to no image."""


class _SetFile(NamedTuple):
    """A file of ImageSets/Main: of a set, or of a class in a set."""

    path: str
    set: str
    name: str = ""
    """The class."""


def find_folder(inventory: Inventory) -> str:
    """The folder with the lists of images: ImageSets/Main, else ImageSets; "" for none."""
    for wanted in ("imagesets/main", "imagesets"):
        for folder in inventory.folders:
            if folder.casefold() == wanted and _list_texts(inventory, folder):
                return folder
    return ""


def find_class_list(inventory: Inventory) -> str:
    """The first file of ImageSets/Main that has the values of a class; "" for none."""
    texts = _list_texts(inventory, find_folder(inventory))
    for path in texts:
        line = show_head(inventory.read_head(path)).partition("\n")[0]
        found = _CLASS_LINE.fullmatch(line)
        if found and found[2] in ("1", "0", "-1", "+1") and "_" in path.rpartition("/")[2]:
            return path
    return ""


def find_pair_lists(inventory: Inventory, folder: str = "") -> dict[str, str]:
    """The lists of a folder whose lines end with the path of an XML file: set -> file."""
    found: dict[str, str] = {}
    for name in inventory.names(folder):
        match = _PAIRS.fullmatch(name)
        head = inventory.read_head(join(folder, name)) if match else b""
        if match and re.search(r"\.xml\s*?(\n|\Z)", show_head(head), re.I):
            found.setdefault(_name_set(match[1]), join(folder, name))
    return found


def find_inner_sets(inventory: Inventory) -> dict[str, str]:
    """Folders below the data set that have lists of their own -> where these are."""
    found: dict[str, str] = {}
    for folder in filter(None, inventory.folders):
        above, _, last = folder.rpartition("/")
        if last.casefold() == "imagesets" and above:
            found[above] = folder
        elif pairs := find_pair_lists(inventory, folder):
            found[folder] = next(iter(pairs.values()))
    return found


def _find_name_lists(inventory: Inventory, xml: Sequence[str]) -> dict[str, str]:
    """The lists beside the images whose lines name XML files, or images that have one."""
    index = NameIndex(xml)
    found: dict[str, str] = {}
    for name in inventory.names(""):
        if match := _PAIRS.fullmatch(name):
            lines = show_head(inventory.read_head(name)).splitlines()
            first = next((line.strip() for line in lines if line.strip()), "")
            if first and "\t" not in first and index.find(first):
                found.setdefault(_name_set(match[1]), name)
    return found


def read(collector: Collector, xml: Sequence[str]) -> VocLists | None:
    """Read the lists; `xml` are all XML files. None where there are no lists of images."""
    pairs = find_pair_lists(collector.inventory) or _find_name_lists(collector.inventory, xml)
    if folder := find_folder(collector.inventory):
        for path in pairs.values():
            collector.account.left_out[path] = f"{folder} divides the images"
        return _ListReader(collector, xml, folder).read()
    return _ListReader(collector, xml, "").read_pairs(pairs) if pairs else None


class _ListReader:
    """Finds what the lines of lists name."""

    def __init__(self, collector: Collector, xml: Sequence[str], folder: str) -> None:
        self._collector = collector
        self._every = xml
        self._xml = NameIndex(xml)
        self._images = NameIndex(collector.inventory.images)
        self._folder = folder
        self._found: dict[str, list[str]] = {}
        self._rows: dict[str, list[tuple[str, str, int]]] = {}  # of the lists of the classes

    def read(self) -> VocLists:
        """Read ImageSets/Main."""
        self._leave_out_other_tasks()
        sets, class_files = self._sort_files()
        # Where nothing else divides, the lists of the classes do.
        there = list(sets) or list(dict.fromkeys(file.set for file in class_files))
        chosen = _choose_sets(there)
        if not chosen and not self._every and "val" in there:
            chosen = {"train": ["val"]}
        test = list(self._read_test(sets["test"])) if "test" in sets else []
        self._note_sets(chosen, sets)
        lists: dict[str, list[ListedImage]] = {}
        for name, set_names in chosen.items():
            files = [sets[set_name] for set_name in set_names if set_name in sets]
            rows = [row for path in files for row in self._read_set(path)]
            if not sets:
                of_set = [file for file in class_files if file.set in set_names]
                rows = [(where, name) for f in of_set for where, name, _ in self._read_class(f)]
            lists[name] = self._find_images(rows, bool(class_files))
        if not chosen:
            of_test = {image.xml for image in test}
            lists["train"] = [ListedImage(path) for path in self._every if path not in of_test]
        self._leave_out_rest(lists, test, chosen)
        return VocLists(lists, *self._read_tags(class_files, lists, chosen))

    def read_pairs(self, files: dict[str, str]) -> VocLists:
        """Read lists of images with their XML files."""
        chosen = _choose_sets(list(files))
        self._note_sets(chosen, files)
        lists = {
            name: [row for set_name in set_names for row in self._read_pairs(files[set_name])]
            for name, set_names in chosen.items()
        }
        test = files.get("test", "")
        unused = test if ["test"] not in chosen.values() else ""
        rest = [*self._read_pairs(unused)] if unused else []
        if not chosen:
            of_test = {row.xml for row in rest}
            lists["train"] = [ListedImage(path) for path in self._every if path not in of_test]
        self._leave_out_rest(lists, rest, chosen)
        return VocLists(lists, {}, {}, [])

    # Files

    def _sort_files(self) -> tuple[dict[str, str], list[_SetFile]]:
        """The files that divide, by their sets, and those of the classes."""
        collector = self._collector
        stems = {
            p: p.rpartition("/")[2][:-4] for p in _list_texts(collector.inventory, self._folder)
        }
        words = sorted({*_WORDS, *(s.casefold() for s in stems.values())}, key=len, reverse=True)
        sets: dict[str, str] = {}
        classes: list[_SetFile] = []
        unknown: dict[str, str] = {}
        for path, stem in stems.items():
            name = _name_set(stem)
            word = next((w for w in words if stem.casefold().endswith(f"_{w}")), "")
            if name in sets:
                text = f"both {sets[name]} and {path} are the list of {name}"
                collector.add_fault("several files", path, text, "move one of the two away")
            elif name:
                sets[name] = path
            elif word and stem[: -len(word) - 1].strip():
                class_name = stem[: -len(word) - 1].strip()
                classes.append(_SetFile(path, _name_set(word) or word, class_name))
            else:
                unknown[stem.casefold()] = path
        return sets or unknown, classes

    def _note_sets(self, chosen: dict[str, list[str]], sets: dict[str, str]) -> None:
        if chosen.get("val") == ["test"]:
            text = f"{sets.get('trainval', 'trainval')} is for training and "
            text += f"{sets.get('test', 'test')} for validation"
            text += ": there is no division into train.txt and val.txt"
            self._collector.notes.append(text)
        elif "test" in sets:
            self._collector.notes.append(note_unused_test(sets["test"]))

    def _leave_out_other_tasks(self) -> None:
        for path in self._collector.inventory.find(".txt"):
            inner = f"/{path.casefold()}"
            if "/imagesets/" in inner and any(task in inner for task in _OTHER_TASKS):
                self._collector.account.left_out[path] = "a list of another task"

    # Lines

    def _read_set(self, path: str) -> Iterator[tuple[str, str]]:
        """Position and content of the lines of a list."""
        for number, line in enumerate(self._collector.read_lines(path), 1):
            if line and line.strip():
                yield f"{path}:{number}", line.strip()

    def _read_class(self, file: _SetFile) -> list[tuple[str, str, int]]:
        """Position, name and value of the lines of the list of a class."""
        if file.path not in self._rows:
            rows = self._rows.setdefault(file.path, [])
            for where, line in self._read_set(file.path):
                found = _CLASS_LINE.fullmatch(line)
                if found and int(found[2]) in (1, 0, -1):
                    rows.append((where, found[1], int(found[2])))
                else:
                    text = f"{line!r} is not a name and 1, 0 or -1, as in the list of a class"
                    fix = "correct the line; a list of images is called train.txt or val.txt"
                    self._collector.add_fault("malformed line", where, text, fix)
        return self._rows[file.path]

    def _find(self, name: str) -> list[str]:
        """The XML files that a name may mean, else the images."""
        if name not in self._found:
            plain = name.strip().strip('"')
            self._found[name] = self._xml.find(plain) or self._images.find(plain)
        return self._found[name]

    def _find_images(self, rows: list[tuple[str, str]], has_tags: bool) -> list[ListedImage]:
        """What the lines of a list name, each once. A second column of numbers does not count."""
        listed: dict[str, ListedImage] = {}
        columns = [_CLASS_LINE.fullmatch(line) for _, line in rows]
        for (where, line), column in zip(rows, columns, strict=True):
            found = self._find(line)
            if not found and column and all(columns):
                found = self._find(column[1])
            if len(found) > 1:
                text, fix = f"{line} may be {found[0]} or {found[1]}", "write its path in the list"
                self._collector.add_fault("name in doubt", where, text, fix)
            elif found and not is_image(found[0]):
                listed[found[0]] = ListedImage(found[0], where=where)
            elif has_tags:
                path = found[0] if found else line
                listed[path] = ListedImage("", path, where)
            else:
                text, fix = f"{line}.xml is not there", "restore the XML file, or remove the line"
                self._collector.add_fault("annotation missing", where, text, fix)
        return list(listed.values())

    def _read_test(self, path: str) -> Iterator[ListedImage]:
        """What the list of the test set names, as far as it is there."""
        for _, line in self._read_set(path):
            found = self._find(line)
            if len(found) == 1:
                yield ListedImage("", found[0]) if is_image(found[0]) else ListedImage(found[0])

    def _read_pairs(self, path: str) -> Iterator[ListedImage]:
        for where, line in self._read_set(path):
            image, xml = "", line
            for gap in re.finditer(r"[\s,]+", line):
                if is_image(line[: gap.start()]):
                    image, xml = line[: gap.start()], line[gap.end() :]
                    break
            found = self._xml.find(xml)
            if len(found) == 1:
                yield ListedImage(found[0], image)
            else:
                text = f"{xml} may be {' or '.join(found[:2])}" if found else f"{xml} is not there"
                fix = "restore the XML file, or remove the line"
                self._collector.add_fault("annotation missing", where, text, fix)

    # Results

    def _leave_out_rest(
        self,
        lists: dict[str, list[ListedImage]],
        test: Sequence[ListedImage],
        chosen: dict[str, list[str]],
    ) -> None:
        """Tell which XML files are in no list."""
        account = self._collector.account
        listed = {path for images in lists.values() for image in images for path in image[:2]}
        for image in test if "test" not in chosen.get("val", []) else []:
            for path in filter(None, image[:2]):
                if path not in listed:
                    account.left_out[path] = OF_TEST
        rest = sorted(set(self._every) - listed - set(account.left_out))
        if rest:
            where = self._folder or "the list files"
            account.left_out.update(dict.fromkeys(rest, f"in no list of {where}"))
            text = f"{len(rest):,} XML files are in no list of {where}, left out"
            self._collector.notes.append(f"{text}: {first_names(rest, 5)}")

    def _read_tags(
        self,
        files: list[_SetFile],
        lists: dict[str, list[ListedImage]],
        chosen: dict[str, list[str]],
    ) -> tuple[dict[str, set[str]], dict[str, set[str]], list[str]]:
        """The classes that the lists of classes give to the images of the lists, those that they
        call difficult, and those that they give to no image."""
        account = self._collector.account
        used_sets = {set_name for names in chosen.values() for set_name in names}
        listed = {path for images in lists.values() for image in images for path in image[:2]}
        tags: dict[str, set[str]] = {}
        difficult: dict[str, set[str]] = {}
        shown: dict[str, bool] = {}
        for file in files:
            used = not chosen or file.set in used_sets
            if not used and file.set not in ("train", "val", "trainval"):
                test = file.set == "test"
                account.left_out[file.path] = OF_TEST if test else "of a set that is not used"
                continue
            if fault := check_class_name(file.name, file.path):
                self._collector.faults.append(fault)
            shown.setdefault(file.name, False)
            for where, name, value in self._read_class(file):
                found = [path for path in self._find(name) or [name] if path in listed]
                if not found and used:
                    account.drop(file.path, "their images are in no list", f"{where}: {name}")
                elif found and value >= 0:
                    (tags if value else difficult).setdefault(found[0], set()).add(file.name)
                    shown[file.name] = True
        return tags, difficult, [name for name, is_shown in shown.items() if not is_shown]


def _list_texts(inventory: Inventory, folder: str) -> list[str]:
    names = inventory.names(folder) if folder else []
    return [f"{folder}/{name}" for name in names if name.lower().endswith(".txt")]


def _name_set(stem: str) -> str:
    """One spelling of the sets that are known; "" for any other."""
    word = stem.strip().casefold()
    return word if word in ("trainval", "default") else parse_subset(word)


def _choose_sets(there: list[str]) -> dict[str, list[str]]:
    """Which sets become which list: train, val and test are known, others divide nothing."""
    for train, val in (("train", "val"), ("trainval", "test")):
        if train in there and val in there:
            return {"train": [train], "val": [val]}
    if "trainval" in there:
        return {"train": ["trainval"]}
    alone = [name for name in there if name not in ("val", "test")]
    return {"train": alone} if alone else {}
