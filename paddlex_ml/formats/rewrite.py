# SPDX-License-Identifier: Apache-2.0
"""Conversion and re-split of a data set: read, divide, and write all lists as one transaction.

another format -> SourceDataset ----+
train.txt, val.txt ---------+-> divide -> label.txt, train.txt, val.txt; originals as .bak
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from paddlex_ml.data import annotation, journal, split
from paddlex_ml.data.annotation import LISTS, ImageList
from paddlex_ml.data.faults import combine
from paddlex_ml.data.journal import Transaction
from paddlex_ml.data.split import Division, Row
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import registry
from paddlex_ml.formats.account import Account
from paddlex_ml.formats.collector import Options
from paddlex_ml.wording import first_names

_ROWS = 40  # of the table in a log


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

    def format_lines(self, root: Path) -> list[str]:
        """All of it in lines for a user, with the command that undoes it."""
        files = self.transaction.lines()
        lines = [*self.notes, *(self.account.format_lines() if self.account else [])]
        lines += files or ["the lists are already as asked"]
        if self.images:
            hidden = len(self.classes) - _ROWS
            *rows, total = split.render([*self.classes[:_ROWS], self.images])
            more = [f"... and {hidden} classes more, less uneven"] if hidden > 0 else []
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
        return described | ({"account": self.account.describe()} if self.account else {})


def convert(
    root: Path, source: str, options: Options, division: Division | None = None
) -> Rewritten:
    """Write the lists of a data set from annotations in another format, one of `registry.FORMATS`
    or "auto".

    With a division the images are split by it, else as the source divides them. Raises one
    PaddlexMLError with every fault of the source; then nothing has changed.
    """
    with journal.writing(root):
        dataset = registry.read(root, source, options)
        names, before = dataset.label_names, dataset.lists
        lists = _divide(before, division) if division else before
        leftover = [root / f"{name}.txt" for name in LISTS if name not in lists]
        what = f"converted from {source}" + (" and split" if division else "")
        transaction = _write(root, what, names, lists, [*dataset.retire, *leftover])
    if division is None:
        return Rewritten(transaction, dataset.notes, lists=tuple(lists), account=dataset.account)
    rows = split.count_classes(before, lists, names, division.val_percent)
    counts = split.count_images(before, lists)
    return Rewritten(transaction, dataset.notes, rows, counts, account=dataset.account)


def resplit(root: Path, division: Division) -> Rewritten:
    """Split the images of train.txt and val.txt (or of the one that is there) again.

    Every line is kept, with its labels; one that does not change sides keeps its position. Raises
    one PaddlexMLError with every fault of the lists; then nothing has changed.
    """
    with journal.writing(root):
        names = [name for name in LISTS if (root / f"{name}.txt").exists()] or LISTS
        parsed = annotation.parse(root, names)
        if parsed.faults:
            raise combine(parsed.faults, root)
        dataset = parsed.dataset
        before = {name: getattr(dataset, name) for name in names}
        after = _divide(before, division)
        transaction = _write(root, "split again", None, after, [])
    rows = split.count_classes(before, after, dataset.label_names, division.val_percent)
    return Rewritten(transaction, [], rows, split.count_images(before, after))


def ask_for_split(root: Path) -> PaddlexMLError:
    """The error for a converted data set that has images for training alone."""
    return PaddlexMLError(
        "the annotations do not divide the images into train and val: train.txt is written and has "
        "them all, val.txt is missing",
        where=str(root),
        fix="divide them: -o CheckDataset.convert.enable=false -o CheckDataset.split.enable=true "
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
            lines.append(f"{len(names)} classes have {what}: {shown}")
    return lines


def _divide(lists: Mapping[str, ImageList], division: Division) -> dict[str, ImageList]:
    """Divide all images. The sides depend on what the lists hold, not on its order, so that a
    second division with the same seed changes nothing."""
    root = next(iter(lists.values())).root
    paths = [path for images in lists.values() for path in images.paths]
    targets = np.concatenate([images.targets for images in lists.values()])
    order = sorted(range(len(paths)), key=paths.__getitem__)
    ordered = ImageList(root, [paths[i] for i in order], targets[order])
    in_val = {*split.divide(ordered, division)["val"].paths}
    sides: dict[str, list[int]] = {name: [] for name in LISTS}
    for i, path in enumerate(paths):
        sides["val" if path in in_val else "train"].append(i)
    return {
        name: ImageList(root, [paths[i] for i in chosen], targets[chosen])
        for name, chosen in sides.items()
    }


def _write(
    root: Path,
    what: str,
    label_names: list[str] | None,
    lists: Mapping[str, ImageList],
    retire: list[Path],
) -> Transaction:
    texts = (
        {} if label_names is None else {annotation.LABEL_FILE: annotation.labels_text(label_names)}
    )
    for name, images in lists.items():
        texts[f"{name}.txt"] = annotation.list_text(images.paths, images.targets)
    return journal.apply(root, what, texts, retire)
