# SPDX-License-Identifier: Apache-2.0
"""Where the lines of the page's charts lie, in units of their SVG pictures.

The small charts of a class are 170 x 150 with 13 units of text: on a phone they shrink by a
twentieth, and the text stays readable. The template draws axes and words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from paddlex_ml.metrics import curves
from paddlex_ml.metrics.calibration import Reliability

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
        """Return the place of a value along the horizontal axis."""
        return self.left + (self.right - self.left) * value

    def y(self, value: float) -> float:
        """Return the place of a value along the vertical axis."""
        return self.bottom - (self.bottom - self.top) * value


SMALL = Frame()
LARGE = Frame(left=44, right=384, top=10, bottom=270)


def draw_curve(scores: np.ndarray, targets: np.ndarray, row: dict[str, Any]) -> dict[str, Any]:
    """Return the precision-recall line of a class and its two marks; `row` of `per_class`."""
    curve = curves.precision_recall(scores, targets)
    used = {"now": row, "tuned": row.get("tuned") or {}}
    places = [
        curve.find(np.float32(settings["threshold"]))
        for settings in used.values()
        if settings.get("threshold") is not None
    ]
    thinned = curves.thin(curve, _POINTS, keep=[k for k in places if k is not None])
    return {
        "line": _polyline(thinned.recall, thinned.precision),
        "share": _short(SMALL.y(float(targets.mean()) if len(targets) else 0.0)),
        "marks": {name: _mark(settings) for name, settings in used.items()},
    }


def _mark(settings: dict[str, Any]) -> dict[str, str] | None:
    recall, precision = settings.get("recall"), settings.get("precision")
    if recall is None or precision is None:
        return None
    return {"x": _short(SMALL.x(recall)), "y": _short(SMALL.y(precision))}


def _polyline(right: np.ndarray, up: np.ndarray, frame: Frame = SMALL) -> str:
    points = [f"{_short(frame.x(x))} {_short(frame.y(y))}" for x, y in zip(right, up, strict=True)]
    return f"M{'L'.join(points)}" if points else ""


def draw_histogram(
    positives: np.ndarray, negatives: np.ndarray, row: dict[str, Any]
) -> dict[str, Any]:
    """Return bars of positives upwards and of negatives downwards, and the thresholds' places.

    Heights are square roots of shares: 3 images of 300 would not be seen otherwise.
    """
    middle = (TOP + BOTTOM) / 2
    tuned = (row.get("tuned") or {}).get("threshold")
    return {
        "middle": _short(middle),
        "positives": _bars(positives, middle, -(middle - TOP)),
        "negatives": _bars(negatives, middle, BOTTOM - middle),
        "now": None if row["threshold"] is None else _short(SMALL.x(row["threshold"])),
        "tuned": None if tuned is None else _short(SMALL.x(tuned)),
    }


def _bars(counts: np.ndarray, start: float, reach: float) -> str:
    heights = reach * np.sqrt(counts / max(1, counts.sum()))
    width = (RIGHT - LEFT) / len(counts)
    return "".join(
        f"M{_short(LEFT + width * k + 0.4)} {_short(start)}v{_short(height)}"
        f"h{_short(width - 0.8)}V{_short(start)}z"
        for k, height in enumerate(heights)
        if height
    )


def draw_reliability(found: Reliability) -> dict[str, Any]:
    """Return the calibration line, its points, and how many scores each bin holds."""
    filled = found.count > 0
    sizes = np.sqrt(found.count / max(1, found.count.max(initial=0)))
    width = (LARGE.right - LARGE.left) / len(found.count)
    return {
        "line": _polyline(found.mean_score[filled], found.share[filled], LARGE),
        "bins": [
            {
                "from": f"{found.edges[k]:.2f}",
                "to": f"{found.edges[k + 1]:.2f}",
                "count": int(found.count[k]),
                "score": f"{found.mean_score[k]:.3f}",
                "share": f"{found.share[k]:.3f}",
                "x": _short(LARGE.x(float(found.mean_score[k]))),
                "y": _short(LARGE.y(float(found.share[k]))),
                "left": _short(LARGE.left + width * k + 1),
                "width": _short(width - 2),
                "height": _short(50 * float(sizes[k])),
            }
            for k in np.flatnonzero(filled).tolist()
        ],
    }


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
