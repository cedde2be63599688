# SPDX-License-Identifier: Apache-2.0
"""The data.yaml of a YOLO data set: names of the classes, and paths of the images, as written.

The text is read as a tree with lines, so that `yes` stays a name and every fault has its line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import yaml

from paddlex_ml.data.faults import DatasetFault, combine
from paddlex_ml.data.inventory import Inventory
from paddlex_ml.data.lines import to_utf8
from paddlex_ml.formats.collector import Collector, check_class_name
from paddlex_ml.formats.subsets import parse_subset
from paddlex_ml.storage import limited_yaml
from paddlex_ml.wording import first_names

_FIRST = ("data.yaml", "data.yml")
_NAMES_KEY = re.compile(rb"""^["']?names["']?\s*:""", re.MULTILINE)
NAMES_FIX = 'write "names: [cat, dog]", or a line "0: cat" for each class below "names:"'
"""The repair of a file without names."""


class PathEntry(NamedTuple):
    """A path as it is written, and where: "data.yaml:3"."""

    text: str
    where: str


@dataclass
class DataFile:
    """The content of a data.yaml or obj.data, and what is wrong with it."""

    file: str = ""
    """Its path; "" where the data set has no such file."""
    names: list[str] | None = None
    """None where it does not give them."""
    names_file: PathEntry | None = None
    """The file that it says has the names."""
    base: PathEntry | None = None
    """The folder that the paths are relative to."""
    paths: dict[str, list[PathEntry]] = field(default_factory=dict)
    """The paths of the images by subset: train, val, test."""
    faults: list[DatasetFault] = field(default_factory=list)


def find(inventory: Inventory) -> str:
    """Path of the YAML file; "" when none has `names`.

    data.yaml in the data set folder counts before any other one there, and these count before those
    in folders. Raises PaddlexMLError where it is not clear which one to read.
    """
    every = inventory.find(".yaml", ".yml")
    if first := next((name for name in _FIRST if name in every), ""):
        return first
    named = [path for path in every if _NAMES_KEY.search(to_utf8(inventory.read_head(path))[0])]
    for found in (
        [path for path in named if "/" not in path],
        [path for path in named if path.lower().endswith(_FIRST)],
        named,
    ):
        if len(found) > 1:
            text = f"{len(found)} YAML files have `names`: {first_names(found, 5)}"
            fix = "name the right one data.yaml, or move the others away"
            raise combine([DatasetFault("several files", "", text, fix)], inventory.root)
        if found:
            return found[0]
    return ""


def read(collector: Collector, file: str) -> DataFile:
    """Read the YAML file."""
    before = len(collector.faults)
    lines = collector.read_lines(file, records=False)
    content = DataFile(file, faults=collector.faults[before:])
    if not content.faults:
        _YamlReader(file, content).read("\n".join(line or "" for line in lines))
        collector.faults += content.faults
    return content


@dataclass
class _YamlReader:
    """Fills `content`; keeps what all steps need, the name of the file."""

    name: str
    content: DataFile

    def read(self, text: str) -> None:
        root = self._compose(text)
        if self.content.faults:
            return
        if not isinstance(root, yaml.MappingNode):
            text = "the file is not a mapping with keys such as `names` and `train`"
            self._add_fault(root, text, NAMES_FIX)
            return
        keys: dict[str, yaml.Node] = {}
        first: dict[str, str] = {}
        for node, value in root.value:
            key = str(node.value).strip() if isinstance(node, yaml.ScalarNode) else ""
            key = parse_subset(key) or key
            if key in first:
                text = f"{key} is given at {first[key]} already"
                self._add_fault(node, text, "keep one of the two")
            first.setdefault(key, self._locate(node))
            keys[key] = value
        if "names" in keys:
            self._read_names(keys["names"])
        for key in ("train", "val", "test"):
            if key in keys and (paths := self._read_paths(key, keys[key])):
                self.content.paths[key] = paths
        if "path" in keys and (base := self._read_paths("path", keys["path"])):
            self.content.base = base[0]
        if "nc" in keys and self.content.names and not self.content.faults:
            given, count = str(keys["nc"].value), str(len(self.content.names))
            if given.strip() != count:
                text = f"`nc` is {given[:20]}, but the number of `names` is {count}"
                self._add_fault(keys["nc"], text, "remove `nc`, or correct `names`")

    def _add_fault(self, node: yaml.Node | None, text: str, fix: str) -> None:
        where = self.name if node is None else self._locate(node)
        self.content.faults.append(DatasetFault("wrong value", where, text, fix))

    def _locate(self, node: yaml.Node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}"

    def _compose(self, text: str) -> yaml.Node | None:
        node = limited_yaml.compose(text)
        if not isinstance(node, limited_yaml.Damage):
            return node
        where, text = f"{self.name}:{node.line}", f"the YAML is damaged: {node.what}"
        fault = DatasetFault("damaged YAML", where, text, "correct or restore it")
        self.content.faults.append(fault)
        return None

    def _read_names(self, node: yaml.Node) -> None:
        if isinstance(node, yaml.ScalarNode) and re.search(r"\.(names|txt)$", node.value.strip()):
            self.content.names_file = PathEntry(node.value.strip(), self._locate(node))
            return
        if isinstance(node, yaml.MappingNode):
            nodes = self._order_by_id(node)
        elif isinstance(node, yaml.SequenceNode):
            nodes = node.value
        else:
            nodes = []
        if not nodes:
            self._add_fault(node, "`names` names no class", NAMES_FIX)
        first: dict[str, str] = {}
        for entry in nodes:
            if not isinstance(entry, yaml.ScalarNode):
                self._add_fault(entry, "the name of a class is a list or a mapping", NAMES_FIX)
                continue
            name, where = entry.value.strip(), self._locate(entry)
            if fault := check_class_name(name, where):
                self.content.faults.append(fault)
            elif name in first:
                text = f"the name {name!r} is given at {first[name]} already"
                self._add_fault(entry, text, "give every class a name of its own")
            first.setdefault(name, where)
        self.content.names = list(first)

    def _order_by_id(self, node: yaml.MappingNode) -> list[yaml.Node]:
        """Nodes of the names by id. Ids other than 0, 1, 2, ... are faults."""
        by_id: dict[int, yaml.Node] = {}
        fix = "number the classes 0, 1, 2, ..., as the label files do"
        for key, value in node.value:
            text = str(key.value) if isinstance(key, yaml.ScalarNode) else "a list"
            if not re.fullmatch("[0-9]{1,9}", text):
                self._add_fault(key, f"the class id is {text[:20]}, not a whole number", fix)
            elif int(text) in by_id:
                self._add_fault(key, f"the class id {int(text)} is given twice", fix)
            else:
                by_id[int(text)] = value
        missing = next((i for i in range(len(by_id)) if i not in by_id), None)
        if missing is not None and not self.content.faults:
            self._add_fault(node, f"the class id {missing} has no name, but higher ones have", fix)
        return [by_id[i] for i in sorted(by_id)]

    def _read_paths(self, key: str, node: yaml.Node) -> list[PathEntry]:
        nodes: Sequence[yaml.Node] = node.value if isinstance(node, yaml.SequenceNode) else [node]
        paths = []
        for entry in nodes:
            if not isinstance(entry, yaml.ScalarNode):
                fix = f'write "{key}: images/{key}", or a list of such paths'
                self._add_fault(entry, f"`{key}` is neither a path nor a list of paths", fix)
            elif entry.value.strip() and entry.tag != "tag:yaml.org,2002:null":
                paths.append(PathEntry(entry.value.strip(), self._locate(entry)))
        return paths
