# SPDX-License-Identifier: Apache-2.0
"""Pascal VOC: one XML file an image, with the objects that it shows (`src_dataset_type: VOC`).

    Annotations/000007.xml   JPEGImages/000007.jpg   ImageSets/Main/train.txt, val.txt
    train/a.xml, train/a.jpg, valid/b.xml, valid/b.jpg                (as Roboflow writes it)
    Annotations/, JPEGImages/, train_list.txt, val_list.txt, labels.txt (as PaddleLabel does)

- All `.xml` files of the data set are read, in folders of any depth; one of another kind is refused
  by its name. The labels are the names of the objects, without spaces around them. A class is
  unknown for an image all of whose objects of it are marked `difficult`, as VOC's own evaluation
  ignores them; `-o CheckDataset.convert.uncertain=positive` takes it for present, `=negative` for
  absent. Parts of objects do not count, nor do objects that are marked `deleted`.
- The image is the one that has the name of the XML file, with any ending: beside it, or in
  `JPEGImages/` or `images/` with the same folders between. Where there is none, it is `<filename>`.
  A `<filename>` that is another image of the data set is an error, and so are two XML files of one
  image: `-o CheckDataset.convert.image_from=stem` takes the name of the XML file, `=field` the
  `<filename>`.
- The lists are those of `ImageSets/Main/`: `train.txt` and `val.txt`; else `trainval.txt` for
  training and `test.txt` for validation (with a note); else `trainval.txt`, or `train.txt` and
  CVAT's `default.txt`. A line has a name with or without folders and ending; a second column of
  numbers does not count. Without these, `train_list.txt` and `val_list.txt` (or `train.txt` and
  `val.txt`) of the data set folder divide, if their lines name XML files or images that have one;
  else the folders `train/` and `val/` (or `valid/`). An XML file that no list names is left out,
  with a note. `test` is otherwise not used.
- `ImageSets/Main/<class>_<list>.txt`, as CVAT and Datumaro write image tags, gives labels of its
  own to the images of the lists, with or without XML files: 1 is a label, 0 (difficult) is unknown
  or what `uncertain` says, -1 is none. A class that has -1 alone is left out.
- The classes are in the order of `classes.txt`, else of CVAT's `labelmap.txt`, PaddleLabel's
  `labels.txt` or `label_list.txt`, else alphabetical. `background` is a class if an image has it.
- The encoding is that of the byte order mark, else the declared one unless the bytes contradict it,
  else UTF-8 or GB18030. Masks (`SegmentationClass/`) have no names that can be read.

The format: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/index.html, and
https://docs.cvat.ai/docs/manual/advanced/formats/format-voc/ for what CVAT writes.

Python's own XML reader is safe for this: it fetches nothing from outside, and entities, which can
make a small file huge, can be declared in a DOCTYPE only. A file that has one is refused unread.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from paddlex_ml.data.faults import DatasetFault, combine
from paddlex_ml.data.inventory import Inventory
from paddlex_ml.data.lines import UTF8
from paddlex_ml.formats import voc_lists
from paddlex_ml.formats.collector import (
    CLASS_FILE,
    Collector,
    Options,
    SourceDataset,
    check_class_name,
    order_names,
)
from paddlex_ml.formats.encoded_text import read_text, show_head
from paddlex_ml.formats.overrides import write_override
from paddlex_ml.formats.own_image import OwnImages
from paddlex_ml.formats.subsets import divide_files
from paddlex_ml.formats.voc_lists import ListedImage
from paddlex_ml.storage import regular_file
from paddlex_ml.wording import count, first_names

_SUFFIX = ".xml"
_LAYOUT = "put the XML files into Annotations/ and the images into JPEGImages/, with equal names"
_LABEL_MAPS = ("labelmap.txt", "label_map.txt")
_NAME_FILES = (CLASS_FILE, *_LABEL_MAPS, "labels.txt", "label_list.txt")
_BACKGROUND = "background"
_LOOKED_AT = 20  # XML files by which the format is recognised


class VocAnnotation(NamedTuple):
    """The content of one XML file."""

    image: str
    """The text of `<filename>`, else of `<path>`; "" without one."""
    labels: list[str]
    """Names of the objects in the order of the file; a name comes as often as its objects."""
    difficult: frozenset[str]
    """Classes all of whose objects are marked as difficult."""
    deleted: int = 0
    """Objects that are marked as deleted, which are not among the labels."""
    encoding: str = UTF8


def read_annotation(path: Path, name: str = "") -> VocAnnotation | DatasetFault:
    """Read one XML file, or return its first fault; `name` (or its last part) is its name there."""
    name = name or path.name
    content = read_text(path, name, regular_file.LARGEST_ANNOTATION)
    if isinstance(content, DatasetFault):
        return content
    before, doctype, _ = content.text.partition("<!DOCTYPE")
    if doctype:
        line = before.count("\n") + 1
        what = "the file has a DOCTYPE, which VOC files do not need and which can do harm"
        fix = "remove the DOCTYPE, or the file"
        return DatasetFault("not a VOC file", f"{name}:{line}", what, fix)
    try:
        tree = ElementTree.fromstring(content.text)  # noqa: S314  expat bounds entities
    except ElementTree.ParseError as error:
        what = f"the XML is damaged: {str(error).partition(':')[0]}"
        return DatasetFault("damaged XML", f"{name}:{error.position[0]}", what, "restore the file")
    if tree.tag != "annotation":
        what = f"the file is not a VOC annotation: it begins with <{tree.tag}>, not <annotation>"
        fix = "move it out of the data set"
        if tree.tag == "annotations":
            fix += ", or read it: -o CheckDataset.convert.src_dataset_type=CVAT"
        return DatasetFault("not a VOC file", name, what, fix)
    every = tree.findall("object")
    objects = [entry for entry in every if (entry.findtext("deleted") or "").strip() != "1"]
    labels = [(entry.findtext("name") or "").strip() for entry in objects]
    for label in labels:
        if fault := check_class_name(label, name):
            return fault
    difficult = [(entry.findtext("difficult") or "").strip() == "1" for entry in objects]
    sure = {
        label for label, is_difficult in zip(labels, difficult, strict=True) if not is_difficult
    }
    image = (tree.findtext("filename") or "").strip() or (tree.findtext("path") or "").strip()
    unsure = frozenset(labels) - sure
    return VocAnnotation(image, labels, unsure, len(every) - len(objects), content.encoding)


def recognise(inventory: Inventory) -> str:
    """The file by whose content the format is known."""
    for path in inventory.find(_SUFFIX)[:_LOOKED_AT]:
        if re.search(r"<annotation[\s>]", show_head(inventory.read_head(path))):
            return path
    inner = list(voc_lists.find_inner_sets(inventory).values())
    if path := voc_lists.find_class_list(inventory) or next(iter(inner), ""):
        return path
    plain = all(path.lower().endswith(".txt") for path in inventory.annotations)
    return _find_masks(inventory) if plain else ""


def read(root: Path, options: Options) -> SourceDataset:
    """Read the XML files and the lists. Raises one PaddlexMLError with every fault."""
    collector = Collector(root, options, layout=_LAYOUT)
    _leave_out_masks(collector)
    every = collector.inventory.find(_SUFFIX)
    listed = voc_lists.read(collector, every)
    if listed is None:
        if not every or voc_lists.find_inner_sets(collector.inventory):
            raise combine([_explain_nothing(collector)], root)
        lists, faults, notes = divide_files(every)
        collector.faults += faults
        collector.notes += notes
        images = {name: [ListedImage(path) for path in paths] for name, paths in lists.items()}
        listed = voc_lists.VocLists(images, {}, {}, [])
    files = _read_files(collector, listed.lists)
    _add_images(collector, listed, files)
    seen = {label for file in files.values() for label in file.labels}
    seen = seen.union(*listed.tags.values(), *listed.difficult.values())
    names = _order_classes(collector, seen)
    left_out = collector.account.names_left_out
    for name in set(listed.unshown).difference(names, left_out):
        left_out[name] = "no image of the lists shows it"
    return collector.finish(names)


def _leave_out_masks(collector: Collector) -> None:
    """Masks have the names of images, but are none."""
    images = collector.inventory.images
    masks = {path: "a mask" for path in images if "/segmentation" in f"/{path.casefold()}"}
    collector.account.left_out.update(masks)
    collector.inventory.images = [path for path in images if path not in masks]


def _read_files(
    collector: Collector, lists: Mapping[str, Sequence[ListedImage]]
) -> dict[str, VocAnnotation]:
    """Read the XML files of the lists; those without faults."""
    files: dict[str, VocAnnotation] = {}
    every = list(dict.fromkeys(image.xml for images in lists.values() for image in images))
    paths = [path for path in every if path]
    for done, path in enumerate(paths, 1):
        file = read_annotation(collector.root / path, path)
        if isinstance(file, DatasetFault):
            collector.faults.append(file)
        else:
            files[path] = file
            collector.account.use(path, len(file.labels))
            collector.account.note_encoding(path, file.encoding)
        collector.options.progress(done, len(paths))
    if deleted := [path for path, file in files.items() if file.deleted]:
        text = count(
            sum(files[path].deleted for path in deleted),
            "object is marked as deleted and does",
            "objects are marked as deleted and do",
        )
        collector.notes.append(f"{text} not count: {first_names(deleted, 5)}")
    return files


def _add_images(
    collector: Collector, listed: voc_lists.VocLists, files: Mapping[str, VocAnnotation]
) -> None:
    own = OwnImages(collector)
    named = {image.xml: image.image for images in listed.lists.values() for image in images}
    found = own.choose({path: named.get(path) or file.image for path, file in files.items()})
    used = set()
    difficult: list[str] = []
    for name, images in listed.lists.items():
        collector.open_list(name)
        for image in images:
            labels, unsure = (
                each.get(image.xml or image.image, set())
                for each in (listed.tags, listed.difficult)
            )
            path, place = None, (image.image, own.list_folders("Annotations/"), image.where)
            if file := files.get(image.xml):
                labels = labels | (set(file.labels) - file.difficult)
                unsure = unsure | file.difficult
            unsure, is_bare = unsure - labels, not (labels or unsure)
            difficult += sorted(unsure)
            if collector.options.uncertain in ("positive", "negative"):
                labels = labels | unsure if collector.options.uncertain == "positive" else labels
                unsure = set()
            if image.xml in found:
                place = (*found[image.xml], image.xml)
            if not image.xml or image.xml in found:  # else it is a fault already
                path = collector.add(name, *place[:2], labels, place[2], unknown=unsure)
            if path and not image.xml and is_bare:
                collector.account.not_annotated[path] = None
            used.add(path)
    _tell_difficult(collector, difficult)
    for xml, reason in list(collector.account.left_out.items()):
        if xml.lower().endswith(_SUFFIX) and (path := own.find_by_stem(xml)) and path not in used:
            collector.account.left_out.setdefault(path, reason)


def _tell_difficult(collector: Collector, difficult: Sequence[str]) -> None:
    """Say what becomes of classes whose objects are all difficult, one for each image."""
    chosen = collector.options.uncertain
    if not difficult:
        if chosen is not None:
            collector.notes.append("convert.uncertain has no effect: no class is only difficult")
        return
    becomes = {"positive": "present", "negative": "absent"}.get(chosen or "", "unknown")
    option = "" if chosen else "; to take them for present: "
    option += "" if chosen else write_override("convert.uncertain", "positive")
    counts = Counter(difficult)
    shown = first_names([f"{name} ({count:,})" for name, count in counts.most_common()], 5)
    text = (
        f"{count(len(difficult), 'label has', 'labels have')} difficult objects alone, "
        f"and are {becomes}"
    )
    collector.notes.append(f"{text}: {shown}{option}")


def _order_classes(collector: Collector, seen: set[str]) -> list[str]:
    """The classes in the order of the first file of names that is there."""
    there = {name.casefold(): name for name in collector.inventory.names("")}
    file = next((there[name] for name in _NAME_FILES if name in there), "")
    if not file:
        return sorted(seen)
    is_map = file.casefold() in _LABEL_MAPS
    names, faults = order_names(
        collector.root, seen, file, _parse_label_map if is_map else str.strip
    )
    collector.faults += faults
    collector.account.use(file)
    if file.casefold() != CLASS_FILE and _BACKGROUND in set(names) - seen:
        names.remove(_BACKGROUND)
        collector.account.names_left_out[_BACKGROUND] = "it is for masks, and no image shows it"
    if file.casefold() != CLASS_FILE:
        collector.notes.append(f"the classes are those of {file}, in its order")
    return names


def _parse_label_map(line: str) -> str:
    """The name in a line such as "red car:250,50,83::"."""
    return "" if line.startswith("#") else line.rsplit(":", 3)[0].strip()


def _find_masks(inventory: Inventory) -> str:
    for folder in inventory.folders:
        if folder.rpartition("/")[2].casefold() == "segmentationclass":
            return folder
    return ""


def _explain_nothing(collector: Collector) -> DatasetFault:
    inventory = collector.inventory
    if inner := voc_lists.find_inner_sets(inventory):
        text = f"the lists are not in this folder, but in {first_names(list(inner.values()), 5)}"
        sets = [f"-o Global.dataset_dir={collector.root / folder}" for folder in inner]
        return DatasetFault("lists elsewhere", "", text, " or ".join(sets[:5]))
    if masks := _find_masks(inventory):
        text = f"this is an export of masks: {masks}/ has images of areas, no names of objects"
        fix = 'export the set from its tool again, as "Pascal VOC" with boxes or as COCO'
        return DatasetFault("masks", masks, text, fix)
    text = "there is no .xml file in the data set, and no ImageSets/Main/<class>_<list>.txt"
    fix = "-o Global.dataset_dir=... (the folder that holds Annotations/, for instance VOC2007)"
    return DatasetFault("nothing found", "", text, fix)
