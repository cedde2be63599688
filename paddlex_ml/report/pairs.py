# SPDX-License-Identifier: Apache-2.0
"""Errors of a class together with the other labels of an image: two tables, and the clear cases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from paddlex_ml.metrics import curves
from paddlex_ml.metrics.curves import JointErrors
from paddlex_ml.metrics.known import is_known, is_present
from paddlex_ml.report.figures import Figures

_SEARCHED = 500  # classes with the most errors, among which pairs are looked for
_CLASSES = 24  # of a table: more would be too small to read
_LISTED = 12  # of each kind
_ERRORS = 3  # fewer errors together with another class prove nothing
_DEVIATIONS = 4.0  # standard errors: chance alone exceeds them in fewer than one of 10,000 pairs
_SHADE = 0.5  # of the darkest cell: text on it stays readable in both schemes

# The shares are of the images where the error is possible; those of the tables are of all images.
_MISSES = Markup(
    "{} is missed on {:,} of the {:,} images with it that also show {} ({}&nbsp;%), "
    "but on {:,} of the {:,} without that ({}&nbsp;%)"
)
_ALARMS = Markup(
    "{} is falsely found on {:,} of the {:,} images without it that show {} ({}&nbsp;%), "
    "but on {:,} of the {:,} without both ({}&nbsp;%)"
)


@dataclass(frozen=True)
class PairCell:
    """Errors of the class `id` on images that show the class of the row."""

    id: int
    count: int
    shown: int
    """Images that show the class of the row, of those where `id` is known."""
    percent: str
    """Of these; '' for none."""
    shade: str


@dataclass(frozen=True)
class PairRow:
    """Errors on the images that show the class `id`."""

    id: int
    cells: list[PairCell]


@dataclass(frozen=True)
class Pairs:
    """The classes with the most errors; `tables` and `lists` have the keys misses and alarms."""

    classes: list[int]
    left_out: int
    """Other classes with errors."""
    tables: dict[str, list[PairRow]]
    lists: dict[str, list[Markup]]
    """Pairs beyond chance, the clearest first."""
    searched: int
    """Classes among which these were looked for: those with the most errors."""


def relate(figures: Figures, decided: np.ndarray, targets: np.ndarray) -> Pairs:
    """Return tables of the classes with the most errors, and the pairs beyond chance."""
    errors = ((is_present(targets) != decided) & is_known(targets)).sum(axis=0)
    order = np.argsort(-errors, kind="stable")
    # A table of all pairs would take gigabytes for thousands of classes.
    ids = np.sort(order[:_SEARCHED])
    place = {int(class_id): i for i, class_id in enumerate(ids)}
    chosen = [int(i) for i in order[:_CLASSES] if errors[i]]
    if len(ids) < len(order):
        decided, targets = decided[:, ids], targets[:, ids]
    misses, alarms = curves.joint_errors(decided, targets)
    shown = misses.chances + alarms.chances
    return Pairs(
        classes=chosen,
        left_out=int((errors > 0).sum()) - len(chosen),
        tables={
            "misses": _make_table(misses.errors, shown, chosen, place),
            "alarms": _make_table(alarms.errors, shown, chosen, place),
        },
        lists={
            "misses": _list_clear_cases(figures, misses, _MISSES, ids),
            "alarms": _list_clear_cases(figures, alarms, _ALARMS, ids),
        },
        searched=len(ids),
    )


def _make_table(
    every: np.ndarray, images: np.ndarray, chosen: list[int], place: dict[int, int]
) -> list[PairRow]:
    """Rows of the chosen classes, from errors [K, K] on images [K, K]; `place` of each class."""
    places = [place[i] for i in chosen]
    errors, shown = (counts[np.ix_(places, places)] for counts in (every, images))
    shares = errors / np.maximum(1, shown)
    darkest = shares.max(initial=0.0) or 1.0
    rows = []
    for row, row_id in enumerate(chosen):
        cells = []
        for column, column_id in enumerate(chosen):
            share = float(shares[row, column])
            percent = f"{100 * share:.0f}" if share >= 0.005 else "<1" if share else ""
            shade = f"{_SHADE * share / darkest:.2f}"
            counts = int(errors[row, column]), int(shown[row, column])
            cells.append(PairCell(column_id, *counts, percent, shade))
        rows.append(PairRow(row_id, cells))
    return rows


def _list_clear_cases(
    figures: Figures, joint: JointErrors, sentence: Markup, ids: np.ndarray
) -> list[Markup]:
    """Pairs where a class has more errors together with another one than chance explains.

    ids: the classes of the joint errors, [K].
    """
    clear = (joint.errors >= _ERRORS) & (np.nan_to_num(joint.deviations) >= _DEVIATIONS)
    np.fill_diagonal(clear, False)
    others, classes = np.nonzero(clear)
    order = np.argsort(-joint.excess[others, classes], kind="stable")[:_LISTED]
    return [
        sentence.format(
            figures.link(int(ids[i])),
            int(joint.errors[other, i]),
            int(joint.chances[other, i]),
            figures.link(int(ids[other])),
            round(100 * float(joint.rate[other, i])),
            int(joint.errors_elsewhere[other, i]),
            int(joint.chances_elsewhere[other, i]),
            round(100 * float(joint.rate_elsewhere[other, i])),
        )
        for other, i in zip(others[order].tolist(), classes[order].tolist(), strict=True)
    ]
