# SPDX-License-Identifier: Apache-2.0
"""Pascal VOC: one XML file an image, with the objects that it shows (`src_dataset_type: VOC`).

    Annotations/000007.xml   JPEGImages/000007.jpg   ImageSets/Main/train.txt, val.txt
    train/a.xml, train/a.jpg, valid/b.xml, valid/b.jpg                (as Roboflow writes it)

- The XML files are those of `Annotations/`; else those of the folders `train/` and `val/` (or
  `valid/`); else those of the data set folder, `images/` or `JPEGImages/`.
- The lists are those of `ImageSets/Main/`, one name without ending a line: `train.txt` and
  `val.txt`; else `trainval.txt` to train and `test.txt` to validate (a note says so); else
  `trainval.txt` or `train.txt` alone. An XML file that no list names is left out, with a note.
  Without lists all XML files make one list. `test.txt` is otherwise left alone.
- The labels are the names of the objects, without spaces around them. Objects marked `difficult`
  count; a note says how many images have no others. Parts of objects do not count.
- The image is `<filename>` where such a file is there, else the image that is called like the XML
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
from paddlex_ml.data.lines import read_lines
from paddlex_ml.formats.collector import (
    Collector,
    ImageFinder,
    Options,
    SourceDataset,
    judge_name,
    name_first,
    order_names,
)
from paddlex_ml.formats.subsets import find_parts, lists_of, tell_test
from paddlex_ml.formats.walk import Stems, join, list_folder

_SUFFIX = ".xml"
_SETS = ("train", "val", "trainval", "test")
_IMAGES = ("JPEGImages", "images")
_NOT_VOC = "not a VOC file"


class Annotation(NamedTuple):
    """What one XML file says."""

    image: str
    """The text of `<filename>`; "" without one."""
    labels: list[str]
    """Names of the objects in the order of the file; a name comes as often as its objects."""
    only_difficult: bool
    """There are objects, and all of them are marked as difficult."""


def labels_of(path: Path, name: str = "") -> Annotation | DatasetFault:
    """Read one XML file, or say what is wrong with it; a fault calls it `name`, or by its name."""
    name = name or path.name
    lines, faults = read_lines(path, name)
    if faults:
        return faults[0]
    text = "\n".join(line or "" for line in lines)
    before, doctype, _ = text.partition("<!DOCTYPE")
    if doctype:
        line = before.count("\n") + 1
        what = "the file has a DOCTYPE, which VOC files do not need and which can do harm"
        return DatasetFault(_NOT_VOC, f"{name}:{line}", what, "remove the DOCTYPE, or the file")
    try:
        tree = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        what = f"the XML is damaged: {str(error).partition(':')[0]}"
        return DatasetFault("damaged XML", f"{name}:{error.position[0]}", what, "restore the file")
    if tree.tag != "annotation":
        what = f"the file is no VOC annotation: it begins with <{tree.tag}>, not <annotation>"
        return DatasetFault(_NOT_VOC, name, what, "move it out of the data set")
    return _describe(tree, name)


def read(root: Path, options: Options) -> SourceDataset:
    """Read the XML files and the lists. Raises one PaddlexMLError with every fault."""
    collector = Collector(root, options)
    lists = _find_lists(collector)
    files: dict[str, Annotation | DatasetFault] = {}
    every = list(dict.fromkeys(path for paths in lists.values() for path in paths))
    for path in every:
        files[path] = labels_of(root / path, path)
        options.progress(len(files), len(every))
    sound = {path: file for path, file in files.items() if isinstance(file, Annotation)}
    collector.faults += [file for file in files.values() if isinstance(file, DatasetFault)]
    _add_images(collector, lists, sound)
    difficult = [path for path, file in sound.items() if file.only_difficult]
    if difficult:
        text = f"{len(difficult):,} images have difficult objects alone, which count as all others"
        collector.notes.append(f"{text}: {name_first(difficult)}")
    names, faults = order_names(root, {label for file in sound.values() for label in file.labels})
    collector.faults += faults
    return collector.finish(names)


# One file


def _describe(tree: ElementTree.Element, where: str) -> Annotation | DatasetFault:
    objects = tree.findall("object")
    labels = [(thing.findtext("name") or "").strip() for thing in objects]
    for label in labels:
        if fault := judge_name(label, where):
            return fault
    difficult = [(thing.findtext("difficult") or "").strip() == "1" for thing in objects]
    image = (tree.findtext("filename") or "").strip()
    return Annotation(image, labels, bool(objects) and all(difficult))


def _add_images(
    collector: Collector, lists: dict[str, list[str]], files: dict[str, Annotation]
) -> None:
    finder, stems = ImageFinder(collector.root), Stems(collector.root)
    for name, paths in lists.items():
        collector.open_list(name)
        for path in paths:
            if path not in files:
                continue  # its fault is told already
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
    parts = {part: _find_xml(root, folder) for part, folder in find_parts(root).items()}
    parts = {part: paths for part, paths in parts.items() if paths}
    if lists := lists_of(parts):
        if "test" in parts:
            collector.notes.append(tell_test(parts["test"][0].rpartition("/")[0] + "/"))
        return {name: parts[part] for part, name in lists.items()}
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
    """Divide the XML files as the lists of ImageSets/Main say."""
    there = [name for name in _SETS if (collector.root / _place_of(name)).is_file()]
    chosen = _choose_sets(there)
    by_stem = {path.rpartition("/")[2][: -len(_SUFFIX)]: path for path in every}
    test: list[str] = []
    if chosen.get("val") == "test":
        text = f"{_place_of('trainval')} is for training and {_place_of('test')} for validation"
        collector.notes.append(f"{text}: there is no division into train.txt and val.txt")
    elif "test" in there:
        collector.notes.append(tell_test(_place_of("test")))
        test = [by_stem[stem] for _, stem in _read_set(collector, "test") if stem in by_stem]
    if not chosen:
        return {"train": sorted(set(every) - set(test))}
    lists = {name: _find_listed(collector, file, by_stem) for name, file in chosen.items()}
    listed = {path for paths in lists.values() for path in paths}
    if rest := sorted(set(every) - set(test) - listed):
        text = f"{len(rest):,} XML files stand in no list of ImageSets/Main, left out"
        collector.notes.append(f"{text}: {name_first(rest)}")
    return lists


def _choose_sets(there: list[str]) -> dict[str, str]:
    """Which file of ImageSets/Main becomes which list."""
    for train, val in (("train", "val"), ("trainval", "test")):
        if train in there and val in there:
            return {"train": train, "val": val}
    alone = [name for name in ("trainval", "train") if name in there]
    return {"train": alone[0]} if alone else {}


def _place_of(name: str) -> str:
    return f"ImageSets/Main/{name}.txt"


def _find_listed(collector: Collector, name: str, by_stem: dict[str, str]) -> list[str]:
    """The XML files that a list names; a line without an XML file is a fault."""
    paths = []
    for where, stem in _read_set(collector, name):
        if stem in by_stem:
            paths.append(by_stem[stem])
        else:
            fix = "restore the XML file, or remove the line"
            collector.fault("annotation missing", where, f"{stem}{_SUFFIX} is not there", fix)
    return list(dict.fromkeys(paths))


def _read_set(collector: Collector, name: str) -> list[tuple[str, str]]:
    """The lines of a list: place and name of an image, without its ending."""
    place = _place_of(name)
    lines, faults = read_lines(collector.root / place, place)
    collector.faults += faults
    stems = [(line or "").strip() for line in lines]
    return [(f"{place}:{number}", stem) for number, stem in enumerate(stems, 1) if stem]
