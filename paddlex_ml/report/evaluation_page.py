# SPDX-License-Identifier: Apache-2.0
"""The report of an evaluation as one HTML file: it needs no other file, pictures are inside.

A short script makes the tables sortable; the page's policy allows it by its hash, and no other
script. Without it everything is readable.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import numpy as np
from msgspec.structs import asdict

from paddlex_ml.artifacts.evaluate_result import Difference
from paddlex_ml.metrics import curves
from paddlex_ml.metrics.calibration import reliability
from paddlex_ml.metrics.columns import columns
from paddlex_ml.metrics.decisions import decide
from paddlex_ml.metrics.measures import ClassMeasures
from paddlex_ml.pictures import pages
from paddlex_ml.report import advice, charts, gallery, glossary, pairs
from paddlex_ml.report.content import EvaluationPage
from paddlex_ml.report.figures import Figures
from paddlex_ml.wording import first_names

_OPEN = 24  # classes whose curves are shown at once
_WORST = 5  # named at the top
_PERFECT = 0.9995  # an average precision that is shown as 1.000
_MOST_STATIC = 500  # classes: of more, the table has both ends, and a script lists all of them
_ENDS = 100, 30  # weakest and strongest classes in that table
_TEMPLATES = Path(__file__).parent
_SHARED = _TEMPLATES.with_name("pictures")  # the style of both reports


@dataclass(frozen=True)
class ComparisonRow:
    """A row of the comparison, and its bar."""

    key: int
    """Position in the result's list."""
    name: str
    gain: float | None
    """The difference, positive where this evaluation is better."""
    length: str
    """Share of the longest bar; '' for no bar."""
    side: str


def write(path: Path, content: EvaluationPage) -> None:
    """Write the page atomically. Every text of the user's is escaped."""
    script = (_TEMPLATES / "page.js.j2").read_text("utf-8")
    if len(content.label_names) > _MOST_STATIC:
        script += (_TEMPLATES / "all_classes.js.j2").read_text("utf-8")
    styles = (_SHARED / "style.css.j2", _TEMPLATES / "page.css.j2")
    text = (
        pages.environment(_TEMPLATES, _SHARED)
        .get_template("page.html.j2")
        .render(
            **pages.allow_inline("script", script),
            **pages.allow_inline("style", "\n".join(path.read_text("utf-8") for path in styles)),
            **_fill_template(content),
        )
    )
    pages.write(path, text)


def _fill_template(content: EvaluationPage) -> dict[str, Any]:
    result = content.result
    figures = Figures(result, content.label_names)
    thresholds = np.array([row.threshold for row in figures.rows], np.float64)
    decided = decide(content.scores, thresholds)
    defined = figures.worst_first()
    table = defined + sorted(set(range(len(figures.rows))) - set(defined))
    all_classes = ""
    if len(table) > _MOST_STATIC:
        all_classes = pages.format_json([_list_figures(row) for row in figures.rows])
        table = list(dict.fromkeys([*defined[: _ENDS[0]], *defined[_ENDS[0] :][-_ENDS[1] :]]))
        figures.drawn = frozenset(table)
    csv = None if result.label_errors is None else _link_file(result.label_errors.csv)
    return {
        "result": result,
        "figures": figures,
        "metric_names": list(asdict(result.metrics)),
        "glossary": glossary,
        "first_names": first_names,
        "verdict": advice.give_verdict(figures),
        "advice": advice.advise(figures, content.scores, content.targets),
        "worst": _find_worst(figures, defined),
        "table": table,
        "has_tuned": any(row.tuned for row in figures.rows),
        "all_classes": all_classes,
        "charts": _draw_classes(content, table),
        "open": table[:_OPEN],
        "closed": table[_OPEN:],
        "calibration": charts.draw_reliability(reliability(content.scores, content.targets)),
        "pairs": pairs.relate(figures, decided, content.targets),
        "gallery": gallery.choose_shots(content, decided, table),
        "of_one_class": gallery.OF_ONE_CLASS,
        "comparison": _compare(figures),
        "precision": content.precision,
        "csv": csv,
        "per_class_csv": _link_file(result.per_class_csv),
        "suspected": len(content.suspects),
    }


def _find_worst(figures: Figures, defined: list[int]) -> list[int]:
    """The classes with the lowest average precision, of those that are not perfect as shown."""
    first = defined[: min(_WORST, -(-len(figures.rows) // 2))]
    return [i for i in first if (figures.rows[i].average_precision or 0.0) < _PERFECT]


def _list_figures(row: ClassMeasures) -> list[Any]:
    """What the script lists of a class, in the order of its columns."""
    measures = (row.average_precision, row.threshold, row.precision, row.recall, row.f1)
    figures = [None if number is None else round(number, 4) for number in measures]
    return [row.name, row.positives, figures[0], figures[1], row.predicted, *figures[2:]]


def _draw_classes(content: EvaluationPage, classes: list[int]) -> dict[int, dict[str, Any]]:
    scores, targets = (table[:, classes] for table in (content.scores, content.targets))
    positives, negatives = curves.histograms(scores, targets, charts.BINS)
    rows = [content.result.per_class[i] for i in classes]
    return {
        i: {
            "curve": charts.draw_curve(score, target, row),
            "histogram": charts.draw_histogram(present, absent, row),
        }
        for i, row, (score, target), present, absent in zip(
            classes, rows, columns(scores, targets), positives, negatives, strict=True
        )
    }


def _compare(figures: Figures) -> dict[str, Any] | None:
    """Return the advice on the comparison, and its rows with the lengths of their bars."""
    comparison = figures.result.comparison
    if comparison is None:
        return None
    classes = _add_bars(comparison.per_class, are_metrics=False)
    classes.sort(key=lambda row: (row.gain is None, row.gain))
    return {
        "advice": advice.compare(figures),
        "metrics": _add_bars(comparison.metrics, are_metrics=True),
        "classes": classes,
    }


def _add_bars(differences: list[Difference], *, are_metrics: bool) -> list[ComparisonRow]:
    gains = []
    for row in differences:
        is_reversed = are_metrics and row.name in glossary.LOWER_IS_BETTER
        gains.append(-row.difference if is_reversed and row.difference else row.difference)
    # The coverage error counts labels, all other measures are at most 1: it gets no bar.
    has_bar = [not are_metrics or row.name != "coverage_error" for row in differences]
    sizes = [abs(gain or 0.0) for gain in gains]
    longest = max((s for s, has in zip(sizes, has_bar, strict=True) if has), default=0.0) or 1.0
    return [
        ComparisonRow(
            key=k,
            name=row.name,
            gain=gains[k],
            length=f"{sizes[k] / longest:.3f}" if has_bar[k] else "",
            side="gain" if (gains[k] or 0.0) > 0 else "loss",
        )
        for k, row in enumerate(differences)
    ]


def _link_file(path: str) -> dict[str, str]:
    """Return the name of a file in the folder of the page, and its address from there."""
    name = PurePosixPath(path).name
    return {"name": name, "address": "./" + quote(name)}
