# SPDX-License-Identifier: Apache-2.0
"""MMPretrain: one JSON file for many images (`src_dataset_type: MMPretrain`).

    {"metainfo": {"classes": ["cat", "dog"]},
     "data_list": [{"img_path": "a.jpg", "gt_label": [0, 1]}, {"img_path": "b.jpg", "gt_label": 1}]}

- The files (https://mmpretrain.readthedocs.io/en/latest/user_guides/dataset_prepare.html) are JSON
  with `data_list` anywhere in the data set: one with `train` and one with `val` (or `valid`) in its
  name, or a single one. A file with `test` in its name is not used.
- `gt_label` has the number of a class, or a list of numbers, counted from 0; an empty list is no
  label. A list of 0 and 1 for each class and labels of several tasks are refused. An entry without
  `gt_label` is left out and counted.
- The classes are those of `metainfo.classes` (a list, or the name of a file with one class a line),
  else of `classes.txt`, in this order. Where the two files differ, classes are merged by name.
- The image is `img_path`. It is looked for in the folder of the file, in `images/`, in the folder
  of its list (`train/`), in `images/` of that folder, and in the data set folder.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from paddlex_ml.data.inventory import HEAD, Inventory
from paddlex_ml.data.lines import to_utf8
from paddlex_ml.data.walk import join
from paddlex_ml.errors import PaddlexMLError, alternatives
from paddlex_ml.formats.collector import (
    CLASS_FILE,
    Collector,
    Options,
    SourceDataset,
    check_class_name,
)
from paddlex_ml.formats.subsets import (
    SourceTable,
    choose_files,
    list_image_folders,
    note_unused_test,
    parse_subset_of_file,
)
from paddlex_ml.storage import regular_file
from paddlex_ml.wording import count, first_names

_LAYOUT = "name the files train.json and val.json"
_CLASSES = 'write {"metainfo": {"classes": ["cat", "dog"]}, ...} into it, or a file classes.txt'
_WRITE = 'write "gt_label": [0, 2]: the numbers of the classes that the image shows, from 0'
_STEP = 1000  # images between two calls of progress


class _MMEntry(msgspec.Struct, gc=False):
    img_path: str
    gt_label: Any = UNSET


class _MMFile(msgspec.Struct):
    data_list: list[_MMEntry]
    metainfo: dict[str, Any] = {}


_decoder = msgspec.json.Decoder(_MMFile)


def recognise(inventory: Inventory) -> str:
    """The file by whose content the format is known."""
    return next(iter(_find_files(inventory)), "")


def read(root: Path, options: Options) -> SourceDataset:
    """Read the files. Raises one PaddlexMLError with every fault."""
    collector = Collector(root, options, layout=_LAYOUT)
    lists, test = choose_files(root, _find_files(collector.inventory))
    if not lists:
        raise PaddlexMLError(
            "there is no JSON file of MMPretrain for training",
            where=str(root),
            fix=alternatives(
                "put a file with `metainfo` and `data_list` there",
                "let the format be found: -o CheckDataset.convert.src_dataset_type=auto",
            ),
        )
    collector.notes = list(map(note_unused_test, test))
    collector.account.left_out.update(dict.fromkeys(test, "of the test subset"))
    contents = {name: _decode(collector, path) for name, path in lists.items()}
    collector.raise_faults()
    total = sum(len(content.data_list) for content in contents.values())
    names: dict[str, None] = {}
    done = 0
    for name, content in contents.items():
        collector.open_list(name)
        classes = _read_classes(collector, lists[name], content)
        if names and list(names) != classes:
            different = sorted(set(names) ^ set(classes)) or ["only their order"]
            text = f"the classes of both files differ ({first_names(different, 5)})"
            collector.notes.append(f"{text}: they were merged by name")
        names.update(dict.fromkeys(classes))
        if content.data_list and all(_has_no_label(entry) for entry in content.data_list):
            text = f"none of the {len(content.data_list):,} entries has `gt_label`"
            if len(content.data_list) == 1:
                text = "the only entry has no `gt_label`"
            collector.add_fault("no labels", lists[name], text, _WRITE)
        subset = parse_subset_of_file(lists[name])
        folders = list_image_folders(SourceTable(lists[name], subset), subset)
        for index, entry in enumerate(content.data_list):
            where = f"{lists[name]}: data_list[{index}]"
            if _has_no_label(entry):
                collector.account.drop(lists[name], "without gt_label", entry.img_path)
            else:
                labels = _read_labels(collector, where, entry.gt_label, classes)
                collector.add(name, entry.img_path, folders, labels, where)
            done += 1
            if done % _STEP == 0 or done == total:
                options.progress(done, total)
    return collector.finish(list(names))


def _has_no_label(entry: _MMEntry) -> bool:
    return entry.gt_label is UNSET or entry.gt_label is None


def _find_files(inventory: Inventory) -> list[str]:
    found = []
    for path in inventory.find(".json"):
        head = inventory.read_head(path)
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            head = head.decode("utf-16", "ignore").encode()
        is_object = re.match(rb"\s*\{", head.removeprefix(codecs.BOM_UTF8))
        keys = set(re.findall(rb'"(metainfo|data_list|img_path|gt_label|instances)"\s*:', head))
        # MMDetection has the same file with `instances`.
        is_known = b"instances" not in keys and b"data_list" in keys and len(keys) > 2
        # Thousands of classes hide what follows them.
        is_long = len(head) == HEAD and re.match(rb'\s*\{\s*"metainfo"\s*:.*"classes"', head, re.S)
        if is_object and (is_known or is_long):
            found.append(path)
    return found


def _decode(collector: Collector, path: str) -> _MMFile:
    try:
        raw = regular_file.read(collector.root / path, growth=regular_file.ANY_JSON)
        content, encoding = to_utf8(raw)
        file = _decoder.decode(content)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        fix = 'write {"metainfo": {...}, "data_list": [{"img_path": "a.jpg", "gt_label": [0]}]}'
        text = f"{path} cannot be read: {error}"
        if isinstance(error, OSError):
            text, fix = f"{path} cannot be read: {error.strerror}", regular_file.repair(error)
        collector.add_fault("damaged JSON", path, text, fix)
        return _MMFile([])
    collector.account.use(path, len(file.data_list))
    collector.account.note_encoding(path, encoding)
    return file


def _read_classes(collector: Collector, path: str, content: _MMFile) -> list[str]:
    """Names of the classes in the order of their numbers."""
    meta = {key.lower(): value for key, value in content.metainfo.items()}
    if "tasks" in meta:
        fix = "make a file for each task, with its own metainfo.classes and numbers"
        collector.add_fault("several tasks", path, "the labels are those of several tasks", fix)
        return []
    classes, where = meta.get("classes"), f"{path}: metainfo.classes"
    if classes is None or isinstance(classes, str):
        own = path.rpartition("/")[0]
        wanted = classes or CLASS_FILE
        files = dict.fromkeys([join(own, wanted), wanted])
        where = next((file for file in files if (collector.root / file).is_file()), "")
        classes = collector.read_lines(where, records=False) if where else []
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        collector.add_fault("class names", where, "it is not a list of names", _CLASSES)
        return []
    names = [name.strip() for name in classes]
    if not names:
        collector.add_fault("class names", path, "the file names no classes", _CLASSES)
    collector.faults += filter(None, (check_class_name(name, where) for name in names))
    for name in sorted({name for name in names if names.count(name) > 1}):
        text = f"the class {name!r} is there twice"
        collector.add_fault("class names", where, text, "give every class a name of its own")
    return names


def _read_labels(collector: Collector, where: str, written: Any, classes: list[str]) -> list[str]:
    """Names of the classes of an entry; what cannot be one is a fault."""
    if not classes:
        return []  # a fault already
    numbers = written if isinstance(written, list) else [written]
    labels: list[str] = []
    for number in numbers:
        if isinstance(number, str) and number in classes:
            labels.append(number)
        elif (value := _read_number(number)) is not None and 0 <= value < len(classes):
            labels.append(classes[value])
        else:
            text = f"gt_label has {number!r:.40}, which is no number of the "
            text += count(len(classes), "class", "classes")
            if isinstance(written, dict):
                text = f"gt_label has the labels of several tasks: {first_names(list(written), 5)}"
            collector.add_fault("wrong gt_label", where, text, _WRITE)
            return []
    if len(set(labels)) < len(labels):
        text = f"gt_label has a class twice: {written!r:.60}"
        if len(written) == len(classes) and set(written) <= {0, 1}:
            text = f"gt_label has 0 or 1 for each class, not numbers of classes: {written!r:.60}"
        collector.add_fault("wrong gt_label", where, text, _WRITE)
    return labels


def _read_number(written: Any) -> int | None:
    """The value of 2, 2.0 or "2"."""
    if isinstance(written, str):
        return int(written) if re.fullmatch(r"[0-9]{1,9}", written, re.ASCII) else None
    if isinstance(written, float):
        return int(written) if written.is_integer() else None
    return written if isinstance(written, int) and not isinstance(written, bool) else None
