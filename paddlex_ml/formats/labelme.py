# SPDX-License-Identifier: Apache-2.0
"""LabelMe: one JSON file an image, with flags and shapes (`src_dataset_type: LabelMe`).

    a.jpg  a.json          or   images/a.jpg  annotations/a.json
    train/a.jpg  train/a.json   val/b.jpg  val/b.json

- All `.json` files of the data set are read, in folders of any depth. One that is not a LabelMe
  file (an object with `shapes`) is refused by its name: move it out of the data set.
- The labels are the flags of the image that are true, and the labels of its shapes, without spaces
  around them. A flag that is true for no image is not a class, and a note names it; to keep it as a
  class, write it into `classes.txt`.
- The image is `imagePath`, relative to the JSON file (with / or \\), else the image beside the JSON
  file that has its name, with any ending, else the file of that name in `images/`. The copy of the
  image inside the JSON file (`imageData`) is not used.
- Files below folders `train/` and `val/` (or `valid/`) make these lists; then a file in neither is
  refused. With one of the two, or none, there is one list. Files below `test/` are not used.
- Images that no JSON file names are left out, with a note.
- The classes are in the order of `classes.txt`, else in alphabetical order.
"""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from paddlex_ml.data.faults import DatasetFault, combine
from paddlex_ml.data.image_finder import ImageFinder
from paddlex_ml.data.inventory import Inventory
from paddlex_ml.data.walk import StemIndex, is_image, join, walk
from paddlex_ml.formats.collector import (
    Collector,
    Options,
    SourceDataset,
    check_class_name,
    order_names,
)
from paddlex_ml.formats.subsets import divide_files, parse_subset_of_path
from paddlex_ml.wording import first_names

_SUFFIX = ".json"


class _LabelMeShape(msgspec.Struct, gc=False):
    label: str


class _LabelMeFile(msgspec.Struct, gc=False):
    """The fields that are read: msgspec skips all others, megabytes of image data included."""

    shapes: list[_LabelMeShape]
    flags: dict[str, bool] | None = None
    image: str | None = msgspec.field(default=None, name="imagePath")


_decoder = msgspec.json.Decoder(_LabelMeFile)


def recognise(inventory: Inventory) -> str:
    """The JSON file by whose content the format is known."""
    files = inventory.find(_SUFFIX)[:3]
    return next((path for path in files if b'"shapes"' in inventory.read_head(path)), "")


def read(root: Path, options: Options) -> SourceDataset:
    """Read all JSON files. Raises one PaddlexMLError with every fault."""
    collector = Collector(root, options)
    every = [join(folder.path, name) for folder in walk(root) for name in folder.files]
    lists, collector.faults, collector.notes = divide_files(
        path for path in every if path.lower().endswith(_SUFFIX)
    )
    if not any(lists.values()):
        fix = "-o Global.dataset_dir=... (the folder that holds the images and their .json files)"
        text = "there is no .json file in the data set"
        raise combine([*collector.faults, DatasetFault("nothing found", "", text, fix)], root)
    files: dict[str, _LabelMeFile] = {}  # those without faults
    paths = [path for listed in lists.values() for path in listed]
    for done, path in enumerate(paths, 1):
        file = _read_file(root / path, path)
        if isinstance(file, DatasetFault):
            collector.faults.append(file)
        else:
            files[path] = file
        options.progress(done, len(paths))
    used_images = _add_images(collector, lists, files)
    _note_unused(collector, files.values(), filter(is_image, every), used_images)
    seen = {name for file in files.values() for name in _list_labels(file)}
    names, faults = order_names(root, seen)
    collector.faults += faults
    return collector.finish(names)


def _read_file(path: Path, name: str) -> _LabelMeFile | DatasetFault:
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        text = f"{name} cannot be read: {error.strerror}"
        fix = "make it a plain file that you may read"
        return DatasetFault("file not readable", name, text, fix)
    try:
        file = _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _explain(content, error, name)
    faults = (check_class_name(label, name) for label in _list_labels(file))
    return next(filter(None, faults), file)


def _explain(content: bytes, error: Exception, name: str) -> DatasetFault:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as wrong:
        line = content.count(b"\n", 0, wrong.start) + 1
        text, fix = "the line is not UTF-8 text", "save the file as UTF-8"
        return DatasetFault("not UTF-8", f"{name}:{line}", text, fix)
    message = str(error)
    if isinstance(error, msgspec.ValidationError):
        if " - at `$" not in message:  # the top level itself
            text = f"{name} is not a LabelMe file, which is an object with `shapes`"
            return DatasetFault("not a LabelMe file", name, text, "move it out of the data set")
        fix = "correct the file, or annotate the image again"
        return DatasetFault("wrong value", name, f"a value of {name} is wrong: {message}", fix)
    offset = re.search(r"\(byte (\d+)\)", message)
    end = int(offset[1]) if offset else len(content)
    line = content.count(b"\n", 0, end) + 1
    text = f"the JSON is damaged: {message.removeprefix('JSON is malformed: ')}"
    return DatasetFault("damaged JSON", f"{name}:{line}", text, "restore the file")


def _list_labels(file: _LabelMeFile) -> list[str]:
    flags = [flag for flag, is_set in (file.flags or {}).items() if is_set]
    return [name.strip() for name in [*flags, *(shape.label for shape in file.shapes)]]


def _add_images(
    collector: Collector, lists: dict[str, list[str]], files: dict[str, _LabelMeFile]
) -> set[str]:
    """Add the images to their lists; return the paths of the images that the files name."""
    finder, stems = ImageFinder(collector.root), StemIndex(collector.root)
    used_images: set[str] = set()
    for name, paths in lists.items():
        collector.open_list(name)
        for path in paths:
            if path not in files:
                continue  # it is a fault already
            image = _find_image(path, files[path].image or "", finder, stems)
            folders = [path.rpartition("/")[0]]
            collector.add(name, image, folders, _list_labels(files[path]), path)
            used_images.add(str(finder.find(image, folders)))
    return used_images


def _find_image(path: str, image: str, finder: ImageFinder, stems: StemIndex) -> str:
    """Path of the image relative to its JSON file; the named one where none is there."""
    folder, _, name = path.rpartition("/")
    stem = name[: -len(_SUFFIX)]
    if image and isinstance(finder.find(image, [folder]), str):
        return image
    if beside := stems.find_name(stem, [folder]):
        return beside
    last = re.split(r"[/\\]", image)[-1] or f"{stem}.jpg"
    in_images = finder.find(last, ["images"])
    if isinstance(in_images, str):
        return os.path.relpath(in_images, folder or ".")
    return image or last


def _note_unused(
    collector: Collector,
    files: Iterable[_LabelMeFile],
    images: Iterable[str],
    used_images: set[str],
) -> None:
    """Note which flags and images are left out."""
    known = {flag.strip() for file in files for flag in file.flags or {}}
    if unset := sorted(known.difference(*map(_list_labels, files))):
        text = f"{len(unset):,} flags are true for no image and are not classes"
        collector.notes.append(f"{text}: {first_names(unset, 5)}")
    unused = [path for path in images if path not in used_images]
    if unused := [path for path in unused if parse_subset_of_path(path) != "test"]:
        text = f"{len(unused):,} images have no LabelMe file, left out"
        collector.notes.append(f"{text}: {first_names(unused, 5)}")
