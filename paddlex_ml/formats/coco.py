# SPDX-License-Identifier: Apache-2.0
"""COCO: boxes in json files -> which classes each image shows.

    annotations/instance_train.json, instance_val.json              as PaddleX names them
    annotations/instances_train2017.json, instances_val2017.json    as COCO does: any year, or none
    train/_annotations.coco.json, valid/_annotations.coco.json      as Roboflow does

Files of the first two kinds may also be in the data set folder itself. One of train and val is
enough: its images are then one list, which a split divides. A test file is not used.

Classes. The categories become classes 0, 1, 2, ... in the order of their ids, whether an image
shows them or not. If some ids are numbers and some are texts, numbers come first. The categories of
train and val are merged by id; an id with two names, or a name with two ids, is a fault.

Images. Every entry of `images` becomes a line, all zeros where no annotation names it. With S for
what follows `instances_` in the name of the json (for Roboflow: the folder of the json), an image
is looked for in images/S, S, images, the data set folder and the folder of the json. An image that
is listed twice, under one id or under two, becomes one line with all its labels; one id with two
file names is a fault.

Labels. Every annotation counts, also `iscrowd` and boxes without area. One that names an image
which `images` does not have is left out with a note; a category that `categories` does not have is
a fault, because a label would be lost.

Why not pycocotools: it builds all the content as Python objects, several times the size of the file
and polygons included, does not report where a fault is, and is a C extension to be compiled.
msgspec reads the few fields used here directly into records and skips the rest without parsing it.
"""

from __future__ import annotations

import codecs
import gc
import re
from pathlib import Path
from typing import NamedTuple

import msgspec

from paddlex_ml.data.faults import DatasetFault, combine
from paddlex_ml.data.inventory import Inventory
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import coco_files
from paddlex_ml.formats.coco_files import CocoSource
from paddlex_ml.formats.collector import Collector, Options, SourceDataset
from paddlex_ml.wording import first_names

Id = int | str

_STEP = 1000  # images between two calls of the progress
_TYPE_NAMES = {
    "int | str": "a whole number or a text",
    "str": "a text",
    "int": "a whole number",
    "float": "a number with a fraction",
    "bool": "true or false",
    "array": "a list [...]",
    "object": "an object {...}",
}


class _CocoImage(msgspec.Struct, gc=False):
    id: Id
    file_name: str


class _CocoAnnotation(msgspec.Struct, gc=False):
    image_id: Id
    category_id: Id
    bbox: msgspec.Raw = msgspec.Raw(b"")  # parsed separately: an odd box must not cost a label


class _CocoCategory(msgspec.Struct, gc=False):
    id: Id
    name: str


class _CocoContent(msgspec.Struct):
    images: list[_CocoImage]
    annotations: list[_CocoAnnotation]
    categories: list[_CocoCategory]


_decoder = msgspec.json.Decoder(_CocoContent)
_box_decoder = msgspec.json.Decoder(tuple[float, float, float, float])


class _CocoFile(NamedTuple):
    """The images of one json file, and the category ids that each of them shows."""

    source: CocoSource
    images: list[_CocoImage]
    labels: dict[Id, set[Id]]
    categories: list[_CocoCategory]
    first_use: dict[Id, int]  # category id -> index of the first annotation with it


def recognise(inventory: Inventory) -> str:
    """The json file by whose name the format is known."""
    return next((source.path for source in coco_files.list_sources(inventory.root)), "")


def read(root: Path, options: Options) -> SourceDataset:
    """Read a COCO data set; the notes list what was left out or merged.

    Raises one PaddlexMLError: all faults of the content together, or the first damage of a file.
    """
    root = Path(root)
    sources, notes = coco_files.find(root)
    collector = Collector(root, options, notes=notes)
    was_enabled = gc.isenabled()
    gc.disable()  # millions of records without cycles: the search for cycles takes half of the time
    try:
        files = [_read_file(source, collector) for source in sources]
        names = _merge_categories(files, collector)
        _check_uses(files, names, collector)
        _add_images(files, collector)
        ids = sorted(names, key=_order_id)
        retire = [root / source.path for source in sources]
        return collector.finish([names[i] for i in ids], ids, retire)
    finally:
        if was_enabled:
            gc.enable()


def _order_id(category_id: Id) -> tuple[int, int, Id]:
    """Numbers first, then texts, those of digits by their value: "2" before "10"."""
    if isinstance(category_id, int):
        return 0, 0, category_id
    return (1, len(category_id), category_id) if category_id.isdecimal() else (2, 0, category_id)


# The content of a file


def _read_file(source: CocoSource, collector: Collector) -> _CocoFile:
    """Read one file; the memory of its text and its annotations is free afterwards."""
    content = _decode(source, collector.root)
    if not content.images:
        fix = "remove the file, or rename it, to convert the other one alone"
        collector.add_fault("no images", source.path, "the list `images` is empty", fix)
    images = _merge_images(content.images, source, collector)
    labels: dict[Id, set[Id]] = {image.id: set() for image in images}
    first_use: dict[Id, int] = {}
    unknown: dict[Id, int] = {}  # image id -> annotations
    flat = 0
    for index, annotation in enumerate(content.annotations):
        row = labels.get(annotation.image_id)
        if row is None:
            unknown[annotation.image_id] = unknown.get(annotation.image_id, 0) + 1
            continue
        row.add(annotation.category_id)
        first_use.setdefault(annotation.category_id, index)
        flat += _is_flat(annotation.bbox)
    if unknown:
        collector.notes.append(
            f"{source.path}: {sum(unknown.values()):,} annotations of images that `images` does "
            f"not have were left out: image ids {first_names([str(i) for i in unknown], 5)}"
        )
    if flat:
        note = f"{source.path}: {flat:,} boxes have no area: their labels count"
        collector.notes.append(note)
    return _CocoFile(source, images, labels, content.categories, first_use)


def _merge_images(
    images: list[_CocoImage], source: CocoSource, collector: Collector
) -> list[_CocoImage]:
    """Every image id once. The same id with two file names is a fault."""
    first: dict[Id, int] = {}
    repeated: list[str] = []
    for index, image in enumerate(images):
        earlier = first.setdefault(image.id, index)
        if earlier == index:
            continue
        repeated.append(str(image.id))
        if images[earlier].file_name != image.file_name:
            text = f"images[{earlier}] has the same id, for {images[earlier].file_name}"
            fix = "give every image an id of its own, and use it in its annotations"
            collector.add_fault("duplicate image id", _locate(source, index, image), text, fix)
    if not repeated:
        return images
    collector.notes.append(
        f"{source.path}: {len(repeated):,} images are repeated in `images` and were merged: "
        f"ids {first_names(repeated, 5)}"
    )
    return [images[index] for index in first.values()]


def _is_flat(box: msgspec.Raw) -> bool:
    """Whether it is x, y, width, height with no width or no height."""
    try:
        _, _, width, height = _box_decoder.decode(box)
    except msgspec.DecodeError:
        return False
    return width <= 0 or height <= 0


# Categories and images


def _merge_categories(files: list[_CocoFile], collector: Collector) -> dict[Id, str]:
    """Category id -> name, of all files; ids and names that contradict each other are faults."""
    names: dict[Id, str] = {}
    ids: dict[str, Id] = {}
    for file in files:
        for index, category in enumerate(file.categories):
            name = category.name.strip()
            if fault := _check_category(category.id, name, names, ids):
                where = f"{file.source.path}: categories[{index}] (id {category.id!r})"
                collector.add_fault("categories", where, *fault)
            names.setdefault(category.id, name)
            ids.setdefault(name, category.id)
    if not names:
        where = f"{files[0].source.path}: categories"
        collector.add_fault("categories", where, "the list is empty", "name at least one category")
    ids_by_file = [{category.id for category in file.categories} for file in files]
    if ids_by_file[0] != ids_by_file[-1]:
        differences = []
        for file, others in zip(files, ids_by_file[::-1], strict=True):
            only = [c.name.strip() for c in file.categories if c.id not in others]
            if only:
                differences.append(f"only {file.source.path} has {first_names(only, 5)}")
        text = "the categories of both files were merged by id"
        collector.notes.append(f"{text}: {'; '.join(differences)}")
    return names


def _check_category(
    category_id: Id, name: str, names: dict[Id, str], ids: dict[str, Id]
) -> tuple[str, str] | None:
    """Return what is wrong with a category, and its repair."""
    if not name or re.search(r"[\r\n]", name):
        return f"the name {name!r} is empty or has a line end", "give the category a name"
    if names.get(category_id, name) != name:
        text = f"the id has two names: {names[category_id]!r} and {name!r}"
        return text, "give every category an id of its own, the same in all files"
    if ids.get(name, category_id) != category_id:
        text = f"the name {name!r} has two ids: {ids[name]!r} and {category_id!r}"
        return text, "rename one, or give both and their annotations one id"
    return None


def _check_uses(files: list[_CocoFile], names: dict[Id, str], collector: Collector) -> None:
    """Add one fault for each category id that annotations use and no file names."""
    for file in files:
        for category_id, index in file.first_use.items():
            if category_id in names:
                continue
            images = sum(category_id in row for row in file.labels.values())
            text = f"no category has the id {category_id!r}, which {images:,} images show"
            fix = "add the category to `categories`, or remove its annotations"
            where = f"{file.source.path}: annotations[{index}]"
            collector.add_fault("unknown category", where, text, fix)


def _add_images(files: list[_CocoFile], collector: Collector) -> None:
    done, total = 0, sum(len(file.images) for file in files)
    progress = collector.options.progress
    for file in files:
        name = file.source.list_name if len(files) > 1 else "train"
        collector.open_list(name)
        folders = file.source.folders
        for index, image in enumerate(file.images):
            where = _locate(file.source, index, image)
            collector.add(name, image.file_name, folders, file.labels[image.id], where)
            done += 1
            if done % _STEP == 0 or done == total:
                progress(done, total)


def _locate(source: CocoSource, index: int, image: _CocoImage) -> str:
    return f"{source.path}: images[{index}] (id {image.id!r})"


# Decoding


def _decode(source: CocoSource, root: Path) -> _CocoContent:
    """Raise one PaddlexMLError with the line, or with the entry, of the first damage."""
    try:
        raw = (root / source.path).read_bytes()
    except OSError as error:
        fix = "make it a plain file that you may read"
        text = f"the file cannot be read: {error.strerror}"
        raise combine([DatasetFault("file not readable", source.path, text, fix)], root) from error
    mark = len(codecs.BOM_UTF8) if raw.startswith(codecs.BOM_UTF8) else 0
    try:
        return _decoder.decode(memoryview(raw)[mark:])
    except msgspec.ValidationError as error:
        raise _explain_content(str(error), root / source.path) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _explain_syntax(error, raw, mark, root / source.path) from error


def _explain_content(message: str, path: Path) -> PaddlexMLError:
    """Explain JSON that is not COCO: "Expected `str`, got `int` - at `$.images[7].file_name`"."""
    match = re.fullmatch(r"(.*?)(?: - at `\$\.?(.*)`)?", message, re.DOTALL)
    assert match is not None  # every part of it may be empty
    entry = f": {match[2]}" if match[2] else ""
    if missing := re.fullmatch(r"Object missing required field `(.*)`", match[1]):
        text = f"the key `{missing[1]}` is missing"
    else:
        text = re.sub(r"`([^`]*)`", lambda name: _TYPE_NAMES.get(name[1], name[1]), match[1])
        text = text[:1].lower() + text[1:]
    fix = (
        "write it as COCO does: lists `images` (id, file_name), `annotations` (image_id, "
        "category_id) and `categories` (id, name); ids are whole numbers or texts"
    )
    return PaddlexMLError(text, where=f"{path}{entry}", fix=fix)


def _explain_syntax(error: Exception, raw: bytes, mark: int, path: Path) -> PaddlexMLError:
    """Explain a file that is not JSON, with the line. `mark`: length of the byte order mark."""
    at, what = len(raw), str(error)
    fix = "write the file again with the tool that made it, or restore it from a copy"
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        at, what, fix = 0, "the file is UTF-16, not UTF-8", "save the file as UTF-8"
    elif isinstance(error, UnicodeDecodeError):
        at, what, fix = _find_not_utf8(raw), "this is not UTF-8 text", "save the file as UTF-8"
    elif isinstance(error, RecursionError):
        what = "the file has lists within lists without end"
    elif match := re.search(r"\(byte ([0-9]+)\)", what):
        at = int(match[1]) + mark
        what = what.replace(match[0], "").replace("malformed", "damaged").rstrip()
        if re.match(rb"-?(NaN|Infinity)", raw[at : at + 9]) or raw[at - 1 : at + 8] == b"-Infinity":
            what, fix = f"{what}: NaN and Infinity are not JSON", "write null, or a number"
    else:
        what = "the file ends in the middle: it was cut off"
    line = raw.count(b"\n", 0, at) + 1
    where = f"{path}:{line}" + (f" (byte {at:,})" if at else "")
    return PaddlexMLError(what, where=where, fix=fix)


def _find_not_utf8(raw: bytes) -> int:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return len(raw)
