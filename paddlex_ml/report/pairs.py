# SPDX-License-Identifier: Apache-2.0
"""Errors of a class beside the other labels of an image: two tables and a list of the striking."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup

from paddlex_ml.metrics import curves
from paddlex_ml.metrics.curves import Beside
from paddlex_ml.report.figures import Figures

_CLASSES = 24  # of a table: more would be too small to read
_LISTED = 12  # of each kind
_ERRORS = 3  # fewer beside another class say nothing
_DEVIATIONS = 4.0  # standard errors: of 10,000 pairs fewer than one lies so far off by chance
_SHADE = 0.5  # of the darkest cell: text on it stays readable in both schemes

_MISSES = Markup(
    "{} is missed on {:,} of {:,} images that also show {} ({}&nbsp;%), "
    "but on {:,} of {:,} without it ({}&nbsp;%)"
)
_ALARMS = Markup(
    "{} is falsely found on {:,} of {:,} images with {} ({}&nbsp;%), "
    "but on {:,} of {:,} without it ({}&nbsp;%)"
)


def relate(figures: Figures, decided: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    """Return tables of the classes with the most errors, and the pairs beyond chance."""
    present = targets > 0.5
    errors = (present != decided).sum(axis=0)
    order = np.argsort(-errors, kind="stable")
    chosen = [int(i) for i in order[:_CLASSES] if errors[i]]
    misses = curves.misses_beside(decided, targets)
    alarms = curves.false_alarms_beside(decided, targets)
    return {
        "classes": chosen,
        "left_out": int((errors > 0).sum()) - len(chosen),
        "tables": {
            "misses": _table(figures, misses, chosen),
            "alarms": _table(figures, alarms, chosen),
        },
        "lists": {
            "misses": _striking(figures, misses, _MISSES),
            "alarms": _striking(figures, alarms, _ALARMS),
        },
    }


def _table(figures: Figures, found: Beside, chosen: list[int]) -> list[dict[str, Any]]:
    shown = np.array([figures.rows[i]["positives"] for i in chosen])
    errors = found.errors[np.ix_(chosen, chosen)]
    shares = errors / np.maximum(1, shown)[:, None]
    darkest = shares.max(initial=0.0) or 1.0
    return [
        {
            "id": i,
            "shown": int(shown[row]),
            "cells": [
                {
                    "id": k,
                    "count": int(errors[row, column]),
                    "percent": _percent(float(shares[row, column])),
                    "shade": f"{_SHADE * shares[row, column] / darkest:.2f}",
                }
                for column, k in enumerate(chosen)
            ],
        }
        for row, i in enumerate(chosen)
    ]


def _percent(share: float) -> str:
    if share == 0:
        return ""
    return f"{100 * share:.0f}" if share >= 0.005 else "<1"


def _striking(figures: Figures, found: Beside, words: Markup) -> list[Markup]:
    """Pairs where a class errs more often beside another than elsewhere, beyond chance."""
    strange = (found.errors >= _ERRORS) & (np.nan_to_num(found.deviations) >= _DEVIATIONS)
    np.fill_diagonal(strange, False)
    besides, classes = np.nonzero(strange)
    order = np.argsort(-found.excess[besides, classes], kind="stable")[:_LISTED]
    return [
        words.format(
            figures.link(i),
            int(found.errors[beside, i]),
            int(found.chances[beside, i]),
            figures.link(beside),
            round(100 * float(found.rate[beside, i])),
            int(found.errors_elsewhere[beside, i]),
            int(found.chances_elsewhere[beside, i]),
            round(100 * float(found.rate_elsewhere[beside, i])),
        )
        for beside, i in zip(besides[order].tolist(), classes[order].tolist(), strict=True)
    ]
