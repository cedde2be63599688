# SPDX-License-Identifier: Apache-2.0
"""COCO: labels, boxes or segments in json files -> which classes each image shows.

    annotations/instance_train.json, instance_val.json              as PaddleX names them
    annotations/instances_train2017.json, instances_val2017.json    as COCO does: any year, or none
    train/_annotations.coco.json, valid/_annotations.coco.json      as Roboflow does
    annotations/instances_default.json                              as CVAT does
    result.json                                                     as Label Studio does
    train.json, val.json, or any other name

Files (https://cocodataset.org/#format-data). Every `.json` file of the data set is looked at: a
file of COCO has the lists `images`, `annotations` and `categories`. A word `train`, `val`, `valid`
or `validation` in its name, else in its folders, tells its list; capitals do not matter. One of the
two is enough: its images are then one list, which a split divides. So are those of a file without
such a word, when there is no other file; beside train and val it is left out if they have all its
images. Two files for one list are refused, except `instances_x.json` and `labels_x.json`. Files of
test, captions, keypoints and panoptic segments, and lists of images alone are never read.

Classes. The categories become classes 0, 1, 2, ... in the order of their ids, whether an image
shows them or not. If some ids are texts, numbers come first. The categories of all files are merged
by id; an id with two names, or a name with two ids, is a fault. The root category of Roboflow
(id 0, supercategory `none`, and all others have its name as supercategory) is no class when no
annotation uses it.

Ids. They are compared by value: 7, 7.0, "7" and "007" are one id. A number that is not whole is a
fault. Texts that are no numbers are ids too.

Images. Every entry of `images` becomes a line, all zeros where no annotation names it. With S for
what follows `instances_` in the name of the json, or the word that tells its list, an image is
looked for in images/S, S, S/images, images, JPEGImages (all beside the json or its folder
`annotations`), the data set folder and the folder of the json. An image that is listed twice, under
one id or under two, becomes one line with all its labels; one id with two file names is a fault.

Labels. Every annotation counts, also `iscrowd`, boxes without area, and annotations of whole images
without a box. One that names an image which `images` does not have is dropped and counted; when all
are, it is a fault. A category that `categories` does not have is a fault. Fields that are not
needed may hold anything, also NaN.

LVIS (https://www.lvisdataset.org/dataset). `neg_category_ids` of an image are the categories that
somebody looked for and did not find; where a file has them, all others are unknown but those of the
annotations, also of an image without the key. An annotation counts before them, which is told.
`CheckDataset.convert.uncertain=negative` takes unknown ones for absent.
Images without `file_name` have the end of their `coco_url` as name.
"""

from __future__ import annotations

import gc
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple, cast

import msgspec

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import coco_files, coco_json
from paddlex_ml.formats.coco_files import CocoSource
from paddlex_ml.formats.coco_json import (
    EXACT,
    LARGE,
    CocoCategory,
    CocoContent,
    CocoImage,
    Id,
    WrittenId,
    is_flat,
    to_id,
)
from paddlex_ml.formats.collector import Collector, Options, SourceDataset
from paddlex_ml.wording import count, first_names

_STEP = 1000  # images between two calls of the progress


class _CocoFile(NamedTuple):
    """The images of one json file, and the category ids that each of them shows."""

    source: CocoSource
    images: list[CocoImage]
    image_ids: list[Id]
    labels: dict[Id, set[Id]]
    categories: list[tuple[Id, str]]
    """Id, and name without spaces around it."""
    root_name: str
    """Name of the root category of Roboflow, which has the id 0; "" for none."""
    first_use: dict[Id, int]  # category id -> index of the first annotation with it
    absent: list[set[Id | None] | None]
    """Of each image, the categories that it is known not to show; None where nothing is said."""


def recognise(inventory: Inventory) -> str:
    """The json file by whose content the format is known."""
    candidates = coco_files.list_candidates(inventory)[0]
    is_coco = coco_files.looks_like_coco
    return next((path for path in candidates if is_coco(inventory.read_head(path))), "")


def read(root: Path, options: Options) -> SourceDataset:
    """Read a COCO data set; the notes list what was left out or merged.

    Raises one PaddlexMLError: all faults of the content together, or the first damage of a file.
    """
    root = Path(root)
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        fix = "-o Global.dataset_dir=... (the folder that holds annotations/ and the images)"
        raise PaddlexMLError(f"the data set folder {what}", where=str(root), fix=fix)
    collector = Collector(root, options, layout=coco_files.LAYOUT)
    sources, left_out, collector.notes = coco_files.find(collector.inventory)
    collector.account.left_out.update(left_out)
    was_enabled = gc.isenabled()
    gc.disable()  # millions of records without cycles: the search for cycles takes half of the time
    try:
        files = [_read_file(source, collector) for source in sources]
        names = _merge_categories(files, collector)
        _check_uses(files, names, collector)
        _add_images(files, names, collector)
        ids = sorted(names, key=coco_json.order)
        retire = [root / source.path for source in sources]
        return collector.finish([names[i] for i in ids], ids, retire)
    finally:
        if was_enabled:
            gc.enable()


# The content of a file


def _read_file(source: CocoSource, collector: Collector) -> _CocoFile:
    """Read one file; the memory of its text and its annotations is free afterwards."""
    content, encoding = coco_json.decode(collector.root, source.path)
    collector.account.note_encoding(source.path, encoding)
    if not content.images:
        fix = "remove the file, or rename it, to convert the other one alone"
        collector.add_fault("no images", source.path, "the list `images` is empty", fix)
    images, ids = _merge_images(content.images, source, collector)
    labels: dict[Id, set[WrittenId]] = {image_id: set() for image_id in ids}
    values: dict[WrittenId, Id] = {}  # of image ids that are no whole numbers as they are written
    first_use: dict[WrittenId, int] = {}
    flat = 0
    collector.account.use(source.path, len(content.annotations))
    for index, annotation in enumerate(content.annotations):
        image_id, category_id = annotation.image_id, annotation.category_id
        if type(category_id) is int and not -LARGE < category_id < LARGE:
            category_id = str(category_id)
        if type(image_id) is not int:
            if image_id not in values:
                entry = f"annotations[{index}].image_id"
                values[image_id] = _read_id(image_id, source, entry, collector)
            image_id = values[image_id]
        elif not -LARGE < image_id < LARGE:
            image_id = str(image_id)
        row = labels.get(image_id)
        if row is None:
            reason = "of an image that `images` does not have"
            collector.account.drop(source.path, reason, f"image id {annotation.image_id!r}")
            continue
        row.add(category_id)
        first_use.setdefault(category_id, index)
        flat += is_flat(annotation.bbox)
    if flat:
        note = f"{source.path}: {count(flat, 'box has', 'boxes have')} no area: their labels count"
        collector.notes.append(note)
    categories = [
        (_read_id(category.id, source, f"categories[{index}].id", collector), category.name.strip())
        for index, category in enumerate(content.categories)
    ]
    _note_label_studio(content, source, collector)
    rows, uses = _replace_category_ids(labels, first_use, source, collector)
    root_name, absent = _find_root(content.categories), _read_absent(images, source, collector)
    return _CocoFile(source, images, ids, rows, categories, root_name, uses, absent)


def _read_absent(
    images: list[CocoImage], source: CocoSource, collector: Collector
) -> list[set[Id | None] | None]:
    """The categories that are verified as absent, image by image, as in `_CocoFile`."""
    absent: list[set[Id | None] | None] = []
    for index, image in enumerate(images):
        try:
            absent.append(coco_json.read_absent(image))
        except msgspec.DecodeError:
            text = "neg_category_ids is not a list of category ids"
            fix = "write a list such as [3, 17], or [] where none is verified as absent"
            collector.add_fault("malformed ids", _locate(source, index, image), text, fix)
            absent.append(None)
    if any(each is not None for each in absent):  # of an image without them nothing is verified
        return [set() if each is None else each for each in absent]
    return absent


def _read_id(written: WrittenId, source: CocoSource, entry: str, collector: Collector) -> Id:
    """The value of an id. One that is not a whole number is a fault."""
    value = to_id(written)
    if value is None:
        text = f"the id {written!r} is not a whole number"
        if abs(written) > EXACT:  # type: ignore[arg-type]
            text = f"the id {written!r} is a float too large to be exact"
        fix = "write every id as a whole number, or as a text"
        collector.add_fault("id not whole", f"{source.path}: {entry}", text, fix)
        return str(written)
    return value


def _replace_category_ids(
    labels: dict[Id, set[WrittenId]],
    first_use: dict[WrittenId, int],
    source: CocoSource,
    collector: Collector,
) -> tuple[dict[Id, set[Id]], dict[Id, int]]:
    """Labels, and first use of each category, by the values of their ids."""
    values = {
        written: _read_id(written, source, f"annotations[{index}].category_id", collector)
        for written, index in first_use.items()
    }
    rows = cast(dict[Id, set[Id]], labels)
    # 7.0 is the same key as 7: it stays as it is.
    if any(written != value for written, value in values.items()):
        rows = {image_id: {values[written] for written in row} for image_id, row in labels.items()}
    uses: dict[Id, int] = {}
    for written, index in first_use.items():
        uses.setdefault(values[written], index)
    return rows, uses


def _find_root(categories: list[CocoCategory]) -> str:
    """Name of the root category that Roboflow writes; "" for none."""
    for root in categories:
        if to_id(root.id) == 0 and _read_text(root.supercategory) == "none":
            others = [category for category in categories if category is not root]
            is_root = all(_read_text(each.supercategory) == root.name for each in others)
            return root.name.strip() if others and is_root else ""
    return ""


def _read_text(written: msgspec.Raw) -> str | None:
    """A text of the file; None for another value, which is not even made."""
    try:
        text: str = msgspec.json.decode(written, type=str)
    except msgspec.DecodeError:
        return None
    return text


def _note_label_studio(content: CocoContent, source: CocoSource, collector: Collector) -> None:
    """Warn that Label Studio does not write labels of whole images into this format."""
    if b"Label Studio" in bytes(content.info) or any(
        image.file_name.startswith(("/data/upload/", "/data/local-files/"))
        for image in content.images[:1]
    ):
        collector.notes.append(
            f"{source.path}: Label Studio writes boxes and segments into COCO, but no choices of "
            "whole images: if there are any, export JSON and convert that instead"
        )


def _merge_images(
    images: list[CocoImage], source: CocoSource, collector: Collector
) -> tuple[list[CocoImage], list[Id]]:
    """Every image id once, and its value. The same id with two file names is a fault."""
    first: dict[Id, int] = {}
    repeated: list[str] = []
    for index, image in enumerate(images):
        image_id = image.id
        if type(image_id) is not int or not -LARGE < image_id < LARGE:
            image_id = _read_id(image_id, source, f"images[{index}].id", collector)
        earlier = first.setdefault(image_id, index)
        if earlier == index:
            continue
        repeated.append(str(image.id))
        if images[earlier].file_name != image.file_name:
            text = f"images[{earlier}] has the same id, for {images[earlier].file_name}"
            fix = "give every image an id of its own, and use it in its annotations"
            collector.add_fault("duplicate image id", _locate(source, index, image), text, fix)
    if repeated:
        collector.notes.append(
            f"{source.path}: {count(len(repeated), 'image is', 'images are')} repeated in "
            "`images` and were merged: "
            f"ids {first_names(repeated, 5)}"
        )
    return [images[index] for index in first.values()], list(first)


# Categories and images


def _merge_categories(files: list[_CocoFile], collector: Collector) -> dict[Id, str]:
    """Category id -> name, of all files; ids and names that contradict each other are faults."""
    names: dict[Id, str] = {}
    ids: dict[str, Id] = {}
    has_root = _leave_out_root(files, collector)
    for file in files:
        for index, (category_id, name) in enumerate(file.categories):
            if category_id == 0 and has_root:
                continue
            if fault := _check_category(category_id, name, names, ids):
                where = f"{file.source.path}: categories[{index}] (id {category_id!r})"
                collector.add_fault("categories", where, *fault)
            names.setdefault(category_id, name)
            ids.setdefault(name, category_id)
    if not names:
        where = f"{files[0].source.path}: categories"
        collector.add_fault("categories", where, "the list is empty", "name at least one category")
    differences = []
    for file in files:
        others = {c for other in files if other is not file for c, _ in other.categories}
        only = [name for category_id, name in file.categories if category_id not in others]
        if only and len(files) > 1:
            differences.append(f"only {file.source.path} has {first_names(only, 5)}")
    if differences:
        text = f"the categories of {'both' if len(files) == 2 else 'all'} files were merged by id"
        collector.notes.append(f"{text}: {'; '.join(differences)}")
    return names


def _leave_out_root(files: list[_CocoFile], collector: Collector) -> bool:
    """Whether the id 0 is a root category of Roboflow that no annotation uses; it is entered."""
    every = [category for file in files for category in file.categories]
    names = {name for category_id, name in every if category_id == 0}
    roots = {file.root_name for file in files if 0 in dict(file.categories)}
    if len(names) != 1 or names != roots or any(0 in file.first_use for file in files):
        return False
    name = names.pop()
    is_class = any(category_id != 0 and other == name for category_id, other in every)
    reason = "the root category of Roboflow (id 0), which no annotation uses"
    collector.account.names_left_out[f"{name} (id 0)" if is_class else name] = reason
    return True


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
            text = (
                f"no category has the id {category_id!r}, which "
                f"{count(images, 'image shows', 'images show')}"
            )
            fix = "add the category to `categories`, or remove its annotations"
            where = f"{file.source.path}: annotations[{index}]"
            collector.add_fault("unknown category", where, text, fix)


def _add_images(files: list[_CocoFile], names: dict[Id, str], collector: Collector) -> None:
    chosen, open_images, disputed = collector.options.uncertain, 0, 0
    unnamed: Counter[Id | None] = Counter()  # ids that are verified as absent, of no category
    done, total = 0, sum(len(file.images) for file in files)
    progress = collector.options.progress
    divided = len({file.source.list_name for file in files}) > 1
    for file in files:
        name = file.source.list_name if divided else "train"
        collector.open_list(name)
        folders = file.source.folders
        for index, image in enumerate(file.images):
            where = _locate(file.source, index, image)
            labels = file.labels[file.image_ids[index]]
            absent = file.absent[index]
            open_images += absent is not None
            disputed += len((absent or set()).intersection(labels))
            unnamed.update((absent or set()) - names.keys())
            denied = None if absent is None or chosen == "negative" else names.keys() & absent
            collector.add(name, image.file_name, folders, labels, where, absent=denied)
            done += 1
            if done % _STEP == 0 or done == total:
                progress(done, total)
    if disputed:
        what = count(disputed, "annotated category is", "annotated categories are")
        text = "verified as absent in the same image (neg_category_ids): the annotation counts"
        collector.notes.append(f"{what} {text}")
    if open_images and chosen == "positive":
        text = "uncertain=positive would give each image all classes that nobody looked for"
        fix = "-o CheckDataset.convert.uncertain=null (unknown), or "
        fix += "-o CheckDataset.convert.uncertain=negative (absent)"
        collector.add_fault("uncertain labels", "", text, fix)
    elif open_images:
        what = "absent, as convert.uncertain says"
        if chosen != "negative":
            what = "unknown; to take them for absent: -o CheckDataset.convert.uncertain=negative"
        named = count(open_images, "image comes", "images come")
        text = "from files that name classes verified as absent (neg_category_ids): others are"
        collector.notes.append(f"{named} {text} {what}")
    elif chosen is not None:
        text = "convert.uncertain has no effect: no image names classes verified as absent"
        collector.notes.append(f"{text} (neg_category_ids)")
    if unnamed:
        what = count(unnamed.total(), "id", "ids")
        shown = first_names([repr(i) for i in unnamed if i is not None] or ["no whole number"], 5)
        text = f"in neg_category_ids of no category, left out: {shown}"
        collector.notes.append(f"{what} {text}")


def _locate(source: CocoSource, index: int, image: CocoImage) -> str:
    return f"{source.path}: images[{index}] (id {image.id!r})"
