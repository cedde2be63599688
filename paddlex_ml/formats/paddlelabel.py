# SPDX-License-Identifier: Apache-2.0
"""PaddleLabel, image classification (`src_dataset_type: PaddleLabel`).

    labels.txt        cat
                      dog
    train_list.txt    image/a.jpg 1 0      (several classes)   or   dog/a.jpg 1   (one class)
    val_list.txt, test_list.txt

- `train_list.txt` and `val_list.txt` name the images, each with the numbers of its classes; a word
  that is no number is the name of a class. With one of the two lists, or an empty one, there is one
  list. `test_list.txt` is not used. An image in no list, as those in `no_annotation/`, is left out.
- The numbers are those of the lines of `labels.txt`, from 0. A number without a line is an error:
  PaddleLabel leaves gaps where a class was deleted. Numbers and colours in `labels.txt` itself
  (`dog 1 #ff0000 // comment`, `0 dog`) count where they fit the lists in one way only.
- The classes are in the order of their numbers.

Detection: the export as Pascal VOC is read as `VOC`, as COCO as `COCO`, as YOLO as `YOLO`. Exports
of masks have no labels of images.

The format: https://github.com/PaddleCV-SIG/PaddleLabel/blob/develop/doc/CN/project/common.md
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.data.walk import is_image, join
from paddlex_ml.formats.collector import Collector, Options, SourceDataset, check_class_name
from paddlex_ml.formats.encoded_text import show_head
from paddlex_ml.formats.records import is_number
from paddlex_ml.formats.subsets import assign_lists, note_unused_test, parse_subset
from paddlex_ml.wording import count, first_names

_LABELS = "labels.txt"
_LIST = re.compile(r"(train|val|valid|validation|test)_list\.txt", re.I)
_LAYOUT = "put labels.txt, train_list.txt and val_list.txt into the data set folder"
_FORMATS = {".xml": "VOC", ".json": "COCO", ".txt": "YOLO"}  # of the file that a line may end with
_COLOUR = r"(\s+(#[0-9a-f]{6}|[a-z]+|[0-9]+(\s+[0-9]+\s+[0-9]+)?))?"
_NAME_FIRST = re.compile(rf"(\S.*?)\s+([0-9]{{1,9}}){_COLOUR}", re.I)
_NUMBER_FIRST = re.compile(r"([0-9]{1,9})\s+(\S.*)")
_MINUS = re.compile(r"\s+-(\s.*)?$")  # instead of a number
_COMMENT = re.compile(r"(^|\s)//.*")


class PaddleLabelLine(NamedTuple):
    """A line of a list: an image, and numbers or names of its classes."""

    image: str
    labels: list[str]
    where: str


def recognise(inventory: Inventory) -> str:
    """The list by whose content the format is known, beside labels.txt."""
    for folder in inventory.folders:
        if _LABELS not in map(str.casefold, inventory.names(folder)):
            continue
        for file in _find_lists(inventory, folder).values():
            lines = show_head(inventory.read_head(file)).splitlines()
            first = next((_split(line) for line in lines if line.strip()), None)
            if first and first[1] and all(map(str.isdecimal, first[1])):
                return f"{file} and {_LABELS}"
    return ""


def read(root: Path, options: Options) -> SourceDataset:
    """Read the names and the lists. Raises one PaddlexMLError with every fault."""
    collector = Collector(root, options, layout=_LAYOUT)
    files = _find_lists(collector.inventory)
    if not files:
        inner = [f for f in collector.inventory.folders if _find_lists(collector.inventory, f)]
        folder = str(root / inner[0]) if inner else "... (the folder of the export)"
        fix = f"-o Global.dataset_dir={folder}"
        text = "there is neither train_list.txt nor val_list.txt in the data set folder"
        collector.add_fault("nothing found", "", text, fix)
    if "test" in files:
        collector.notes.append(note_unused_test(files["test"]))
    lines = {subset: list(_read_list(collector, file)) for subset, file in files.items()}
    for line in lines.pop("test", []):
        if isinstance(found := collector.finder.find(line.image, [""]), str):
            collector.account.left_out[found] = "of the test subset"
    images = collector.inventory.images
    if bare := [path for path in images if "no_annotation" in path.split("/")[:-1]]:
        collector.account.left_out.update(dict.fromkeys(bare, "PaddleLabel has no class for it"))
        text = f"left out: {count(len(bare), 'image')} of no_annotation/: {first_names(bare, 5)}"
        collector.notes.append(text)
    every = [line for listed in lines.values() for line in listed]
    used = {label for line in every for label in line.labels}
    names = _read_names(collector, {int(label) for label in used if is_number(label)})
    collector.raise_faults()
    words = sorted(label for label in used if not is_number(label))
    classes = list(dict.fromkeys([*(names[number] for number in sorted(names)), *words]))
    lists = assign_lists(subset for subset, listed in lines.items() if listed)
    for subset, name in lists.items():
        for line in lines[subset]:
            labels = [names[int(x)] if is_number(x) else x for x in line.labels]
            path = collector.add(name, line.image, ["", "image"], labels, line.where)
            if path and not labels:
                collector.account.not_annotated[path] = None
    return collector.finish(classes)


# Lists


def _find_lists(inventory: Inventory, folder: str = "") -> dict[str, str]:
    """The lists of a folder: subset -> file."""
    found = {name: _LIST.fullmatch(name) for name in inventory.names(folder)}
    return {parse_subset(match[1]): join(folder, name) for name, match in found.items() if match}


def _read_list(collector: Collector, file: str) -> Iterator[PaddleLabelLine]:
    for number, text in enumerate(collector.read_lines(file), 1):
        if not text or not text.strip():
            continue
        where, line = f"{file}:{number}", _split(text)
        last = text.strip().rpartition(".")[2].casefold()
        if source := _FORMATS.get(f".{last}"):
            what = f"the line names a file of annotations: this is an export as {source}"
            fix = f"-o CheckDataset.convert.src_dataset_type={source}"
            collector.add_fault("another format", where, what, fix)
            return
        if line is None:
            fix = "write the path of the image and the numbers of its classes: image/a.jpg 4 0"
            collector.add_fault("malformed line", where, "the line names no image", fix)
        elif line[1] and is_image(line[1][-1]):
            what = "the line names a mask, whose classes are areas of the image"
            fix = "export a project of image classification, or of detection as Pascal VOC or COCO"
            collector.add_fault("masks", where, what, fix)
            return
        else:
            for label in line[1]:
                if not is_number(label) and not any(map(str.isalpha, label)):
                    what = f"{label!r} is neither the number of a class nor a name"
                    fix = "write numbers from 0, with spaces between them: image/a.jpg 4 0"
                    collector.add_fault("malformed line", where, what, fix)
            yield PaddleLabelLine(line[0], line[1], where)


def _split(line: str) -> tuple[str, list[str]] | None:
    """The image and the words behind it; None without an image."""
    line = line.strip()
    for gap in re.finditer(r"\s+|\Z", line):
        if is_image(line[: gap.start()]):
            return line[: gap.start()], line[gap.end() :].split()
    return None


# Names


def _read_names(collector: Collector, used: set[int]) -> dict[int, str]:
    """The names of the classes by their numbers in the lists."""
    there = {name.casefold(): name for name in collector.inventory.names("")}
    if _LABELS not in there:
        if used:
            fix = "write labels.txt: one name a line, in the order of the numbers from 0"
            text = "the lists have numbers of classes, but labels.txt is not there"
            collector.add_fault("file missing", _LABELS, text, fix)
        return {}
    file = there[_LABELS]
    lines = [(line or "").strip() for line in collector.read_lines(file, records=False)]
    lines = [stripped for line in lines if (stripped := _COMMENT.sub("", line).strip())]
    for name in lines:
        if fault := check_class_name(name, file):
            collector.faults.append(fault)
    readings = [names for names in _list_readings(lines) if used <= names.keys()]
    names = readings[0] if readings else dict(enumerate(_MINUS.sub("", line) for line in lines))
    if any(names[number] != other[number] for other in readings for number in used):
        shown = sorted(used)[0]
        text = f"the numbers of {file} may begin with 0 or with 1: {shown} of the lists may be "
        text += " or ".join(dict.fromkeys(repr(other[shown]) for other in readings))
        fix = "write one name a line, in the order of the numbers from 0, and no numbers"
        collector.add_fault("numbers in doubt", file, text, fix)
    for number in sorted(used - names.keys()):
        text = f"the number {number} has no name: {file} has {count(len(lines), 'name')}, from 0"
        fix = "add the missing names, also for classes that were deleted in PaddleLabel"
        collector.add_fault("class not named", file, text, fix)
    _find_twice(collector, file, names)
    return names


def _list_readings(lines: list[str]) -> Iterator[dict[int, str]]:
    """What lines with numbers may mean: number in the lists -> name."""
    first = [_NUMBER_FIRST.fullmatch(line) for line in lines]
    last = [_NAME_FIRST.fullmatch(line) for line in lines]
    for names in (
        {int(match[1]): match[2].strip() for match in first if match},
        {int(match[2]): match[1] for match in last if match},
    ):
        if names and len(names) == len(set(names.values())) == len(lines):
            yield names
            if min(names) > 0:  # the lists count from 0, labels.txt may count from 1
                yield {number - 1: name for number, name in names.items()}


def _find_twice(collector: Collector, file: str, names: Mapping[int, str]) -> None:
    first: dict[str, int] = {}
    for number, name in names.items():
        if first.setdefault(name, number) != number:
            text = f"the name {name!r} has the numbers {first[name]} and {number}"
            fix = "give every class a name of its own"
            collector.add_fault("duplicate class name", file, text, fix)
