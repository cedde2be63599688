# SPDX-License-Identifier: Apache-2.0
"""Image folders: one folder for each class (`src_dataset_type: ImageFolder`).

    train/cat/1.jpg   train/dog/2.jpg   val/cat/3.jpg       or   cat/1.jpg   dog/2.jpg

- The folders of the classes are in `train/` and `val/` (or `valid/`), which make these lists; else
  in the data set folder, or in `images/` where that has folders, as one list. A folder `train/`
  that stands alone, but for `test/`, is such a list too. `test/` is left alone.
- The first folder is the class; folders in it are searched in all depths. A class without any image
  stays a class.
- Images of the same content in several folders are one image with all their labels, kept under the
  first of its paths in alphabetical order; a note counts them. Names say nothing about content.
  Copies in train and in val stay in both lists: the check warns of them. Empty files are no copies.
- Images that lie in no folder of a class, hidden files and other files are left out, with a note.
- The classes are in the order of `classes.txt`, else in alphabetical order.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from paddlex_ml.formats.found import (
    Collector,
    Found,
    Options,
    judge_name,
    name_first,
    order_names,
)
from paddlex_ml.formats.parts import find_parts, lists_of, tell_test
from paddlex_ml.formats.walk import is_image, join, list_folder, walk


class _Image(NamedTuple):
    path: str
    label: str


@dataclass
class _LeftOut:
    """Files that are no images of a class."""

    loose: list[str] = field(default_factory=list)
    others: int = 0


def read(root: Path, options: Options) -> Found:
    """Read the names of all folders and files, and the content of images of equal size."""
    collector, left_out = Collector(root, options), _LeftOut()
    lists, collector.notes = _find_lists(root)
    images = {
        name: list(_find_images(root, base, left_out, collector)) for name, base in lists.items()
    }
    classes = {label for base in lists.values() for label in _class_folders(root, base)}
    total, done = sum(map(len, images.values())), 0
    for name, found in images.items():
        collector.open_list(name)
        for path, labels in _unite(root, found, collector.notes).items():
            collector.add(name, path, [""], labels, path)
            done += len(labels)
            options.progress(done, total)
    collector.notes += _tell(left_out)
    names, faults = order_names(root, classes)
    collector.faults += faults
    return collector.finish(names)


def _find_lists(root: Path) -> tuple[dict[str, str], list[str]]:
    """The folder of the class folders for each list, and notes."""
    folders = list_folder(root).folders
    parts = find_parts(root)
    lists = lists_of(parts)
    rest = [name for name in folders if name not in parts.values()]
    if len(lists) == 2 or (lists and not rest):
        notes = [tell_test(f"{parts['test']}/")] if "test" in parts else []
        return {name: parts[part] for part, name in lists.items()}, notes
    base = "images" if "images" in folders and list_folder(root, "images").folders else ""
    return {"train": base}, []


def _class_folders(root: Path, base: str) -> list[str]:
    return [name.strip() for name in list_folder(root, base).folders]


def _find_images(
    root: Path, base: str, left_out: _LeftOut, collector: Collector
) -> Iterator[_Image]:
    top = list_folder(root, base)
    left_out.loose += [join(base, name) for name in top.files if is_image(name)]
    for label in top.folders:
        if fault := judge_name(label.strip(), join(base, label)):
            collector.faults.append(fault)
        for folder in walk(root, join(base, label)):
            pictures = [name for name in folder.files if is_image(name)]
            left_out.others += len(folder.files) - len(pictures) + folder.hidden
            yield from (_Image(join(folder.path, name), label.strip()) for name in pictures)


def _unite(root: Path, images: list[_Image], notes: list[str]) -> dict[str, list[str]]:
    """Labels of every image, by the first path that has its content."""
    by_size: dict[int, list[_Image]] = defaultdict(list)
    for image in sorted(images):
        by_size[_measure(root / image.path)].append(image)
    labels: dict[str, list[str]] = {}
    copies = 0
    for size, alike in by_size.items():
        first: dict[bytes, str] = {}
        for image in alike:
            # Most sizes are there once: only equal ones are worth the reading.
            content = _digest(root / image.path) if len(alike) > 1 and size else b""
            path = first.setdefault(content, image.path) if content else image.path
            copies += path != image.path
            labels.setdefault(path, []).append(image.label)
    if copies:
        text = f"{copies:,} copies of an image in another folder were united with it"
        notes.append(f"{text}: it has the labels of all its folders")
    return dict(sorted(labels.items()))


def _measure(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # a link to nowhere: the search for images will say so


def _digest(path: Path) -> bytes:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return b""  # it stands for itself; the check says why it cannot be read


def _tell(left_out: _LeftOut) -> list[str]:
    notes = []
    if left_out.loose:
        text = f"{len(left_out.loose):,} images lie in no folder of a class, left out"
        notes.append(f"{text}: {name_first(left_out.loose)}")
    if left_out.others:
        notes.append(f"{left_out.others:,} hidden files and files that are no images, left out")
    return notes
