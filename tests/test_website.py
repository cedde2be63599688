# SPDX-License-Identifier: Apache-2.0
"""The pages as a site: it builds, its links lead somewhere, and it needs no network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from website import hooks

pytest.importorskip("material", reason="needs MkDocs: pip install -r website/requirements.txt")
ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = shutil.which("chromium")


class Html(HTMLParser):
    """The names, links and loaded files of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.other_language = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = {name: value or "" for name, value in attrs}
        self.names.add(has.get("id", ""))
        if tag == "a" and "href" in has:
            self.links.append(has["href"])
        if tag == "a" and "other-language" in has.get("class", ""):
            self.other_language = has["href"]
        if tag != "a":
            found = (has.get(name, "") for name in ("src", "srcset", "href", "data", "poster"))
            self.loaded += [address for address in found if address]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    for name, target in (("mkdocs", folder), ("mkdocs_zh", folder / "zh")):
        words = [
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "-f",
            f"website/{name}.yml",
            "-d",
            str(target),
        ]
        done = subprocess.run(
            [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Html]:
    found = (path for path in site.rglob("*.html") if path.name != "404.html")
    built = (path for path in found if "deploy" not in path.relative_to(site).parts)
    return {path: Html(path.read_text("utf-8")) for path in built}


def test_every_page_is_there_in_both_languages(site: Path, pages: dict[Path, Html]) -> None:
    names = {path.stem for path in (ROOT / "docs").glob("*.md") if not path.stem.endswith("_zh")}
    names |= {Path(name).stem for name in hooks.ELSEWHERE.values()}
    for folder in (site, site / "zh"):
        assert {path.stem for path in pages if path.parent == folder} == names


def test_every_link_and_anchor_leads_somewhere(pages: dict[Path, Html]) -> None:
    broken, followed = [], 0
    for path, page in pages.items():
        for link in page.links:
            address, _, anchor = unquote(link).partition("#")
            if "://" in address or address.startswith("mailto:"):
                continue
            target = (path.parent / address).resolve() if address else path
            target /= "index.html" if target.is_dir() else ""
            known = pages[target].names if target in pages else {anchor}
            followed += 1
            if not target.is_file() or (anchor and anchor not in known | {"__top"}):
                broken.append((path.name, link))
    assert broken == []
    assert followed > 2000


def test_each_page_leads_to_itself_in_the_other_language(
    site: Path, pages: dict[Path, Html]
) -> None:
    for path, page in pages.items():
        target = (path.parent / page.other_language).resolve()
        assert target == (site / path.name if path.parent.name == "zh" else site / "zh" / path.name)


def test_a_page_without_a_twin_is_english_in_both_parts(site: Path) -> None:
    texts = [(site / part / "results.html").read_text("utf-8") for part in (".", "zh")]
    assert all("<h1" in text and "Results" in text for text in texts)
    assert '<html lang="zh"' in texts[1]
    assert ["本页只有英文版" in text for text in texts] == [False, True]


def test_chinese_pages_have_the_anchors_of_the_english_ones(
    site: Path, pages: dict[Path, Html]
) -> None:
    for name in ("data", "training"):
        english, chinese = (pages[site / part / f"{name}.html"].names for part in (".", "zh"))
        wanted = set(hooks.anchors((ROOT / "docs" / f"{name}.md").read_text("utf-8")))
        assert wanted <= english & chinese


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Html]) -> None:
    for path, page in pages.items():
        assert [address for address in page.loaded if "//" in address] == [], path
    styles = [*site.rglob("*.css")]
    for style in styles:
        text = style.read_text("utf-8")
        loaded = re.findall(r"url\(['\"]?([^)]*)|@import ([^;]*)", text)
        assert [each for each in loaded if re.match("(https?:)?//", "".join(each))] == [], style
    assert len(styles) >= 6


def test_lists_tables_and_addresses_are_seen_as_such(pages: dict[Path, Html]) -> None:
    """Python-Markdown and GitHub differ there."""
    for path in pages:
        text = re.sub(r"<(pre|code)\b.*?</\1>", "", path.read_text("utf-8"), flags=re.S)
        assert not re.search(r"^(?:<p>)?(?:- |\d+\. |\|)", text, re.M), path
        text = re.sub(r"<(a|script)\b.*?</\1>", "", text, flags=re.S)
        assert "https://" not in re.sub(r"<[^>]*>", "", text), path


def test_the_reference_has_the_options_of_docstrings(site: Path) -> None:
    text = (site / "api.html").read_text("utf-8")
    for name in ("model_dir", "cpu_threads", "return_all_scores", "save_to_csv", "PaddlexMLError"):
        assert re.search(rf"(?:<code>|<span[^>]*>|id=\"[\w.]*){name}\b", text), name
    assert "None: the model of this name that PaddlePaddle published" in " ".join(text.split())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright, which drives the browser"
    )
    if CHROMIUM is None:
        pytest.skip("needs Debian's chromium on the PATH")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page; at the end of the test it must have asked for files alone, without a fault."""
    opened: list[Any] = []
    faults: list[str] = []

    def open_page(path: Path, **options: Any) -> Any:
        opened.append(browser.new_context(**options))
        page = opened[-1].new_page()
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda asked: faults.extend({asked.url} - local(asked.url)))
        page.goto(path.as_uri())
        return page

    yield open_page
    for each in opened:
        each.close()
    assert faults == []


def local(address: str) -> set[str]:
    return {address} if re.match("file:|data:|blob:|about:", address) else set()


def ask(page: Any, word: str) -> None:
    field = page.locator(".md-search__input")
    field.fill(word)
    field.press("End")  # the search waits for a key; an input method of Chinese ends with one


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("part", "word", "found"),
    [
        (".", "pos_weight", "training.html"),
        (".", "calibration", "evaluate.html"),
        ("zh", "阈值", "evaluate.html"),
        ("zh", "稀疏列表", "labels.html"),
        ("zh", "pos_weight", "training.html"),
    ],
)
def test_the_search_finds_words_from_a_disk(
    visit: Callable[..., Any], site: Path, part: str, word: str, found: str
) -> None:
    page = visit(site / part / "index.html", viewport={"width": 1280, "height": 800})
    ask(page, word)
    results = page.locator(".md-search-result__link")
    results.first.wait_for()
    links = results.evaluate_all("all => all.map(a => new URL(a.href).pathname)")
    pages = dict.fromkeys(Path(link).name for link in links)
    assert found in [*pages][:3], pages


@pytest.mark.heavy
def test_the_search_says_that_a_word_is_nowhere(visit: Callable[..., Any], site: Path) -> None:
    page = visit(site / "zh" / "index.html")
    ask(page, "xylophonist")
    page.get_by_text("没有找到符合条件的结果").wait_for()


@pytest.mark.heavy
def test_the_language_changes_and_stays_on_the_page(visit: Callable[..., Any], site: Path) -> None:
    page = visit(site / "training.html", viewport={"width": 390, "height": 844})
    for language, name in (("zh", "训练"), ("en", "Training")):
        page.locator(".other-language").click()
        page.wait_for_url("**/training.html")
        assert page.locator("html").get_attribute("lang") == language
        assert page.locator("h1").inner_text().startswith(name)


@pytest.mark.heavy
@pytest.mark.parametrize("part", [".", "zh"])
def test_on_a_phone_only_tables_and_code_scroll_sideways(
    visit: Callable[..., Any], site: Path, part: str
) -> None:
    names = sorted(path.name for path in (site / part).glob("*.html") if path.name != "404.html")
    page = visit(site / part / "index.html", viewport={"width": 390, "height": 844})
    for name in names:
        page.goto((site / part / name).as_uri())
        widest = page.evaluate("document.documentElement.scrollWidth")
        assert widest == 390, name
        clipped = page.evaluate(
            """() => [...document.querySelectorAll("article *")]
              .filter(e => !e.closest("pre, .md-typeset__scrollwrap, .highlight")
                           && e.checkVisibility() && e.getBoundingClientRect().right > 391)
              .map(e => e.tagName + ": " + e.textContent.slice(0, 60))"""
        )
        assert clipped == [], name
