# SPDX-License-Identifier: Apache-2.0
"""How images are divided between train and val: stratified by class, or at random.

one ImageList -> divide -> {"train", "val"} -> count_classes -> render: a table for the user
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from paddlex_ml.data import soft_targets, targets
from paddlex_ml.data.annotation import ImageList, normalise_path
from paddlex_ml.data.stratify import Numbers, choose_by_chance, choose_by_class
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.wording import count, first_names, text_width

STRATEGIES = ("stratified", "random")
_KEYS = "CheckDataset.split"
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Division:
    """How to divide images."""

    val_percent: int
    """1 to 99: this part of the images is for validation, the rest for training."""
    strategy: str = "stratified"
    """One of `STRATEGIES`."""
    seed: int = 42
    group_regex: str | None = None
    """Images whose paths match alike stay together: see `group`."""

    def __post_init__(self) -> None:
        if not 1 <= self.val_percent <= 99:
            raise PaddlexMLError(
                f"{self.val_percent} % of the images cannot be for validation",
                where=f"{_KEYS}.val_percent",
                fix="choose a whole number from 1 to 99",
            )
        if self.strategy not in STRATEGIES:
            raise PaddlexMLError(
                f"there is no strategy {self.strategy!r}",
                where=f"{_KEYS}.strategy",
                fix=f"choose {' or '.join(STRATEGIES)}",
            )


def divide(images: ImageList, division: Division) -> dict[str, ImageList]:
    """Divide images into "train" and "val", each in the order of `images`; the same for one seed.

    `stratified` gives each side its part of every class, and at least one image (group) of every
    class that has two, unless classes conflict (`find_one_sided`). `random` meets only the sizes.
    Sizes are met as closely as groups, and with `stratified` rare classes, allow; no side is
    empty. Raises PaddlexMLError for fewer than two images (groups), a path that is listed twice,
    and as `group` does.
    """
    refuse_repeated(images.paths)
    numbers = np.arange(len(images), dtype=np.int64)
    if division.group_regex is not None:
        numbers = group(images.paths, division.group_regex)
    if len(images) < 2:
        raise PaddlexMLError(
            f"{count(len(images), 'image')} cannot be divided in two",
            where=str(images.root),
            fix="add images, so that train and val have at least one each",
        )
    if numbers.max() == 0:
        raise PaddlexMLError(
            f"the pattern {division.group_regex!r} puts all {len(images):,} images into one group",
            where=f"{_KEYS}.group_regex",
            fix="put parentheses around the part of the path that differs between groups",
        )
    if division.strategy == "random":
        in_val = choose_by_chance(numbers, division.val_percent, division.seed)
    else:
        in_val = choose_by_class(images.values, numbers, division.val_percent, division.seed)
    return {"train": images.take(~in_val), "val": images.take(in_val)}


def join(parts: Sequence[ImageList]) -> ImageList:
    """The images of several lists of one data set, in that order."""
    sizes = [len(images) for images in parts]
    return ImageList(
        parts[0].root,
        [path for images in parts for path in images.paths],
        targets.concatenate([images.values for images in parts]),
        soft_targets.concatenate([images.soft for images in parts], sizes),
        soft_targets.join_weights([images.weights for images in parts], sizes),
    )


def refuse_repeated(paths: Sequence[str]) -> None:
    """Raise PaddlexMLError for a path that is listed twice: on one side a list would name it twice,
    on two sides the model would be tested on it."""
    counts = Counter(map(normalise_path, paths))
    if repeated := [path for path, count in counts.items() if count > 1]:
        shown = first_names(repeated, _SHOWN)
        verb = " is" if len(repeated) == 1 else "s are"
        raise PaddlexMLError(
            f"{len(repeated):,} image{verb} listed more than once: {shown}",
            where="train.txt and val.txt together",
            fix="remove the extra lines, most often those of val.txt, and split again",
        )


def group(paths: Sequence[str], pattern: str) -> Numbers:
    """Number the groups of images, 0, 1, ... in order of appearance; returns [N].

    `pattern` is searched in each path ("/" between folders). What its parentheses match, all
    together, names the group; without parentheses the whole match does. An image without a match,
    or with an empty one, is a group of its own. Raises PaddlexMLError for an invalid pattern and
    for one that matches no image.
    """
    try:
        search = re.compile(pattern).search
    except re.error as error:
        at = ""
        if error.pos is not None:
            at = f" at position {error.pos}, here: {pattern[error.pos :]!r}"
        raise PaddlexMLError(
            f"{pattern!r} is not a regular expression: {error.msg}{at}",
            where=f"{_KEYS}.group_regex",
            fix=r"correct it; for frames named video3_0001.jpg write (video\d+)_",
        ) from error
    groups: dict[tuple[str | None, ...] | int, int] = {}
    numbers = np.empty(len(paths), np.int64)
    matched = False
    for i, path in enumerate(paths):
        match = search(path.replace(os.sep, "/"))
        parts = (match.groups() or (match[0],)) if match else ()
        named = any(parts)
        matched |= named
        numbers[i] = groups.setdefault(parts if named else i, len(groups))
    if not matched and paths:
        raise PaddlexMLError(
            f"the pattern {pattern!r} matches no image, so it groups nothing",
            where=f"{_KEYS}.group_regex",
            fix="correct it; the first paths are " + ", ".join(paths[:_SHOWN]),
        )
    return numbers


class Row(NamedTuple):
    """Images of one class on each side, before and after."""

    name: str
    train_before: int
    val_before: int
    train_after: int
    val_after: int

    @property
    def share(self) -> float | None:
        """Part of the images that is in val now, 0 to 1; None without images."""
        images = self.train_after + self.val_after
        return self.val_after / images if images else None


Lists = Mapping[str, ImageList]


def count_images(before: Lists, after: Lists) -> Row:
    """The row of all images. `before` and `after` have keys "train" and "val", or one of them."""
    counts = [len(lists.get(name, ())) for lists in (before, after) for name in ("train", "val")]
    return Row("all images", *counts)


def count_classes(
    before: Lists, after: Lists, label_names: Sequence[str], val_percent: int
) -> list[Row]:
    """A row for each class: those whose share is furthest from `val_percent` first, then rare ones.

    Lists as `count_images` takes them. Classes without images come last.
    """
    counts = [
        targets.count(lists[name].values).present.tolist()
        if name in lists
        else [0] * len(label_names)
        for lists in (before, after)
        for name in ("train", "val")
    ]
    rows = [Row(*values) for values in zip(label_names, *counts, strict=True)]
    distances = [1.0 if row.share is None else -abs(row.share - val_percent / 100) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: (distances[i], sum(rows[i][3:])))
    return [rows[i] for i in order]


def find_one_sided(rows: Sequence[Row]) -> list[Row]:
    """Classes whose images are all on one side after the division, rarest first."""
    return sorted((row for row in rows if row.share in (0, 1)), key=lambda row: sum(row[3:]))


_HEADS: tuple[str, ...] = (
    "class",
    "train before",
    "val before",
    "train after",
    "val after",
    "val share",
)


def render(rows: Sequence[Row]) -> list[str]:
    """Aligned lines of text, the head first; for terminals and files in a fixed-width font."""
    cells = [_HEADS]
    for row in rows:
        name = "".join("?" if unicodedata.category(c) == "Cc" else c for c in row.name)
        share = "" if row.share is None else f"{row.share:.1%}"
        cells.append((name, *(f"{number:,}" for number in row[1:]), share))
    widths = [max(map(text_width, column)) for column in zip(*cells, strict=True)]
    lines = []
    for line in cells:
        gaps = [" " * (width - text_width(cell)) for cell, width in zip(line, widths, strict=True)]
        numbers = [gap + cell for gap, cell in zip(gaps[1:], line[1:], strict=True)]
        lines.append("  ".join([line[0] + gaps[0], *numbers]).rstrip())
    return lines
