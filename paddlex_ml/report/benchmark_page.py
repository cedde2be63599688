# SPDX-License-Identifier: Apache-2.0
"""The page of a benchmark as one HTML file, under the same policy as the report of an evaluation.

A picture of accuracy against latency, the table, and what was not measured.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from urllib.parse import quote

from paddlex_ml.artifacts.benchmark_result import BenchmarkResult
from paddlex_ml.pictures import pages
from paddlex_ml.report import tradeoff_chart

_TEMPLATES = Path(__file__).parent
_SHARED = _TEMPLATES.with_name("pictures")  # the style of all pages


def write(path: Path, result: BenchmarkResult) -> None:
    """Write the page atomically. Every text of the user's is escaped."""
    styles = (
        _SHARED / "style.css.j2",
        _TEMPLATES / "page.css.j2",
        _TEMPLATES / "benchmark.css.j2",
    )
    script = (_TEMPLATES / "page.js.j2").read_text("utf-8")
    text = (
        pages.environment(_TEMPLATES, _SHARED)
        .get_template("benchmark.html.j2")
        .render(
            **pages.allow_inline("script", script),
            **pages.allow_inline("style", "\n".join(each.read_text("utf-8") for each in styles)),
            result=result,
            chart=tradeoff_chart.draw(result),
            frame=tradeoff_chart,
            recommended=next(row for row in result.rows if row.is_recommended),
            reference=next(row for row in result.rows if row.name == result.reference),
            sizes=[speed.batch_size for speed in result.rows[0].speeds],
            csv=quote(PurePosixPath(result.benchmark_csv).name),
        )
    )
    pages.write(path, text)
