# SPDX-License-Identifier: Apache-2.0
"""The report of a data set as one HTML file: without scripts or external files, images included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt

from paddlex_ml.pictures import thumbnails
from paddlex_ml.storage import files

_SHOTS = 6  # images per class
_CLASSES = 100  # with images: 600 of them take about 5 MB
_TABLE = 60  # classes of the table of pairs: more would be too small to read
_PAIRS = 24  # shown side by side


@dataclass(frozen=True)
class PageList:
    """One list: the paths of its images, and targets [N, C]."""

    paths: Sequence[str]
    targets: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PageWarning:
    """A warning with its images, or pairs of images; `alike` ones are shown side by side."""

    text: str
    images: Sequence[tuple[str, ...]] = ()
    alike: bool = False


@dataclass(frozen=True)
class DatasetPage:
    """Content of the page; counts are those of `check.summarise`."""

    root: Path
    label_names: Sequence[str]
    train: PageList
    val: PageList
    warnings: Sequence[PageWarning]
    pairs: npt.NDArray[np.int64]
    """Images that show both classes, [C, C]."""
    sizes: dict[str, dict[str, int]]
    formats: dict[str, int]
    seed: int = 42


class _Album:
    """Thumbnails, each made once."""

    def __init__(self, content: DatasetPage) -> None:
        self._root = content.root
        self._thumbnails: dict[str, str] = {}
        names = content.label_names
        self._labels = {
            path: ", ".join([names[i] for i in np.flatnonzero(row).tolist()])
            for images in (content.train, content.val)
            for path, row in zip(images.paths, images.targets, strict=True)
        }

    def show(self, path: str) -> dict[str, str]:
        """Picture, path and labels of an image."""
        if path not in self._thumbnails:
            self._thumbnails[path] = thumbnails.shrink(self._root / path)
        return {"data": self._thumbnails[path], "path": path, "labels": self._labels.get(path, "")}


def write(path: Path, content: DatasetPage) -> None:
    """Write the page atomically. Every text of the user's is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True
    )
    album = _Album(content)
    counts = [images.targets.sum(axis=0, dtype=np.int64) for images in (content.train, content.val)]
    num_images = len(content.train.paths) + len(content.val.paths)
    warnings = []
    for warning in content.warnings:
        shown = warning.images[:_PAIRS] if warning.alike else ()
        shots = [[album.show(path) for path in paths] for paths in shown]
        warnings.append({"text": warning.text, "images": warning.images, "shots": shots})
    text = environment.get_template("report.html.j2").render(
        name=content.root.resolve().name or str(content.root),
        folder=str(content.root),
        train=len(content.train.paths),
        val=len(content.val.paths),
        num_classes=len(content.label_names),
        mean_labels=f"{int(sum(map(np.sum, counts))) / max(1, num_images):.2f}",
        size=" x ".join(str(values["median"]) for values in content.sizes.values()),
        warnings=warnings,
        classes=_rows(content.label_names, *counts, by_size=True),
        per_image=_per_image(content),
        cooccurrence=_tabulate_pairs(content.label_names, content.pairs),
        sizes=content.sizes,
        formats=content.formats,
        samples=_choose_samples(content, counts[0] + counts[1], album),
    )
    # A file name that is not UTF-8 arrives as lone surrogates.
    files.write_bytes(path, text.encode("utf-8", "replace"))


def _rows(
    names: Sequence[str],
    train: npt.NDArray[np.int64],
    val: npt.NDArray[np.int64],
    *,
    by_size: bool = False,
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


def _per_image(content: DatasetPage) -> list[dict[str, Any]]:
    spread = [
        np.bincount(images.targets.sum(axis=1, dtype=np.int64), minlength=1)
        for images in (content.train, content.val)
    ]
    longest = max(map(len, spread))
    train, val = (np.pad(counts, (0, longest - len(counts))) for counts in spread)
    names = [f"{k} label{'s' * (k != 1)}" for k in range(longest)]
    rows = _rows(names, train, val)
    return [row for row in rows if row["train"] or row["val"]]


def _tabulate_pairs(names: Sequence[str], pairs: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Share of the images of the row's class that also show the column's class."""
    images = np.diag(pairs)
    chosen = np.argsort(-images, kind="stable")[:_TABLE]
    rows = []
    for i in chosen:
        cells: list[dict[str, Any] | None] = []
        for k in chosen:
            share, count = float(pairs[i, k] / max(1, images[i])), int(pairs[i, k])
            percent = round(100 * share) or "<1"
            cell = {"count": count, "share": round(share, 2), "percent": percent}
            cells.append(cell if i != k else None)
        rows.append({"name": names[i], "cells": cells})
    return {"rows": rows, "left_out": len(names) - len(chosen)}


def _choose_samples(
    content: DatasetPage, counts: npt.NDArray[np.int64], album: _Album
) -> dict[str, Any]:
    """A few images of each of the most frequent classes, those of train first."""
    chosen = np.argsort(-counts, kind="stable")[:_CLASSES]
    random = np.random.default_rng(content.seed)
    classes = []
    for i in chosen:
        paths: list[str] = []
        for images in (content.train, content.val):
            order = random.permutation(np.flatnonzero(images.targets[:, i]))
            paths += [images.paths[k] for k in order[: _SHOTS - len(paths)]]
        shots = [album.show(path) for path in paths]
        classes.append({"name": content.label_names[i], "count": int(counts[i]), "shots": shots})
    return {"classes": classes, "left_out": len(counts) - len(chosen)}
