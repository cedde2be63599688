# SPDX-License-Identifier: Apache-2.0
"""One term for each thing: the words that docs/glossary.md retires are in no identifier."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GLOSSARY = ROOT / "docs" / "glossary.md"
# In the package an identifier is the project's; elsewhere it may be that of a library.
MODULES = sorted([*(ROOT / "paddlex_ml").rglob("*.py"), *(ROOT / "dataset_tools").rglob("*.py")])


def rows() -> list[list[str]]:
    """The cells of every row of the glossary's tables."""
    lines = GLOSSARY.read_text("utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    return [row for row in cells if row[0] != "term" and not set(row[0]) <= {"-"}]


def retired() -> set[str]:
    """All words of the last column."""
    return {word.strip() for row in rows() for word in row[3].split(",") if word.strip()}


def identifiers(text: str) -> Iterator[tuple[int, str]]:
    """Line and name of everything that a module defines or uses, keyword arguments too."""
    for node in ast.walk(ast.parse(text)):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Name):
            yield line, node.id
        elif isinstance(node, ast.Attribute):
            yield line, node.attr
        elif isinstance(node, ast.arg):
            yield line, node.arg
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.value.lineno, node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield line, node.name
        elif isinstance(node, ast.alias):
            yield line, node.asname or node.name


def words(identifier: str) -> list[str]:
    """`_read_ModelCard` -> read, model, card."""
    return [part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", identifier)]


def faults(text: str) -> list[str]:
    banned = retired()
    return [
        f"{line}: {name}"
        for line, name in sorted(set(identifiers(text)))
        if banned & set(words(name))
    ]


def test_the_glossary_has_four_columns_and_retires_words():
    assert {len(row) for row in rows()} == {4}
    assert len(rows()) > 40
    assert {"team", "recipe", "twin", "settle"} <= retired()


def test_a_retired_word_would_be_seen():
    text = "def settle(team):\n    return team.readRecipe(proofs=heat_of)\n"
    assert faults(text) == [
        "1: settle",
        "1: team",
        "2: heat_of",
        "2: proofs",
        "2: readRecipe",
        "2: team",
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_identifier_has_a_retired_word(path: Path):
    assert faults(path.read_text("utf-8")) == []
    assert not retired() & set(words(path.stem))


def test_every_symbol_of_the_glossary_is_in_the_code():
    text = "\n".join(path.read_text("utf-8") for path in MODULES)
    files = {path.name for path in MODULES}
    names = {name for row in rows() for name in re.findall(r"`([^`]+)`", row[2])}
    missing = [
        name
        for name in names
        if not re.search(rf"\b{re.escape(name.split('.')[-1])}\b", text)
        and name not in files
        and "*" not in name
    ]
    assert missing == []
