# SPDX-License-Identifier: Apache-2.0
"""Coordinates of the lines in the page's charts, in units of their SVG pictures.

The small charts of a class are 170 x 150 with 13 units of text: on a phone they shrink by a
twentieth, and the text stays readable. The template draws axes and text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paddlex_ml.metrics import curves
from paddlex_ml.metrics.calibration import Reliability
from paddlex_ml.metrics.known import is_known, is_present
from paddlex_ml.metrics.measures import ClassMeasures
from paddlex_ml.metrics.ties import NOISE

LEFT, RIGHT, TOP, BOTTOM = 20.0, 164.0, 6.0, 126.0  # of the small charts' axes
_POINTS = 60  # of a curve
BINS = 20  # of a histogram


@dataclass(frozen=True)
class Frame:
    """Maps 0..1 to the right and 0..1 upwards."""

    left: float = LEFT
    right: float = RIGHT
    top: float = TOP
    bottom: float = BOTTOM

    def x(self, value: float) -> float:
        """Return the position of a value on the horizontal axis."""
        return self.left + (self.right - self.left) * value

    def y(self, value: float) -> float:
        """Return the position of a value on the vertical axis."""
        return self.bottom - (self.bottom - self.top) * value


SMALL = Frame()
LARGE = Frame(left=44, right=384, top=10, bottom=270)


@dataclass(frozen=True)
class Mark:
    """The point of a threshold on a curve."""

    x: str
    y: str


@dataclass(frozen=True)
class CurveChart:
    """Precision over recall of one class."""

    line: str
    """An SVG path; '' for a class without positives."""
    share: str
    """Height of the line of the constant predictor."""
    marks: dict[str, Mark | None]
    """`now` and `tuned`; None where precision or recall is undefined."""


@dataclass(frozen=True)
class HistogramChart:
    """Scores of one class: bars of positives upwards, of negatives downwards."""

    middle: str
    positives: str
    negatives: str
    now: str
    """The threshold in use, on the horizontal axis."""
    tuned: str | None


@dataclass(frozen=True)
class BinOfScores:
    """One point of the calibration line, and the bar of its number of scores."""

    low: str
    high: str
    count: int
    score: str
    share: str
    x: str
    y: str
    left: str
    width: str
    height: str


@dataclass(frozen=True)
class ReliabilityChart:
    """The calibration line, and its bins that are not empty."""

    line: str
    bins: list[BinOfScores]


def draw_curve(scores: np.ndarray, targets: np.ndarray, row: ClassMeasures) -> CurveChart:
    """Return the precision-recall line of a class, [N] and [N], and the marks of its thresholds."""
    curve = curves.precision_recall(scores, targets, noise=NOISE)
    marks: dict[str, Mark | None] = {"now": None, "tuned": None}
    keep = []
    for name, at in (("now", row), ("tuned", row.tuned)):
        if at is None:
            continue
        if (point := curve.find(np.float32(at.threshold))) is not None:
            keep.append(point)
        if at.recall is not None and at.precision is not None:
            marks[name] = Mark(_short(SMALL.x(at.recall)), _short(SMALL.y(at.precision)))
    thinned = curves.thin(curve, _POINTS, keep=keep)
    known = int(np.count_nonzero(is_known(targets)))
    share = np.count_nonzero(is_present(targets)) / max(1, known)
    line = _polyline(thinned.recall, thinned.precision, SMALL)
    return CurveChart(line, _short(SMALL.y(share)), marks)


def _polyline(right: np.ndarray, up: np.ndarray, frame: Frame) -> str:
    points = [f"{_short(frame.x(x))} {_short(frame.y(y))}" for x, y in zip(right, up, strict=True)]
    return f"M{'L'.join(points)}" if points else ""


def draw_histogram(
    positives: np.ndarray, negatives: np.ndarray, row: ClassMeasures
) -> HistogramChart:
    """Return the bars of a class from its counts [BINS] each.

    Heights are square roots of shares: 3 images of 300 would not be visible otherwise.
    """
    middle = (TOP + BOTTOM) / 2
    bars = []
    for counts, reach in ((positives, -(middle - TOP)), (negatives, BOTTOM - middle)):
        width = (RIGHT - LEFT) / len(counts)
        heights = reach * np.sqrt(counts / max(1, counts.sum()))
        bars.append(
            "".join(
                f"M{_short(LEFT + width * k + 0.4)} {_short(middle)}v{_short(height)}"
                f"h{_short(width - 0.8)}V{_short(middle)}z"
                for k, height in enumerate(heights)
                if height
            )
        )
    tuned = None if row.tuned is None else _short(SMALL.x(row.tuned.threshold))
    return HistogramChart(_short(middle), bars[0], bars[1], _short(SMALL.x(row.threshold)), tuned)


def draw_reliability(reliability: Reliability) -> ReliabilityChart:
    """Return the calibration line, its points, and how many scores each bin holds."""
    filled = reliability.count > 0
    sizes = np.sqrt(reliability.count / max(1, reliability.count.max(initial=0)))
    width = (LARGE.right - LARGE.left) / len(reliability.count)
    bins = [
        BinOfScores(
            low=f"{reliability.edges[k]:.2f}",
            high=f"{reliability.edges[k + 1]:.2f}",
            count=int(reliability.count[k]),
            score=f"{reliability.mean_score[k]:.3f}",
            share=f"{reliability.share[k]:.3f}",
            x=_short(LARGE.x(float(reliability.mean_score[k]))),
            y=_short(LARGE.y(float(reliability.share[k]))),
            left=_short(LARGE.left + width * k + 1),
            width=_short(width - 2),
            height=_short(50 * float(sizes[k])),
        )
        for k in np.flatnonzero(filled).tolist()
    ]
    line = _polyline(reliability.mean_score[filled], reliability.share[filled], LARGE)
    return ReliabilityChart(line, bins)


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
