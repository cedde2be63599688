# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
import shutil
from pathlib import Path

import msgspec
import pytest

from paddlex_ml.report import benchmark_page
from tests.report.payloads import PAYLOADS
from tests.results import BENCHMARKED, benchmark_row

CHROMIUM = shutil.which("chromium")


def write(folder: Path, **changes) -> str:
    benchmark_page.write(folder / "report.html", msgspec.structs.replace(BENCHMARKED, **changes))
    return (folder / "report.html").read_text("utf-8")


def test_the_page_has_every_row_picture_note_and_reason(tmp_path):
    text = write(tmp_path)
    assert text.count("<tr") == 2 + len(BENCHMARKED.rows)
    assert text.count("<circle class=") == len(BENCHMARKED.rows) + 4  # and the legend
    for part in ("400 of 500 images", "onnx int8 by onnxruntime", "400 images in place of 500",
                 "not exported: <code>make it</code>", "made for a GPU</li>",
                 'href="./benchmark.csv"', "(exported for the benchmark alone)"):  # fmt: skip
        assert part in text
    assert "15.0&nbsp;ms for an image in place of 48.0" in text
    assert re.findall(r"(?:src|href)=\"(?!\./)[^\"]*\"", text) == []


def test_a_recommended_export_that_is_gone_says_so(tmp_path):
    row = benchmark_row("onnx", "onnxruntime", 15.0, 0.63, folder=None, is_recommended=True)
    text = write(tmp_path, rows=[row], reference=row.name, unmeasured=[], notes=[])
    assert "export it to use it" in text
    assert "Not measured" not in text


@pytest.mark.parametrize("payload", [text for text in PAYLOADS if "<" in text])
def test_texts_of_a_user_are_escaped(tmp_path, payload):
    text = write(tmp_path, weights=payload, notes=[payload])
    assert payload not in text
    assert text.count("<script>") == 1


@pytest.mark.heavy
@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium on the PATH")
def test_a_browser_shows_it_without_a_fault_and_sorts_the_table(tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api")
    write(tmp_path)
    faults: list[str] = []
    with sync_api.sync_playwright() as playwright:
        # No sandbox: the tests may run as root, and the page is our own.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto((tmp_path / "report.html").as_uri())
        names = "table.sortable tbody th"
        read = "cells => cells.map(cell => cell.firstChild.textContent.trim())"
        assert page.eval_on_selector_all(names, read)[0] == "onnx int8 by onnxruntime"
        page.click("table.sortable button:text('MB')")
        assert page.eval_on_selector_all(names, read)[0] == "onnx int8 by onnxruntime"
        page.click("table.sortable button:text('p50, ms')")
        page.click("table.sortable button:text('p50, ms')")
        assert page.eval_on_selector_all(names, read)[0] == "paddle by paddle"
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        boxes = page.eval_on_selector_all(
            ".tradeoff > text:not(.tick, .floor-text)",
            "texts => texts.map(text => { const b = text.getBBox();"
            " return [b.x, b.y, b.x + b.width, b.y + b.height]; })",
        )
        browser.close()
    assert len(boxes) == len(BENCHMARKED.rows)
    for k, one in enumerate(boxes):
        for other in boxes[:k]:
            is_apart = one[2] <= other[0] or other[2] <= one[0]
            assert is_apart or one[3] <= other[1] + 2 or other[3] <= one[1] + 2
    assert faults == []
