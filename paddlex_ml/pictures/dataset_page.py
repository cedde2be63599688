# SPDX-License-Identifier: Apache-2.0
"""The report of a data set as one HTML file: no script, nothing from elsewhere, pictures inside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt

from paddlex_ml.pictures import thumbnails
from paddlex_ml.storage import files

_SHOTS = 6  # of a class
_CLASSES = 100  # with pictures: 600 of them take about 5 MB
_HEAT = 60  # classes of the table: more would be too small to read
_PAIRS = 24  # shown side by side


@dataclass(frozen=True)
class Side:
    """One list: the paths of its images, and targets [N, C]."""

    paths: Sequence[str]
    targets: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Warned:
    """A warning with its images, or pairs of images; `alike` ones are shown side by side."""

    text: str
    images: Sequence[tuple[str, ...]] = ()
    alike: bool = False


@dataclass(frozen=True)
class DatasetPage:
    """What the page shows; counts are those of `check.summarise`."""

    root: Path
    label_names: Sequence[str]
    train: Side
    val: Side
    warnings: Sequence[Warned]
    pairs: npt.NDArray[np.int64]
    """Images that show both classes, [C, C]."""
    sizes: dict[str, dict[str, int]]
    formats: dict[str, int]
    seed: int = 42


@dataclass
class _Album:
    """Thumbnails, each made once."""

    content: DatasetPage
    made: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = self.content.label_names
        self._labels = {
            path: ", ".join([names[i] for i in np.flatnonzero(row).tolist()])
            for side in (self.content.train, self.content.val)
            for path, row in zip(side.paths, side.targets, strict=True)
        }

    def show(self, path: str) -> dict[str, str]:
        """Picture, path and labels of an image."""
        if path not in self.made:
            self.made[path] = thumbnails.shrink(self.content.root / path)
        return {"data": self.made[path], "path": path, "labels": self._labels.get(path, "")}


def write(path: Path, content: DatasetPage) -> None:
    """Write the page atomically. Every text of the user's is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True
    )
    album = _Album(content)
    counts = [side.targets.sum(axis=0, dtype=np.int64) for side in (content.train, content.val)]
    text = environment.get_template("report.html.j2").render(
        name=content.root.resolve().name or str(content.root),
        folder=str(content.root),
        train=len(content.train.paths),
        val=len(content.val.paths),
        num_classes=len(content.label_names),
        mean_labels=_mean_labels(content),
        size=" x ".join(str(values["median"]) for values in content.sizes.values()),
        warnings=[_describe_warning(warning, album) for warning in content.warnings],
        classes=_rows(content.label_names, *counts, by_size=True),
        per_image=_per_image(content),
        heat=_heat(content.label_names, content.pairs),
        sizes=content.sizes,
        formats=content.formats,
        samples=_samples(content, counts[0] + counts[1], album),
    )
    # A file name that is not UTF-8 arrives as lone surrogates.
    files.write_bytes(path, text.encode("utf-8", "replace"))


def _describe_warning(warning: Warned, album: _Album) -> dict[str, Any]:
    shown = warning.images[:_PAIRS] if warning.alike else ()
    shots = [[album.show(path) for path in paths] for paths in shown]
    return {"text": warning.text, "images": warning.images, "shots": shots}


def _mean_labels(content: DatasetPage) -> str:
    sums = [int(side.targets.sum(dtype=np.int64)) for side in (content.train, content.val)]
    images = len(content.train.paths) + len(content.val.paths)
    return f"{sum(sums) / max(1, images):.2f}"


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
        np.bincount(side.targets.sum(axis=1, dtype=np.int64), minlength=1)
        for side in (content.train, content.val)
    ]
    longest = max(map(len, spread))
    train, val = (np.pad(counts, (0, longest - len(counts))) for counts in spread)
    names = [f"{k} label{'s' * (k != 1)}" for k in range(longest)]
    rows = _rows(names, train, val)
    return [row for row in rows if row["train"] or row["val"]]


def _heat(names: Sequence[str], pairs: npt.NDArray[np.int64]) -> dict[str, Any]:
    images = np.diag(pairs)
    chosen = np.argsort(-images, kind="stable")[:_HEAT]
    rows = [
        {"name": names[i], "cells": [_cell(pairs, i, k) if i != k else None for k in chosen]}
        for i in chosen
    ]
    return {"rows": rows, "left_out": len(names) - len(chosen)}


def _cell(pairs: npt.NDArray[np.int64], row: int, column: int) -> dict[str, Any]:
    share = float(pairs[row, column] / max(1, pairs[row, row]))
    percent = round(100 * share) or "<1"
    return {"count": int(pairs[row, column]), "share": round(share, 2), "percent": percent}


def _samples(content: DatasetPage, counts: npt.NDArray[np.int64], album: _Album) -> dict[str, Any]:
    chosen = np.argsort(-counts, kind="stable")[:_CLASSES]
    random = np.random.default_rng(content.seed)
    classes = [
        {
            "name": content.label_names[i],
            "count": int(counts[i]),
            "shots": [album.show(path) for path in _choose(content, int(i), random)],
        }
        for i in chosen
    ]
    return {"classes": classes, "left_out": len(counts) - len(chosen)}


def _choose(content: DatasetPage, class_id: int, random: np.random.Generator) -> Iterable[str]:
    """A few images of a class, those of train first."""
    found: list[str] = []
    for side in (content.train, content.val):
        order = random.permutation(np.flatnonzero(side.targets[:, class_id]))
        found += [side.paths[i] for i in order[: _SHOTS - len(found)]]
    return found
