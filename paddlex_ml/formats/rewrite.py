# SPDX-License-Identifier: Apache-2.0
"""Conversion, repair and re-split of a data set: read, divide, and write all lists as one
transaction.

another format -> SourceDataset --+
train.txt, val.txt (repaired) ----+-> Draft -> leave lines out -> divide -> write: label.txt,
                                      train.txt, val.txt; originals as .bak

A draft changes nothing: what is wrong with it is found before it is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from paddlex_ml.data import (
    annotation,
    journal,
    label_file,
    relations,
    soft_targets,
    split,
    tidy,
)
from paddlex_ml.data.annotation import LISTS, ImageList, LineChange, MLClsDataset, Parsed
from paddlex_ml.data.faults import combine
from paddlex_ml.data.journal import Transaction
from paddlex_ml.data.relations import Completed, Relations
from paddlex_ml.data.split import Division, Row
from paddlex_ml.data.walk import join
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import registry
from paddlex_ml.formats.account import Account
from paddlex_ml.formats.collector import Options
from paddlex_ml.storage import csv_text
from paddlex_ml.wording import count, first_names, part_of

_ROWS = 40  # of the table in a log
_EXAMPLES = 3
_NAMED = 1000  # lines of a change in the result file; conversion.csv has them all


@dataclass(frozen=True)
class Rewritten:
    """Result of a conversion or a division."""

    transaction: Transaction
    notes: list[str] = field(default_factory=list)
    """What the source had that could not be converted as it was."""
    classes: list[Row] = field(default_factory=list)
    """Counts before and after a division, the most uneven classes first."""
    images: Row | None = None
    """The row of all images; None without a division."""
    lists: tuple[str, ...] = LISTS
    """The lists that the data set has now."""
    account: Account | None = None
    """What became of every file, record and image of the source; None without a conversion."""
    changes: list[LineChange] = field(default_factory=list)
    """Lines that were repaired or left out."""
    completed: Mapping[str, Completed] = field(default_factory=dict)
    """List, as it was before a division -> labels that follow from relations."""

    def format_lines(self, root: Path) -> list[str]:
        """All of it in lines for a user, with the command that undoes it."""
        files = self.transaction.lines()
        lines = [*self.notes, *(self.account.format_lines() if self.account else [])]
        lines += self._format_changes()
        lines += [
            f"{name}.txt: {done.absent_to_present:,} absent and {done.unknown_to_present:,} "
            f"unknown labels became present, {done.unknown_to_absent:,} unknown ones absent, by "
            f"{relations.FILE}; images that show exclusive classes, and stay: {done.not_repaired:,}"
            for name, done in self.completed.items()
        ]
        lines += files or ["the lists are already as asked"]
        if self.images:
            hidden = len(self.classes) - _ROWS
            *rows, total = split.render([*self.classes[:_ROWS], self.images])
            more = (
                [f"... and {count(hidden, 'class', 'classes')} more, less uneven"]
                if hidden > 0
                else []
            )
            lines += ["images of each class, the most uneven first:", *rows, *more, total]
            lines += _explain_one_sided(split.find_one_sided(self.classes))
        if files:
            lines.append(f"to take this back: {journal.undo_command(root)}")
        return lines

    def describe(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        counts = [row._asdict() for row in self.classes]
        described = {
            "files": self.transaction.lines(),
            "notes": self.notes,
            "class_counts": counts,
        }
        if self.account:
            described["account"] = self.account.describe()
        if self.changes:
            repaired = [c for c in self.changes if c.found]
            described["repaired"] = [list(change) for change in repaired[:_NAMED]]
            described["dropped"] = dict(Counter(c.kind for c in self.changes if not c.found))
        if self.completed:
            described["completed"] = {
                name: {key: number for key, number in done._asdict().items() if key != "values"}
                for name, done in self.completed.items()
            }
        return described

    def format_csv(self) -> str:
        """Every file, image and line that has no part or another name, one a row."""
        text = self.account.format_csv() if self.account else "file,what,why\n"
        return text + csv_text.write(
            (c.found, c.why, f"{c.where} names {c.path}")
            if c.found
            else (c.path, "line left out", f"{c.where}: {c.why}")
            for c in self.changes
        )

    def _format_changes(self) -> list[str]:
        """The lines repaired and left out, counted by kind, with examples."""
        groups: dict[str, list[str]] = {}
        for change in self.changes:
            if change.found:
                kind = f"images of the lists were {change.kind}"
                groups.setdefault(kind, []).append(f"{change.path} = {change.found}")
            else:
                kind = f"lines are left out, {change.kind}"
                groups.setdefault(kind, []).append(f"{change.where} {change.path}")
        return [
            f"{len(each):,} {kind}: {first_names(each, _EXAMPLES)}" for kind, each in groups.items()
        ]


@dataclass(frozen=True)
class Draft:
    """New lists of a data set, before they are written."""

    parsed: Parsed
    what: list[str]
    """What is done, for the record: "converted from COCO", "split again"."""
    lists: tuple[str, ...]
    """The lists that the data set has now."""
    names: list[str] | None = None
    """Class names for label.txt; None where it stays."""
    retire: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    account: Account | None = None
    before: dict[str, ImageList] = field(default_factory=dict)
    """The lists before a division; empty without one."""
    division: Division | None = None
    completed: dict[str, Completed] = field(default_factory=dict)
    """List, before a division -> labels that follow from relations; empty without them."""
    is_raised: bool = False
    """Whether soft values of train.txt were raised, as relations ask."""

    @property
    def is_native(self) -> bool:
        """Whether the lists were there before: their line numbers mean something to the user."""
        return self.names is None

    def moved(self, root: Path, above: str, below: str) -> Draft:
        """The draft for the data set `root`, which has what is in `above` of this one in `below`.

        Both are relative, with "/"; "" is the data set itself. Nothing is retired.
        """
        start = len(above) + 1 if above else 0
        dataset = self.parsed.dataset
        lists = {
            name: replace(each, root=root, paths=[join(below, path[start:]) for path in each.paths])
            for name in self.lists
            for each in [getattr(dataset, name)]
        }
        parsed = _as_parsed(root, dataset.label_names, lists, self.parsed.changes)
        return replace(self, parsed=parsed, names=dataset.label_names, retire=[])

    def differs(self) -> bool:
        """Whether the data set that is there has other class names or lists than the draft."""
        dataset = self.parsed.dataset
        lists = {name: getattr(dataset, name) for name in self.lists}
        return not all(
            journal.holds(dataset.root / name, journal.encode(text))
            for name, text in _texts(self.names, lists).items()
        )

    def leave_out(self, images: tidy.Images, drop: Collection[str]) -> Draft:
        """The draft without lines of the kinds `drop`; see `tidy`."""
        return replace(self, parsed=tidy.leave_out(self.parsed, images, drop)) if drop else self

    def complete(self, known: Relations) -> Draft:
        """The draft with the labels that follow from those that are there."""
        lists = {name: getattr(self.parsed.dataset, name) for name in self.lists}
        done = {name: relations.complete(known, each.values) for name, each in lists.items()}
        new = {name: replace(each, values=done[name].values) for name, each in lists.items()}
        notes, raised = list(self.notes), 0
        if (train := new.get("train")) is not None and train.soft is not None:
            before = lists["train"].values
            soft, raised = soft_targets.raise_implied(
                train.soft, before, train.values, known.implied_by
            )
            new["train"] = replace(train, soft=soft)
            text = f"{count(raised, 'soft value')} of train.txt raised by {relations.FILE}"
            notes += [text] * (raised > 0)
        parsed = replace(self.parsed, dataset=replace(self.parsed.dataset, **new))
        return replace(self, parsed=parsed, completed=done, notes=notes, is_raised=raised > 0)

    def divide(self, division: Division | None) -> Draft:
        """The draft with its images divided into train and val again; None divides nothing."""
        if division is None:
            return self
        before = {name: getattr(self.parsed.dataset, name) for name in self.lists}
        after, notes = _divide(before, division)
        names = self.parsed.dataset.label_names
        parsed = _as_parsed(self.parsed.dataset.root, names, after, self.parsed.changes)
        what = [*self.what, "split" if self.what else "split again"]
        changed = replace(self, parsed=parsed, what=what, lists=LISTS, notes=self.notes + notes)
        return replace(changed, before=before, division=division)

    def write(self) -> Rewritten:
        """Write the lists as one transaction. Raises PaddlexMLError with the faults, if any."""
        dataset, changes = self.parsed.dataset, self.parsed.changes
        if self.parsed.faults:
            raise combine(self.parsed.faults, dataset.root)
        weights = dataset.train.weights
        if weights is not None and len(weights) and not weights.any():
            fix = "remove the third column of some"
            fix += ", or divide with another seed" * (self.division is not None)
            is_shorter = any(not change.found for change in changes)
            raise PaddlexMLError(
                f"train.txt would get {count(len(weights), 'image')}, all of weight 0",
                where=str(dataset.root / annotation.TRAIN_FILE),
                fix=fix + ", or correct the lines that would be left out" * is_shorter,
            )
        lists: dict[str, ImageList] = {name: getattr(dataset, name) for name in self.lists}
        done = list(self.what)
        if changes:
            done.append("lines repaired or left out")
        completed = {name for name, each in self.completed.items() if each.changed}
        completed |= {"train"} if self.is_raised else set()
        if completed:
            done.append(f"labels completed by {relations.FILE}")
        if self.is_native and self.division is None:  # lists without a change stay as they are
            touched = completed | {change.where.partition(".txt")[0] for change in changes}
            lists = {name: images for name, images in lists.items() if name in touched}
        retire = list(self.retire)
        if not self.is_native:  # no list of an earlier conversion may stay beside the new ones
            retire += [dataset.root / f"{name}.txt" for name in LISTS if name not in lists]
        transaction = _write(dataset.root, " and ".join(done), self.names, lists, retire)
        written = Rewritten(
            transaction,
            self.notes,
            lists=self.lists,
            account=self.account,
            changes=changes,
            completed=self.completed,
        )
        if self.division is None:
            return written
        after = {name: getattr(dataset, name) for name in LISTS}
        percent = self.division.val_percent
        rows = split.count_classes(self.before, after, dataset.label_names, percent)
        return replace(written, classes=rows, images=split.count_images(self.before, after))


def draft_conversion(root: Path, source: str, options: Options) -> Draft:
    """The lists of annotations in another format, one of `registry.FORMATS` or "auto".

    Raises one PaddlexMLError with every fault of the source.
    """
    dataset = registry.read(root, source, options)
    return Draft(
        _as_parsed(root, dataset.label_names, dataset.lists, []),
        [f"converted from {source}"],
        tuple(dataset.lists),
        dataset.label_names,
        dataset.retire,
        dataset.notes,
        dataset.account,
    )


def draft_lists(
    root: Path,
    lists: Sequence[str] = LISTS,
    *,
    repair: bool = False,
    drop: Collection[str] = (),
    soft_labels: bool = True,
) -> Draft:
    """The lists that are there, as `annotation.parse` repairs them; their faults are kept."""
    parsed = annotation.parse(root, lists, repair=repair, drop=drop, soft_labels=soft_labels)
    return Draft(parsed, [], tuple(lists))


def find_lists(root: Path) -> Sequence[str]:
    """The lists that a division needs: those that are there."""
    return [name for name in LISTS if (root / f"{name}.txt").exists()] or LISTS


def convert(
    root: Path, source: str, options: Options, division: Division | None = None
) -> Rewritten:
    """Write the lists of a data set from annotations in another format, one of `registry.FORMATS`
    or "auto".

    With a division the images are split by it, else as the source divides them. Raises one
    PaddlexMLError with every fault of the source; then nothing has changed.
    """
    with journal.writing(root):
        return draft_conversion(root, source, options).divide(division).write()


def resplit(root: Path, division: Division) -> Rewritten:
    """Split the images of train.txt and val.txt (or of the one that is there) again.

    Every line is kept, with its labels; one that does not change sides keeps its position. Raises
    one PaddlexMLError with every fault of the lists; then nothing has changed.
    """
    with journal.writing(root):
        draft = draft_lists(root, find_lists(root))
        if draft.parsed.faults:
            raise combine(draft.parsed.faults, root)
        return draft.divide(division).write()


def ask_for_split(root: Path) -> PaddlexMLError:
    """The error for a source that has images for training alone."""
    return PaddlexMLError(
        "the annotations do not divide the images into train and val; nothing is written yet",
        where=str(root),
        fix="divide them, with the same command and -o CheckDataset.split.enable=true "
        "-o CheckDataset.split.train_percent=80 -o CheckDataset.split.val_percent=20",
    )


def _explain_one_sided(rows: Sequence[Row]) -> list[str]:
    lines = []
    for side, single in product(LISTS, (True, False)):
        names = [
            row.name
            for row in rows
            if (row.val_after == 0) == (side == "train")
            and (row.train_after + row.val_after == 1) == single
        ]
        if names:
            what = f"one image only, in {side}" if single else f"images in {side} only"
            shown = first_names(names)
            lines.append(f"{count(len(names), 'class has', 'classes have')} {what}: {shown}")
    return lines


def _as_parsed(
    root: Path, names: list[str], lists: Mapping[str, ImageList], changes: list[LineChange]
) -> Parsed:
    """Lists that are not written yet, with the lines that they will have."""
    empty = ImageList(root, [], np.zeros((0, len(names)), np.int8))
    dataset = MLClsDataset(root, names, lists.get("train", empty), lists.get("val", empty))
    lines = {
        name: {annotation.normalise_path(path): i for i, path in enumerate(images.paths, 1)}
        for name, images in lists.items()
    }
    return Parsed(dataset, lines, [], changes)


def _divide(
    lists: Mapping[str, ImageList], division: Division
) -> tuple[dict[str, ImageList], list[str]]:
    """Divide all images. The sides depend on what the lists hold, not on its order, so that a
    second division with the same seed changes nothing.

    val.txt has certain labels alone: images with soft values stay in train.txt, as a note says.
    """
    every = split.join(list(lists.values()))
    notes = []
    order = sorted(range(len(every)), key=every.paths.__getitem__)
    if every.soft is not None:
        split.refuse_repeated(every.paths)  # also of those that are not divided
        is_soft = np.diff(every.soft.starts) > 0
        counted = part_of(int(is_soft.sum()), len(every), ("image", "images"), ("has", "have"))
        counted += " soft values"
        if division.group_regex is not None:
            groups = split.group(every.paths, division.group_regex)
            is_soft = np.isin(groups, groups[is_soft])
            counted = f"{int(is_soft.sum()):,} of {count(len(every), 'image')}, or their groups, "
            counted += "have soft values"
        order = [i for i in order if not is_soft[i]]
        if len(order) < 2:
            raise PaddlexMLError(
                f"{counted}: the others are too few for a val.txt, which has certain labels alone",
                where=str(every.root / annotation.TRAIN_FILE),
                fix="write 0 or 1 for the images that the model is to be measured with",
            )
        percent = f"val.txt gets {division.val_percent} % of the others"
        notes.append(f"{counted} and stay in train.txt: {percent}")
    in_val = {*split.divide(every.take(order), division)["val"].paths}
    sides: dict[str, list[int]] = {name: [] for name in LISTS}
    for i, path in enumerate(every.paths):
        sides["val" if path in in_val else "train"].append(i)
    return {name: every.take(chosen) for name, chosen in sides.items()}, notes


def _write(
    root: Path,
    what: str,
    label_names: list[str] | None,
    lists: Mapping[str, ImageList],
    retire: list[Path],
) -> Transaction:
    return journal.apply(root, what, _texts(label_names, lists), retire)


def _texts(label_names: list[str] | None, lists: Mapping[str, ImageList]) -> dict[str, str]:
    texts = (
        {} if label_names is None else {annotation.LABEL_FILE: label_file.labels_text(label_names)}
    )
    return texts | {f"{name}.txt": images.text() for name, images in lists.items()}
