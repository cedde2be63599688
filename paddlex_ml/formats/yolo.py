# SPDX-License-Identifier: Apache-2.0
"""YOLO: one text file an image, one object a line (`src_dataset_type: YOLO`).

    data.yaml            names: [cat, dog]   train: images/train   val: images/val
    images/train/a.jpg   labels/train/a.txt: "1 0.5 0.5 0.2 0.3"

- The YAML file is `data.yaml`, or the only other one beside it that has `names`: a list, or
  `0: cat` and so on. Names are used as they are written: `yes` and `1` are names.
- `train` and `val` name a folder (searched in all depths), a `.txt` list of images, or several of
  these. They are relative to `path`, where that is a folder of the data set, else to the YAML file;
  `../train/images`, as Roboflow writes it, is `train/images` where nothing else is there. With one
  of the two there is one list. `test` is not used.
- Without a YAML file the names are the lines of `classes.txt`, `obj.names` or `labels/classes.txt`,
  and the images are those of `images/`, or of the whole data set where it has no such folder.
  Those in folders `train/` and `val/` (or `valid/`) make these lists; `test/` is not used.
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
from paddlex_ml.data.image_finder import ImageFinder
from paddlex_ml.data.inventory import Inventory
from paddlex_ml.data.lines import read_lines
from paddlex_ml.data.walk import is_image, join, resolve_inside, walk
from paddlex_ml.formats import yolo_yaml
from paddlex_ml.formats.collector import (
    Collector,
    Options,
    SourceDataset,
    check_class_name,
)
from paddlex_ml.formats.subsets import assign_lists, divide_files, note_unused_test
from paddlex_ml.formats.yolo_yaml import DataYaml, PathEntry
from paddlex_ml.wording import first_names

_NAME_FILES = ("classes.txt", "obj.names", "labels/classes.txt")
_NO_LABELS = {"classes.txt", LABEL_FILE, TRAIN_FILE, VAL_FILE, "test.txt"}
_LINE = 'write "<class id> <x> <y> <width> <height>", or a class id and the points of a polygon'


class _YoloImage(NamedTuple):
    """An image as the source names it, the folders to look in, and where it is named."""

    name: str
    folders: list[str]
    where: str


def recognise(inventory: Inventory) -> str:
    """The file with the class names by which the format is known."""
    file = yolo_yaml.find(inventory.root)
    return file or next((name for name in _NAME_FILES if name in inventory.files), "")


def read(root: Path, options: Options) -> SourceDataset:
    """Read names, images and label files. Raises one PaddlexMLError with every fault."""
    collector = Collector(root, options)
    if file := yolo_yaml.find(root):
        content = yolo_yaml.read(root, file)
        collector.faults += content.faults
        names, lists = content.names, _list_named_images(collector, file, content)
    else:
        names, lists = _read_names(collector), _find_images(collector)
    # Damaged names do not give the number of classes: the label files are read all the same.
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
    collector.notes += reader.list_notes()
    return collector.finish(names, keys=range(len(names)))


# Images, as the YAML file names them


def _list_named_images(
    collector: Collector, file: str, content: DataYaml
) -> dict[str, list[_YoloImage]]:
    lists = assign_lists(content.paths)
    if not lists and not content.faults:
        fix = 'write where the images are: "train: images/train" and "val: images/val"'
        collector.add_fault("nothing found", file, "neither `train` nor `val` names a path", fix)
    for entry in content.paths.get("test", []):
        collector.notes.append(note_unused_test(entry.text))
    base = ""  # the folder that `path` names; "" is the data set itself
    if content.base:
        path = resolve_inside(collector.root, content.base.text)
        if path is not None and os.path.isdir(collector.root / path):
            base = path
        else:
            text = f"path {content.base.text} is not a folder of the data set"
            other = "the other paths are relative to the YAML file"
            collector.notes.append(f"{content.base.where}: {text}: {other}")
    images: dict[str, list[_YoloImage]] = {}
    for subset, name in lists.items():
        entries = content.paths[subset]
        images[name] = [image for entry in entries for image in _open(collector, base, entry)]
    return images


def _open(collector: Collector, base: str, entry: PathEntry) -> Iterator[_YoloImage]:
    """The images of one path: a folder or a list."""
    root = collector.root
    plain = re.sub(r"^(\.\./)+", "", entry.text.replace("\\", "/"))
    tried = [
        resolve_inside(root, entry.text, base),
        resolve_inside(root, entry.text),
        resolve_inside(root, plain),
    ]
    paths = [path for path in dict.fromkeys(tried) if path is not None]
    for path in paths:
        if os.path.isdir(root / path):  # False, too, for a name that no disk can have
            images = list(_list_images(root, path, entry.where))
            if not images:
                fix = "put the images there, or correct the path"
                text = f"{entry.text} has no image"
                collector.add_fault("nothing found", entry.where, text, fix)
            yield from images
            return
        if path.lower().endswith(".txt") and os.path.isfile(root / path):
            lines, faults, _ = read_lines(root / path, path)
            collector.faults += faults
            folders = list(dict.fromkeys([os.path.dirname(path), base, ""]))
            for number, line in enumerate(lines, 1):
                if line and line.strip():
                    yield _YoloImage(line.strip(), folders, f"{path}:{number}")
            return
    looked = ", ".join(paths) or "nowhere: it lies outside"
    text = f"{entry.text} is neither a folder nor a .txt list of the data set (looked for {looked})"
    fix = "write the path relative to the folder of the YAML file"
    collector.add_fault("nothing found", entry.where, text, fix)


def _list_images(root: Path, folder: str, where: str = "") -> Iterator[_YoloImage]:
    for inner in walk(root, folder):
        for name in filter(is_image, inner.files):
            path = join(inner.path, name)
            yield _YoloImage(path, [""], where or path)


# Names and images without a YAML file


def _read_names(collector: Collector) -> list[str]:
    root = collector.root
    file = next((name for name in _NAME_FILES if (root / name).is_file()), None)
    if file is None:
        text = f"there is neither a data.yaml with `names`, nor {' or '.join(_NAME_FILES)}"
        fix = "write the names of the classes into classes.txt, one a line, in the order of ids"
        raise combine([DatasetFault("nothing found", "", text, fix)], root)
    lines, faults, _ = read_lines(root / file, file)
    collector.faults += faults
    first: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if line is None:
            continue  # it is a fault already
        name, where = line.strip(), f"{file}:{number}"
        if fault := check_class_name(name, where):
            collector.faults.append(fault)
        elif first.setdefault(name, number) != number:
            text = f"the name {name!r} is in line {first[name]} already"
            fix = "give every class a name of its own"
            collector.add_fault("duplicate class name", where, text, fix)
    return list(first)


def _find_images(collector: Collector) -> dict[str, list[_YoloImage]]:
    root = collector.root
    folder = "images" if (root / "images").is_dir() else ""
    every = [image.name for image in _list_images(root, folder)]
    lists, faults, notes = divide_files(every)
    collector.faults += faults
    collector.notes += notes
    if (root / TRAIN_FILE).is_file() and not (root / LABEL_FILE).is_file():
        text = "train.txt is not read: to use it, write a data.yaml with `names`"
        collector.notes.append(f"{text} and `train: train.txt`")
    return {name: [_YoloImage(path, [""], path) for path in paths] for name, paths in lists.items()}


# Label files


class _LabelReader:
    """Reads the label files of images; remembers folders listed and files used."""

    def __init__(self, collector: Collector, num_classes: int) -> None:
        self._root = collector.root
        self._faults = collector.faults
        self._num_classes = num_classes
        self._listings: dict[str, set[str]] = {}
        self._used: dict[str, set[str]] = {}
        self._without: dict[str, None] = {}  # images without a label file

    def read(self, image: str) -> set[int]:
        """Class ids of an image, by its path relative to the data set."""
        folder, _, name = image.rpartition("/")
        file = os.path.splitext(name)[0] + ".txt"
        for label_folder in _list_label_folders(folder):
            if file in self._list(label_folder):
                self._used.setdefault(label_folder, set()).add(file)
                return self._parse(join(label_folder, file))
        self._without[image] = None
        return set()

    def list_notes(self) -> list[str]:
        """Notes on images without labels and labels without images."""
        notes = []
        if images := list(self._without):
            shown = first_names(images, 5)
            notes.append(f"{len(images):,} images have no label file, so no label: {shown}")
        unused = [
            join(folder, name)
            for folder, used in sorted(self._used.items())
            for name in sorted(self._listings[folder] - used - _NO_LABELS)
        ]
        if unused:
            notes.append(f"{len(unused):,} label files have no image: {first_names(unused, 5)}")
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
        lines, faults, _ = read_lines(self._root / path, path)
        self._faults += faults
        labels = set()
        for number, line in enumerate(lines, 1):
            fields = (line or "").split()
            problem = _check_line(fields, self._num_classes) if fields else ""
            if problem:
                where = f"{path}:{number}"
                self._faults.append(DatasetFault("malformed line", where, problem, _LINE))
            elif fields:
                labels.add(int(fields[0]))
        return labels


def _list_label_folders(folder: str) -> Iterator[str]:
    """Yield the folders where the label files of the images of a folder may be."""
    names = folder.split("/")
    if "images" in names:
        last = len(names) - 1 - names[::-1].index("images")
        yield "/".join([*names[:last], "labels", *names[last + 1 :]])
    yield folder


def _check_line(fields: list[str], num_classes: int) -> str:
    """Return what is wrong with a line; "" when nothing is."""
    if len(fields) < 5:
        return f"the line has {len(fields)} fields, a class id and four numbers are five"
    if not re.fullmatch("[0-9]{1,9}", fields[0]):
        return f"the class id {fields[0][:20]!r} is not a whole number"
    if int(fields[0]) >= num_classes:
        return f"the class id {int(fields[0])} has no name: {num_classes:,} classes are named"
    try:
        are_finite = all(map(math.isfinite, map(float, fields[1:])))
    except ValueError:
        are_finite = False
    return "" if are_finite else "not all fields behind the class id are numbers"
