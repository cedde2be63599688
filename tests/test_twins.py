# SPDX-License-Identifier: Apache-2.0
"""Pages and their Chinese twins say the same: what can be compared is compared."""

from __future__ import annotations

import re
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from website import hooks

ROOT = Path(__file__).resolve().parent.parent
TWINS = sorted(
    path for folder in (".", "docs", "website") for path in (ROOT / folder).glob("*_zh.md")
)
WHOLE = {"data", "evaluate", "export", "labels", "predict", "training"}
"""The pages that a user needs first: their sections have the same names of code and numbers."""
MAGNITUDES = {"million": 10**6, "megapixels": 10**6, "万": 10**4, "亿": 10**8}


@pytest.fixture(params=TWINS, ids=lambda path: path.stem)
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The texts of a page and of its twin."""
    twin: Path = request.param
    return hooks.english_of(twin).read_text("utf-8"), twin.read_text("utf-8")


@pytest.fixture(params=[path for path in TWINS if path.stem[:-3] in WHOLE], ids=lambda p: p.stem)
def sections(request: pytest.FixtureRequest) -> list[tuple[str, str, str]]:
    """Heading, English text and Chinese text of each section."""
    twin: Path = request.param
    english, chinese = (divide(page.read_text("utf-8")) for page in (hooks.english_of(twin), twin))
    return [(*one, two[1]) for one, two in zip(english, chinese, strict=True)]


def divide(text: str) -> list[tuple[str, str]]:
    """Heading and text of each section, without the link to the twin."""
    lines = text.split("\n")
    starts = [n for n, line in hooks.outside_code(text) if re.match("#+ ", line)]
    ends = [*starts[1:], len(lines)]
    texts = ("\n".join(lines[start + 1 : end]) for start, end in zip(starts, ends, strict=True))
    return [(lines[n], text) for n, text in zip(starts, texts, strict=True)]


def commands(text: str) -> list[str]:
    """The lines of blocks of code in a language, without comments and what a reader puts in."""
    blocks = re.findall(r"^```(?:bash|python|yaml)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [re.sub(r"(^|\s+)#.*", "", line) for block in blocks for line in block.splitlines()]
    return [re.sub(r"<[^>]+>|/目录|/a/folder", "<>", line) for line in lines if line]


def shape(text: str) -> list[str]:
    """What each line is: heading, row of a table with its columns, item, code."""
    found, is_block, is_list = [], False, False
    for line in text.split("\n"):
        plain = re.sub(r"`[^`]*`", "", line)
        item = re.match(r"(?:[-*]|\d+\.) ", line)
        if line.startswith("```"):
            is_block = not is_block
            found.append(line)
        elif is_block:
            continue
        elif heading := re.match("#+ ", line):
            found.append(heading[0])
        elif line.startswith("|"):
            found.append(f"row of {plain.count('|') - 1}")
        elif item:
            found.append(item[0])
        elif line.startswith("    ") and not is_list:
            found.append("code")
        is_list = bool(item) or (is_list and line[:1] in ("", " "))
    return found


def names_of_code(text: str) -> Counter[str]:
    spans = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    return Counter(re.sub(r"<[^>]+>", "<>", span) for span in spans)


def numbers(text: str) -> set[Decimal]:
    """All numbers outside code and links: 20 million, 2,000万 and 20,000,000 are one."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    prose = re.sub(r"`[^`]*`|https?://[^\s>]+|\]\([^)]*\)", " ", prose)
    words = "|".join(MAGNITUDES)
    found = re.findall(rf"(?<![\w.])(\d[\d,]*(?:\.\d+)?)(?: ?({words}))?", prose)
    return {Decimal(n.replace(",", "").rstrip(".")) * MAGNITUDES.get(by, 1) for n, by in found}


def test_the_pages_that_a_user_needs_first_have_twins() -> None:
    assert {path.stem[:-3] for path in TWINS} >= WHOLE | {"README", "CONTRIBUTING"}


def test_a_page_and_its_twin_begin_with_links_to_each_other() -> None:
    for twin in TWINS:
        if twin.parent.name == "website":
            continue  # the head of the site has this link
        english = hooks.english_of(twin)
        assert f"\n[English]({english.name})\n" in twin.read_text("utf-8"), twin.name
        assert re.search(rf"^\[中文(说明)?\]\({twin.name}\)$", english.read_text("utf-8"), re.M)


def test_a_chinese_page_leads_to_chinese_pages() -> None:
    """Where there is one; the first link of a page is that to its own twin."""
    for page in TWINS:
        for target in hooks.linked_files(page):
            twin = target.with_name(f"{target.stem}_zh.md")
            assert target == hooks.english_of(page) or not twin.exists(), (page.name, target.name)


def test_headings_lists_tables_and_code_are_the_same(pair: tuple[str, str]) -> None:
    english, chinese = map(shape, pair)
    assert english == chinese


def test_commands_are_the_same(pair: tuple[str, str]) -> None:
    english, chinese = map(commands, pair)
    assert english == chinese


def test_each_section_has_the_same_names_of_code(sections: list[tuple[str, str, str]]) -> None:
    differ = {
        heading: (counted[0] - counted[1], counted[1] - counted[0])
        for heading, *texts in sections
        if (counted := [names_of_code(text) for text in texts])
        and counted[0].keys() != counted[1].keys()
    }
    assert differ == {}


def test_each_section_has_the_same_numbers(sections: list[tuple[str, str, str]]) -> None:
    """A number that the English page writes as a word may be a figure in the Chinese one."""
    lost = {
        heading: missing
        for heading, english, chinese in sections
        if (missing := numbers(english) - numbers(chinese))
    }
    assert lost == {}
