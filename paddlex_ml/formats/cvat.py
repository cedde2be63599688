# SPDX-License-Identifier: Apache-2.0
"""CVAT for images 1.1: XML files that each have many images (`src_dataset_type: CVAT`).

    annotations.xml    images/a.jpg  images/default/b.jpg  images/Train/c.jpg
    train.xml, val.xml images/...                            (one file a task)

- All `.xml` files of the data set are read: a task, a job or a project each. The labels of an image
  are those of its tags and of all its shapes (boxes, polygons, masks, skeletons, ...), without
  spaces around them. Attributes do not count, nor do the points of a skeleton; a note names the
  attributes. An image that several files name gets the labels of all.
- The image is `name`, beside the XML file or in `images/`, there also in the folder of its subset
  (`images/default/`, `images/Train/`). Images that CVAT has deleted are in no XML file and are left
  out.
- The subset is the attribute `subset` of the image, else the name of the XML file (`train.xml`,
  `val.xml`) or of its folder. With both train and validation, an image of neither is refused. With
  one of the two, or none, there is one list. Images of `test` are not used, with a note.
- The classes are those of the files' `<labels>`, in their order, others behind them; the parts of
  skeletons are none.
- "CVAT for video 1.1" (`<track>`) names no images: export the task as "CVAT for images 1.1".

The format: https://docs.cvat.ai/docs/manual/advanced/xml_format/ and
https://docs.cvat.ai/docs/manual/advanced/formats/format-cvat/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, ParseError, XMLPullParser

from paddlex_ml.data.faults import DatasetFault
from paddlex_ml.data.inventory import Inventory
from paddlex_ml.data.walk import join
from paddlex_ml.formats.collector import Collector, Options, SourceDataset, check_class_name
from paddlex_ml.formats.encoded_text import read_text, show_head
from paddlex_ml.formats.subsets import assign_lists, parse_subset, parse_subset_of_path
from paddlex_ml.wording import count, first_names

_SUFFIX = ".xml"
_LAYOUT = "put the XML file of CVAT beside images/, as its export has it"
_VOC = re.compile(r"<annotation[\s>]")
_CVAT = re.compile(r"<annotations[\s>].*?<(meta|image|track)[\s>/]", re.S)
_LOOKED_AT = 20  # XML files by which the format is recognised
_CHUNK = 2**20  # characters
_MOST_ELEMENTS = 1_000_000  # of one image, or of the description of a task


class CvatImage(NamedTuple):
    """One image of a file."""

    name: str
    subset: str
    labels: list[str]
    file: str


@dataclass
class _CvatFile:
    """The content of one file."""

    images: list[CvatImage] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    """Those of `<labels>`."""
    attributes: set[str] = field(default_factory=set)
    tracks: int = 0


def recognise(inventory: Inventory) -> str:
    """The XML file by whose content the format is known."""
    heads = {p: show_head(inventory.read_head(p)) for p in inventory.find(_SUFFIX)[:_LOOKED_AT]}
    if any(map(_VOC.search, heads.values())):
        return ""
    return next((path for path, head in heads.items() if _CVAT.search(head)), "")


def read(root: Path, options: Options) -> SourceDataset:
    """Read all XML files. Raises one PaddlexMLError with every fault."""
    collector = Collector(root, options, layout=_LAYOUT)
    paths = collector.inventory.find(_SUFFIX)
    if not paths:
        fix = "-o Global.dataset_dir=... (the folder of the export, with annotations.xml)"
        collector.add_fault("nothing found", "", "there is no .xml file in the data set", fix)
    files: dict[str, _CvatFile] = {}
    for done, path in enumerate(paths, 1):
        file = _read_file(collector, path)
        if isinstance(file, DatasetFault):
            collector.faults.append(file)
        else:
            files[path] = file
            records = sum(len(image.labels) for image in file.images)
            collector.account.use(path, records)
        options.progress(done, len(paths))
    for name, images in _divide(collector, files).items():
        collector.open_list(name)
        for image in images:
            collector.add(
                name, image.name, _list_folders(collector, image), image.labels, image.file
            )
    if attributes := sorted(set().union(*(file.attributes for file in files.values()))):
        text = count(len(attributes), "attribute is no label", "attributes are no labels")
        collector.notes.append(f"{text}: {first_names(attributes, 5)}")
    names = dict.fromkeys(name for file in files.values() for name in file.names)
    every = [image for file in files.values() for image in file.images]
    names.update(dict.fromkeys(sorted({label for image in every for label in image.labels})))
    return collector.finish(list(names))


# Files


def _read_file(collector: Collector, path: str) -> _CvatFile | DatasetFault:
    content = read_text(collector.root / path, path)
    if isinstance(content, DatasetFault):
        return content
    collector.account.note_encoding(path, content.encoding)
    if "<!DOCTYPE" in content.text:
        what = "the file has a DOCTYPE, which CVAT's files do not need and which can do harm"
        return DatasetFault("not a CVAT file", path, what, "remove the DOCTYPE, or the file")
    file = _CvatFile()
    try:
        _parse(content.text, path, file)
    except ParseError as error:
        what = f"the XML is damaged: {str(error).partition(':')[0]}"
        return DatasetFault("damaged XML", f"{path}:{error.position[0]}", what, "restore the file")
    except _TooLarge as most:
        what = f"an image, or the description of the task, has more than {most} elements"
        return DatasetFault("not a CVAT file", path, what, "export the task again")
    except _OtherRoot as other:
        what = f"the file is not of CVAT: it begins with <{other}>, not <annotations>"
        fix = "move it out of the data set"
        if str(other) == "annotation":
            fix += ", or read it: -o CheckDataset.convert.src_dataset_type=VOC"
        return DatasetFault("not a CVAT file", path, what, fix)
    if file.tracks:
        what = f"the file is CVAT for video: its {file.tracks:,} tracks name frames, no images"
        fix = 'export the task as "CVAT for images 1.1"'
        return DatasetFault("not a CVAT file", path, what, fix)
    labels = {label for image in file.images for label in image.labels}
    faults = (check_class_name(label, path) for label in sorted(labels.union(file.names)))
    return next(filter(None, faults), file)


class _OtherRoot(Exception):
    """The first element of the file is another one."""


class _TooLarge(Exception):
    """An element has more others in it than any image or task."""


def _parse(text: str, path: str, file: _CvatFile) -> None:
    """Fill `file`; the elements that were read are forgotten, as files may have millions."""
    root: Element | None = None
    kept = 0
    for event, element in _list_events(text):
        if event == "start":
            kept += 1
            if kept > _MOST_ELEMENTS:
                raise _TooLarge(f"{_MOST_ELEMENTS:,}")
            if root is None:
                root = element
                if element.tag != "annotations":
                    raise _OtherRoot(element.tag)
        elif element.tag == "image":
            labels = [shape.attrib["label"].strip() for shape in element if "label" in shape.attrib]
            file.attributes.update(
                entry.attrib.get("name", "") for entry in element.iter("attribute")
            )
            subset = element.attrib.get("subset", "")
            file.images.append(CvatImage(element.attrib.get("name", ""), subset, labels, path))
            element.clear()
            kept = 0
        elif element.tag == "label" and element.find("name") is not None:
            if not (element.findtext("parent") or "").strip():  # else a part of a skeleton
                file.names.append((element.findtext("name") or "").strip())
        elif element.tag == "track":
            file.tracks += 1
            element.clear()
            kept = 0


def _list_events(text: str) -> Iterator[tuple[str, Element]]:
    parser: Any = XMLPullParser(("start", "end"))
    for start in range(0, len(text), _CHUNK):
        parser.feed(text[start : start + _CHUNK])
        yield from parser.read_events()
    parser.close()
    yield from parser.read_events()


# Images


def _divide(collector: Collector, files: Mapping[str, _CvatFile]) -> dict[str, list[CvatImage]]:
    """The images of each list."""
    groups: dict[str, list[CvatImage]] = {}
    for path, file in files.items():
        of_file = parse_subset(path.rpartition("/")[2][: -len(_SUFFIX)])
        of_file = of_file or parse_subset_of_path(path)
        for image in file.images:
            groups.setdefault(parse_subset(image.subset) or of_file, []).append(image)
    test = groups.pop("test", [])
    if test:
        shown = first_names([image.name for image in test], 5)
        collector.notes.append(f"not used: {count(len(test), 'image')} of the subset test: {shown}")
    for image in test:
        found = collector.finder.find(image.name, _list_folders(collector, image))
        if isinstance(found, str):
            collector.account.left_out[found] = "of the test subset"
    lists = assign_lists(groups)
    if len(lists) < 2:
        return {"train": [image for group in groups.values() for image in group]}
    if rest := groups.get(""):
        subsets = sorted({image.subset or "none" for image in rest})
        text = (
            f"{count(len(rest), 'image is', 'images are')} neither of train nor of "
            "validation (subset: "
        )
        text += f"{first_names(subsets, 5)}), but others are: {rest[0].name}"
        fix = "give their task the subset train, validation or test in CVAT, and export again"
        collector.add_fault("in no list", rest[0].file, text, fix)
    return {name: groups[subset] for subset, name in lists.items()}


def _list_folders(collector: Collector, image: CvatImage) -> list[str]:
    """Where an image may lie: its own subset first, as projects may use a name twice."""
    own = image.file.rpartition("/")[0]
    likely: list[str] = []
    for base in dict.fromkeys((own, "")):
        images = join(base, "images")
        of_subset = [join(images, image.subset)] if image.subset else []
        likely += [*of_subset, images, join(images, "default"), base]
    there = [folder for folder in likely if folder in collector.inventory.folders]
    return list(dict.fromkeys(there)) or [own]
