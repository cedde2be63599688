# SPDX-License-Identifier: Apache-2.0
"""Pascal VOC: one XML file an image, with the objects that it shows (`src_dataset_type: VOC`).

    Annotations/000007.xml   JPEGImages/000007.jpg   ImageSets/Main/train.txt, val.txt
    train/a.xml, train/a.jpg, valid/b.xml, valid/b.jpg                (as Roboflow writes it)

- The XML files are those of `Annotations/`; else those of the folders `train/` and `val/` (or
  `valid/`); else those of the data set folder, `images/` or `JPEGImages/`.
- The lists are those of `ImageSets/Main/`, one name without ending a line: `train.txt` and
  `val.txt`; else `trainval.txt` for training and `test.txt` for validation (with a note); else
  `trainval.txt` or `train.txt` alone. An XML file that no list names is left out, with a note.
  Without lists all XML files make one list. `test.txt` is otherwise not used.
- The labels are the names of the objects, without spaces around them. Objects marked `difficult`
  count; a note counts the images that have no others. Parts of objects do not count.
- The image is `<filename>` where such a file is there, else the image that has the name of the XML
  file, with any ending. It is looked for beside the XML file, in `JPEGImages/` and in `images/`.
- The classes are in the order of `classes.txt`, else in alphabetical order.

Python's own XML reader is safe for this: it fetches nothing from outside, and entities, which can
make a small file huge, can be declared in a DOCTYPE only. A file that has one is refused unread.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from paddlex_ml.data.faults import DatasetFault, combine
from paddlex_ml.data.image_finder import ImageFinder
from paddlex_ml.data.inventory import Inventory
from paddlex_ml.data.lines import read_lines
from paddlex_ml.data.walk import StemIndex, join, list_folder
from paddlex_ml.formats.collector import (
    Collector,
    Options,
    SourceDataset,
    check_class_name,
    order_names,
)
from paddlex_ml.formats.subsets import assign_lists, find_subsets, note_unused_test
from paddlex_ml.wording import first_names

_SUFFIX = ".xml"
_SETS = ("train", "val", "trainval", "test")
_IMAGES = ("JPEGImages", "images")


class VocAnnotation(NamedTuple):
    """The content of one XML file."""

    image: str
    """The text of `<filename>`; "" without one."""
    labels: list[str]
    """Names of the objects in the order of the file; a name comes as often as its objects."""
    only_difficult: bool
    """There are objects, and all of them are marked as difficult."""


def read_annotation(path: Path, name: str = "") -> VocAnnotation | DatasetFault:
    """Read one XML file, or return its first fault; `name` (or its last part) is its name there."""
    name = name or path.name
    lines, faults, _ = read_lines(path, name)
    if faults:
        return faults[0]
    text = "\n".join(line or "" for line in lines)
    before, doctype, _ = text.partition("<!DOCTYPE")
    if doctype:
        line = before.count("\n") + 1
        what = "the file has a DOCTYPE, which VOC files do not need and which can do harm"
        fix = "remove the DOCTYPE, or the file"
        return DatasetFault("not a VOC file", f"{name}:{line}", what, fix)
    try:
        tree = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        what = f"the XML is damaged: {str(error).partition(':')[0]}"
        return DatasetFault("damaged XML", f"{name}:{error.position[0]}", what, "restore the file")
    if tree.tag != "annotation":
        what = f"the file is not a VOC annotation: it begins with <{tree.tag}>, not <annotation>"
        return DatasetFault("not a VOC file", name, what, "move it out of the data set")
    objects = tree.findall("object")
    labels = [(entry.findtext("name") or "").strip() for entry in objects]
    for label in labels:
        if fault := check_class_name(label, name):
            return fault
    difficult = [(entry.findtext("difficult") or "").strip() == "1" for entry in objects]
    image = (tree.findtext("filename") or "").strip()
    return VocAnnotation(image, labels, bool(objects) and all(difficult))


def recognise(inventory: Inventory) -> str:
    """The XML file by whose content the format is known."""
    files = inventory.find(_SUFFIX)[:3]
    return next((path for path in files if b"<annotation>" in inventory.read_head(path)), "")


def read(root: Path, options: Options) -> SourceDataset:
    """Read the XML files and the lists. Raises one PaddlexMLError with every fault."""
    collector = Collector(root, options)
    lists = _find_lists(collector)
    files: dict[str, VocAnnotation] = {}  # those without faults
    every = list(dict.fromkeys(path for paths in lists.values() for path in paths))
    for done, path in enumerate(every, 1):
        file = read_annotation(root / path, path)
        if isinstance(file, DatasetFault):
            collector.faults.append(file)
        else:
            files[path] = file
        options.progress(done, len(every))
    _add_images(collector, lists, files)
    if difficult := [path for path, file in files.items() if file.only_difficult]:
        text = f"{len(difficult):,} images have only difficult objects, which count as all others"
        collector.notes.append(f"{text}: {first_names(difficult, 5)}")
    names, faults = order_names(root, {label for file in files.values() for label in file.labels})
    collector.faults += faults
    return collector.finish(names)


def _add_images(
    collector: Collector, lists: dict[str, list[str]], files: dict[str, VocAnnotation]
) -> None:
    finder, stems = ImageFinder(collector.root), StemIndex(collector.root)
    for name, paths in lists.items():
        collector.open_list(name)
        for path in paths:
            if path not in files:
                continue  # it is a fault already
            folder, _, file = path.rpartition("/")
            folders = list(dict.fromkeys([folder, *_IMAGES]))
            image, labels = files[path].image, files[path].labels
            if not image or not isinstance(finder.find(image, folders), str):
                stem = file[: -len(_SUFFIX)]
                image = stems.find_name(stem, folders) or image or f"{stem}.jpg"
            collector.add(name, image, folders, labels, path)


# The lists


def _find_lists(collector: Collector) -> dict[str, list[str]]:
    """The XML files of each list."""
    root = collector.root
    for folder in ("Annotations", "annotations"):
        if every := _find_xml(root, folder):
            return _divide(collector, every)
    folders = find_subsets(root)
    subsets = {subset: _find_xml(root, folder) for subset, folder in folders.items()}
    subsets = {subset: paths for subset, paths in subsets.items() if paths}
    if lists := assign_lists(subsets):
        if "test" in subsets:
            folder = subsets["test"][0].rpartition("/")[0]
            collector.notes.append(note_unused_test(f"{folder}/"))
        return {name: subsets[subset] for subset, name in lists.items()}
    for folder in ("", *_IMAGES):
        if every := _find_xml(root, folder):
            return _divide(collector, every)
    raise combine([_explain_nothing(root)], root)


def _find_xml(root: Path, folder: str) -> list[str]:
    if not (root / folder).is_dir():
        return []
    names = list_folder(root, folder).files
    return [join(folder, name) for name in names if name.lower().endswith(_SUFFIX)]


def _explain_nothing(root: Path) -> DatasetFault:
    text = (
        "there is no .xml file in Annotations/, train/, images/, JPEGImages/ or the folder itself"
    )
    for name in list_folder(root).folders:
        if (root / name / "Annotations").is_dir():
            fix = f"-o Global.dataset_dir={root / name} (the folder that holds Annotations/)"
            return DatasetFault("nothing found", "", text, fix)
    fix = "-o Global.dataset_dir=... (the folder that holds Annotations/, for instance VOC2007)"
    return DatasetFault("nothing found", "", text, fix)


def _divide(collector: Collector, every: list[str]) -> dict[str, list[str]]:
    """Divide the XML files by the lists of ImageSets/Main."""
    there = [name for name in _SETS if (collector.root / _locate_set(name)).is_file()]
    chosen = _choose_sets(there)
    by_stem = {path.rpartition("/")[2][: -len(_SUFFIX)]: path for path in every}
    test: list[str] = []
    if chosen.get("val") == "test":
        text = f"{_locate_set('trainval')} is for training and {_locate_set('test')} for validation"
        collector.notes.append(f"{text}: there is no division into train.txt and val.txt")
    elif "test" in there:
        collector.notes.append(note_unused_test(_locate_set("test")))
        test = [by_stem[stem] for _, stem in _read_set(collector, "test") if stem in by_stem]
    if not chosen:
        return {"train": sorted(set(every) - set(test))}
    lists: dict[str, list[str]] = {}
    for name, set_name in chosen.items():
        paths = []
        for where, stem in _read_set(collector, set_name):
            if stem in by_stem:
                paths.append(by_stem[stem])
            else:
                fix = "restore the XML file, or remove the line"
                text = f"{stem}{_SUFFIX} is not there"
                collector.add_fault("annotation missing", where, text, fix)
        lists[name] = list(dict.fromkeys(paths))
    listed = {path for paths in lists.values() for path in paths}
    if rest := sorted(set(every) - set(test) - listed):
        text = f"{len(rest):,} XML files are in no list of ImageSets/Main, left out"
        collector.notes.append(f"{text}: {first_names(rest, 5)}")
    return lists


def _choose_sets(there: list[str]) -> dict[str, str]:
    """Return which file of ImageSets/Main becomes which list."""
    for train, val in (("train", "val"), ("trainval", "test")):
        if train in there and val in there:
            return {"train": train, "val": val}
    alone = [name for name in ("trainval", "train") if name in there]
    return {"train": alone[0]} if alone else {}


def _locate_set(name: str) -> str:
    return f"ImageSets/Main/{name}.txt"


def _read_set(collector: Collector, name: str) -> list[tuple[str, str]]:
    """Read file and line, and the name of an image without its ending, for each line of a list."""
    path = _locate_set(name)
    lines, faults, _ = read_lines(collector.root / path, path)
    collector.faults += faults
    stems = [(line or "").strip() for line in lines]
    return [(f"{path}:{number}", stem) for number, stem in enumerate(stems, 1) if stem]
