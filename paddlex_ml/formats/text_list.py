# SPDX-License-Identifier: Apache-2.0
"""Text lists, as for ImageNet: one image a line and its labels (`src_dataset_type: TextList`).

    images/a.jpg 0 2        a.jpg<tab>cat,dog        n01440764/b.JPEG 0

- The lists are `.txt` files whose lines begin with an image: `train.txt` and `val.txt`, also
  `train_list.txt`, `val_anno_list.txt` or `meta/train.txt`, as
  [MMPretrain](https://mmpretrain.readthedocs.io/en/latest/user_guides/dataset_prepare.html) has
  them; `test` is not used. Without such names there is one list, or its parts (`list1`, `list2`).
- The image is looked for in the folder of the list, in `images/`, in the folder of its subset
  (`train/`), in `images/` of that folder, and in the data set folder. What follows it, after a
  space, a tab or a comma, are its labels; nothing: no label. `no_label` is no class.
- Numbers are ids of classes, counted from 0, or one 0 (or -1) and 1 for each class: the second when
  all lines have the same number of them and some value twice. There, -1 beside 0 is unknown. Their
  names are in `classes.txt`,
  `labels.txt`, `label.txt`, `class_names.txt`, `synsets.txt` or `names.txt`, one name a line, with
  its number or without. Without such a file numbers are refused, and so are commas without one.
- Boxes with ids, as keras-yolo3 and Roboflow's "YOLO Keras TXT" write them (`x1,y1,x2,y2,id`),
  count as these ids. A name with a number before or behind it is refused.
- Names are parted by tabs, commas, semicolons or `|`. A space may be in a name: with a file of
  names they are recognised, else `CheckDataset.convert.separator` is asked for where it matters.
- The classes are in the order of the file of names, else in alphabetical order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from paddlex_ml.data.inventory import (
    LABEL_FILE,
    OWN_VALUES,
    TRAIN_FILE,
    VAL_FILE,
    Inventory,
    is_annotation,
)
from paddlex_ml.data.lines import to_utf8
from paddlex_ml.data.target_lines import SPARSE
from paddlex_ml.data.transforms import SUFFIXES
from paddlex_ml.data.walk import is_image
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats.class_files import list_class_files
from paddlex_ml.formats.collector import Collector, Options, SourceDataset
from paddlex_ml.formats.records import (
    ImageRecord,
    choose_tables,
    find_subset,
    finish_records,
    has_ids,
)
from paddlex_ml.formats.subsets import SourceTable
from paddlex_ml.wording import count, first_names

_ENDINGS = "|".join(re.escape(suffix) for suffix in SUFFIXES)
_LINE = re.compile(rf"(.+?(?:{_ENDINGS}))(?:\s*[\t,; ]\s*(.*))?", re.I)
_NO_ENDING = re.compile(r"([^\t,; ]+)(?:\s*[\t,; ]\s*(.*))?")
_SEPARATOR = re.compile(r"\s*[\t,;|]\s*")
_NUMBER = re.compile(r"-?[0-9]{1,9}(\.0*)?")
_OURS = re.compile(rf"[^\t]+\t({OWN_VALUES})")
_BOXES = re.compile(r"([0-9.]+,){4}[0-9]{1,9}(\s+([0-9.]+,){4}[0-9]{1,9})*")
_TWO_KINDS = re.compile(r"[0-9]+\s+[^\W\d_].*|.*[^\W\d_]\s+[01]?\.[0-9]+")  # "0 cat", "cat 0.93"
_OWN_FIX = "write lists of ours (a.jpg<tab>1,,0), and their classes into label.txt"
_SEEN = 100  # lines by which a list is known
_FREE_TEXT = 20  # images of a set whose labels must come again


class _ListLine(NamedTuple):
    table: SourceTable
    where: str
    image: str
    rest: str


def recognise(inventory: Inventory) -> str:
    """The list whose lines have images and labels."""
    lists = [file for file, labelled in _list_files(inventory).items() if labelled]
    return next((file for file in lists if find_subset(file) != "test"), "")


def read(root: Path, options: Options) -> SourceDataset:
    """Read the lists. Raises one PaddlexMLError with every fault."""
    layout = "put train.txt and val.txt, with an image and its labels a line, into the folder"
    collector = Collector(root, options, layout=layout)
    known = _list_files(collector.inventory)
    files = [file for file, labelled in known.items() if labelled or find_subset(file)]
    if not any(known.values()) and any(
        _is_ours(collector.inventory, name) for name in (TRAIN_FILE, VAL_FILE)
    ):
        raise PaddlexMLError(
            "the lists are in the form of this toolkit already: there is nothing to convert",
            where=str(root),
            fix="-o CheckDataset.convert.enable=false",
        )
    lines: list[_ListLine] = []
    for table in choose_tables(collector, files, "text list of images and labels"):
        for number, text in enumerate(collector.read_lines(table.path), 1):
            if text and text.strip():
                lines.append(_ListLine(table, f"{table.path}:{number}", *_split(text.strip())))
    records = list(_make_records(collector, lines))
    collector.raise_faults()
    dataset = finish_records(collector, records, class_file=True)
    if not has_ids(records) and not list_class_files(collector, []):
        _refuse_free_text(dataset, root)
    return dataset


def _list_files(inventory: Inventory) -> dict[str, bool]:
    """Files whose lines begin with an image, and whether labels follow in some of the lines."""
    found: dict[str, bool] = {}
    ours = _list_ours(inventory)
    for file in inventory.find_tables(".txt"):
        if "caption" in file.rpartition("/")[2].lower() or file in ours:
            continue
        head = to_utf8(inventory.read_head(file))[0].decode("utf-8", "replace")
        whole = head if len(head) < 2**15 else head[: head.rfind("\n")]
        lines = [line.strip() for line in whole.splitlines() if line.strip()][:_SEEN]
        matches = [_LINE.fullmatch(line) for line in lines]
        rests = [match[2] for match in matches if match and match[2]]
        known = sum(map(bool, matches))
        if matches and matches[0] and known >= 0.9 * len(lines):
            found[file] = bool(rests) and not _names_file(rests[0])
    return found


def _names_file(rest: str) -> bool:
    """Whether a mask or a file of annotations follows the image, not labels."""
    return is_image(rest) or is_annotation(rest)


def _list_ours(inventory: Inventory) -> list[str]:
    """The lists of ours. Where one of them is, those of the same form are: a short list may have
    neither 0 nor an unknown label."""
    lists = TRAIN_FILE, VAL_FILE, "test.txt"
    ours = [name for name in lists if _is_ours(inventory, name)]
    return [name for name in lists if name in ours or (ours and all(_match_ours(inventory, name)))]


def _match_ours(inventory: Inventory, file: str) -> list[re.Match[str] | None]:
    """The first lines of a list as lines of ours; None where they are none."""
    head = to_utf8(inventory.read_head(file))[0].decode("utf-8", "replace")
    lines = [line.strip(" \r\n") for line in head.splitlines()]
    # The last line may be cut off.
    return [_OURS.fullmatch(line) for line in (lines[:-1] or lines)[:_SEEN]]


def _is_ours(inventory: Inventory, file: str) -> bool:
    """Whether a list has a value for each class of label.txt, or ids behind @: one of ours.

    Without label.txt: whether it has what only ours have: ids behind @, 0.7 beside other values, -1
    beside 0, or empty values where all lines are rows of one table.
    """
    names = inventory.read_head(LABEL_FILE).splitlines()
    matches = _match_ours(inventory, file)
    if not names:
        rows = [each[1].partition("\t")[0].split(",") for each in matches if each]
        values = {value.strip() for row in rows for value in row}
        is_table = all(matches) and len({len(row) for row in rows}) == 1
        return any(map(_is_only_ours, rows)) or values >= {"0", "-1"} or (is_table and "" in values)
    match = matches[0] if matches else None
    if match is None:
        return False
    is_whole = match[1].count(",") + 1 == len(list(filter(bytes.strip, names)))
    return is_whole or match[1].startswith(SPARSE)


def _is_only_ours(row: list[str]) -> bool:
    """Whether the values of a line are neither label numbers nor flags of other tools."""
    values = [value.strip() for value in row]
    if values[0].startswith(SPARSE):
        return True
    return len(values) > 1 and any(value and 0 < float(value) < 1 for value in values)


def _split(line: str) -> tuple[str, str]:
    """The image of a line, and what follows it."""
    match = _LINE.fullmatch(line) or _NO_ENDING.fullmatch(line)
    return (match[1].strip(), (match[2] or "").strip()) if match else (line, "")


def _make_records(collector: Collector, lines: list[_ListLine]) -> Iterator[ImageRecord]:
    """Labels are numbers when all of all lines are."""
    filled = [line for line in lines if line.rest]
    are_boxes = filled and all(_BOXES.fullmatch(line.rest) for line in filled)
    if are_boxes and any(set(re.findall("[0-9]+", line.rest)) - {"0", "1"} for line in filled):
        for table, where, image, rest in lines:
            ids = [int(box.rpartition(",")[2]) for box in rest.split()]
            yield ImageRecord(table, where, image, list(dict.fromkeys(ids)))
        return
    if filled and all(_TWO_KINDS.fullmatch(line.rest) for line in filled):
        text = f"{filled[0].rest!r} is a name and a number: an id, or how sure it is?"
        fix = "write the name alone behind the image; boxes and names in columns are a CSV table"
        collector.add_fault("name and number", filled[0].where, text, fix)
        return
    words = (word for line in lines for word in re.split(r"[\s,;|]+", line.rest) if word)
    are_numbers = all(map(_NUMBER.fullmatch, words))
    if are_numbers and (gap := _find_gap(filled)):
        text = f"{gap.rest!r:.60} has a comma without a number"
        fix = f"remove the comma; where it stands for an unknown label, {_OWN_FIX}"
        collector.add_fault("number left out", gap.where, text, fix)
        return
    for table, where, image, rest in lines:
        if _names_file(rest):
            text = f"{rest} is a file, such as a mask or annotations, not a label"
            fix = "name the format of these files, or write labels behind the images"
            collector.add_fault("file instead of labels", where, text, fix)
            continue
        labels: str | list[str] | list[int] = rest
        if are_numbers:
            labels = [int(float(word)) for word in re.split(r"[\s,;|]+", rest) if word]
        elif _SEPARATOR.search(rest) and not collector.options.separator:
            labels = [name for name in _SEPARATOR.split(rest) if name]
        yield ImageRecord(table, where, image, labels)


def _find_gap(lines: list[_ListLine]) -> _ListLine | None:
    """The first line that has nothing between two numbers, or, where all lines have as many values,
    behind the last one."""
    rows = [re.split(r"\s*[,;|]\s*", line.rest) for line in lines]
    are_values = {value for row in rows for value in row} <= {"", "0", "1", "-1"}
    is_table = are_values and len({len(row) for row in rows}) == 1
    pairs = zip(lines, rows, strict=True)
    return next((line for line, row in pairs if "" in (row if is_table else row[1:-1])), None)


def _refuse_free_text(dataset: SourceDataset, root: Path) -> None:
    """Raise PaddlexMLError where most labels come only once, as sentences do."""
    images = sum(map(len, dataset.lists.values()))
    if images >= _FREE_TEXT and len(dataset.label_names) > images / 2:
        shown = first_names(list(map(repr, dataset.label_names)), 3)
        raise PaddlexMLError(
            f"{count(images, 'image has', 'images have')} {len(dataset.label_names):,} "
            f"different labels ({shown}): "
            "sentences or names of files, not classes",
            where=str(root),
            fix="name the folder of a list with classes; if these are classes, write classes.txt",
        )
