# SPDX-License-Identifier: Apache-2.0
"""LabelMe: one JSON file an image, with flags and shapes (`src_dataset_type: LabelMe`).

    a.jpg  a.json          or   images/a.jpg  annotations/a.json
    train/a.jpg  train/a.json   val/b.jpg  val/b.json
    images/, annotations/, label.txt, train_anno_list.txt, val_anno_list.txt   (PaddleX's tutorials)

- All `.json` files of the data set are read, in folders of any depth. One that is not a LabelMe
  file (an object with `shapes`) is refused by its name: move it out of the data set.
- The labels are the flags of the image that are true, and the labels of its shapes, without spaces
  around them; flags and attributes of shapes are none. A flag that is true for no image is not a
  class; to keep it as a class, write it into `classes.txt`. LabelMe's `__ignore__` and
  `_background_` are never classes.
- The image is the one that has the name of the JSON file, with any ending: beside it, or in
  `images/` with the same folders between. Where there is none, it is `imagePath` (with / or \\). An
  `imagePath` that is another image of the data set is an error, and so are two JSON files of one
  image: `-o CheckDataset.convert.image_from=stem` takes the name of the JSON file, `=field` the
  `imagePath`. The copy of the image inside the JSON file (`imageData`) is not used.
- `train_anno_list.txt` and `val_anno_list.txt` divide, where they are there: a line is the path of
  a JSON file. A JSON file in neither is left out, with a note. Else files below folders `train/`
  and `val/` (or `valid/`) make these lists; then a file in neither is refused. With one of the two,
  or none, there is one list. Files of `test` are not used.
- The classes are in the order of `classes.txt`, else of `label.txt` (one name a line), which must
  name them all; else in that of `labels.txt` and `flags.txt`, the others behind them in
  alphabetical order.
- The files are UTF-8, UTF-16 with a byte order mark, or GB18030.

X-AnyLabeling and AnyLabeling write the same files. The tools: https://github.com/wkentaro/labelme,
https://github.com/CVHub520/X-AnyLabeling; PaddleX's tutorial:
https://paddlepaddle.github.io/PaddleX/latest/en/data_annotations/cv_modules/ml_classification.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from paddlex_ml.data.annotation import LABEL_FILE
from paddlex_ml.data.faults import DatasetFault, combine
from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats.collector import (
    CLASS_FILE,
    Collector,
    Options,
    SourceDataset,
    check_class_name,
    order_names,
)
from paddlex_ml.formats.encoded_text import decode, read_bytes, show_head
from paddlex_ml.formats.name_index import NameIndex
from paddlex_ml.formats.own_image import OwnImages
from paddlex_ml.formats.subsets import assign_lists, divide_files, note_unused_test, parse_subset
from paddlex_ml.wording import count, first_names

_SUFFIX = ".json"
_LAYOUT = "put each JSON file beside its image, with the same name"
_LIST = re.compile(r"(.+)_anno_list\.txt", re.I)
_NO_CLASSES = ("__ignore__", "_background_")
_LOOKED_AT = 20  # JSON files by which the format is recognised
# What other tools write: keys of the file -> the tool, and the format that reads it.
_OTHERS = {
    ("images", "categories"): ("a COCO file", "COCO"),
    ("images", "annotations"): ("a COCO file", "COCO"),
    ("_via_img_metadata",): ("a project of the VGG Image Annotator", ""),
    ("info", "objects"): ("an ISAT file", ""),
    ("classTitle",): ("a Supervisely file", ""),
}


class _LabelMeShape(msgspec.Struct, gc=False):
    label: str


class _LabelMeFile(msgspec.Struct, gc=False):
    """The fields that are read: msgspec skips all others, megabytes of image data included."""

    shapes: list[_LabelMeShape]
    flags: dict[str, bool] | None = None
    image: str | None = msgspec.field(default=None, name="imagePath")


_decoder = msgspec.json.Decoder(_LabelMeFile)


def recognise(inventory: Inventory) -> str:
    """The JSON file by whose content the format is known."""
    for path in inventory.find(_SUFFIX)[:_LOOKED_AT]:
        head = show_head(inventory.read_head(path))
        if head.lstrip().startswith("{") and re.search(r'"shapes"\s*:', head):
            return path
    return ""


def read(root: Path, options: Options) -> SourceDataset:
    """Read all JSON files. Raises one PaddlexMLError with every fault."""
    collector = Collector(root, options, layout=_LAYOUT)
    every = collector.inventory.find(_SUFFIX)
    lists = _read_lists(collector, every) or _divide(collector, every)
    if not any(lists.values()):
        fix = "-o Global.dataset_dir=... (the folder that holds the images and their .json files)"
        text = "there is no .json file in the data set"
        faults = [*collector.faults, DatasetFault("nothing found", "", text, fix)]
        raise combine(faults, root)
    files: dict[str, _LabelMeFile] = {}  # those without faults
    paths = list(dict.fromkeys(path for listed in lists.values() for path in listed))
    for done, path in enumerate(paths, 1):
        file = _read_file(collector, path)
        if isinstance(file, DatasetFault):
            collector.faults.append(file)
        else:
            files[path] = file
            collector.account.use(path, len(_list_labels(file)))
        options.progress(done, len(paths))
    own = OwnImages(collector)
    found = own.choose({path: file.image or "" for path, file in files.items()})
    for name, listed in lists.items():
        collector.open_list(name)
        for path in listed:
            if path in found:  # else it is a fault already
                labels = set(_list_labels(files[path])).difference(_NO_CLASSES)
                collector.add(name, *found[path], labels, path)
    return collector.finish(_order_classes(collector, files))


# Lists


def _divide(collector: Collector, every: list[str]) -> dict[str, list[str]]:
    """Divide the JSON files by their folders."""
    lists, faults, notes = divide_files(every)
    collector.faults += faults
    collector.notes += notes
    return lists


def _read_lists(collector: Collector, every: list[str]) -> dict[str, list[str]]:
    """The JSON files of the lists of PaddleX; none where there are no such lists."""
    files: dict[str, str] = {}
    for name in collector.inventory.names(""):
        if (match := _LIST.fullmatch(name)) and (subset := parse_subset(match[1])):
            files[subset] = name
    index = NameIndex(every)
    paths = {subset: _read_list(collector, file, index) for subset, file in files.items()}
    chosen = assign_lists(subset for subset, listed in paths.items() if listed)
    if not chosen:
        return {}
    if "test" in files:
        collector.notes.append(note_unused_test(files["test"]))
        collector.account.left_out.update(dict.fromkeys(paths["test"], "of the test subset"))
    lists = {name: paths[subset] for subset, name in chosen.items()}
    listed = {path for group in paths.values() for path in group}
    if rest := [path for path in every if path not in listed]:
        text = f"{len(rest):,} JSON files are in no list, left out: {first_names(rest, 5)}"
        collector.notes.append(text)
        collector.account.left_out.update(dict.fromkeys(rest, "in no list"))
    return lists


def _read_list(collector: Collector, file: str, index: NameIndex) -> list[str]:
    paths: dict[str, None] = {}
    for number, line in enumerate(collector.read_lines(file), 1):
        name = (line or "").strip()
        found = index.find(name) if name else []
        if len(found) == 1:
            paths[found[0]] = None
        elif name:
            text = f"{name} may be {found[0]} or {found[1]}" if found else f"{name} is not there"
            fix = "restore the JSON file, or remove the line"
            collector.add_fault("annotation missing", f"{file}:{number}", text, fix)
    return list(paths)


# JSON files


def _read_file(collector: Collector, path: str) -> _LabelMeFile | DatasetFault:
    content = read_bytes(collector.root / path, path)
    if isinstance(content, DatasetFault):
        return content
    if not content.isascii():
        text = decode(content, path)
        if isinstance(text, DatasetFault):
            return text
        collector.account.note_encoding(path, text.encoding)
        content = text.text.encode()
    try:
        file = _decoder.decode(content)
    except (msgspec.DecodeError, RecursionError) as error:
        return _explain(content, error, path)
    faults = (check_class_name(label, path) for label in _list_labels(file))
    return next(filter(None, faults), file)


def _explain(content: bytes, error: Exception, name: str) -> DatasetFault:
    message = str(error)
    if isinstance(error, msgspec.ValidationError):
        other, source = _find_other_tool(content)
        fix = "move it out of the data set"
        if source:
            fix += f", or read it: -o CheckDataset.convert.src_dataset_type={source}"
        if other or " - at `$" not in message:  # the top level itself
            text = f"{name} is not a LabelMe file, which is an object with `shapes`"
            text += f": it is {other}" if other else ""
            return DatasetFault("not a LabelMe file", name, text, fix)
        fix = "correct the file, or annotate the image again"
        return DatasetFault("wrong value", name, f"a value of {name} is wrong: {message}", fix)
    offset = re.search(r"\(byte (\d+)\)", message)
    end = int(offset[1]) if offset else len(content)
    line = content.count(b"\n", 0, end) + 1
    text = f"the JSON is damaged: {message.removeprefix('JSON is malformed: ')}"
    return DatasetFault("damaged JSON", f"{name}:{line}", text, "restore the file")


def _find_other_tool(content: bytes) -> tuple[str, str]:
    """What a file is that is not LabelMe's, and the format that reads it; "" where unknown."""
    try:
        top: Any = msgspec.json.decode(content, type=dict[str, msgspec.Raw] | list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError):
        return "", ""
    if isinstance(top, list) or "shapes" in top:
        return "", ""
    return next((other for keys, other in _OTHERS.items() if {*keys} <= top.keys()), ("", ""))


def _list_labels(file: _LabelMeFile) -> list[str]:
    flags = [flag for flag, is_set in (file.flags or {}).items() if is_set]
    return [name.strip() for name in [*flags, *(shape.label for shape in file.shapes)]]


# Classes


def _order_classes(collector: Collector, files: Mapping[str, _LabelMeFile]) -> list[str]:
    """The classes in their order; the account gets the names that are none."""
    root, left_out = collector.root, collector.account.names_left_out
    labels = [label for file in files.values() for label in _list_labels(file)]
    for name in _NO_CLASSES:
        if found := labels.count(name):
            left_out[name] = f"LabelMe's word for what is no class ({count(found, 'label')})"
    seen = set(labels).difference(_NO_CLASSES)
    there = {name.casefold(): name for name in collector.inventory.names("")}
    own_label_file = re.match(rb"\s*0\s+\S", collector.inventory.read_head(LABEL_FILE))
    strict = [CLASS_FILE] if own_label_file else [CLASS_FILE, LABEL_FILE]
    if file := next((there[name] for name in strict if name in there), ""):
        names, faults = order_names(root, seen, file)
        collector.faults += faults
        collector.account.use(file)
        names = [name for name in names if name in seen or name not in _NO_CLASSES]
    else:
        names = _order_by_tool_files(collector, seen, there)
    known = {flag.strip() for file in files.values() for flag in file.flags or {}}
    for flag in sorted(known.difference(names, left_out, _NO_CLASSES)):
        left_out[flag] = "the flag is true for no image"
    return names


def _order_by_tool_files(
    collector: Collector, seen: set[str], there: Mapping[str, str]
) -> list[str]:
    """The classes in the order in which the files for LabelMe's options name them."""
    named: dict[str, None] = {}
    for file in filter(None, map(there.get, ("labels.txt", "flags.txt"))):
        lines: Iterable[str | None] = collector.read_lines(file, records=False)
        names = [(line or "").strip() for line in lines]
        named.update(dict.fromkeys(filter(None, names)))
        unseen = set(names).difference(seen, _NO_CLASSES, [""])
        for name in sorted(unseen):
            collector.account.names_left_out[name] = f"it is in {file}, but no image has it"
    if (label_file := there.get(LABEL_FILE)) and not named:
        # Our own list of an earlier conversion, which keeps the order.
        lines = collector.read_lines(label_file, records=False)
        named.update(dict.fromkeys((line or "").strip().partition(" ")[2] for line in lines))
    return [*(name for name in named if name in seen), *sorted(seen.difference(named))]
