# SPDX-License-Identifier: Apache-2.0
"""The page of an evaluation as a browser shows it."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from paddlex_ml.report import evaluation_page
from tests.report.payloads import PAYLOADS

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright, which drives the browser"
)
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium on the PATH"),
]

LONG = "a very long class name without end " * 6
NAMES = ["cat", "dog", "cow", "never", LONG, "W" * 120, '<b>"quoted"</b>', "一只猫"]
NAMES += [f"class {i}" for i in range(20)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        # No sandbox: the tests may run as root, and the page is our own.
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, evaluate_in: Callable[..., Any]) -> str:
    targets = (np.random.default_rng(1).random((60, len(NAMES))) < 0.3).astype(np.uint8)
    targets[:, 3] = 0
    folder = tmp_path_factory.mktemp("page")
    content = evaluate_in(folder, NAMES, images=60, targets=targets, rounds=10)
    rows = content.result.per_class
    rows[1] = replace(rows[1], precision=None)
    evaluation_page.write(folder / "report.html", content)
    return (folder / "report.html").as_uri()


class Visit:
    """One look at the page, and all that went wrong meanwhile."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.faults: list[str] = []
        self.asked: list[str] = []
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.faults.append(message.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.route("**/*", self._answer)
        self.page.goto(address)

    def _answer(self, route: Any) -> None:
        self.asked.append(route.request.url)
        if route.request.url.startswith("file:"):
            route.continue_()
        else:
            route.abort()

    def column(self, number: int) -> list[str]:
        """Texts of a column of the sortable table, from top to bottom."""
        found: list[str] = self.page.eval_on_selector_all(
            f"table.sortable tbody tr > :nth-child({number + 1})",
            "cells => cells.map(cell => cell.innerText.trim())",
        )
        return found


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Callable[..., Visit]]:
    visits: list[Visit] = []

    def open_page(**options: Any) -> Visit:
        visits.append(Visit(browser, address, **options))
        return visits[-1]

    yield open_page
    for each in visits:
        each.context.close()


def test_the_page_loads_itself_alone_without_a_fault_and_shows_its_pictures(visit, address):
    seen = visit()
    sizes = seen.page.eval_on_selector_all(
        "img", "images => Promise.all(images.map(i => i.decode().then(() => i.naturalWidth)))"
    )
    assert len(sizes) > 40
    assert set(sizes) == {160}
    assert seen.faults == []
    assert seen.asked == [address]


def test_a_script_that_is_not_ours_would_not_run(visit):
    seen = visit()
    seen.page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.bad = 1';"
        "document.body.append(s) }"
    )
    assert seen.page.evaluate("window.bad") is None
    assert "Content Security Policy" in seen.faults[0]


def test_a_click_sorts_and_says_so_and_undefined_values_stay_last(visit):
    seen = visit()
    head = seen.page.locator("th[data-column='7']")  # precision: of dog it is undefined
    orders = []
    for direction in ("ascending", "descending"):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == direction
        assert seen.page.locator("[aria-sort]").count() == 1
        orders.append(seen.column(7))
    rising, falling = orders
    numbers = [float(text) for text in rising if text != "–"]
    undefined = rising.count("–")
    assert undefined >= 1
    assert numbers == sorted(numbers)
    assert numbers[0] < numbers[-1]
    assert rising[-undefined:] == falling[-undefined:] == ["–"] * undefined
    assert [float(text) for text in falling[:-undefined]] == numbers[::-1]
    assert seen.faults == []


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_the_keyboard_sorts_by_name(visit, key):
    seen = visit()
    head = seen.page.locator("th[data-column='0']")
    head.locator("button").focus()
    seen.page.keyboard.press(key)
    assert head.get_attribute("aria-sort") == "ascending"
    names = [name for name in seen.column(0) if name.startswith("class ")]
    assert names == [f"class {i}" for i in range(20)]  # 9 before 10
    assert seen.page.evaluate("document.activeElement.tagName") == "BUTTON"


def overflowing(seen: Visit) -> list[str]:
    """Elements that reach beyond the page and do not lie in a box that scrolls."""
    found: list[str] = seen.page.evaluate(
        """() => [...document.body.querySelectorAll("*")]
          .filter(e => !e.closest(".scroll, svg") && e.checkVisibility()
                       && e.getBoundingClientRect().right > innerWidth + 1)
          .map(e => e.tagName + ": " + e.textContent.slice(0, 40))"""
    )
    return found


def smallest_text(seen: Visit) -> float:
    """Size of the smallest letters in pixels, charts shrunk as they are."""
    found: float = seen.page.evaluate(
        """() => Math.min(...[...document.body.querySelectorAll("*")]
          .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())
                       && e.checkVisibility() && e.tagName !== "title")
          .map(e => parseFloat(getComputedStyle(e).fontSize)
                    * (e.ownerSVGElement ? e.ownerSVGElement.getScreenCTM().a : 1)))"""
    )
    return found


def test_at_any_width_only_tables_scroll_sideways_and_text_stays_readable(visit):
    seen = visit()
    seen.page.eval_on_selector_all("details", "all => all.forEach(d => { d.open = true })")
    for width in (320, 360, 768, 1280):
        seen.page.set_viewport_size({"width": width, "height": 740})
        assert seen.page.evaluate("document.documentElement.scrollWidth") == width
        assert overflowing(seen) == []
        assert smallest_text(seen) >= 12, width
        if width == 360:
            box = seen.page.locator(".scroll").first
            assert box.evaluate("b => b.scrollWidth > b.clientWidth")


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_schemes(visit, scheme):
    seen = visit(color_scheme=scheme)
    page = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (luminance(page) < 0.05) == (scheme == "dark")
    for selector in ("body", ".faint", ".verdict h2", "td", "a", ".card small", "svg text"):
        style = "getComputedStyle(e)[e.ownerSVGElement ? 'fill' : 'color']"
        ink = seen.page.locator(selector).first.evaluate(f"e => {style}")
        pair = sorted([luminance(page), luminance(ink)])
        assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, selector


def test_it_prints_on_more_than_one_page_in_light_colours(visit, tmp_path):
    seen = visit(color_scheme="dark")
    printed = seen.page.pdf(prefer_css_page_size=True, print_background=True)
    sizes = re.findall(rb"/MediaBox\s*\[\s*0 0 ([\d.]+) ([\d.]+)", printed)
    assert len(sizes) > 3
    assert {float(width) > float(height) for width, height in sizes} == {True, False}
    seen.page.emulate_media(media="print", color_scheme="dark")
    ink, paper = seen.page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert (luminance(ink), luminance(paper)) == (0, 1)
    assert seen.page.locator("th[data-column='0'] .paper").is_visible()


def test_without_script_all_is_there_and_nothing_pretends_to_sort(visit):
    with_script, without = visit(), visit(java_script_enabled=False)
    count = without.page.locator("section:visible").count()
    assert count == with_script.page.locator("section:visible").count() >= 8
    assert without.page.locator("table.sortable tbody tr").count() == len(NAMES)
    assert without.page.locator("article:visible").count() == 24
    assert without.page.locator("button").count() == 0
    without.page.locator("#curves ~ details summary").click()
    assert without.page.locator("article:visible").count() == len(NAMES)


def test_links_to_a_class_lead_to_its_curves_even_where_they_are_folded(visit):
    seen = visit()
    folded = seen.page.locator("details article").last
    target = folded.get_attribute("id")
    assert not folded.is_visible()
    seen.page.locator(f"table.sortable a[href='#{target}']").click()
    assert seen.page.url.endswith(f"#{target}")
    folded.wait_for(state="visible", timeout=2000)
    assert folded.evaluate("e => e.getBoundingClientRect().top < innerHeight")


def test_no_text_of_a_user_runs(browser: Any, tmp_path: Any, evaluate_in: Callable[..., Any]):
    content = evaluate_in(tmp_path, PAYLOADS, images=60, rounds=0)
    shown = [PAYLOADS[i % len(PAYLOADS)] for i in range(len(content.shown))]
    path, named = tmp_path / "report.html", f"{PAYLOADS[6]}/a.pdparams"
    result = replace(content.result, weight_path=named)
    evaluation_page.write(path, dataclasses.replace(content, shown=shown, result=result))
    seen = Visit(browser, path.as_uri())
    seen.page.wait_for_load_state()
    seen.page.eval_on_selector_all("summary", "all => all.forEach(each => each.click())")
    seen.page.eval_on_selector_all("th button", "all => all.forEach(each => each.click())")
    assert seen.page.evaluate("window.ran") is None
    assert seen.asked == [path.as_uri()]
    assert seen.faults == []
    text = seen.page.inner_text("body")
    assert [name for name in PAYLOADS if " ".join(name.split()) not in " ".join(text.split())] == []
    seen.context.close()


NUMBER_AFTER = """all => all.map(link => {
  const number = link.nextElementSibling.getBoundingClientRect();
  return number.left - link.getBoundingClientRect().right;
})"""


def test_a_hebrew_name_moves_nothing_beside_it(
    browser: Any, tmp_path: Any, evaluate_in: Callable[..., Any]
):
    content = evaluate_in(tmp_path, ["חתול", "כלב", "פרה"], images=60, rounds=0)
    evaluation_page.write(tmp_path / "report.html", content)
    seen = Visit(browser, (tmp_path / "report.html").as_uri())
    worst = seen.page.locator("p", has_text="Weakest classes:").locator("a")
    assert worst.count() > 0
    gaps = worst.evaluate_all(NUMBER_AFTER)
    assert [gap for gap in gaps if not 0 <= gap < 30] == []
    seen.context.close()


def test_all_of_thousands_of_classes_are_found_by_search_and_sorted(
    browser: Any, tmp_path: Any, evaluate_in: Callable[..., Any]
) -> None:
    names = [f"class {i}" for i in range(599)] + ["<b>一只猫</b>"]
    targets = (np.random.default_rng(1).random((40, len(names))) < 0.3).astype(np.uint8)
    targets[:, 3] = 0
    content = evaluate_in(tmp_path, names, images=40, targets=targets, rounds=0)
    evaluation_page.write(tmp_path / "report.html", content)
    seen = Visit(browser, (tmp_path / "report.html").as_uri())

    def shown(column: int = 1) -> list[str]:
        found: list[str] = seen.page.eval_on_selector_all(
            f"#all-rows tr > :nth-child({column})", "cells => cells.map(c => c.textContent)"
        )
        return found

    assert seen.page.inner_text("#found") == "1 to 100 of 600 classes"
    scores = [float(text) for text in shown(3)]
    assert scores == sorted(scores)
    for _ in range(5):
        seen.page.click("#on")
    assert seen.page.inner_text("#found") == "501 to 600 of 600 classes"
    assert seen.page.is_disabled("#on")
    assert shown(3)[-1] == "\N{EN DASH}"  # no image shows it
    seen.page.fill("#search", "一只")
    assert shown() == ["<b>一只猫</b>"]
    seen.page.fill("#search", "class 59")
    assert len(shown()) == 10
    seen.page.click("#all-heads th:nth-child(1) button")
    assert shown() == [f"class {i}" for i in (59, *range(590, 599))]
    seen.page.click("#all-heads th:nth-child(2) button")
    counts = [int(text) for text in shown(2)]
    assert counts == sorted(counts, reverse=True)
    seen.page.fill("#search", "nothing like it")
    assert seen.page.inner_text("#found") == "no class"
    assert seen.faults == []
    seen.context.close()
