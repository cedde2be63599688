# SPDX-License-Identifier: Apache-2.0
"""LabelMe: one JSON file an image, with flags and shapes (`src_dataset_type: LabelMe`).

    a.jpg  a.json          or   images/a.jpg  annotations/a.json
    train/a.jpg  train/a.json   val/b.jpg  val/b.json

- All `.json` files of the data set are read, in folders of any depth. One that is no LabelMe file
  (an object with `shapes`) is refused by its name: move it out of the data set.
- The labels are the flags of the image that are true, and the labels of its shapes, without spaces
  around them. A flag that is true for no image is no class, and a note says so; to keep it as a
  class name it in `classes.txt`.
- The image is `imagePath`, relative to the JSON file (with / or \\), else the image beside the JSON
  file that is called like it, with any ending, else the file of that name in `images/`. The copy of
  the image inside the JSON file (`imageData`) is not used.
- Files below folders `train/` and `val/` (or `valid/`) make these lists; then a file in neither is
  refused. With one of the two, or none, there is one list. Files below `test/` are left alone.
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
from paddlex_ml.formats.collector import (
    Collector,
    ImageFinder,
    Options,
    SourceDataset,
    judge_name,
    name_first,
    order_names,
)
from paddlex_ml.formats.subsets import divide, part_of_path
from paddlex_ml.formats.walk import Stems, is_image, join, walk

_SUFFIX = ".json"
_SAVE_AS = "save the file as UTF-8"


class _Shape(msgspec.Struct, gc=False):
    label: str


class _File(msgspec.Struct, gc=False):
    """The fields that count: msgspec steps over all others, megabytes of image data included."""

    shapes: list[_Shape]
    flags: dict[str, bool] | None = None
    image: str | None = msgspec.field(default=None, name="imagePath")


_decoder = msgspec.json.Decoder(_File)


def read(root: Path, options: Options) -> SourceDataset:
    """Read all JSON files. Raises one PaddlexMLError with every fault."""
    collector = Collector(root, options)
    folders = list(walk(root))
    every = [join(folder.path, name) for folder in folders for name in folder.files]
    lists, collector.faults, collector.notes = divide(
        path for path in every if path.lower().endswith(_SUFFIX)
    )
    if not any(lists.values()):
        fix = "-o Global.dataset_dir=... (the folder that holds the images and their .json files)"
        text = "there is no .json file in the data set"
        raise combine([*collector.faults, DatasetFault("nothing found", "", text, fix)], root)
    files = _read_files(collector, [path for paths in lists.values() for path in paths])
    named = _add_images(collector, lists, files)
    _note_unused(collector, files.values(), filter(is_image, every), named)
    names, faults = order_names(root, {name for file in files.values() for name in _labels(file)})
    collector.faults += faults
    return collector.finish(names)


def _read_files(collector: Collector, paths: list[str]) -> dict[str, _File]:
    """The sound files; the others become faults."""
    files: dict[str, _File] = {}
    for done, path in enumerate(paths, 1):
        found = _read_file(collector.root / path, path)
        if isinstance(found, DatasetFault):
            collector.faults.append(found)
        else:
            files[path] = found
        collector.options.progress(done, len(paths))
    return files


def _read_file(path: Path, name: str) -> _File | DatasetFault:
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        text = f"{name} cannot be read: {error.strerror}"
        return DatasetFault(
            "file not readable", name, text, "make it a plain file that you may read"
        )
    try:
        file = _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _explain(content, error, name)
    return next(filter(None, (judge_name(label, name) for label in _labels(file))), file)


def _explain(content: bytes, error: Exception, name: str) -> DatasetFault:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as wrong:
        line = content.count(b"\n", 0, wrong.start) + 1
        return DatasetFault("not UTF-8", f"{name}:{line}", "the line is not UTF-8 text", _SAVE_AS)
    told = str(error)
    if isinstance(error, msgspec.ValidationError):
        if " - at `$" not in told:  # the top level itself
            text = f"{name} is no LabelMe file, which is an object with `shapes`"
            return DatasetFault("not a LabelMe file", name, text, "move it out of the data set")
        fix = "correct the file, or annotate the image again"
        return DatasetFault("wrong value", name, f"a value of {name} is wrong: {told}", fix)
    offset = re.search(r"\(byte (\d+)\)", told)
    end = int(offset[1]) if offset else len(content)
    line = content.count(b"\n", 0, end) + 1
    text = f"the JSON is damaged: {told.removeprefix('JSON is malformed: ')}"
    return DatasetFault("damaged JSON", f"{name}:{line}", text, "restore the file")


def _labels(file: _File) -> list[str]:
    flags = [flag for flag, is_set in (file.flags or {}).items() if is_set]
    return [name.strip() for name in [*flags, *(shape.label for shape in file.shapes)]]


def _add_images(
    collector: Collector, lists: dict[str, list[str]], files: dict[str, _File]
) -> set[str]:
    """Add the images to their lists; return the paths that the files name."""
    finder, stems = ImageFinder(collector.root), Stems(collector.root)
    named: set[str] = set()
    for name, paths in lists.items():
        collector.open_list(name)
        for path in paths:
            if path not in files:
                continue  # its fault is told already
            image = _find_image(path, files[path].image or "", finder, stems)
            folders = [path.rpartition("/")[0]]
            collector.add(name, image, folders, _labels(files[path]), path)
            named.add(str(finder.find(image, folders)))
    return named


def _find_image(path: str, image: str, finder: ImageFinder, stems: Stems) -> str:
    """Path of the image relative to its JSON file; the named one where none is there."""
    folder, _, name = path.rpartition("/")
    stem = name[: -len(_SUFFIX)]
    if image and isinstance(finder.find(image, [folder]), str):
        return image
    if beside := stems.find_name(stem, [folder]):
        return beside
    last = re.split(r"[/\\]", image)[-1] or f"{stem}.jpg"
    found = finder.find(last, ["images"])
    if isinstance(found, str):
        return os.path.relpath(found, folder or ".")
    return image or last


def _note_unused(
    collector: Collector, files: Iterable[_File], images: Iterable[str], named: set[str]
) -> None:
    """Say which flags and images the files leave out."""
    known = {flag.strip() for file in files for flag in file.flags or {}}
    if unset := sorted(known.difference(*map(_labels, files))):
        text = f"{len(unset):,} flags are true for no image, so they are no classes"
        collector.notes.append(f"{text}: {name_first(unset)}")
    rest = [path for path in images if path not in named and part_of_path(path) != "test"]
    if rest:
        text = f"{len(rest):,} images have no LabelMe file, left out"
        collector.notes.append(f"{text}: {name_first(rest)}")
