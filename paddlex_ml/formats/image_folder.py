# SPDX-License-Identifier: Apache-2.0
"""Image folders: one folder for each class (`src_dataset_type: ImageFolder`).

    train/cat/1.jpg   train/dog/2.jpg   val/cat/3.jpg       or   cat/1.jpg   dog/2.jpg

- The folders of the classes are in `train/` and `val/` (or `valid/`), which make these lists; else
  in the data set folder, or in `images/` where that has folders, as one list. Folders in `train/`
  are also one list where there is no other folder. `test/` is not used.
- A folder around all of these (`set/PetImages/cat/1.jpg`) is passed through, with a note.
- The first folder is the class; folders in it are searched in all depths, with a note. A class
  without any image stays a class.
- Images of the same content in several folders are one image with all their labels, kept under the
  first of its paths in alphabetical order; a note counts them. Names do not matter for this. Copies
  in train and in val stay in both lists: the check warns of them. Empty files are not copies.
- In class folders, images of a kind that is not read (`.psd`, `.nef`, ...), and images whose names
  have no ending of an image, are refused, unless one of the same name that can be read is beside
  them (`a.nef`, `a.jpg`); with `CheckDataset.convert.skip_missing` they are left out.
- Images in the folder `no_label`, as CVAT names it, have no label.
- Images that are in no class folder, hidden files and other files are left out, with a note; the
  table conversion.csv names them.
- The classes are in the order of `classes.txt`, else in alphabetical order.

The layout is that of
[torchvision](https://pytorch.org/vision/stable/generated/torchvision.datasets.ImageFolder.html).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.data.walk import Folder, is_image, join, list_folder, walk
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats.class_files import CLASS_FILES
from paddlex_ml.formats.collector import (
    CLASS_FILE,
    Collector,
    Options,
    SourceDataset,
    check_class_name,
    order_names,
)
from paddlex_ml.formats.same_files import find_copies
from paddlex_ml.formats.subsets import (
    assign_lists,
    find_subsets,
    note_unused_test,
    parse_subset,
    parse_subset_of_path,
)
from paddlex_ml.wording import count, first_names, path_override

# Endings of images; those that are not in SUFFIXES cannot be read.
_PICTURES = frozenset(
    (
        *(".3fr", ".ai", ".arw", ".avif", ".bmp", ".cr2", ".cr3", ".crw", ".cur", ".dcm", ".dcr"),
        *(".dds", ".dib", ".djvu", ".dng", ".emf", ".eps", ".erf", ".exr", ".fits", ".hdr"),
        *(".heic", ".heics", ".heif", ".hif", ".ico", ".j2c", ".j2k", ".jif", ".jfi", ".jp2"),
        *(".jpc", ".jpe", ".jpf", ".jpg2", ".jpx", ".jxl", ".jxr", ".kdc", ".mef", ".mos", ".mpo"),
        *(".mrw", ".nef", ".nrw", ".orf", ".pam", ".pbm", ".pcx", ".pef", ".pfm", ".pict"),
        *(".pnm", ".psb", ".psd", ".qoi", ".raf", ".ras", ".raw", ".rw2", ".rwl", ".sgi", ".sr2"),
        *(".srf", ".srw", ".svg", ".svgz", ".tga", ".wdp", ".wmf", ".x3f", ".xbm", ".xcf", ".xpm"),
    )
)
# First bytes of JPEG, PNG, GIF, TIFF, WebP, and of HEIC and AVIF.
_MAGIC = re.compile(
    rb"\xff\xd8\xff|\x89PNG|GIF8|II\*\0|MM\0\*|RIFF....WEBP|....ftyp(hei|mif|avi|msf)", re.S
)
# Names of folders that hold all images, or what belongs to them: no classes.
_NO_CLASS = re.compile(
    r"(train|val|valid|validation|test)?[ _-]*(images?|imgs?|jpegimages|photos?|pictures?|data"
    r"|dataset|frames|jpe?gs?|pngs?|masks?|labels?|annotations?|train|val|valid|validation|test)"
    r"([ _-]*[0-9]*)"
    r"|.*(images?|part|batch|chunk|shard)[ _-]*[0-9]+",
    re.I,
)
_NAMES_IMAGE = re.compile(rb"\.(jpe?g|png|bmp|tiff?|webp|gif|heic)\b", re.I)
NO_LABEL = "no_label"
"""The folder of images without a label."""
_LOOK_INTO = 20  # files of annotations


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
    deep: dict[str, None] = field(default_factory=dict)
    """Folders with images inside the folders of classes."""
    others: list[str] = field(default_factory=list)
    """Images that cannot be read, by their endings."""
    ignored: int = 0
    """Hidden files and folders, and files that are not images."""
    notes: list[str] = field(default_factory=list)


def recognise(inventory: Inventory) -> str:
    """The folders by which the format is known: all images lie in folders whose names may be those
    of classes, at least two, and no file of annotations names an image."""
    others = [
        file for file in inventory.annotations if os.path.basename(file).lower() not in CLASS_FILES
    ]
    if any(_NAMES_IMAGE.search(inventory.read_head(file)) for file in others[:_LOOK_INTO]):
        return ""
    names = find_classes(inventory)
    return f"folders {first_names(names, 3)}" if names else ""


def find_classes(inventory: Inventory) -> list[str]:
    """The folders that hold all images and may be classes; none where these are less than two."""
    try:
        folders = _find_lists(inventory)
    except PaddlexMLError:
        return []
    names: set[str] = set()
    for path in inventory.images:
        start = next((f for f in folders.lists.values() if not f or path.startswith(f"{f}/")), None)
        if start is None:
            if parse_subset_of_path(path):
                continue  # of a test folder
            return []
        name, _, rest = path[len(start) :].lstrip("/").partition("/")
        if not rest or (_NO_CLASS.fullmatch(name) and parse_subset(name) != "test"):
            return []
        if parse_subset(name) != "test":
            names.add(name)
    return sorted(names) if len(names) > 1 else []


def read(root: Path, options: Options) -> SourceDataset:
    """List the folders and compare the files. Raises one PaddlexMLError with every fault."""
    layout = "put the images of each class into a folder of its name"
    collector = Collector(root, options, layout=layout)
    folders = _find_lists(collector.inventory)
    images = {
        name: sorted(_list_images(collector, folders, folder))
        for name, folder in folders.lists.items()
    }
    collector.notes += folders.notes
    if folders.others:
        kinds = " or ".join(sorted({collector.account.left_out[path] for path in folders.others}))
        text = f"{count(len(folders.others), 'file is', 'files are')} not read, each {kinds}"
        text = f"{text}: {first_names(folders.others, 5)}"
        fix = (
            "convert them to JPEG or PNG, or give them the right ending; or leave them out: "
            "-o CheckDataset.convert.skip_missing=true"
        )
        if options.skip_missing:
            collector.notes.append(f"left out: {text}")
        else:
            collector.add_fault("images of another kind", "", text, fix)
    _add_images(collector, images)
    if folders.deep:
        one, many = "folder is no class of its own", "folders are no classes of their own"
        text = f"{count(len(folders.deep), one, many)}, in folders of classes"
        collector.notes.append(f"{text}: {first_names(list(folders.deep), 5)}")
    if folders.loose:
        text = f"{count(len(folders.loose), 'image is', 'images are')} in no class folder, left out"
        collector.notes.append(f"{text}: {first_names(folders.loose, 5)}")
    if folders.ignored:
        ignored = count(folders.ignored, "file", "files")
        text = f"ignored: {ignored}, hidden or no images"
        collector.notes.append(text)
    if len(folders.classes) == 1 and len(folders.deep) > 1:
        (name,) = folders.classes
        text = f"all images are of one class, {name}, whose folder has folders of images in it"
        fix = f"{path_override('Global.dataset_dir', root / name)} (if those are the classes)"
        collector.add_fault("one class", "", text, fix)
    names, faults = order_names(root, folders.classes)
    if (root / CLASS_FILE).is_file():
        collector.account.use(CLASS_FILE)
    collector.faults += faults
    return collector.finish(names)


def _find_lists(inventory: Inventory) -> _ClassFolders:
    root, notes = inventory.root, []
    base = ""
    while True:
        listed, subsets = inventory.folders[base], find_subsets(root, base)
        if _divides(subsets, listed):
            break
        if inner := _find_wrapper(inventory, base):
            if inner != "images":
                notes.append(f"the folders of the classes are in {inner}/")
            base = inner
            continue
        break
    test = subsets.get("test", "")
    if test:
        notes.append(note_unused_test(f"{test}/"))
    if not _divides(subsets, listed):
        return _ClassFolders({"train": base}, test, notes=notes)
    folders = [join(base, name) for name in listed.folders]
    if other := [path for path in folders if path not in subsets.values()]:
        text = f"left out: {count(len(other), 'folder')} beside train/ and val/"
        notes.append(f"{text}: {first_names(other, 5)}")
    lists = {name: subsets[subset] for subset, name in assign_lists(subsets).items()}
    return _ClassFolders(lists, test, notes=notes)


def _find_wrapper(inventory: Inventory, base: str) -> str:
    """The only folder of `base` that has images in it, when these lie in two folders of its own at
    least, or it is named images/; "" for none."""
    start = f"{base}/" if base else ""
    parts = [path[len(start) :].split("/") for path in inventory.images if path.startswith(start)]
    tops = {row[0] for row in parts if len(row) > 1}
    if "images" in tops and inventory.folders[join(base, "images")].folders and not base:
        return "images"
    if len(tops) != 1 or any(len(row) == 1 for row in parts):
        return ""
    others = [join(base, name) for name in inventory.folders[base].folders if name not in tops]
    inside = (file[len(start) :] for file in inventory.files if file.startswith(start))
    filled = {join(base, file.partition("/")[0]) for file in inside}
    if not filled.issuperset(others):
        return ""  # a class without images
    inner = {row[1] for row in parts if len(row) > 2}
    is_wrapper = all(len(row) > 2 for row in parts) and len(inner) > 1
    return join(base, tops.pop()) if is_wrapper else ""


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
        if path == folders.test or path in collector.inventory.outputs:
            continue
        if fault := check_class_name(label, path):
            collector.faults.append(fault)
        if label != NO_LABEL:
            folders.classes.add(label)
        for inner in walk(collector.root, path):
            images = list(filter(is_image, inner.files))
            if images and inner.path != path:
                folders.deep[inner.path] = None
            folders.ignored += inner.hidden + len(inner.files) - len(images)
            _account_for_others(collector, inner, images, folders.others)
            for image in images:
                yield _LabelledFile(join(inner.path, image), label)


def _account_for_others(
    collector: Collector, folder: Folder, images: list[str], others: list[str]
) -> None:
    """Give the files of a class folder that are not read a reason. Those that are images, without
    one of the same name that can be read, become `others`."""
    stems = {os.path.splitext(image)[0].lower() for image in images}
    for name in folder.files:
        if is_image(name):
            continue
        path, (stem, ending) = join(folder.path, name), os.path.splitext(name)
        if ending.lower() in _PICTURES:
            why = f"an image of the kind {ending.lower()}"
        elif path in collector.inventory.annotations:
            continue  # not read, which the account tells
        elif _MAGIC.match(collector.inventory.read_head(path)[:16]):
            why = "an image without the ending of one"
        else:
            collector.account.left_out[path] = "no image"
            continue
        collector.account.left_out[path] = why
        if stem.lower() not in stems:
            others.append(path)


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
        for path, first in copies.items():
            collector.account.left_out[path] = f"the same image as {first}, which has its label"
        for path, why in unreadable.items():
            text, fix = f"the image cannot be opened: {why}", "make it readable, or move it away"
            collector.add_fault("image not readable", path, text, fix)
        labels_by_path: dict[str, set[str]] = {}
        for path, label in images:
            labels_by_path.setdefault(copies.get(path, path), set()).add(label)
        for path, labels in labels_by_path.items():
            collector.add(name, path, [""], labels - {NO_LABEL}, path)
    if merged:
        text = (
            f"{count(len(merged), 'image is', 'images are')} copies of others, and were "
            "merged with them"
        )
        collector.notes.append(f"{text}: {first_names(merged, 5)}")
