# SPDX-License-Identifier: Apache-2.0
"""The report of an evaluation as one HTML file: nothing from elsewhere, pictures inside.

One short script makes the tables sort; the page's policy allows it by its hash, and no other. All
else is there without it.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import jinja2
import numpy as np
from markupsafe import Markup

from paddlex_ml.metrics import curves
from paddlex_ml.metrics.calibration import reliability
from paddlex_ml.metrics.decisions import decide
from paddlex_ml.report import advice, charts, gallery, glossary, pairs
from paddlex_ml.report.content import EvaluationPage, Suspected
from paddlex_ml.report.figures import Figures
from paddlex_ml.storage import files

__all__ = ["EvaluationPage", "Suspected", "write"]

_OPEN = 24  # classes whose curves are shown at once
_WORST = 5  # named at the top
_TEMPLATES = Path(__file__).parent
_SHARED = _TEMPLATES.with_name("pictures")  # what both reports look like


def write(path: Path, content: EvaluationPage) -> None:
    """Write the page atomically. Every text of the user's is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([_TEMPLATES, _SHARED]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    script = (_TEMPLATES / "page.js.j2").read_text("utf-8")
    text = environment.get_template("page.html.j2").render(
        script=Markup(script), script_hash=_hash(script), **_gather(content)
    )
    # A file name that is not UTF-8 arrives as lone surrogates.
    files.write_bytes(path, text.encode("utf-8", "replace"))


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


def _gather(content: EvaluationPage) -> dict[str, Any]:
    figures = Figures(content.result, content.label_names)
    thresholds = np.array([row["threshold"] for row in figures.rows], np.float64)
    decided = decide(content.scores, thresholds)
    worst = _worst_first(figures)
    return {
        "result": content.result,
        "figures": figures,
        "terms": glossary,
        "verdict": advice.judge(figures),
        "advice": advice.advise(figures, content.scores, content.targets),
        "worst": figures.worst_first()[: min(_WORST, -(-len(figures.rows) // 2))],
        "table": worst,
        "has_tuned": any(row.get("tuned") for row in figures.rows),
        "charts": _draw_classes(content, figures),
        "open": worst[:_OPEN],
        "closed": worst[_OPEN:],
        "calibration": charts.draw_reliability(reliability(content.scores, content.targets)),
        "pairs": pairs.relate(figures, decided, content.targets),
        "gallery": gallery.hang(content, decided, worst),
        "comparison": _compare(figures),
        "csv": _file_name(figures.value("label_errors.csv")),
        "per_class_csv": _file_name(figures.value("per_class_csv")),
        "suspected": len(content.suspects),
    }


def _worst_first(figures: Figures) -> list[int]:
    """Return all classes, those without an average precision at the end."""
    defined = figures.worst_first()
    return defined + sorted(set(range(len(figures.rows))) - set(defined))


def _draw_classes(content: EvaluationPage, figures: Figures) -> list[dict[str, Any]]:
    positives, negatives = curves.histograms(content.scores, content.targets, charts.BINS)
    scores, targets = (np.ascontiguousarray(part.T) for part in (content.scores, content.targets))
    return [
        {
            "curve": charts.draw_curve(scores[i], targets[i], dict(row)),
            "histogram": charts.draw_histogram(positives[i], negatives[i], dict(row)),
        }
        for i, row in enumerate(figures.rows)
    ]


def _compare(figures: Figures) -> dict[str, Any] | None:
    """Return the words of the comparison, and its rows with the lengths of their bars."""
    found = figures.value("comparison")
    if found is None:
        return None
    lower = glossary.LOWER_IS_BETTER
    metrics = [
        {"key": k, "name": row["name"], "gain": _gain(row, row["name"] in lower)}
        for k, row in enumerate(found["metrics"])
    ]
    classes = [
        {"key": k, "name": row["name"], "gain": _gain(row, False)}
        for k, row in enumerate(found["per_class"])
    ]
    classes.sort(key=lambda row: (row["gain"] is None, row["gain"]))
    # The coverage error counts labels, all else is at most 1: it gets no bar.
    _set_bars([row for row in metrics if row["name"] != "coverage_error"])
    _set_bars(classes)
    return {"words": advice.compare(figures), "metrics": metrics, "classes": classes}


def _set_bars(rows: list[dict[str, Any]]) -> None:
    """Give each row the length of its bar, a share of the longest, and its side."""
    longest = max((abs(row["gain"] or 0.0) for row in rows), default=0.0) or 1.0
    for row in rows:
        row["length"] = f"{abs(row['gain'] or 0.0) / longest:.3f}"
        row["side"] = "gain" if (row["gain"] or 0.0) > 0 else "loss"


def _gain(row: dict[str, Any], is_lower_better: bool) -> float | None:
    difference = row["difference"]
    if difference is None:
        return None
    return float(-difference if is_lower_better else difference)


def _file_name(place: str | None) -> dict[str, str] | None:
    """Return the name of a file that lies beside the page, and its address from there."""
    if place is None:
        return None
    name = PurePosixPath(place).name
    return {"name": name, "address": "./" + quote(name)}
