# SPDX-License-Identifier: Apache-2.0
"""The table of runs as a browser shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.report import leaderboard_page
from tests.report.payloads import PAYLOADS
from tests.report.test_evaluation_page_browser import CHROMIUM, Visit, overflowing, smallest_text
from tests.report.test_evaluation_page_browser import browser as browser
from tests.report.test_leaderboard_page import make_board

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium on the PATH"),
]


def test_the_page_loads_itself_alone_and_a_click_sorts_the_runs(browser: Any, tmp_path: Path):
    names = [f"learning_rate=0.00{n},loss.name=asymmetric,seed={n}" for n in range(8)]
    path = tmp_path / "leaderboard.html"
    leaderboard_page.write(path, make_board(names, ["cat", "dog", "a long name " * 9]))
    seen = Visit(browser, path.as_uri())
    table = seen.page.locator("table.sortable").nth(1)
    head = table.locator("th[data-column='2']")  # mAP
    for direction, first in (("ascending", names[7]), ("descending", names[0])):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == direction
        assert table.locator("tbody tr th").first.inner_text() == first
    for width in (320, 768, 1280):
        seen.page.set_viewport_size({"width": width, "height": 740})
        assert seen.page.evaluate("document.documentElement.scrollWidth") == width
        assert overflowing(seen) == []
    assert smallest_text(seen) >= 12
    assert seen.faults == []
    assert seen.asked == [path.as_uri()]
    seen.context.close()


def test_no_text_of_a_user_runs(browser: Any, tmp_path: Path):
    path = tmp_path / "leaderboard.html"
    leaderboard_page.write(path, make_board(PAYLOADS, PAYLOADS))
    seen = Visit(browser, path.as_uri())
    seen.page.eval_on_selector_all("th button", "all => all.forEach(each => each.click())")
    assert seen.page.evaluate("window.ran") is None
    assert seen.faults == []
    seen.context.close()
