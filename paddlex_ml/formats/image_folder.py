# SPDX-License-Identifier: Apache-2.0
"""Image folders: one folder for each class (`src_dataset_type: ImageFolder`).

    train/cat/1.jpg   train/dog/2.jpg   val/cat/3.jpg       or   cat/1.jpg   dog/2.jpg

- The folders of the classes are in `train/` and `val/` (or `valid/`), which make these lists; else
  in the data set folder, or in `images/` where that has folders, as one list. Folders in `train/`
  are also one list where there is no other folder. `test/` is not used.
- The first folder is the class; folders in it are searched in all depths. A class without any image
  stays a class.
- Images of the same content in several folders are one image with all their labels, kept under the
  first of its paths in alphabetical order; a note counts them. Names do not matter for this. Copies
  in train and in val stay in both lists: the check warns of them. Empty files are not copies.
- Images that are in no class folder, hidden files and other files are left out, with a note.
- The classes are in the order of `classes.txt`, else in alphabetical order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.data.walk import Folder, is_image, join, list_folder, walk
from paddlex_ml.formats.collector import (
    Collector,
    Options,
    SourceDataset,
    check_class_name,
    order_names,
)
from paddlex_ml.formats.same_files import find_copies
from paddlex_ml.formats.subsets import assign_lists, find_subsets, note_unused_test
from paddlex_ml.wording import first_names


class _LabelledFile(NamedTuple):
    path: str
    label: str


@dataclass
class _ClassFolders:
    """What the folders hold; the lists have class folders in them."""

    lists: dict[str, str]
    """Folder of each list."""
    test: str
    """Folder that is not used; "" for none."""
    classes: set[str] = field(default_factory=set)
    loose: list[str] = field(default_factory=list)
    """Images in no class folder."""
    ignored: int = 0
    """Hidden files and folders, and files that are not images."""


def recognise(inventory: Inventory) -> str:
    """The folders by which the format is known: at least two hold images, and no other holds any
    but `test`."""
    with_images = {path.split("/")[0] for path in inventory.images if "/" in path}
    return first_names(sorted(with_images), 3) if len(with_images) > 1 else ""


def read(root: Path, options: Options) -> SourceDataset:
    """List the folders and compare the files. Raises one PaddlexMLError with every fault."""
    collector = Collector(root, options)
    folders = _find_lists(collector)
    images = {
        name: sorted(_list_images(collector, folders, folder))
        for name, folder in folders.lists.items()
    }
    _add_images(collector, images)
    if folders.loose:
        text = f"{len(folders.loose):,} images are in no class folder, left out"
        collector.notes.append(f"{text}: {first_names(folders.loose, 5)}")
    if folders.ignored:
        text = f"{folders.ignored:,} hidden files and files that are not images were ignored"
        collector.notes.append(text)
    names, faults = order_names(root, folders.classes)
    collector.faults += faults
    return collector.finish(names)


def _find_lists(collector: Collector) -> _ClassFolders:
    root = collector.root
    base, listed, subsets = "", list_folder(root), find_subsets(root)
    if not _divides(subsets, listed) and "images" in listed.folders:
        inner = list_folder(root, "images")
        if inner.folders:
            base, listed, subsets = "images", inner, find_subsets(root, "images")
    test = subsets.get("test", "")
    if test:
        collector.notes.append(note_unused_test(f"{test}/"))
    if not _divides(subsets, listed):
        return _ClassFolders({"train": base}, test)
    folders = [join(base, name) for name in listed.folders]
    if other := [path for path in folders if path not in subsets.values()]:
        text = f"{len(other):,} folders beside train/ and val/ are left out"
        collector.notes.append(f"{text}: {first_names(other, 5)}")
    lists = {name: subsets[subset] for subset, name in assign_lists(subsets).items()}
    return _ClassFolders(lists, test)


def _divides(subsets: dict[str, str], listed: Folder) -> bool:
    """Whether folders named like subsets are subsets, not classes: a train is a vehicle, too."""
    if "train" in subsets and "val" in subsets:
        return True
    return bool(assign_lists(subsets)) and len(subsets) == len(listed.folders)


def _list_images(
    collector: Collector, folders: _ClassFolders, folder: str
) -> Iterator[_LabelledFile]:
    """The images in the class folders of a list."""
    listed = list_folder(collector.root, folder)
    folders.loose += [join(folder, name) for name in listed.files if is_image(name)]
    for name in listed.folders:
        path, label = join(folder, name), name.strip()
        if path == folders.test:
            continue
        if fault := check_class_name(label, path):
            collector.faults.append(fault)
        folders.classes.add(label)
        for inner in walk(collector.root, path):
            images = list(filter(is_image, inner.files))
            folders.ignored += inner.hidden + len(inner.files) - len(images)
            for image in images:
                yield _LabelledFile(join(inner.path, image), label)


def _add_images(collector: Collector, lists: dict[str, list[_LabelledFile]]) -> None:
    """Add the images; the labels of copies go to the first of them."""
    done, total = 0, sum(map(len, lists.values()))

    def step() -> None:
        nonlocal done
        done += 1
        collector.options.progress(done, total)

    merged: list[str] = []
    for name, images in lists.items():
        collector.open_list(name)
        copies, unreadable = find_copies(collector.root, [image.path for image in images], step)
        merged += [f"{path} = {first}" for path, first in copies.items()]
        for path, why in unreadable.items():
            text, fix = f"the image cannot be opened: {why}", "make it readable, or move it away"
            collector.add_fault("image not readable", path, text, fix)
        labels_by_path: dict[str, set[str]] = {}
        for path, label in images:
            labels_by_path.setdefault(copies.get(path, path), set()).add(label)
        for path, labels in labels_by_path.items():
            collector.add(name, path, [""], labels, path)
    if merged:
        text = f"{len(merged):,} images are copies of others, and were merged with them"
        collector.notes.append(f"{text}: {first_names(merged, 5)}")
