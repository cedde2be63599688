# SPDX-License-Identifier: Apache-2.0
"""The obj.data of darknet, which CVAT writes too: the names of the classes, and lists of images.

classes = 2
names = data/obj.names
train = data/train.txt
valid = data/valid.txt
"""

from __future__ import annotations

import re

from paddlex_ml.data.faults import DatasetFault, combine
from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats.collector import Collector
from paddlex_ml.formats.subsets import parse_subset
from paddlex_ml.formats.yolo_yaml import DataFile, PathEntry
from paddlex_ml.wording import count, first_names

_KEY = re.compile(rb"^\s*(train|valid|val|names)\s*=\s*\S", re.MULTILINE)


def find(inventory: Inventory) -> str:
    """Path of the file, obj.data or the only other one of its kind; "" when there is none.

    Raises PaddlexMLError where it is not clear which one to read.
    """
    found = [
        path
        for path in inventory.files
        if path.lower().endswith(".data") and _KEY.search(inventory.read_head(path))
    ]
    found.sort(key=lambda path: (not path.lower().endswith("obj.data"), path.count("/")))
    if len(found) > 1 and not found[0].lower().endswith("obj.data"):
        text = f"{count(len(found), 'file')} may say where the images are: {first_names(found, 5)}"
        fix = "name the right one obj.data, or move the others away"
        raise combine([DatasetFault("several files", "", text, fix)], inventory.root)
    return found[0] if found else ""


def read(collector: Collector, file: str) -> DataFile:
    """Read obj.data: a line `key = value` each, `#` begins a comment."""
    content = DataFile(file)
    for number, line in enumerate(collector.read_lines(file, records=False), 1):
        key, _, value = (line or "").partition("#")[0].partition("=")
        entry = PathEntry(value.strip(), f"{file}:{number}")
        if not entry.text:
            continue
        if key.strip() == "names":
            content.names_file = entry
        elif subset := parse_subset(key):
            content.paths.setdefault(subset, []).append(entry)
    return content
