# SPDX-License-Identifier: Apache-2.0
"""Files of tools whose formats are not read: what they are, and which export is read instead."""

from __future__ import annotations

import re
from typing import NamedTuple

from paddlex_ml import systems
from paddlex_ml.data.inventory import Inventory
from paddlex_ml.data.lines import to_utf8
from paddlex_ml.wording import first_names

_LOOK_INTO = 50  # files


class _Kind(NamedTuple):
    name: str
    endings: tuple[str, ...]
    content: bytes
    """What the first bytes of such a file have in them."""
    fix: str


_KINDS = (
    _Kind(
        "a data set of Datumaro",
        (".json",),
        rb'"(items|categories)".*"label_id"|"dm_format_version"',
        'export from CVAT as "CVAT for images 1.1" or "COCO 1.0", or: datum convert -f coco',
    ),
    _Kind(
        "a data set of FiftyOne",
        (".json",),
        rb'"sample_fields"|"samples".*"_cls"',
        "export it with fiftyone.types.COCODetectionDataset, or the labels as CSVDataset",
    ),
    _Kind(
        "annotations of Supervisely",
        (".json",),
        rb'"classTitle"',
        'export the project with the app "Export to COCO" or "Export to Pascal VOC"',
    ),
    _Kind(
        "a project of the VGG Image Annotator",
        (".json", ".csv"),
        rb"region_attributes|_via_img_metadata",
        "export its annotations in COCO format",
    ),
    _Kind(
        "questions and answers for a language model",
        (".jsonl",),
        rb'"prefix".*"suffix"',
        'export the data set as "COCO" or "Multi-Label Classification" instead',
    ),
    _Kind(
        "records of TensorFlow",
        (".tfrecord",),
        rb"",
        'export the data set as "COCO" or "Multi-Label Classification" instead',
    ),
    _Kind(
        "a table of old Excel",
        (".xls",),
        rb"",
        "save it in Excel as .xlsx, or as CSV UTF-8",
    ),
    _Kind(
        "captions",
        (".json", ".jsonl"),
        rb'"captions?"\s*:',
        "captions are no classes: add annotations that have classes",
    ),
)


def _has_other_encoding(head: bytes) -> bool:
    if b"\0" in head:
        return False  # no text
    try:
        to_utf8(head[: head.rfind(b"\n") + 1])[0].decode()
    except UnicodeDecodeError:
        return True
    return False


def explain(inventory: Inventory) -> tuple[str, str]:
    """What the files that may be annotations are, and the repair; "" where there is none."""
    records = [path for path in inventory.files if path.lower().endswith(".tfrecord")]
    ours = inventory.own_lists
    files = [path for path in inventory.annotations if path not in ours] + records
    if not files:
        return "", ""
    for path in files[:_LOOK_INTO]:
        head = inventory.read_head(path)
        for kind in _KINDS:
            if path.lower().endswith(kind.endings) and re.search(kind.content, head, re.S):
                return f"{path} has {kind.name}, which is not read", kind.fix
    for path in files[:_LOOK_INTO]:
        if _has_other_encoding(inventory.read_head(path)) and path not in records:
            name, new = (str(inventory.root / each) for each in (path, f"{path}.utf8"))
            fix = (
                "save it as UTF-8: in Excel as CSV UTF-8, or if it is Western European by iconv -f "
                f"CP1252 -t UTF-8 {systems.quote(name)} > {systems.quote(new)}, and rename the new "
                "file to the old name"
            )
            return f"{path} is neither UTF-8 nor Chinese text in GB18030", fix
    text = f"none of the files that may be annotations is in a known format: {first_names(files)}"
    fix = (
        "for a table, write the names of the images as the files have them into one column "
        "(-o CheckDataset.convert.src_dataset_type=CSV tells what is missing)"
    )
    if not any(path.lower().endswith((".csv", ".tsv", ".tab", ".xlsx")) for path in files):
        fix = (
            'write the labels as lines of labels.jsonl: {"path": "images/a.jpg", "labels": ["cat"]}'
            ", and move the other files away"
        )
    return text, fix
