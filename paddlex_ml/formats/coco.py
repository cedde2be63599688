# SPDX-License-Identifier: Apache-2.0
"""COCO: boxes in json files -> which classes each image shows.

    annotations/instance_train.json, instance_val.json              as PaddleX calls them
    annotations/instances_train2017.json, instances_val2017.json    as COCO does: any year, or none
    train/_annotations.coco.json, valid/_annotations.coco.json      as Roboflow does

The first two kinds may lie in the data set folder itself too. One of the two parts is enough: its
images are then one list, which a split divides. A test part is left alone.

Classes. The categories become classes 0, 1, 2, ... in the order of their ids, whether an image
shows them or not. Numbers come before texts where ids are both. The categories of train and val
are united by id; an id with two names, or a name with two ids, is a fault.

Images. Every entry of `images` becomes a line, all zeros where no annotation names it. With S for
what follows `instances_` in the name of the json (for Roboflow: the folder of the json), an image
is looked for in images/S, S, images, the data set folder and the folder of the json. An image that
stands twice, under one id or under two, becomes one line with all its labels; one id with two file
names is a fault.

Labels. Every annotation counts, also `iscrowd` and boxes without area. One that names an image
which `images` does not have is left out with a note; a category that `categories` does not have is
a fault: a label would be lost.

Why not pycocotools: it builds the whole tree as Python objects, several times the size of the file
and polygons included, tells nothing about where a fault is, and is a C extension to be compiled.
msgspec reads the few fields used here straight into records and skips the rest unparsed.
"""

from __future__ import annotations

import codecs
import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from paddlex_ml.data.faults import DatasetFault, combine
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import coco_files
from paddlex_ml.formats.coco_files import Source
from paddlex_ml.formats.collector import Collector, Options, SourceDataset

Id = int | str

_SHOWN = 5  # ids or names in a note
_STEP = 1000  # images between two calls of the progress
_WORDS = {
    "int | str": "a whole number or a text",
    "str": "a text",
    "int": "a whole number",
    "float": "a number with a fraction",
    "bool": "true or false",
    "array": "a list [...]",
    "object": "an object {...}",
}


class _Image(msgspec.Struct, gc=False):
    id: Id
    file_name: str


class _Annotation(msgspec.Struct, gc=False):
    image_id: Id
    category_id: Id
    bbox: msgspec.Raw = msgspec.Raw(b"")  # parsed apart: an odd box must not cost a label


class _Category(msgspec.Struct, gc=False):
    id: Id
    name: str


class _Content(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


_decoder = msgspec.json.Decoder(_Content)
_box_decoder = msgspec.json.Decoder(tuple[float, float, float, float])


class _Part(NamedTuple):
    """What one json file says: its images, and the category ids that each of them shows."""

    source: Source
    images: list[_Image]
    labels: dict[Id, set[Id]]
    categories: list[_Category]
    first_use: dict[Id, int]  # category id -> index of the first annotation with it


def read(root: Path, options: Options) -> SourceDataset:
    """Read a COCO data set; the notes say what was left out or united.

    Raises one PaddlexMLError: all faults of the content together, or the first damage of a file.
    """
    root = Path(root)
    sources, notes = coco_files.find(root)
    collector = Collector(root, options, notes=notes)
    with _without_gc():
        parts = [_read_part(source, collector) for source in sources]
        names = _unite_categories(parts, collector)
        _judge_uses(parts, names, collector)
        _add_images(parts, collector)
        ids = sorted(names, key=_order)
        retire = [root / source.path for source in sources]
        return collector.finish([names[i] for i in ids], ids, retire)


@contextmanager
def _without_gc() -> Iterator[None]:
    """Millions of records that form no cycles: looking for cycles would take half of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _order(category_id: Id) -> tuple[int, int, Id]:
    """Numbers first, then texts, those of digits by their value: "2" before "10"."""
    if isinstance(category_id, int):
        return 0, 0, category_id
    return (1, len(category_id), category_id) if category_id.isdecimal() else (2, 0, category_id)


# The content of a file


def _read_part(source: Source, collector: Collector) -> _Part:
    """Read one file; the annotations and the text itself are let go when it is done."""
    content = _decode(source, collector.root)
    if not content.images:
        fix = "remove the file, or rename it, to convert the other one alone"
        collector.fault("no images", source.path, "the list `images` is empty", fix)
    images = _unite_images(content.images, source, collector)
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
        count, ids = sum(unknown.values()), _show(list(unknown))
        collector.notes.append(
            f"{source.path}: {count:,} annotations of images that `images` does not have "
            f"were left out: image ids {ids}"
        )
    if flat:
        told = f"{source.path}: {flat:,} boxes have no area: their labels count"
        collector.notes.append(told)
    return _Part(source, images, labels, content.categories, first_use)


def _unite_images(images: list[_Image], source: Source, collector: Collector) -> list[_Image]:
    """Every image id once. The same id with two file names is a fault."""
    first: dict[Id, int] = {}
    again: list[Id] = []
    for index, image in enumerate(images):
        at = first.setdefault(image.id, index)
        if at == index:
            continue
        again.append(image.id)
        if images[at].file_name != image.file_name:
            text = f"the id stands at images[{at}] already, for {images[at].file_name}"
            fix = "give every image an id of its own, and use it in its annotations"
            collector.fault("duplicate image id", _place(source, index, image), text, fix)
    if not again:
        return images
    collector.notes.append(
        f"{source.path}: {len(again):,} images stood in `images` again and were united: "
        f"ids {_show(again)}"
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


def _unite_categories(parts: list[_Part], collector: Collector) -> dict[Id, str]:
    """Category id -> name, of all files; what contradicts itself is a fault."""
    names: dict[Id, str] = {}
    ids: dict[str, Id] = {}
    for part in parts:
        for index, category in enumerate(part.categories):
            name = category.name.strip()
            fault = _judge_category(category.id, name, names, ids)
            if fault:
                where = f"{part.source.path}: categories[{index}] (id {category.id!r})"
                collector.fault("categories", where, *fault)
            names.setdefault(category.id, name)
            ids.setdefault(name, category.id)
    if not names:
        where = f"{parts[0].source.path}: categories"
        collector.fault("categories", where, "the list is empty", "name at least one category")
    if len({frozenset(category.id for category in part.categories) for part in parts}) > 1:
        collector.notes.append(_tell_difference(parts))
    return names


def _judge_category(
    category_id: Id, name: str, names: dict[Id, str], ids: dict[str, Id]
) -> tuple[str, str] | None:
    """What is wrong with a category, and its repair."""
    if not name or re.search(r"[\r\n]", name):
        return f"the name {name!r} is empty or has a line end", "give the category a name"
    if names.get(category_id, name) != name:
        text = f"the id has two names: {names[category_id]!r} and {name!r}"
        return text, "give every category an id of its own, the same in all files"
    if ids.get(name, category_id) != category_id:
        text = f"the name {name!r} has two ids: {ids[name]!r} and {category_id!r}"
        return text, "rename one, or give both and their annotations one id"
    return None


def _tell_difference(parts: list[_Part]) -> str:
    """The categories that only one of two files has."""
    told = []
    for part, other in (parts, parts[::-1]):
        common = {category.id for category in other.categories}
        only = [category.name.strip() for category in part.categories if category.id not in common]
        if only:
            told.append(f"only {part.source.path} has {_show(only)}")
    return f"the categories of both files were united by id: {'; '.join(told)}"


def _judge_uses(parts: list[_Part], names: dict[Id, str], collector: Collector) -> None:
    """One fault for each category id that annotations use and no file names."""
    for part in parts:
        for category_id, index in part.first_use.items():
            if category_id in names:
                continue
            images = sum(category_id in row for row in part.labels.values())
            text = f"no category has the id {category_id!r}, which {images:,} images show"
            fix = "add the category to `categories`, or remove its annotations"
            where = f"{part.source.path}: annotations[{index}]"
            collector.fault("unknown category", where, text, fix)


def _add_images(parts: list[_Part], collector: Collector) -> None:
    done, total = 0, sum(len(part.images) for part in parts)
    progress = collector.options.progress
    for part in parts:
        name = part.source.list_name if len(parts) > 1 else "train"
        collector.open_list(name)
        folders = part.source.folders
        for index, image in enumerate(part.images):
            where = _place(part.source, index, image)
            collector.add(name, image.file_name, folders, part.labels[image.id], where)
            done += 1
            if done % _STEP == 0 or done == total:
                progress(done, total)


def _place(source: Source, index: int, image: _Image) -> str:
    return f"{source.path}: images[{index}] (id {image.id!r})"


def _show(items: list[Id] | list[str]) -> str:
    return ", ".join(map(str, items[:_SHOWN])) + (", ..." if len(items) > _SHOWN else "")


# Decoding


def _decode(source: Source, root: Path) -> _Content:
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
        raise _wrong_content(str(error), source, root) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong_syntax(error, raw, mark, source, root) from error


def _wrong_content(message: str, source: Source, root: Path) -> PaddlexMLError:
    """JSON that is not COCO: "Expected `str`, got `int` - at `$.images[7].file_name`"."""
    match = re.fullmatch(r"(.*?)(?: - at `\$\.?(.*)`)?", message, re.DOTALL)
    assert match is not None  # every part of it may be empty
    place = f": {match[2]}" if match[2] else ""
    if missing := re.fullmatch(r"Object missing required field `(.*)`", match[1]):
        text = f"the key `{missing[1]}` is missing"
    else:
        text = re.sub(r"`([^`]*)`", lambda found: _WORDS.get(found[1], found[1]), match[1])
        text = text[:1].lower() + text[1:]
    fix = (
        "write it as COCO does: lists `images` (id, file_name), `annotations` (image_id, "
        "category_id) and `categories` (id, name); ids are whole numbers or texts"
    )
    return PaddlexMLError(text, where=f"{root / source.path}{place}", fix=fix)


def _wrong_syntax(
    error: Exception, raw: bytes, mark: int, source: Source, root: Path
) -> PaddlexMLError:
    """No JSON at all, with the line. `mark` is the length of the byte order mark."""
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
            what, fix = f"{what}: NaN and Infinity are no JSON", "write null, or a number"
    else:
        what = "the file ends in the middle: it was cut off"
    line = raw.count(b"\n", 0, at) + 1
    where = f"{root / source.path}:{line}" + (f" (byte {at:,})" if at else "")
    return PaddlexMLError(what, where=where, fix=fix)


def _find_not_utf8(raw: bytes) -> int:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return len(raw)
