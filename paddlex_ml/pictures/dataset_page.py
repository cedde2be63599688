# SPDX-License-Identifier: Apache-2.0
"""The report of a data set as one HTML file: it needs no other file, pictures are inside.

Up to 100 classes are shown as bars and rows of samples, without a script. More are a list that
searches and sorts; it shows samples on demand. The page's policy allows its style and its one
script by hash.
The page takes about 10 MB at most: samples that have no room in it are shown from their files, on
the computer that has them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from paddlex_ml.pictures import pages, thumbnails

MOST_TOGETHER = 60
"""Classes of the table of pairs: more would be too small to read."""
_MOST_STATIC = 100  # classes
_SHOTS = 6  # images per class
_PAIRS = 24  # shown side by side
_SHORT = 20  # columns of a name in the table of pairs
_LARGEST = 9_500_000  # bytes of a page, without the names in its warnings
_SMALL_SIDE, _SMALL_QUALITY = 80, 60  # of samples on demand
_PIXELS = 120_000_000  # decoded for these samples: about 1.5 seconds
_FEWEST, _MOST = 300, 2400  # samples on demand inside the page
_MOST_UNKNOWN = 100  # classes in the table of those with unknown labels
_LISTED = 60_000  # samples on demand: of very many classes, each has fewer

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PageList:
    """One list: the paths of its images, and the classes that they show."""

    paths: Sequence[str]
    shows: tuple[np.ndarray, np.ndarray]
    """Image and class of each label, in the order of the images."""
    counts: Counts
    """Images that show each class, [C]."""
    known: Counts
    """Images where it is known whether they show the class, [C]."""


@dataclass(frozen=True)
class PageWarning:
    """A warning with its images, or pairs of images; `alike` ones are shown side by side."""

    text: str
    images: Sequence[tuple[str, ...]] = ()
    alike: bool = False
    names: Sequence[str] = ()
    """All classes that it names, where its text has only the first."""


@dataclass(frozen=True)
class PagePairs:
    """Images that show two of some classes, [K, K]; the diagonal counts the images of a class."""

    classes: Counts
    counts: Counts


@dataclass(frozen=True)
class DatasetPage:
    """Content of the page; counts are those of `check.summarise`."""

    root: Path
    read: thumbnails.ReadImage
    """How the images of the data set are read."""
    label_names: Sequence[str]
    train: PageList
    val: PageList
    warnings: Sequence[PageWarning]
    pairs: PagePairs
    """Of the `MOST_TOGETHER` most frequent classes, the most frequent first."""
    sizes: dict[str, dict[str, int]]
    formats: dict[str, int]
    seed: int = 42
    soft: Sequence[str] = ()
    """Sentences about soft values and weights."""
    account: Mapping[str, Any] | None = None
    """What a conversion did with its source, as `formats.account.Account.describe` gives it."""


def write(path: Path, content: DatasetPage) -> None:
    """Write the page atomically. Every text of the user's is escaped."""
    folder = Path(__file__).parent
    images = _Images(content)
    style = (folder / "style.css.j2").read_text("utf-8")
    values = {
        "explorer": "",
        **pages.allow_inline("style", style),
        **_fill_template(content, images),
    }
    if len(content.label_names) > _MOST_STATIC:
        script = (folder / "classes.js.j2").read_text("utf-8")
        values |= pages.allow_inline("script", script)
        chosen = images.choose(max(1, min(_SHOTS, _LISTED // len(content.label_names))))
        shown = list(dict.fromkeys(number for each in chosen for number in each))
        values["explorer"] = pages.format_json(_list_classes(content, images, chosen, shown))
        values["pictures"] = Markup("{}")
    template = pages.environment(folder).get_template("report.html.j2")
    text = template.render(values)
    if values["explorer"]:
        room = _LARGEST - len(text.encode("utf-8", "replace"))
        values["pictures"] = pages.format_json(_take_pictures(content, images, chosen, shown, room))
        text = template.render(values)
    pages.write(path, text)


class _Images:
    """All images of both lists, train first, by number; and the classes that they show."""

    def __init__(self, content: DatasetPage) -> None:
        self._content = content
        self.paths = [*content.train.paths, *content.val.paths]
        lists = (content.train, content.val)
        self.counts = [images.counts for images in lists]
        self._numbers = {path: i for i, path in enumerate(self.paths)}
        # Each label as its image and class, by image.
        entries = [np.stack(images.shows) for images in lists]
        entries[1][0] += len(content.train.paths)
        self._shows = np.concatenate(entries, axis=1)
        self._starts = np.searchsorted(self._shows[0], np.arange(len(self.paths) + 1))

    def labels_of(self, number: int) -> list[int]:
        """Classes that an image shows."""
        labels: list[int] = self._shows[1, self._starts[number] : self._starts[number + 1]].tolist()
        return labels

    def show(self, number: int, pictures: Mapping[Path, str]) -> dict[str, str]:
        """Picture, path and labels of an image."""
        path, names = self.paths[number], self._content.label_names
        labels = ", ".join(names[i] for i in self.labels_of(number))
        return {"data": pictures[self._content.root / path], "path": path, "labels": labels}

    def find(self, path: str) -> int:
        """The number of an image."""
        return self._numbers[path]

    def choose(self, most: int) -> list[list[int]]:
        """For each class up to `most` images, those of train first, else at random.

        The order of the images is the same for all classes, so that these share some of them.
        """
        random = np.random.default_rng(self._content.seed)
        cut = len(self._content.train.paths)
        order = np.concatenate(
            [random.permutation(cut), cut + random.permutation(len(self.paths) - cut)]
        )
        numbers, classes = self._shows
        sort = np.lexsort((order[numbers], classes))
        starts = np.searchsorted(classes[sort], np.arange(len(self._content.label_names) + 1))
        return [
            numbers[sort[start : min(start + most, end)]].tolist()
            for start, end in pairwise(starts)
        ]


def _fill_template(content: DatasetPage, images: _Images) -> dict[str, Any]:
    train, val = images.counts
    num_images, names = len(images.paths), content.label_names
    chosen: list[list[int]] = []
    order = np.argsort(-(train + val), kind="stable").tolist()
    if len(names) <= _MOST_STATIC:
        chosen = images.choose(_SHOTS)
    alike = [warning.images[:_PAIRS] if warning.alike else () for warning in content.warnings]
    needed = [path for shown in alike for paths in shown for path in paths]
    needed += [images.paths[number] for each in chosen for number in each]
    pictures = thumbnails.shrink_all((content.root / path for path in needed), content.read)
    warnings = [
        {
            "text": warning.text,
            "names": warning.names,
            "images": warning.images,
            "shots": [
                [images.show(images.find(path), pictures) for path in paths] for paths in shown
            ],
        }
        for warning, shown in zip(content.warnings, alike, strict=True)
    ]
    return {
        "name": content.root.resolve().name or str(content.root),
        "folder": str(content.root),
        "train": len(content.train.paths),
        "val": len(content.val.paths),
        "num_classes": len(names),
        "mean_labels": f"{int(train.sum() + val.sum()) / max(1, num_images):.2f}",
        "size": " x ".join(str(values["median"]) for values in content.sizes.values()),
        "warnings": warnings,
        "account": content.account,
        "classes": _rows(names, train, val, by_size=True) if chosen else [],
        "unknown": _tabulate_unknown(content),
        "soft": content.soft,
        "spread": _describe_spread(train),
        "per_image": _per_image(content),
        "cooccurrence": _tabulate_pairs(names, content.pairs),
        "sizes": content.sizes,
        "formats": content.formats,
        "samples": [
            {
                "name": names[i],
                "count": int(train[i] + val[i]),
                "shots": [images.show(number, pictures) for number in chosen[i]],
            }
            for i in order[: len(chosen)]
        ],
    }


def _list_classes(
    content: DatasetPage, images: _Images, chosen: Sequence[Sequence[int]], shown: Sequence[int]
) -> dict[str, Any]:
    """What the script lists: each class with its counts and samples, each sample with its path."""
    place = {number: i for i, number in enumerate(shown)}
    train, val = (counts.tolist() for counts in images.counts)
    return {
        "folder": content.root.resolve().as_uri() + "/",
        "classes": [
            [name, train[i], val[i], [place[number] for number in chosen[i]]]
            for i, name in enumerate(content.label_names)
        ],
        "images": [[images.paths[number], images.labels_of(number)[:99]] for number in shown],
    }


def _take_pictures(
    content: DatasetPage,
    images: _Images,
    chosen: Sequence[Sequence[int]],
    shown: Sequence[int],
    room: int,
) -> dict[int, str]:
    """Thumbnails of samples by place in `shown`: of the first of every class, then the second, ...

    No more than `room` characters, and about `_PIXELS` pixels to decode.
    """
    place = {number: i for i, number in enumerate(shown)}
    pixels = int(np.prod([values["median"] for values in content.sizes.values()], dtype=np.int64))
    most = min(_MOST, max(_FEWEST, _PIXELS // max(1, pixels)))
    order = np.argsort(-(images.counts[0] + images.counts[1]), kind="stable").tolist()
    rounds = [chosen[i][k] for k in range(_SHOTS) for i in order if k < len(chosen[i])]
    wanted = list(dict.fromkeys(rounds))[:most]
    paths = [content.root / images.paths[number] for number in wanted]
    data = thumbnails.shrink_all(paths, content.read, _SMALL_SIDE, _SMALL_QUALITY)
    taken: dict[int, str] = {}
    for number, path in zip(wanted, paths, strict=True):
        picture = data[path].partition(",")[2]
        room -= len(picture) + 20
        if room < 0:
            break
        taken[place[number]] = picture
    return taken


def _rows(
    names: Sequence[str], train: Counts, val: Counts, *, by_size: bool = False
) -> list[dict[str, Any]]:
    """Bars, with their lengths as shares of the longest, 0 to 1."""
    top = max(1, int(train.max(initial=0)), int(val.max(initial=0)))
    order = np.lexsort((-val, -train)) if by_size else np.arange(len(names))
    return [
        {
            "name": names[i],
            "train": int(train[i]),
            "val": int(val[i]),
            "train_share": f"{train[i] / top:.4f}",
            "val_share": f"{val[i] / top:.4f}",
        }
        for i in order
    ]


def _describe_spread(train: Counts) -> str:
    """How even the classes of train are, in a sentence."""
    seen = int((train >= 1).sum())
    text = f"{seen:,} {'class has' if seen == 1 else 'classes have'} an image in train"
    for least in (10, 100, 1000, 10_000):
        if count := int((train >= least).sum()):
            text += f", {count:,} at least {least:,}"
    return text


def _per_image(content: DatasetPage) -> list[dict[str, Any]]:
    spread = [
        np.bincount(np.bincount(images.shows[0], minlength=len(images.paths)), minlength=1)
        for images in (content.train, content.val)
    ]
    longest = max(map(len, spread))
    train, val = (np.pad(counts, (0, longest - len(counts))) for counts in spread)
    names = [f"{k} label{'s' * (k != 1)}" for k in range(longest)]
    rows = _rows(names, train, val)
    return [row for row in rows if row["train"] or row["val"]]


def _tabulate_unknown(content: DatasetPage) -> dict[str, Any]:
    """Share of the images where a class is known, of those with unknown labels, least known first.

    `left_out` counts the classes beyond the first ones.
    """
    lists = content.train, content.val
    shares = [each.known / max(1, len(each.paths)) for each in lists]
    partly = [(each.known < len(each.paths)) for each in lists]
    chosen = np.flatnonzero(partly[0] | partly[1])
    order = chosen[np.lexsort((shares[1][chosen], shares[0][chosen]))].tolist()
    cells = sum(int((len(each.paths) - each.known).sum()) for each in lists)
    total = sum(len(each.paths) for each in lists) * len(content.label_names)
    rows = [
        {
            "name": content.label_names[i],
            "lists": [
                (int(each.known[i]), f"{100 * share[i]:.1f}")
                for each, share in zip(lists, shares, strict=True)
            ],
        }
        for i in order[:_MOST_UNKNOWN]
    ]
    share = f"{100 * cells / max(1, total):.1f}"
    return {"cells": cells, "share": share, "rows": rows, "left_out": len(order) - len(rows)}


def _tabulate_pairs(names: Sequence[str], pairs: PagePairs) -> dict[str, Any]:
    """Share of the images of the row's class that also show the column's class."""
    images = np.diag(pairs.counts)
    rows = []
    for i, class_id in enumerate(pairs.classes):
        cells: list[dict[str, Any] | None] = []
        for k in range(len(images)):
            share, count = float(pairs.counts[i, k] / max(1, images[i])), int(pairs.counts[i, k])
            percent = round(100 * share) or "<1"
            cell = {"count": count, "share": round(share, 2), "percent": percent}
            cells.append(cell if i != k else None)
        name = names[class_id]
        rows.append({"name": name, "short": _shorten(name), "cells": cells})
    return {"rows": rows, "left_out": len(names) - len(rows)}


def _shorten(name: str) -> str:
    """`name` in at most `_SHORT` columns of text: Chinese characters and emoji take two."""
    widths = [0 if unicodedata.category(c)[0] in "MC" else 1 for c in name]
    widths = [
        2 if width and unicodedata.east_asian_width(c) in "WF" else width
        for c, width in zip(name, widths, strict=True)
    ]
    if sum(widths) <= _SHORT:
        return name
    ends = np.cumsum(widths)
    return name[: int(np.searchsorted(ends, _SHORT - 2, side="right"))].rstrip("\u200d ") + "..."
