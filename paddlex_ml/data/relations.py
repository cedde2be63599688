# SPDX-License-Identifier: Apache-2.0
"""relations.yaml: what holds between the classes of a data set, beside label.txt.

    implies: {kitten: cat, puppy: [dog, animal]}     an image with the first shows the others too
    exclusive: [[day, night], [cat, dog]]            no image shows two classes of a group

Implications are followed to their end: what implies kitten implies cat. N images, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import yaml

from paddlex_ml.data import inventory, targets
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.data.faults import DatasetFault, combine
from paddlex_ml.data.findings import Finding
from paddlex_ml.data.lines import read_lines
from paddlex_ml.data.targets import SparseTargets, Targets
from paddlex_ml.errors import Lines, PaddlexMLError
from paddlex_ml.metrics.known import UNKNOWN
from paddlex_ml.storage import limited_yaml
from paddlex_ml.wording import count, first_names

FILE = inventory.RELATIONS_FILE
_KEYS = ("implies", "exclusive")
_IMPLIES_FIX = 'write "implies: {kitten: cat, puppy: [dog, animal]}"'
_EXCLUSIVE_FIX = 'write "exclusive: [[day, night], [cat, dog]]", a list for each group'
_WARNINGS = 20  # rules with warnings of their own; the others share one
_EXAMPLES = 5
_MOST_IMPLIED = 5_000_000
"""Pairs of classes of which one implies the other, directly or through others."""

Images = npt.NDArray[np.int64]
"""Numbers of images of a list, rising."""
_Columns = dict[int, Images]
_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Relations:
    """The relations between C classes, by class id."""

    label_names: tuple[str, ...]
    stated: tuple[tuple[int, int], ...]
    """The implications as the file has them: (kitten, cat)."""
    implied: tuple[tuple[int, ...], ...]
    """All that each class implies, directly or through others, without itself: [C]."""
    exclusive: tuple[tuple[int, ...], ...]
    """Groups of classes; an image shows one of a group at most."""

    @cached_property
    def implied_by(self) -> dict[int, list[int]]:
        """Class -> all that imply it, of the classes that anything implies."""
        found: dict[int, list[int]] = {}
        for class_id, others in enumerate(self.implied):
            for other in others:
                found.setdefault(other, []).append(class_id)
        return found


class Violations(NamedTuple):
    """A rule, and the images whose labels contradict it."""

    rule: str
    """ "kitten implies cat", "day, night exclude each other"."""
    what: str
    """ "kitten without cat", "day and night together"."""
    fix: str
    images: dict[str, Images]
    """List -> images."""


class Completed(NamedTuple):
    """A list whose labels follow the relations, and how many were changed for it."""

    values: Targets
    absent_to_present: int
    unknown_to_present: int
    unknown_to_absent: int
    not_repaired: int
    """Images that show several classes of one exclusive group: they stay as they are."""

    @property
    def changed(self) -> int:
        """Labels that were changed."""
        return self.absent_to_present + self.unknown_to_present + self.unknown_to_absent


def read(path: Path, label_names: Sequence[str]) -> Relations:
    """Read the relations of these classes. Raises one PaddlexMLError with every fault."""
    relations, faults = parse(path, label_names)
    if faults:
        error = combine(faults, path.parent)
        if len(faults) == 1:
            raise error
        what = Lines(error.what.replace("the data set has", "the relations have", 1))
        raise error.replace(what=what)
    if relations is None:
        raise PaddlexMLError(
            "the file of relations between classes does not exist",
            where=str(path),
            fix=f"correct its path, or write the file: {_IMPLIES_FIX.removeprefix('write ')}",
        )
    return relations


def parse(path: Path, label_names: Sequence[str]) -> tuple[Relations | None, list[DatasetFault]]:
    """The relations and the faults of the file; nothing where there is no such file."""
    if not path.exists():
        return None, []
    text = read_lines(path)
    if text.faults:
        return None, text.faults
    node = limited_yaml.compose("\n".join(line or "" for line in text.lines))
    if isinstance(node, limited_yaml.Damage):
        where, what = f"{path.name}:{node.line}", f"the YAML is damaged: {node.what}"
        return None, [DatasetFault("damaged YAML", where, what, f"correct it: {_IMPLIES_FIX}")]
    reader = _Reader(path.name, label_names)
    relations = reader.read(node)
    return (None, reader.faults) if reader.faults else (relations, [])


class _Reader:
    """Makes relations of the tree of a file, and collects its faults."""

    def __init__(self, file: str, label_names: Sequence[str]) -> None:
        self.faults: list[DatasetFault] = []
        self._file, self._names = file, tuple(label_names)
        self._ids = {name: i for i, name in enumerate(label_names)}
        self._lines: dict[int, yaml.Node] = {}  # class -> where it is said what it implies

    def _add(self, kind: str, node: yaml.Node | None, text: str, fix: str) -> None:
        where = self._file if node is None else f"{self._file}:{node.start_mark.line + 1}"
        self.faults.append(DatasetFault(kind, where, text, fix))

    def read(self, root: yaml.Node | None) -> Relations:
        """The relations; those of a file with faults have no sense."""
        keys: dict[str, yaml.Node] = {}
        if root is not None and not isinstance(root, yaml.MappingNode):
            what = "the file is not a mapping with the keys implies and exclusive"
            self._add("wrong value", root, what, _IMPLIES_FIX)
        for node, value in root.value if isinstance(root, yaml.MappingNode) else ():
            key = node.value if isinstance(node, yaml.ScalarNode) else "a list or a mapping"
            if key in keys:
                self._add("named twice", node, f"{key} is given twice", "make one of the two")
            elif key not in _KEYS:
                near = get_close_matches(key, _KEYS, n=1)
                fix = f"write {near[0]}" if near else f"choose from {', '.join(_KEYS)}"
                self._add("unknown key", node, f"unknown key {key!r}", fix)
            keys[key] = value
        implied = self._read_implications(keys["implies"]) if "implies" in keys else {}
        groups = self._read_groups(keys["exclusive"]) if "exclusive" in keys else []
        if not self.faults and not any(implied.values()) and not groups:
            text = "the file has no relation between classes"
            self._add("empty file", root, text, f"{_IMPLIES_FIX}, or remove the file")
        closed = self._follow(implied)
        self._find_contradictions(closed, groups)
        stated = tuple((a, b) for a, others in implied.items() for b in others)
        every = tuple(tuple(closed.get(i, ())) for i in range(len(self._names)))
        return Relations(self._names, stated, every, tuple(map(tuple, groups)))

    def _find_class(self, node: yaml.Node, fix: str) -> int | None:
        """Id of the class that a node names, or a fault."""
        if not isinstance(node, yaml.ScalarNode):
            text = "a list or a mapping stands where the name of a class is expected"
            self._add("wrong value", node, text, fix)
        elif (name := node.value.strip()) not in self._ids:
            near = get_close_matches(name, self._names, n=3)
            choice = " or ".join(near) if near else f"one of {first_names(self._names)}"
            self._add("unknown class", node, f"there is no class {name!r}", f"write {choice}")
        else:
            return self._ids[name]
        return None

    def _find_classes(self, node: yaml.Node, fix: str) -> list[int]:
        """Ids of the classes of a list; one that is named twice is a fault."""
        found: dict[int, None] = {}
        for entry in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            class_id = self._find_class(entry, fix)
            if class_id in found:
                text = f"{entry.value.strip()} is named twice"
                self._add("named twice", entry, text, "remove one of the two")
            elif class_id is not None:
                found[class_id] = None
        return list(found)

    def _read_implications(self, node: yaml.Node) -> dict[int, list[int]]:
        """Class -> what the file says that it implies."""
        implied: dict[int, list[int]] = {}
        if not isinstance(node, yaml.MappingNode):
            text = "`implies` is not a mapping from classes to what they imply"
            self._add("wrong value", node, text, _IMPLIES_FIX)
            return {}
        for key, value in node.value:
            class_id = self._find_class(key, _IMPLIES_FIX)
            others = self._find_classes(value, _IMPLIES_FIX)
            if class_id is None:
                continue
            if class_id in implied:
                text = f"{key.value.strip()} is given twice"
                self._add("named twice", key, text, "write one list with all that it implies")
            if isinstance(value, yaml.SequenceNode) and not value.value:
                text = f"{key.value.strip()} implies nothing"
                self._add("wrong value", value, text, "name a class behind it, or remove the line")
            implied[class_id], self._lines[class_id] = others, key
        return implied

    def _read_groups(self, node: yaml.Node) -> list[list[int]]:
        groups: dict[frozenset[int], list[int]] = {}
        entries = node.value if isinstance(node, yaml.SequenceNode) else []
        if not isinstance(node, yaml.SequenceNode):
            self._add("wrong value", node, "`exclusive` is not a list of groups", _EXCLUSIVE_FIX)
        for entry in entries:
            if not isinstance(entry, yaml.SequenceNode):
                text = "an entry of `exclusive` is no list of classes"
                self._add("wrong value", entry, text, _EXCLUSIVE_FIX)
                continue
            before = len(self.faults)
            group = self._find_classes(entry, _EXCLUSIVE_FIX)
            if len(self.faults) > before:
                continue
            if len(group) < 2:
                text = f"a group of exclusive classes has {len(group)}; it needs two or more"
                fix = "name the classes that exclude each other, or remove the group"
                self._add("wrong value", entry, text, fix)
            elif frozenset(group) in groups:
                text = f"the group {', '.join(self._names[i] for i in group)} is given twice"
                self._add("named twice", entry, text, "remove one of the two")
            groups.setdefault(frozenset(group), group)
        return list(groups.values())

    def _follow(self, implied: Mapping[int, list[int]]) -> dict[int, list[int]]:
        """Class -> all that it implies through others, rising; a cycle is a fault, and so are more
        pairs than memory should hold."""
        closed: dict[int, list[int]] = {}
        order = {a: i for i, a in enumerate(implied)}
        waits = {a: sum(b in implied for b in others) for a, others in implied.items()}
        users: dict[int, list[int]] = {}
        for a, others in implied.items():
            for b in others:
                users.setdefault(b, []).append(a)
        ready, pairs, is_whole = [a for a, count in waits.items() if not count], 0, True
        while waits:
            if not ready:  # each that waits leads into a cycle
                ready, is_whole = self._report_cycle(implied, waits), False
            following: list[int] = []
            for a in ready:
                del waits[a]
                if is_whole:
                    direct = implied[a]
                    closed[a] = sorted({*direct, *(c for b in direct for c in closed.get(b, ()))})
                    pairs += len(closed[a])
                if pairs > _MOST_IMPLIED:
                    text = f"the classes imply more than {_MOST_IMPLIED:,} others, all in all"
                    fix = "shorten the chains of implications (a -> b -> c -> ...)"
                    self._add("too many implications", self._lines[a], text, fix)
                    return closed
                for user in users.get(a, ()):
                    if user in waits:
                        waits[user] -= 1
                        following += [user] * (waits[user] == 0)
            ready = sorted((a for a in following if a in waits), key=order.__getitem__)
        return closed

    def _report_cycle(
        self, implied: Mapping[int, list[int]], waits: Mapping[int, int]
    ) -> list[int]:
        """Find a cycle among the classes that wait: a fault. Returns its classes."""
        step, walk = next(iter(waits)), dict[int, None]()
        while step not in walk:
            walk[step] = None
            step = next(b for b in implied[step] if b in waits)
        cycle = list(walk)[list(walk).index(step) :]
        text = " -> ".join(self._names[i] for i in [*cycle, step])
        fix = "remove one of these implications; classes that always come together are one"
        what = f"the implications form a cycle: {text}"
        self._add("cycle of implications", self._lines[step], what, fix)
        return cycle

    def _find_contradictions(
        self, closed: Mapping[int, list[int]], groups: Sequence[Sequence[int]]
    ) -> None:
        """Faults of classes that imply two exclusive ones, or one that excludes themselves."""
        implying: dict[int, list[int]] = {i: [i] for group in groups for i in group}
        for class_id, others in closed.items():
            for other in others:
                if other in implying:
                    implying[other].append(class_id)
        order = {class_id: i for i, class_id in enumerate(closed)}
        for group in groups:
            wrong: set[int] = set()
            hits_of: dict[int, list[int]] = {}
            for i in group:
                for class_id in implying[i]:
                    hits_of.setdefault(class_id, []).append(i)
            several = [class_id for class_id, hits in hits_of.items() if len(hits) > 1]
            # What implies fewer comes first: of a chain only the first wrong class is a fault.
            for class_id in sorted(several, key=lambda each: (len(closed[each]), order[each])):
                if wrong.intersection(closed[class_id]):
                    continue
                wrong.add(class_id)
                hits = hits_of[class_id]
                name, rest = self._names[class_id], [i for i in hits if i != class_id]
                shown = " and ".join(self._names[i] for i in rest)
                text = f"{name} implies {shown}, which exclude each other"
                if class_id in hits:
                    text = f"{name} implies {shown}, but they exclude each other"
                fix = "remove one of the implications, or the group"
                self._add("contradiction", self._lines[class_id], text, fix)


def check(relations: Relations, lists: Mapping[str, ImageList]) -> list[Violations]:
    """The violations of each rule, implications first, in the order of the file.

    A class counts as shown where an image shows anything that implies it. Unknown labels
    contradict nothing.
    """
    names = relations.label_names
    tables = {name: _collect(relations, images.values)[-1] for name, images in lists.items()}
    missing = {name: _find_missing(relations, lists[name].values, tables[name]) for name in lists}
    found = []
    for number, (a, b) in enumerate(relations.stated):
        images = {name: each[number] for name, each in missing.items()}
        fix = "-o CheckDataset.repair.relations=true adds the missing labels"
        what = f"{names[a]} without {names[b]}"
        found.append(Violations(f"{names[a]} implies {names[b]}", what, fix, images))
    for group in relations.exclusive:
        images = {name: _find_several(shown, group) for name, shown in tables.items()}
        each = [names[i] for i in group]
        what = f"several of {first_names(each)} together"
        if len(each) == 2:
            what = f"{each[0]} and {each[1]} together"
        fix = "keep the right one of them in the list"
        found.append(Violations(f"{', '.join(each)} exclude each other", what, fix, images))
    return found


def warn(violations: Sequence[Violations], lists: Mapping[str, ImageList]) -> list[Finding]:
    """A warning for each rule and list, the most images first; beyond 20 one for all others."""
    cases = [
        (each, name, [lists[name].paths[i] for i in images])
        for each in violations
        for name, images in each.images.items()
        if len(images)
    ]
    cases.sort(key=lambda case: -len(case[2]))
    findings = []
    for each, name, paths in cases[:_WARNINGS]:
        shown = f"{count(len(paths), 'image')} in {name}: {first_names(paths, _EXAMPLES)}"
        text = f"{each.what}: {shown}"
        findings.append(Finding(f"{text}; {each.fix}", [(path,) for path in paths]))
    if rest := cases[_WARNINGS:]:
        shown = first_names([f"{each.what} in {name}" for each, name, _ in rest], _EXAMPLES)
        are = count(len(rest), f"more rule of {FILE} is", f"more rules of {FILE} are")
        text = f"{are} violated: {shown}"
        gone = dict.fromkeys(path for _, _, paths in rest for path in paths)
        findings.append(Finding(f"{text}; `relations` of the result has all", [(p,) for p in gone]))
    return findings


def complete(relations: Relations, values: Targets) -> Completed:
    """The targets with all labels that follow from those that are there.

    present: what a present class implies. absent: an unknown class that excludes a present one, or
    that implies an absent one. Present labels are never taken away.
    """
    present, unknown, absent, shown = _collect(relations, values)
    # Listed are the unknown cells of an image, or the absent ones where all others are unknown.
    open_ = {i: np.setdiff1d(unknown[i], shown[i]) for i in shown}
    shut = {i: np.setdiff1d(absent[i], shown[i]) for i in shown}
    are_open = np.zeros(len(values), np.bool_)
    if isinstance(values, SparseTargets):
        are_open = values.others < 0
    conflicts = []
    for group in relations.exclusive:
        any_shown = np.unique(np.concatenate([shown[i] for i in group]))
        for i in group:
            open_[i] = np.setdiff1d(open_[i], any_shown)
            ruled_out = np.setdiff1d(any_shown[are_open[any_shown]], shown[i])
            shut[i] = np.union1d(shut[i], ruled_out)
        conflicts.append(_find_several(shown, group))
    for b, classes in relations.implied_by.items():
        for a in classes:
            open_[a] = np.intersect1d(open_[a], np.union1d(shown[b], open_[b]))
            shut[a] = np.union1d(shut[a], shut[b])
    images, ids, kinds = [], [], []
    for i in shown:
        added = np.setdiff1d(shown[i], present[i])
        ruled_out = np.setdiff1d(unknown[i], np.union1d(shown[i], open_[i]))
        ruled_out = np.concatenate([ruled_out, np.setdiff1d(shut[i], absent[i])])
        images += [added, ruled_out]
        ids.append(np.full(len(added) + len(ruled_out), i, np.int64))
        kinds += [np.ones(len(added), np.int8), np.zeros(len(ruled_out), np.int8)]
    cells = [np.concatenate(each) if each else _NONE for each in (images, ids, kinds)]
    before = targets.look_up(values, cells[0], cells[1])
    revealed = int(((before < 0) & (cells[2] > 0)).sum())
    counts = int(cells[2].sum()) - revealed, revealed, int((cells[2] == 0).sum())
    if any(counts):
        values = targets.put(values, cells[0], cells[1], cells[2].astype(np.int8))
    kept = np.unique(np.concatenate(conflicts)) if conflicts else ()
    return Completed(values, *counts, len(kept))


def _collect(
    relations: Relations, values: Targets
) -> tuple[_Columns, _Columns, _Columns, _Columns]:
    """For each class that a relation has: the images that show it; those where it is unknown, and
    (where most classes of an image are unknown) those where it is absent; and those that show it or
    anything that implies it."""
    used = {i for pair in relations.stated for i in pair}
    used |= {i for group in relations.exclusive for i in group}
    classes = np.array(sorted(used), np.int64)
    chosen = targets.choose_classes(values, classes)
    are_open = (
        chosen.others < 0 if isinstance(chosen, SparseTargets) else np.zeros(len(chosen), bool)
    )
    columns: list[_Columns] = []
    for value, rows in ((1, None), (UNKNOWN, ~are_open), (0, are_open)):
        numbers = np.arange(len(chosen)) if rows is None else np.flatnonzero(rows)
        images, ids = targets.cells(targets.take(chosen, numbers), value)
        order = np.argsort(ids, kind="stable")
        ends = np.cumsum(np.bincount(ids, minlength=len(classes)))
        parts = np.split(numbers[images[order]], ends)[:-1]
        columns.append(dict(zip(classes.tolist(), parts, strict=True)))
    present = columns[0]
    shown = {
        i: np.unique(
            np.concatenate([images, *(present[a] for a in relations.implied_by.get(i, ()))])
        )
        for i, images in present.items()
    }
    return present, columns[1], columns[2], shown


def _find_missing(relations: Relations, values: Targets, shown: _Columns) -> list[Images]:
    """For each implication that is stated: the images with its first class, without its second."""
    images = [shown[a] for a, _ in relations.stated]
    ids = [np.full(len(shown[a]), b, np.int64) for a, b in relations.stated]
    every = np.concatenate([_NONE, *images])
    is_missing = targets.look_up(values, every, np.concatenate([_NONE, *ids])) == 0
    ends = np.cumsum([len(each) for each in images], dtype=np.int64)
    parts = np.split(is_missing, ends)
    return [each[part] for each, part in zip(images, parts, strict=False)]


def _find_several(shown: _Columns, group: Sequence[int]) -> Images:
    """The images that show two classes of a group, or more."""
    images, counts = np.unique(np.concatenate([shown[i] for i in group]), return_counts=True)
    return np.asarray(images[counts > 1])
