# SPDX-License-Identifier: Apache-2.0
"""Files that give the numbers of classes their names: one name a line, first that of class 0.

A line may have the number before the name (`0 cat`, `1: dog`) or behind it (`cat 0`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from paddlex_ml.data.annotation import LABEL_FILE
from paddlex_ml.data.walk import join
from paddlex_ml.formats.collector import Collector, check_class_name

CLASS_FILES = (
    *("classes.txt", "class_names.txt", "classnames.txt", "class.txt", "labels.txt", LABEL_FILE),
    *("label_names.txt", "names.txt", "synsets.txt", "synset.txt", "synset_words.txt"),
    *(
        "categories.txt",
        "label_list.txt",
        "labels_list.txt",
        "label_map.txt",
        "obj.names",
        "_classes.txt",
    ),
)
"""Names of such files, in lower case."""
_NUMBER_FIRST = re.compile(r"(?P<id>[0-9]{1,9})\s*[\s:,;=]\s*(?P<name>\S.*)")
_NUMBER_LAST = re.compile(r"(?P<name>.*\S)\s*[\s:,;=]\s*(?P<id>[0-9]{1,9})")
_MOST = 100_000  # of a number: a table of names is a list


def list_class_files(collector: Collector, folders: Sequence[str]) -> list[str]:
    """The class files in `folders`, in the data set folder and in its folder meta/."""
    return [
        join(folder, name)
        for folder in dict.fromkeys([*folders, "", "meta"])
        for name in collector.inventory.names(folder)
        if name.lower() in CLASS_FILES
    ]


def read_class_names(
    collector: Collector, folders: Sequence[str], lists: Sequence[str] = ()
) -> list[str] | None:
    """Names of the classes by their numbers, from the class file in one of `folders` or in the
    data set folder; a number without a name has "". None where there is no such file.

    `lists` are files that have other content, whatever their names. Files that differ are a fault.
    """
    found: dict[tuple[str, ...], str] = {}
    files = [file for file in list_class_files(collector, folders) if file not in lists]
    if len(files) > 1 and LABEL_FILE in files:  # perhaps of an earlier conversion
        files.remove(LABEL_FILE)
        collector.account.left_out[LABEL_FILE] = f"{files[0]} names the classes"
    for file in files:
        found.setdefault(tuple(_parse(collector, file)), file)
    if len(found) > 1:
        first, second = list(found.values())[:2]
        text, fix = f"{first} and {second} name other classes", "move the wrong one away"
        collector.add_fault("two class files", second, text, fix)
    return list(next(iter(found))) if found else None


def _parse(collector: Collector, file: str) -> list[str]:
    lines = [(line or "").strip() for line in collector.read_lines(file, records=False)]
    by_number: dict[int, str] = dict(enumerate(lines))
    for pattern in (_NUMBER_FIRST, _NUMBER_LAST):
        matches = [match for match in map(pattern.fullmatch, lines) if match]
        numbers = {int(match["id"]): match["name"].strip() for match in matches}
        names = set(numbers.values())
        if len(matches) != len(list(filter(None, lines))) or len(names) != len(matches):
            continue
        in_order = sorted(numbers) == list(range(len(numbers)))
        if numbers and max(numbers) < _MOST and (in_order or pattern is _NUMBER_FIRST):
            by_number = numbers
            break
    places: dict[str, int] = {}
    for number, name in by_number.items():
        where = f"{file}:{number + 1}"
        if fault := check_class_name(name, where):
            collector.faults.append(fault)
        elif places.setdefault(name, number) != number:
            text, fix = f"the class {name!r} is named already", "remove one line"
            collector.add_fault("duplicate class name", where, text, fix)
    return [by_number.get(number, "") for number in range(max(by_number, default=-1) + 1)]
