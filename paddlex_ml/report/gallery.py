# SPDX-License-Identifier: Apache-2.0
"""Photographs of the page: the worst misses, the worst false alarms, and doubtful labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddlex_ml.data.transforms import read_image
from paddlex_ml.metrics.columns import columns
from paddlex_ml.metrics.known import is_absent, is_known, is_present
from paddlex_ml.pictures import thumbnails
from paddlex_ml.report.content import EvaluationPage
from paddlex_ml.report.figures import Figures
from paddlex_ml.wording import first_names

_NAMED = 20  # labels of an image; of more, the others are counted
_OVERALL = 24  # of each kind, all classes together
OF_ONE_CLASS = 4
"""Of these, as long as other classes have errors: one bad class must not fill the page."""
_PER_CLASS = 6  # of each kind
_CLASSES = 12  # with photographs of their own
_SUSPECTS = 60


@dataclass(frozen=True)
class Shot:
    """A photograph with its caption."""

    path: Path
    shown: str
    label: str
    score: float
    given: str
    """The labels that it has, and how many are unknown; of a doubtful label: its list."""
    note: str = ""


@dataclass(frozen=True)
class ClassShots:
    """The worst errors of one class, and the numbers of all its errors."""

    id: int
    misses: list[Shot]
    alarms: list[Shot]
    missed: int
    alarmed: int


@dataclass(frozen=True)
class Gallery:
    """All photographs of the page."""

    misses: list[Shot]
    """Of all classes, the worst first."""
    alarms: list[Shot]
    suspects: list[Shot]
    classes: list[ClassShots]
    """The weakest classes, those with errors."""
    thumbnails: Mapping[Path, str]
    """Data URLs; '' for a photograph that is missing or broken."""
    missed: int
    """Misses in all."""
    alarmed: int
    """False alarms in all."""


def choose_shots(content: EvaluationPage, decided: np.ndarray, worst: Sequence[int]) -> Gallery:
    """Choose the photographs and shrink them; `worst` classes first, decided bool [N, C]."""
    figures = Figures(content.result, content.label_names)
    missing = is_present(content.targets) & ~decided
    false = decided & is_absent(content.targets)
    misses = _choose_overall(content, figures, missing, content.scores)
    alarms = _choose_overall(content, figures, false, -content.scores)
    suspects = [
        Shot(
            path=suspect.path,
            shown=suspect.shown,
            label=suspect.label,
            score=suspect.score,
            note=f"{'wrong' if suspect.given else 'missing'}: {suspect.label or '(no name)'}, "
            f"score {suspect.score:.2f}",
            given=suspect.list_name,
        )
        for suspect in content.suspects[:_SUSPECTS]
    ]
    classes = []
    for i in worst[:_CLASSES]:
        missed, alarmed = (
            [
                _caption(content, figures, image, i)
                for image in _find_worst(wrong[:, i], order[:, i], _PER_CLASS)
            ]
            for wrong, order in ((missing, content.scores), (false, -content.scores))
        )
        if missed or alarmed:
            counts = int(missing[:, i].sum()), int(false[:, i].sum())
            classes.append(ClassShots(i, missed, alarmed, *counts))
    shots = [*misses, *alarms, *suspects]
    shots += [shot for row in classes for shot in (*row.misses, *row.alarms)]
    return Gallery(
        misses=misses,
        alarms=alarms,
        suspects=suspects,
        classes=classes,
        thumbnails=thumbnails.shrink_all((shot.path for shot in shots), read_image),
        missed=int(missing.sum()),
        alarmed=int(false.sum()),
    )


def _choose_overall(
    content: EvaluationPage, figures: Figures, wrong: np.ndarray, order: np.ndarray
) -> list[Shot]:
    """Return the worst errors of all classes, the worst first.

    Of one class at most OF_ONE_CLASS, unless the other classes leave room.
    """
    found = [
        (rank >= OF_ONE_CLASS, float(column[image]), image, i)
        for i, (errors, column) in enumerate(columns(wrong, order))
        for rank, image in enumerate(_find_worst(errors, column, _OVERALL))
    ]
    chosen = sorted(error[1:] for error in sorted(found)[:_OVERALL])
    return [_caption(content, figures, image, i) for _, image, i in chosen]


def _find_worst(wrong: np.ndarray, order: np.ndarray, most: int) -> list[int]:
    images = np.flatnonzero(wrong)
    worst: list[int] = images[np.argsort(order[images], kind="stable")[:most]].tolist()
    return worst


def _caption(content: EvaluationPage, figures: Figures, image: int, class_id: int) -> Shot:
    target = content.targets[image]
    names = [figures.label(i) for i in np.flatnonzero(is_present(target)).tolist()]
    given = first_names(names, _NAMED)
    unknown = np.count_nonzero(~is_known(target))
    return Shot(
        path=content.paths[image],
        shown=content.shown[image],
        label=figures.label(class_id),
        score=float(content.scores[image, class_id]),
        given=(given or "none") + f" ({unknown:,} unknown)" * bool(unknown),
    )
