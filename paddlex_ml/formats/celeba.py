# SPDX-License-Identifier: Apache-2.0
"""CelebA (`src_dataset_type: CelebA`), and sets that are written like it (CelebA-HQ).

    Anno/list_attr_celeba.txt             Eval/list_eval_partition.txt    Img/img_align_celeba/
      202599                                000001.jpg 0                    000001.jpg
      5_o_Clock_Shadow Arched_Eyebrows ...
      000001.jpg -1  1  1 ...

- The table of attributes has the number of images, the names of the attributes, and for each image
  1 or -1 for each of them: it shows it or not. The CSV of Kaggle, `list_attr_celeba.csv`, has the
  names in its first line, after `image_id`.
- `list_eval_partition` (.txt or .csv) divides: 0 is train, 1 is validation; 2 is test, which is not
  used. Without it there is one list.
- Boxes, landmarks and identities (`list_bbox_celeba`, `list_landmarks_...`, `identity_CelebA`) are
  no labels, and are not used.
- Images are looked for in `img_align_celeba/`, `img_celeba/`, `CelebA-HQ-img/` and `images/`, then
  anywhere in the data set.

The set: https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.data.lines import to_utf8
from paddlex_ml.data.walk import is_image
from paddlex_ml.formats.collector import Collector, Options, SourceDataset, check_class_name
from paddlex_ml.formats.records import is_number
from paddlex_ml.formats.subsets import assign_lists

_FOLDERS = [
    *("Img/img_align_celeba", "img_align_celeba", "img_align_celeba/img_align_celeba"),
    *("img_celeba", "Img/img_celeba", "CelebA-HQ-img", "images", "Img", ""),
]
_ATTRIBUTES = re.compile(r"list_attr.*\.(txt|csv)|.*attribute.?anno.*\.txt", re.I)
_PARTITION = re.compile(r".*eval_partition.*\.(txt|csv)", re.I)
_OTHERS = re.compile(r"(list_bbox|list_landmarks|identity_).*\.(txt|csv)", re.I)
_SUBSETS = {"0": "train", "1": "val", "2": "test"}
_VALUES = {"1", "-1", "0"}
_PEEK = 5  # lines
_STEP = 1000  # rows between two calls of progress
_LAYOUT = "put list_attr_celeba.txt, list_eval_partition.txt and img_align_celeba/ there"


def recognise(inventory: Inventory) -> str:
    """The file by whose content the format is known."""
    path = next(iter(_find_attributes(inventory)), "")
    return f"{path}, a table of attributes with 1 and -1" if path else ""


def read(root: Path, options: Options) -> SourceDataset:
    """Read attributes and partition. Raises one PaddlexMLError with every fault."""
    collector = Collector(root, options, layout=_LAYOUT)
    paths = _find_attributes(collector.inventory)
    if len(paths) != 1:
        text = "there is no table of attributes"
        if paths:
            text = f"there are several tables of attributes: {', '.join(paths)}"
        collector.add_fault("nothing found", "", text, _LAYOUT)
        collector.raise_faults()
    for path in collector.inventory.find(".txt", ".csv"):
        if _OTHERS.fullmatch(path.rpartition("/")[2]):
            collector.account.left_out[path] = "boxes, landmarks or identities, which are no labels"
    partition = _read_partition(collector)
    names = _read_attributes(collector, paths[0], partition)
    return collector.finish(names)


def _find_attributes(inventory: Inventory) -> list[str]:
    """Tables of attributes, by their names and content."""
    partition = any(map(_is_partition, inventory.annotations))
    found = []
    for path in inventory.find(".txt", ".csv"):
        if not _ATTRIBUTES.fullmatch(path.rpartition("/")[2]):
            continue
        text = to_utf8(inventory.read_head(path))[0].decode("utf-8", "replace")
        lines = [_cut(line) for line in islice(filter(str.strip, text.splitlines()), _PEEK)]
        if len(lines) > 2 and len(lines[0]) == 1 and lines[0][0].isdecimal():
            del lines[0]
            names, rows = lines[0], lines[1:-1] or lines[1:]
        elif path.lower().endswith(".csv") and (partition or "Smiling" in text):
            names, rows = lines[0][1:] if lines else [], lines[1:-1] or lines[1:]
        else:
            continue
        if rows and all(len(row) - 1 == len(names) and {*row[1:]} <= _VALUES for row in rows):
            found.append(path)
    return found


def _is_partition(path: str) -> bool:
    return bool(_PARTITION.fullmatch(path.rpartition("/")[2]))


def _cut(line: str) -> list[str]:
    """Words of a line, which commas or spaces separate."""
    if "," in line:
        return [cell.strip().strip('"') for cell in line.split(",")]
    return line.split()


def _read_rows(collector: Collector, path: str) -> Iterator[tuple[str, list[str]]]:
    """Place and words of each line that is not empty."""
    for number, line in enumerate(collector.read_lines(path, records=False), 1):
        if line and line.strip():
            yield f"{path}:{number}", _cut(line)


def _read_partition(collector: Collector) -> dict[str, str]:
    """Subset of each image; {} where there is no list of them."""
    paths = [path for path in collector.inventory.annotations if _is_partition(path)]
    subset_of: dict[str, str] = {}
    for path in paths:
        for where, words in _read_rows(collector, path):
            if words[1:] == ["partition"]:
                continue
            if len(words) != 2 or words[1] not in _SUBSETS:
                text = f"the line is {' '.join(words)[:60]!r}, not an image and 0, 1 or 2"
                collector.add_fault("damaged list", where, text, "write: 000001.jpg 0")
                continue
            if subset_of.setdefault(words[0], _SUBSETS[words[1]]) != _SUBSETS[words[1]]:
                text = f"{words[0]} is in another subset already"
                collector.add_fault("two subsets", where, text, "remove one of the lines")
    return subset_of


def _read_attributes(collector: Collector, path: str, partition: dict[str, str]) -> list[str]:
    """Add every image; return the names of the attributes."""
    rows = list(_read_rows(collector, path))
    count = rows.pop(0)[1][0] if len(rows[0][1]) == 1 else ""
    where, names = rows.pop(0)
    if not rows or len(names) == len(rows[0][1]):
        names = names[1:]  # image_id
    collector.account.use(path, len(rows))
    collector.faults += filter(None, (check_class_name(name, where) for name in names))
    for name in sorted({name for name in names if names.count(name) > 1}):
        text, fix = f"the attribute {name!r} is there twice", "give each another name"
        collector.add_fault("duplicate class name", where, text, fix)
    if count and not (is_number(count) and int(count) == len(rows)):
        text = f"the first line says {count[:20]} images, but there are {len(rows)}"
        fix = f"use the whole file, or write {len(rows)} in its first line"
        collector.add_fault("rows missing", f"{path}:1", text, fix)
    subsets = {partition.get(words[0], "") for _, words in rows} if partition else {""}
    lists = assign_lists(subsets) if partition else {"": "train"}
    for name in sorted(set(lists.values())):
        collector.open_list(name)
    for done, (where, words) in enumerate(rows, 1):
        image, *values = words
        if done % _STEP == 0 or done == len(rows):
            collector.options.progress(done, len(rows))
        if len(values) != len(names) or not _VALUES.issuperset(values):
            text = f"the line needs 1 or -1 for each attribute after the image: {len(names)}"
            collector.add_fault("damaged row", where, text, "write 1 or -1 for each attribute")
            continue
        subset = partition.get(image, "")
        if partition and not subset:
            text = f"{image} is in no subset"
            fix = "add it to the list of the partition: 0 train, 1 validation, 2 test"
            collector.add_fault("in no list", where, text, fix)
        elif subset == "test":
            collector.account.drop(path, "of the test subset")
            _leave_out(collector, image)
        else:
            labels = [name for name, value in zip(names, values, strict=True) if value == "1"]
            collector.add(lists[subset], image, _FOLDERS, labels, where)
    return names


def _leave_out(collector: Collector, image: str) -> None:
    found = collector.finder.find(image, _FOLDERS)
    if isinstance(found, str) and is_image(found):
        collector.account.left_out[found] = "of the test subset"
