# SPDX-License-Identifier: Apache-2.0
"""What MkDocs needs to make a site of pages that are written for the repository.

Pages stay readable on disk and in a repository: the README is at the top, X_zh.md is the Chinese
twin of X.md, links name files. On the site the README is the first page, and a twin has the address
and the anchors of its English page, so that a link leads to the reader's language.
"""

from __future__ import annotations

import logging
import posixpath
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
ELSEWHERE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",  # docs/security.md is a page, too
    "website/api.md": "api.md",
}
"""Pages that are not in docs/, and their names on the site."""
FIRST = (
    "index.md",
    "data.md",
    "labels.md",
    "training.md",
    "evaluate.md",
    "predict.md",
    "export.md",
)
"""Pages that a user needs first: the search puts them before decisions and changes."""
LINK = re.compile(r"\]\(([^)\s#]*)(?:#([^)\s]+))?\)")
_TO_THE_TWIN = re.compile(r"^\[(?:中文|中文说明|English)\]\(\w+\.md\)\n+", re.MULTILINE)
_HEADING = re.compile(r"#{1,6} +(.+)")
_ITEM = re.compile(r" *(?:[-*]|\d+\.) +")
_NAMED_BY_FILE = re.compile(r"\[([\w/]+\.md)\]\(([\w.]+\.md)")
_ENGLISH = "（英文）"  # at the end of a title in the Chinese navigation: has no twin
_CHINESE = "\u2e80-\u9fff\uff00-\uffef“”"
_BROKEN_LINE = re.compile(f"(?<=[{_CHINESE}])\n *(?=[{_CHINESE}])")


def slug(heading: str, separator: str = "-") -> str:
    """The anchor that GitHub gives to a heading."""
    words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", separator)


def outside_code(text: str) -> list[tuple[int, str]]:
    """The lines that are not between fences, with their numbers, from 0."""
    found, is_code = [], False
    for number, line in enumerate(text.split("\n")):
        is_code ^= line.lstrip().startswith("```")
        if not is_code:
            found.append((number, line))
    return found


def anchors(text: str) -> list[str]:
    """The anchors of all headings, in their order."""
    headings = (_HEADING.fullmatch(line) for _, line in outside_code(text))
    return [slug(heading[1]) for heading in headings if heading]


def english_of(page: Path) -> Path:
    """The English page of a Chinese one, else the page itself."""
    return page.with_name(page.name.replace("_zh.md", ".md"))


def source_of(name: str, language: str) -> Path:
    """The file with the text of a page of the site, in this language where there is one."""
    placed = {site: ROOT / path for path, site in ELSEWHERE.items()}
    english = placed.get(name, ROOT / "docs" / name)
    chinese = english.with_name(f"{english.stem}_zh.md")
    return chinese if language == "zh" and chinese.exists() else english


def name_on_site(path: Path) -> str:
    """Where a file of the repository is on the site."""
    relative = path.relative_to(ROOT).as_posix()
    return ELSEWHERE.get(relative, relative.removeprefix("docs/"))


def linked_files(page: Path) -> list[Path]:
    """The files of the repository to which a page has links."""
    names = (match[1] for match in LINK.finditer(page.read_text("utf-8")))
    paths = (page.parent / name for name in names if name)
    return [path.resolve() for path in paths if path.is_file()]


def with_english_anchors(text: str, english: str) -> str:
    """A Chinese page whose headings have the anchors of the English page."""
    lines, names = text.split("\n"), iter(anchors(english))
    for number, line in outside_code(text):
        if _HEADING.fullmatch(line):
            lines[number] = f"{line} {{#{next(names)}}}"
    return "\n".join(lines)


def with_links_of_the_site(text: str, page: Path) -> str:
    """Links to files of the repository, as links to their places on the site."""

    def place(match: re.Match[str]) -> str:
        name, anchor = match.groups()
        target = Path(posixpath.normpath(page.parent / name)) if name else page
        if not target.is_file():
            return match[0]
        english = english_of(target)
        if english != target and anchor:
            pages = (each.read_text("utf-8") for each in (target, english))
            anchor = dict(zip(*map(anchors, pages), strict=True)).get(anchor, anchor)
        return f"]({name_on_site(english)}{f'#{anchor}' if anchor else ''})"

    return LINK.sub(place, text)


def titles(nav: Any) -> dict[str, str]:
    """Page -> title, of a navigation in a file of settings."""
    if isinstance(nav, list):
        return {page: title for entry in nav for page, title in titles(entry).items()}
    return {
        page: title
        for name, below in nav.items()
        for page, title in ({below: name} if isinstance(below, str) else titles(below)).items()
    }


def with_titles(text: str, names: Mapping[str, str]) -> str:
    """Links whose text is the name of a file, with the title of the page instead."""

    def name_it(match: re.Match[str]) -> str:
        title = names.get(match[2])
        return f"[{title.removesuffix(_ENGLISH)}]({match[2]}" if title else match[0]

    return _NAMED_BY_FILE.sub(name_it, text)


def with_wide_lists(text: str) -> str:
    """Lists as Python-Markdown reads them: four columns a level, and an empty line before.

    GitHub asks for neither: what belongs to an item is below its first letter.
    """
    lines, levels = text.split("\n"), list[int]()
    is_blank, is_paragraph = True, False  # the latter: a further one of an item
    for number, line in outside_code(text):
        indent, item = len(line) - len(line.lstrip()), _ITEM.match(line)
        was_blank, is_blank = is_blank, not line.strip()
        if is_blank or (indent >= 4 and not levels):  # the latter is code
            continue
        is_parted = item is not None and not was_blank and (is_paragraph or not levels)
        is_paragraph = item is None and (is_paragraph or was_blank)
        while levels and indent < levels[-1]:
            levels.pop()
        inner = indent if item or not levels else levels[-1]
        lines[number] = "\n" * is_parted + "    " * len(levels) + line[inner if levels else 0 :]
        if item:
            levels.append(item.end())
    return "\n".join(lines)


def on_config(config: MkDocsConfig) -> None:
    """Anchors are those of the repository; a page for what is not found exists once.

    The dictionary of the search is not kept: jieba would read it again from a file in the temporary
    folder, which another user of the machine may have put there.
    """
    import jieba

    jieba.setLogLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as jieba.dt.tmp_dir:
        jieba.initialize()
    config.mdx_configs["toc"]["slugify"] = slug
    if config.theme["language"] == "zh":
        config.theme.static_templates.discard("404.html")


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages that are not in docs/, and the files to which they have links."""
    from mkdocs.structure.files import File

    added = {ROOT / name for name in ELSEWHERE}
    for page in list(added):
        added |= {path for path in linked_files(page) if path.suffix not in (".md", ".png")}
    for path in sorted(added):
        file = File.generated(config, name_on_site(path), abs_src_path=str(path))
        files.append(file)


def on_page_read_source(page: Page, config: MkDocsConfig) -> str:
    """The text in the language of the site."""
    return source_of(page.file.src_uri, config.theme["language"]).read_text("utf-8")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """From the Markdown of the repository to that of the site."""
    if page.file.src_uri in FIRST:
        page.meta["search"] = {"boost": 3}
    source = source_of(page.file.src_uri, config.theme["language"])
    text = _TO_THE_TWIN.sub("", markdown, count=1)  # the head of the site has such a link
    if english_of(source) != source:
        text = with_english_anchors(text, english_of(source).read_text("utf-8"))
    names = titles(config.nav)
    if names[page.file.src_uri].endswith(_ENGLISH):
        text = text.replace("\n", "\n\n本页只有英文版。\n", 1)
    return with_wide_lists(with_titles(with_links_of_the_site(text, source), names))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Join lines that were broken within Chinese text: browsers show a space there."""
    parts = re.split(r"(<pre.*?</pre>)", html, flags=re.DOTALL)
    parts[::2] = (_BROKEN_LINE.sub("", part) for part in parts[::2])
    return "".join(parts)


def on_page_context(context: Any, page: Page, config: MkDocsConfig, nav: Any) -> None:
    """The link to the same page in the other language."""
    other = config.extra["other_language"]
    other["link"] = f"{posixpath.dirname(other['link'])}/{page.url}"


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """The English part is above the Chinese one, where MkDocs itself has no way to link."""
    return output.replace('href="english/', 'href="../')
