# SPDX-License-Identifier: Apache-2.0
"""Conversion and re-split of a data set: read, divide, and write all lists as one change.

another format -> SourceDataset ----+
train.txt, val.txt ---------+-> divide -> label.txt, train.txt, val.txt; originals as .bak
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from paddlex_ml.formats import coco, csv_table, image_folder, jsonl, labelme, voc, yolo
from paddlex_ml.formats.collector import Options, SourceDataset

READERS: dict[str, Callable[[Path, Options], SourceDataset]] = {
    "COCO": coco.read,
    "VOC": voc.read,
    "LabelMe": labelme.read,
    "YOLO": yolo.read,
    "CSV": csv_table.read,
    "ImageFolder": image_folder.read,
    "JSONL": jsonl.read,
}
"""What `src_dataset_type` may be."""
_ROWS = 40  # of the table in a log
_NAMES = 10  # of classes in a line


@dataclass(frozen=True)
class Rewritten:
    """What became of a data set."""

    change: Transaction
    notes: list[str] = field(default_factory=list)
    """What the source had that could not be taken over as it was."""
    classes: list[Row] = field(default_factory=list)
    """Counts before and after a division, the most uneven classes first."""
    images: Row | None = None
    """The row of all images; None without a division."""
    lists: tuple[str, ...] = LISTS
    """The lists that the data set has now."""

    def told(self, root: Path) -> list[str]:
        """All of it in lines for a user, with the command that takes it back."""
        files = self.change.told()
        lines = [*self.notes, *files] if files else [*self.notes, "the lists are as asked already"]
        if self.images:
            lines += ["images of each class, the most uneven first:", *self._table()]
            lines += _explain_one_sided(split.find_one_sided(self.classes))
        if files:
            lines.append(f"to take this back: {journal.undo_command(root)}")
        return lines

    def describe(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        counts = [row._asdict() for row in self.classes]
        return {"files": self.change.told(), "notes": self.notes, "class_counts": counts}

    def _table(self) -> list[str]:
        assert self.images is not None
        hidden = len(self.classes) - _ROWS
        *rows, total = split.render([*self.classes[:_ROWS], self.images])
        return [*rows, *[f"... and {hidden} classes more, less uneven"] * (hidden > 0), total]


def convert(
    root: Path, source: str, options: Options, division: Division | None = None
) -> Rewritten:
    """Write the lists of a data set from annotations in another format, one of `READERS`.

    With a division the images are divided anew, else as the source divides them. Raises one
    PaddlexMLError with every fault of the source; then nothing has changed.
    """
    with journal.writing(root):
        found = READERS[source](root, options)
        before = found.lists
        lists = _divide(before, division) if division else before
        leftover = [root / f"{name}.txt" for name in LISTS if name not in lists]
        what = f"converted from {source}" + (", divided anew" if division else "")
        change = _write(root, what, found.label_names, lists, [*found.retire, *leftover])
    made = Rewritten(change, found.notes, lists=tuple(lists))
    return _with_table(made, before, lists, found.label_names, division)


def resplit(root: Path, division: Division) -> Rewritten:
    """Divide the images of train.txt and val.txt (or of the one that is there) anew.

    Every line is kept, with its labels; one that does not change sides keeps its place. Raises one
    PaddlexMLError with every fault of the lists; then nothing has changed.
    """
    with journal.writing(root):
        names = [name for name in LISTS if (root / f"{name}.txt").exists()] or LISTS
        parsed = annotation.parse(root, names)
        if parsed.faults:
            raise combine(parsed.faults, root)
        dataset = parsed.dataset
        before = {name: getattr(dataset, name) for name in names}
        after = _divide(before, division)
        change = _write(root, "divided anew", None, after, [])
    return _with_table(Rewritten(change), before, after, dataset.label_names, division)


def ask_for_split(root: Path) -> PaddlexMLError:
    """The error for a converted data set that has images for training alone."""
    return PaddlexMLError(
        "the annotations do not say which images validate: train.txt is written and has them all, "
        "val.txt is missing",
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
            what = "one image only" if single else "images"
            shown = ", ".join(names[:_NAMES]) + (", ..." * (len(names) > _NAMES))
            lines.append(f"{len(names)} classes have {what} in {side}, none elsewhere: {shown}")
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


def _with_table(
    made: Rewritten,
    before: Mapping[str, ImageList],
    after: Mapping[str, ImageList],
    label_names: list[str],
    division: Division | None,
) -> Rewritten:
    if division is None:
        return made
    rows = split.count_classes(before, after, label_names, division.val_percent)
    return Rewritten(made.change, made.notes, rows, split.count_images(before, after))
