# SPDX-License-Identifier: Apache-2.0
"""The data.yaml of a YOLO data set: names of the classes, and places of the images, as written.

The text is read as a tree with lines, so that `yes` stays a name and every fault has its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import yaml

from paddlex_ml.data.faults import DatasetFault, combine
from paddlex_ml.data.lines import read_lines
from paddlex_ml.formats.collector import judge_name, name_first
from paddlex_ml.formats.walk import list_folder

_FIRST = ("data.yaml", "data.yml")
_NAMES = 'write "names: [cat, dog]", or a line "0: cat" for each class below "names:"'


class Place(NamedTuple):
    """A path as it is written, and where: "data.yaml:3"."""

    text: str
    where: str


@dataclass
class Description:
    """What the file says, and what is wrong with it."""

    names: list[str] = field(default_factory=list)
    base: Place | None = None
    """The key `path`."""
    places: dict[str, list[Place]] = field(default_factory=dict)
    """The keys `train`, `val` and `test` that say something."""
    faults: list[DatasetFault] = field(default_factory=list)


def find(root: Path) -> str | None:
    """Name of the YAML file in the data set folder; None when none has `names`.

    Raises PaddlexMLError where it is not clear which one counts.
    """
    every = [name for name in list_folder(root).files if name.lower().endswith((".yaml", ".yml"))]
    if first := next((name for name in _FIRST if name in every), None):
        return first
    named = [name for name in every if _has_names(root / name)]
    if len(named) > 1:
        text = f"{len(named)} YAML files have `names`: {name_first(named)}"
        fix = "name the right one data.yaml, or move the others away"
        raise combine([DatasetFault("several files", "", text, fix)], root)
    return named[0] if named else None


def _has_names(path: Path) -> bool:
    try:
        return re.search(rb"""^["']?names["']?\s*:""", path.read_bytes(), re.MULTILINE) is not None
    except OSError:
        return False


def read(root: Path, name: str) -> Description:
    """Read the file `name` of the data set folder."""
    lines, faults = read_lines(root / name)
    description = Description(faults=faults)
    if not faults:
        _Reader(name, description).read("\n".join(line or "" for line in lines))
    return description


class _Reader:
    """Fills a description; keeps what all steps need, the name of the file."""

    def __init__(self, name: str, description: Description) -> None:
        self._name = name
        self._description = description

    def read(self, text: str) -> None:
        root = self._compose(text)
        if self._description.faults:
            return
        if not isinstance(root, yaml.MappingNode):
            self._fault(root, "the file is no list of keys such as `names` and `train`", _NAMES)
            return
        keys = dict(self._pairs(root))
        if "names" in keys:
            self._description.names = self._read_names(keys["names"])
        else:
            self._fault(root, "the key `names` is missing", _NAMES)
        for key in ("train", "val", "test"):
            if key in keys and (places := self._read_places(key, keys[key])):
                self._description.places[key] = places
        if "path" in keys and (base := self._read_places("path", keys["path"])):
            self._description.base = base[0]
        if "nc" in keys and not self._description.faults:
            self._check_count(keys["nc"])

    def _fault(self, node: yaml.Node | None, text: str, fix: str) -> None:
        where = self._name if node is None else self._place(node)
        self._description.faults.append(DatasetFault("wrong value", where, text, fix))

    def _place(self, node: yaml.Node) -> str:
        return f"{self._name}:{node.start_mark.line + 1}"

    def _compose(self, text: str) -> yaml.Node | None:
        # PyYAML's C parser crashes on deep nesting; its Python parser raises RecursionError.
        try:
            node: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
            return node
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, what = mark.line if mark else 0, error.problem or error.context
        except yaml.reader.ReaderError as error:
            line, what = text.count("\n", 0, error.position), error.reason
        except (RecursionError, OverflowError, ValueError) as error:
            line, what = 0, str(error)
        text = f"the YAML is damaged: {what}"
        fault = DatasetFault(
            "damaged YAML", f"{self._name}:{line + 1}", text, "correct or restore it"
        )
        self._description.faults.append(fault)
        return None

    def _pairs(self, node: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node]]:
        """Key and value nodes; a key that comes again is a fault."""
        first: dict[str, str] = {}
        for key, value in node.value:
            text = str(key.value).strip() if isinstance(key, yaml.ScalarNode) else ""
            if text in first:
                self._fault(key, f"{text} is given at {first[text]} already", "keep one of the two")
            first.setdefault(text, self._place(key))
            yield text, value

    def _read_names(self, node: yaml.Node) -> list[str]:
        if isinstance(node, yaml.MappingNode):
            nodes = self._order_by_id(node)
        elif isinstance(node, yaml.SequenceNode):
            nodes = node.value
        else:
            nodes = []
        if not nodes:
            self._fault(node, "`names` names no class", _NAMES)
        first: dict[str, str] = {}
        for entry in nodes:
            if not isinstance(entry, yaml.ScalarNode):
                self._fault(entry, "the name of a class is a list or a mapping", _NAMES)
                continue
            name, place = entry.value.strip(), self._place(entry)
            if fault := judge_name(name, place):
                self._description.faults.append(fault)
            elif name in first:
                text = f"the name {name!r} is given at {first[name]} already"
                self._fault(entry, text, "give every class a name of its own")
            first.setdefault(name, place)
        return list(first)

    def _order_by_id(self, node: yaml.MappingNode) -> list[yaml.Node]:
        """Nodes of the names by id. Ids other than 0, 1, 2, ... are faults."""
        by_id: dict[int, yaml.Node] = {}
        fix = "number the classes 0, 1, 2, ..., as the label files do"
        for key, value in node.value:
            text = str(key.value) if isinstance(key, yaml.ScalarNode) else "a list"
            if not re.fullmatch("[0-9]{1,9}", text):
                self._fault(key, f"the class id is {text[:20]}, not a whole number", fix)
            elif int(text) in by_id:
                self._fault(key, f"the class id {int(text)} is given twice", fix)
            else:
                by_id[int(text)] = value
        missing = next((i for i in range(len(by_id)) if i not in by_id), None)
        if missing is not None and not self._description.faults:
            self._fault(node, f"the class id {missing} has no name, but higher ones have", fix)
        return [by_id[i] for i in sorted(by_id)]

    def _read_places(self, key: str, node: yaml.Node) -> list[Place]:
        nodes: Sequence[yaml.Node] = node.value if isinstance(node, yaml.SequenceNode) else [node]
        places = []
        for entry in nodes:
            if not isinstance(entry, yaml.ScalarNode):
                fix = f'write "{key}: images/{key}", or a list of such paths'
                self._fault(entry, f"`{key}` is neither a path nor a list of paths", fix)
            elif entry.value.strip() and entry.tag != "tag:yaml.org,2002:null":
                places.append(Place(entry.value.strip(), self._place(entry)))
        return places

    def _check_count(self, node: yaml.Node) -> None:
        count = str(len(self._description.names))
        if str(node.value).strip() != count:
            text = f"`nc` is {str(node.value)[:20]}, but `names` has {count} classes"
            self._fault(node, text, "remove `nc`, or correct `names`")
