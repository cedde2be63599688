# SPDX-License-Identifier: Apache-2.0
"""The text file with the class names of a YOLO data set: one name a line, in the order of the ids.

Several such files must agree: labelImg writes a classes.txt into every folder of labels.
"""

from __future__ import annotations

from collections.abc import Sequence

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats.collector import Collector, check_class_name
from paddlex_ml.formats.yolo_lines import sniff
from paddlex_ml.wording import first_names

USUAL = "classes.txt, obj.names or labels.txt"
"""Names of such files, for messages."""

# In this order; each also in folders, the outermost first.
_NAMES = (
    *("classes.txt", "obj.names", "classes.names", "_darknet.labels", "_classes.txt"),
    *("labels.txt", "names.txt", "class_names.txt", "predefined_classes.txt"),
)


def find(inventory: Inventory) -> list[str]:
    """The files of class names: the one that counts, and others."""
    ranks: dict[str, tuple[int, int]] = {}
    for path in inventory.files:
        name = path.rpartition("/")[2].lower()
        is_known = name in _NAMES
        if (is_known or name.endswith(".names")) and not sniff(inventory.read_head(path)):
            rank = _NAMES.index(name) if is_known else len(_NAMES)
            ranks[path] = path.count("/"), rank
    return sorted(ranks, key=ranks.__getitem__)


def read(collector: Collector, file: str) -> list[str]:
    """Read a file of names; what is wrong with it is kept."""
    first: dict[str, int] = {}
    for number, line in enumerate(collector.read_lines(file, records=False), 1):
        if line is None:
            continue  # it is a fault already
        name, where = line.strip(), f"{file}:{number}"
        if fault := check_class_name(name, where):
            collector.faults.append(fault)
        elif first.setdefault(name, number) != number:
            text = f"the name {name!r} is in line {first[name]} already"
            fix = "give every class a name of its own"
            collector.add_fault("duplicate class name", where, text, fix)
    return list(first)


def agree(collector: Collector, file: str, names: list[str], others: Sequence[str]) -> list[str]:
    """Compare the names of `file` with those of other files; return the longest list.

    The same names in another order are a fault, also any others in a file that is called the same:
    then an id means two classes. A file whose names merely begin alike, as labelImg lets them grow,
    does not contradict.
    """
    different = []
    for other in others:
        theirs = read(collector, other)
        shorter, longer = sorted((names, theirs), key=len)
        is_same_kind = other.rpartition("/")[2] == file.rpartition("/")[2]
        if longer[: len(shorter)] == shorter:
            if is_same_kind:
                names = longer
        elif is_same_kind or set(names) == set(theirs):
            id_ = next(i for i, name in enumerate(shorter) if name != longer[i])
            text = f"class {id_} is {names[id_]} in {file}, but {theirs[id_]} in {other}"
            fix = "correct or remove the wrong one of the two files"
            collector.add_fault("names in two orders", other, text, fix)
        else:
            different.append(other)
    for other in different:
        del collector.account.records[other]
        collector.account.left_out[other] = f"has other class names than {file}"
    if different:
        text = f"the class names are those of {file}; other names are in"
        collector.notes.append(f"{text} {first_names(different, 5)}")
    return names
