# SPDX-License-Identifier: Apache-2.0
"""Counts how finely the package is cut: functions per 100 lines, helpers used once, their lengths.

    python benchmarks/code_figures.py [FOLDER ...]     default: paddlex_ml

A line is a physical line of a .py file. A function is every `def`, methods and inner ones too. A
private helper is a function of a module whose name begins with one underscore; it is used once
when its name occurs once in that module besides its definition.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Figures:
    """Counts of one folder, or of all."""

    lines: int = 0
    lengths: list[int] = field(default_factory=list)
    """Physical lines of every function."""
    private: int = 0
    """Private functions at the top of a module."""
    used_once: int = 0
    docstring_words: int = 0

    def add(self, other: Figures) -> None:
        """Add the counts of another folder."""
        self.lines += other.lines
        self.lengths += other.lengths
        self.private += other.private
        self.used_once += other.used_once
        self.docstring_words += other.docstring_words

    @property
    def per_100_lines(self) -> float:
        """Functions per 100 lines."""
        return 100 * len(self.lengths) / max(self.lines, 1)


def measure(path: Path) -> Figures:
    """Count one file."""
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    nodes = list(ast.walk(tree))
    functions = [n for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    documented = [n for n in nodes if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)]
    helpers = [
        n.name
        for n in tree.body
        if isinstance(n, ast.FunctionDef) and n.name.startswith("_") and n.name[1] != "_"
    ]
    uses = Counter(n.id for n in nodes if isinstance(n, ast.Name))
    return Figures(
        lines=text.count("\n"),
        lengths=[(n.end_lineno or n.lineno) - n.lineno + 1 for n in functions],
        private=len(helpers),
        used_once=sum(uses[name] == 1 for name in helpers),
        docstring_words=sum(len((ast.get_docstring(n) or "").split()) for n in documented),
    )


def table(folders: list[Path]) -> str:
    """A row for each room of the folders, and one for all."""
    rooms: dict[str, Figures] = {}
    whole = Figures()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            room = path.relative_to(folder).parts[0]
            found = measure(path)
            rooms.setdefault(room, Figures()).add(found)
            whole.add(found)
    rows = [
        f"{'room':<22} lines functions per-100 private used-once median 90% longest words-per-100"
    ]
    for name, figures in [*sorted(rooms.items()), ("all", whole)]:
        lengths = sorted(figures.lengths) or [0]
        rows.append(
            f"{name:<22} {figures.lines:5} {len(figures.lengths):9} {figures.per_100_lines:7.2f} "
            f"{figures.private:7} {figures.used_once:9} {lengths[len(lengths) // 2]:6} "
            f"{lengths[int(len(lengths) * 0.9)]:3} {lengths[-1]:7} "
            f"{100 * figures.docstring_words / max(figures.lines, 1):13.0f}"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    given = [Path(name) for name in sys.argv[1:]]
    print(table(given or [Path(__file__).resolve().parent.parent / "paddlex_ml"]))
