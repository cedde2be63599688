# SPDX-License-Identifier: Apache-2.0
"""Photographs of the page: the worst misses, the worst false alarms, and doubtful labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paddlex_ml.pictures import thumbnails
from paddlex_ml.report.content import EvaluationPage
from paddlex_ml.report.figures import name_or_words

_OVERALL = 24  # of each kind, all classes together
_PER_CLASS = 6  # of each kind
_CLASSES = 12  # with pictures of their own
_SUSPECTS = 60


@dataclass(frozen=True)
class Shot:
    """A photograph, what is said about it, and the labels that it has."""

    path: Path
    shown: str
    label: str
    score: float
    given: str = ""
    note: str = ""


def hang(content: EvaluationPage, decided: np.ndarray, worst: Sequence[int]) -> dict[str, Any]:
    """Return all galleries with their thumbnails; `worst` classes first, decided [N, C]."""
    present = content.targets > 0.5
    misses = present & ~decided
    alarms = decided & ~present
    galleries = {
        "misses": _overall(content, misses, content.scores),
        "alarms": _overall(content, alarms, -content.scores),
        "suspects": _suspects(content),
    }
    classes = [
        {
            "id": i,
            "misses": _of_class(content, misses, content.scores, i),
            "alarms": _of_class(content, alarms, -content.scores, i),
            "missed": int(misses[:, i].sum()),
            "alarmed": int(alarms[:, i].sum()),
        }
        for i in worst[:_CLASSES]
    ]
    made = thumbnails.shrink_all(shot.path for shot in _all_shots(galleries, classes))
    return {
        **galleries,
        "classes": [row for row in classes if row["misses"] or row["alarms"]],
        "data": made,
        "missed": int(misses.sum()),
        "alarmed": int(alarms.sum()),
    }


def _all_shots(galleries: dict[str, list[Shot]], classes: list[dict[str, Any]]) -> Iterable[Shot]:
    for shots in galleries.values():
        yield from shots
    for row in classes:
        yield from row["misses"]
        yield from row["alarms"]


def _overall(content: EvaluationPage, wrong: np.ndarray, order: np.ndarray) -> list[Shot]:
    """Return the worst errors of all classes, but not those of one bad class alone."""
    classes = wrong.shape[1]
    most = max(4, -(-_OVERALL // max(1, classes)))
    chosen = [
        (float(order[image, i]), image, i)
        for i in range(classes)
        for image in _worst(wrong[:, i], order[:, i], most)
    ]
    return [_shot(content, image, i) for _, image, i in sorted(chosen)[:_OVERALL]]


def _of_class(content: EvaluationPage, wrong: np.ndarray, order: np.ndarray, i: int) -> list[Shot]:
    return [_shot(content, k, i) for k in _worst(wrong[:, i], order[:, i], _PER_CLASS)]


def _worst(wrong: np.ndarray, order: np.ndarray, most: int) -> list[int]:
    images = np.flatnonzero(wrong)
    found: list[int] = images[np.argsort(order[images], kind="stable")[:most]].tolist()
    return found


def _shot(content: EvaluationPage, image: int, class_id: int) -> Shot:
    names = content.label_names
    given = np.flatnonzero(content.targets[image] > 0.5).tolist()
    return Shot(
        path=content.paths[image],
        shown=content.shown[image],
        label=name_or_words(names[class_id], class_id),
        score=float(content.scores[image, class_id]),
        given=", ".join([name_or_words(names[i], i) for i in given]) or "none",
    )


def _suspects(content: EvaluationPage) -> list[Shot]:
    return [
        Shot(
            path=found.path,
            shown=found.shown,
            label=found.label,
            score=found.score,
            note=f"{'wrong' if found.given else 'missing'}: {found.label or '(no name)'}, "
            f"score {found.score:.2f}",
            given=found.list_name,
        )
        for found in content.suspects[:_SUSPECTS]
    ]
