# SPDX-License-Identifier: Apache-2.0
"""YOLO: one text file an image, one object a line (`src_dataset_type: YOLO`).

    data.yaml            names: [cat, dog]   train: images/train   val: images/val
    images/train/a.jpg   labels/train/a.txt: "1 0.5 0.5 0.2 0.3"

- The YAML file is `data.yaml`, or the only other one beside it that has `names`: a list, or
  `0: cat` and so on. Names are taken as they are written: `yes` and `1` are names.
- `train` and `val` name a folder (searched in all depths), a `.txt` list of images, or several of
  these. They are relative to `path`, where that is a folder of the data set, else to the YAML file;
  `../train/images`, as Roboflow writes it, is `train/images` where nothing else is there. With one
  of the two there is one list. `test` is left alone.
- Without a YAML file the names are the lines of `classes.txt`, `obj.names` or `labels/classes.txt`,
  and the images are those of `images/`, or of the whole data set where it has no such folder.
  Those in folders `train/` and `val/` (or `valid/`) make these lists; in `test/`: left alone.
- The labels of `images/x/a.jpg` are in `labels/x/a.txt` (the last folder `images` of the path
  counts), else in the `.txt` file beside the image. Each line has a class id, then at least four
  numbers: a box, a polygon or key points; all count as the label. An image without such a file has
  no label, and a note counts these; another counts the files of labels without an image.
- The classes are in the order of their ids.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from paddlex_ml.data.annotation import LABEL_FILE, TRAIN_FILE, VAL_FILE
from paddlex_ml.data.faults import DatasetFault, combine
from paddlex_ml.data.lines import read_lines
from paddlex_ml.formats import yolo_yaml
from paddlex_ml.formats.collector import (
    Collector,
    ImageFinder,
    Options,
    SourceDataset,
    judge_name,
    name_first,
)
from paddlex_ml.formats.subsets import divide, lists_of, tell_test
from paddlex_ml.formats.walk import inside, is_image, join, walk
from paddlex_ml.formats.yolo_yaml import Description, Place

_NAME_FILES = ("classes.txt", "obj.names", "labels/classes.txt")
_NO_LABELS = {"classes.txt", LABEL_FILE, TRAIN_FILE, VAL_FILE, "test.txt"}
_LINE = 'write "<class id> <x> <y> <width> <height>", or a class id and the points of a polygon'


class _Image(NamedTuple):
    """An image as the source names it, the folders to look in, and the place that names it."""

    name: str
    folders: list[str]
    where: str


def read(root: Path, options: Options) -> SourceDataset:
    """Read names, images and label files. Raises one PaddlexMLError with every fault."""
    collector = Collector(root, options)
    if file := yolo_yaml.find(root):
        description = yolo_yaml.read(root, file)
        collector.faults += description.faults
        names, lists = description.names, _follow(collector, file, description)
    else:
        names, lists = _read_names(collector), _find_images(collector)
    # Damaged names do not say how many classes there are: the label files are read all the same.
    reader = _LabelReader(collector, sys.maxsize if collector.faults else len(names))
    finder = ImageFinder(root)
    done, total = 0, sum(map(len, lists.values()))
    for name, images in lists.items():
        collector.open_list(name)
        for image in images:
            path = finder.find(image.name, image.folders)
            labels = reader.read(path) if isinstance(path, str) else set()
            collector.add(name, image.name, image.folders, labels, image.where)
            done += 1
            options.progress(done, total)
    collector.notes += reader.tell()
    return collector.finish(names, keys=range(len(names)))


# Images, as the YAML file names them


def _follow(collector: Collector, file: str, description: Description) -> dict[str, list[_Image]]:
    lists = lists_of(description.places)
    if not lists and not description.faults:
        fix = 'write where the images are: "train: images/train" and "val: images/val"'
        collector.fault("nothing found", file, "neither `train` nor `val` says something", fix)
    for place in description.places.get("test", []):
        collector.notes.append(tell_test(place.text))
    base = _find_base(collector, description.base)
    return {
        name: [
            image for place in description.places[part] for image in _open(collector, base, place)
        ]
        for part, name in lists.items()
    }


def _find_base(collector: Collector, place: Place | None) -> str:
    """The folder that `path` names; "" is the data set itself."""
    if place is None:
        return ""
    path = inside(collector.root, place.text)
    if path is not None and os.path.isdir(collector.root / path):
        return path
    text = f"{place.where}: path {place.text} is no folder of the data set"
    collector.notes.append(f"{text}: the other paths are taken from the YAML file on")
    return ""


def _open(collector: Collector, base: str, place: Place) -> Iterator[_Image]:
    """The images of one path: a folder or a list."""
    root = collector.root
    plain = re.sub(r"^(\.\./)+", "", place.text.replace("\\", "/"))
    tried = [inside(root, place.text, base), inside(root, place.text), inside(root, plain)]
    places = [path for path in dict.fromkeys(tried) if path is not None]
    for path in places:
        if os.path.isdir(root / path):  # False, too, for a name that no disk can have
            images = list(_list_images(root, path, place.where))
            if not images:
                fix = "put the images there, or correct the path"
                collector.fault("nothing found", place.where, f"{place.text} has no image", fix)
            yield from images
            return
        if path.lower().endswith(".txt") and os.path.isfile(root / path):
            yield from _read_list(collector, base, path)
            return
    looked = ", ".join(places) or "nowhere: it lies outside"
    text = f"{place.text} is neither a folder nor a .txt list of the data set (looked for {looked})"
    fix = "write the path relative to the folder of the YAML file"
    collector.fault("nothing found", place.where, text, fix)


def _list_images(root: Path, folder: str, where: str = "") -> Iterator[_Image]:
    for found in walk(root, folder):
        for name in filter(is_image, found.files):
            path = join(found.path, name)
            yield _Image(path, [""], where or path)


def _read_list(collector: Collector, base: str, path: str) -> Iterator[_Image]:
    lines, faults = read_lines(collector.root / path, path)
    collector.faults += faults
    folders = list(dict.fromkeys([os.path.dirname(path), base, ""]))
    for number, line in enumerate(lines, 1):
        if line and line.strip():
            yield _Image(line.strip(), folders, f"{path}:{number}")


# Names and images without a YAML file


def _read_names(collector: Collector) -> list[str]:
    root = collector.root
    file = next((name for name in _NAME_FILES if (root / name).is_file()), None)
    if file is None:
        text = f"there is neither a data.yaml with `names`, nor {' or '.join(_NAME_FILES)}"
        fix = "write the names of the classes into classes.txt, one a line, in the order of ids"
        raise combine([DatasetFault("nothing found", "", text, fix)], root)
    lines, faults = read_lines(root / file, file)
    collector.faults += faults
    first: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if line is None:
            continue  # its fault is told already
        name, where = line.strip(), f"{file}:{number}"
        if fault := judge_name(name, where):
            collector.faults.append(fault)
        elif first.setdefault(name, number) != number:
            text = f"the name {name!r} stands in line {first[name]} already"
            fix = "give every class a name of its own"
            collector.fault("duplicate class name", where, text, fix)
    return list(first)


def _find_images(collector: Collector) -> dict[str, list[_Image]]:
    root = collector.root
    folder = "images" if (root / "images").is_dir() else ""
    every = [image.name for image in _list_images(root, folder)]
    lists, faults, notes = divide(every)
    collector.faults += faults
    collector.notes += notes
    if (root / TRAIN_FILE).is_file() and not (root / LABEL_FILE).is_file():
        text = "train.txt is not read: to use it, write a data.yaml with `names`"
        collector.notes.append(f"{text} and `train: train.txt`")
    return {name: [_Image(path, [""], path) for path in paths] for name, paths in lists.items()}


# Label files


class _LabelReader:
    """Reads the label files of images; remembers folders listed and files used."""

    def __init__(self, collector: Collector, num_classes: int) -> None:
        self._root = collector.root
        self._faults = collector.faults
        self._num_classes = num_classes
        self._listings: dict[str, set[str]] = {}
        self._used: dict[str, set[str]] = {}
        self._bare: dict[str, None] = {}

    def read(self, image: str) -> set[int]:
        """Class ids of an image, by its path relative to the data set."""
        folder, _, name = image.rpartition("/")
        file = os.path.splitext(name)[0] + ".txt"
        for place in _label_folders(folder):
            if file in self._list(place):
                self._used.setdefault(place, set()).add(file)
                return self._parse(join(place, file))
        self._bare[image] = None
        return set()

    def tell(self) -> list[str]:
        """Notes on images without labels and labels without images."""
        notes = []
        if bare := list(self._bare):
            shown = name_first(bare)
            notes.append(f"{len(bare):,} images have no label file, so no label: {shown}")
        lost = [
            join(folder, name)
            for folder, used in sorted(self._used.items())
            for name in sorted(self._listings[folder] - used - _NO_LABELS)
        ]
        if lost:
            notes.append(f"{len(lost):,} label files have no image: {name_first(lost)}")
        return notes

    def _list(self, folder: str) -> set[str]:
        if folder not in self._listings:
            try:
                with os.scandir(self._root / folder) as entries:
                    names = {entry.name for entry in entries if entry.name.endswith(".txt")}
            except OSError:  # most often there is no such folder
                names = set()
            self._listings[folder] = names
        return self._listings[folder]

    def _parse(self, path: str) -> set[int]:
        lines, faults = read_lines(self._root / path, path)
        self._faults += faults
        labels = set()
        for number, line in enumerate(lines, 1):
            fields = (line or "").split()
            problem = _judge(fields, self._num_classes) if fields else ""
            if problem:
                self._faults.append(
                    DatasetFault("malformed line", f"{path}:{number}", problem, _LINE)
                )
            elif fields:
                labels.add(int(fields[0]))
        return labels


def _label_folders(folder: str) -> Iterator[str]:
    """Where the label files of the images of a folder lie."""
    parts = folder.split("/")
    if "images" in parts:
        last = len(parts) - 1 - parts[::-1].index("images")
        yield "/".join([*parts[:last], "labels", *parts[last + 1 :]])
    yield folder


def _judge(fields: list[str], num_classes: int) -> str:
    """What is wrong with a line; "" when nothing is."""
    if len(fields) < 5:
        return f"the line has {len(fields)} fields, a class id and four numbers are five"
    if not re.fullmatch("[0-9]{1,9}", fields[0]):
        return f"the class id {fields[0][:20]!r} is not a whole number"
    if int(fields[0]) >= num_classes:
        return f"the class id {int(fields[0])} has no name: {num_classes:,} classes are named"
    try:
        right = all(map(math.isfinite, map(float, fields[1:])))
    except ValueError:
        right = False
    return "" if right else "not all fields behind the class id are numbers"
