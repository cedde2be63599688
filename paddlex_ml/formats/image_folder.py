# SPDX-License-Identifier: Apache-2.0
"""Image folders: one folder for each class (`src_dataset_type: ImageFolder`).

    train/cat/1.jpg   train/dog/2.jpg   val/cat/3.jpg       or   cat/1.jpg   dog/2.jpg

- The folders of the classes are in `train/` and `val/` (or `valid/`), which make these lists; else
  in the data set folder, or in `images/` where that has folders, as one list. So are those in
  `train/` where there is no other folder. `test/` is left alone.
- The first folder is the class; folders in it are searched in all depths. A class without any image
  stays a class.
- Images of the same content in several folders are one image with all their labels, kept under the
  first of its paths in alphabetical order; a note counts them. Names say nothing about content.
  Copies in train and in val stay in both lists: the check warns of them. Empty files are no copies.
- Images that lie in no folder of a class, hidden files and other files are left out, with a note.
- The classes are in the order of `classes.txt`, else in alphabetical order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from paddlex_ml.formats.collector import (
    Collector,
    Options,
    SourceDataset,
    judge_name,
    name_first,
    order_names,
)
from paddlex_ml.formats.same_files import find_copies
from paddlex_ml.formats.subsets import find_parts, lists_of, tell_test
from paddlex_ml.formats.walk import Folder, is_image, join, list_folder, walk


class _Image(NamedTuple):
    path: str
    label: str


@dataclass
class _Content:
    """What the folders hold; the lists have folders of classes in them."""

    lists: dict[str, str]
    """Folder of each list."""
    test: str
    """Folder that is left alone; "" for none."""
    classes: set[str] = field(default_factory=set)
    loose: list[str] = field(default_factory=list)
    """Images in no folder of a class."""
    ignored: int = 0
    """Hidden files and folders, and files that are no images."""


def read(root: Path, options: Options) -> SourceDataset:
    """List the folders and compare the files. Raises one PaddlexMLError with every fault."""
    collector = Collector(root, options)
    content = _find_lists(collector)
    images = {
        name: sorted(_list_images(collector, content, folder))
        for name, folder in content.lists.items()
    }
    _add_images(collector, images)
    if content.loose:
        text = f"{len(content.loose):,} images lie in no folder of a class, left out"
        collector.notes.append(f"{text}: {name_first(content.loose)}")
    if content.ignored:
        text = f"{content.ignored:,} hidden files and files that are no images were ignored"
        collector.notes.append(text)
    names, faults = order_names(root, content.classes)
    collector.faults += faults
    return collector.finish(names)


def _find_lists(collector: Collector) -> _Content:
    root = collector.root
    base, listed, parts = "", list_folder(root), find_parts(root)
    if not _divides(parts, listed) and "images" in listed.folders:
        inner = list_folder(root, "images")
        if inner.folders:
            base, listed, parts = "images", inner, find_parts(root, "images")
    test = parts.get("test", "")
    if test:
        collector.notes.append(tell_test(f"{test}/"))
    if not _divides(parts, listed):
        return _Content({"train": base}, test)
    folders = [join(base, name) for name in listed.folders]
    if other := [path for path in folders if path not in parts.values()]:
        text = f"{len(other):,} folders beside train/ and val/ are left out"
        collector.notes.append(f"{text}: {name_first(other)}")
    return _Content({name: parts[part] for part, name in lists_of(parts).items()}, test)


def _divides(parts: dict[str, str], listed: Folder) -> bool:
    """Whether folders called like parts are parts, not classes: a train is a vehicle, too."""
    if "train" in parts and "val" in parts:
        return True
    return bool(lists_of(parts)) and len(parts) == len(listed.folders)


def _list_images(collector: Collector, content: _Content, folder: str) -> Iterator[_Image]:
    """The images in the folders of classes of a list."""
    listed = list_folder(collector.root, folder)
    content.loose += [join(folder, name) for name in listed.files if is_image(name)]
    for name in listed.folders:
        path, label = join(folder, name), name.strip()
        if path == content.test:
            continue
        if fault := judge_name(label, path):
            collector.faults.append(fault)
        content.classes.add(label)
        for inner in walk(collector.root, path):
            images = list(filter(is_image, inner.files))
            content.ignored += inner.hidden + len(inner.files) - len(images)
            for image in images:
                yield _Image(join(inner.path, image), label)


def _add_images(collector: Collector, lists: dict[str, list[_Image]]) -> None:
    """Add the images; the labels of copies go to the first of them."""
    done, total = 0, sum(map(len, lists.values()))

    def step() -> None:
        nonlocal done
        done += 1
        collector.options.progress(done, total)

    united: list[str] = []
    for name, images in lists.items():
        collector.open_list(name)
        copies, unreadable = find_copies(collector.root, [image.path for image in images], step)
        united += [f"{path} = {first}" for path, first in copies.items()]
        for path, why in unreadable.items():
            fix = "make the file readable, or move it away"
            collector.fault("image not readable", path, f"the image cannot be opened: {why}", fix)
        labels: dict[str, set[str]] = {}
        for path, label in images:
            labels.setdefault(copies.get(path, path), set()).add(label)
        for path, found in labels.items():
            collector.add(name, path, [""], found, path)
    if united:
        text = f"{len(united):,} images are copies of others, and were united with them"
        collector.notes.append(f"{text}: {name_first(united)}")
