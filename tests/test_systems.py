# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ast
import ntpath
import os
import shlex
import sys
from pathlib import Path

import pytest

from paddlex_ml import program, systems

PACKAGE = Path(systems.__file__).parent


@pytest.fixture
def on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systems, "IS_WINDOWS", True)


class Busy:
    """`os.replace` of a file that a program has open for the first `times` calls."""

    def __init__(self, times: int) -> None:
        self.times, self.calls, self.replace = times, 0, os.replace

    def __call__(self, source: Path, target: Path) -> None:
        self.calls += 1
        if self.calls <= self.times:
            raise PermissionError(13, "Access is denied", str(source), 5, str(target))
        self.replace(source, target)


def test_a_rename_waits_for_a_program_that_has_the_file_open_for_an_instant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_windows: None
) -> None:
    busy = Busy(2)
    monkeypatch.setattr(os, "replace", busy)
    (tmp_path / "new").write_text("new")
    (tmp_path / "old").write_text("old")
    systems.rename(tmp_path / "new", tmp_path / "old")
    assert busy.calls == 3
    assert [path.read_text() for path in tmp_path.iterdir()] == ["new"]


def test_a_rename_gives_up_and_elsewhere_it_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systems, "_PATIENCE", 0.1)
    for is_windows, calls in ((True, range(2, 5)), (False, range(1, 2))):
        busy = Busy(1000)
        monkeypatch.setattr(os, "replace", busy)
        monkeypatch.setattr(systems, "IS_WINDOWS", is_windows)
        with pytest.raises(PermissionError):
            systems.rename(tmp_path / "new", tmp_path / "old")
        assert busy.calls in calls


def test_no_module_renames_by_itself() -> None:
    """Windows may refuse it for an instant: `systems.rename` alone waits."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner = ast.unparse(node.func.value)
            is_of_path = node.func.attr == "rename" and owner not in ("systems", "convert")
            is_of_path |= node.func.attr == "replace" and owner == "os"
            # A text is replaced by two values, a path by one.
            is_of_path |= node.func.attr == "replace" and len(node.args) + len(node.keywords) == 1
            found += [f"{path.name}: {ast.unparse(node)}"] * is_of_path
    errors = [text for text in found if ".replace(fix=" in text or ".replace(what=" in text]
    assert sorted(set(found) - set(errors)) == ["systems.py: os.replace(source, target)"]


def test_there_is_no_relative_path_between_two_drives(monkeypatch: pytest.MonkeyPatch) -> None:
    assert systems.relative("/a/b/c.txt", "/a/d") == os.path.join("..", "b", "c.txt")
    monkeypatch.setattr(os.path, "relpath", ntpath.relpath)
    assert systems.relative(r"C:\a\b.txt", r"C:\a") == "b.txt"
    assert systems.relative(r"D:\a\b.txt", r"C:\a") is None
    assert systems.relative(r"\\server\share\b.txt", r"C:\a") is None


@pytest.mark.parametrize("path", ["/a.jpg", r"\a.jpg", "C:/a.jpg", "C:a.jpg", r"\\server\share\a"])
def test_paths_that_leave_their_folder_on_windows(path: str, on_windows: None) -> None:
    assert ntpath.join(r"D:\set", path).startswith(r"D:\set") is False
    assert systems.is_anchored(path)


@pytest.mark.parametrize("path", ["a.jpg", "../a.jpg", "a/C:b.jpg", ""])
def test_paths_that_stay_in_their_folder_on_windows(path: str, on_windows: None) -> None:
    assert not systems.is_anchored(path)


def test_a_colon_or_backslash_is_a_letter_elsewhere() -> None:
    assert [systems.is_anchored(path) for path in ("C:a.jpg", r"\a", "/a")] == [False, False, True]


def test_a_pool_has_at_most_61_processes_on_windows(on_windows: None) -> None:
    from concurrent.futures import process

    assert systems.most_workers() == process._MAX_WINDOWS_WORKERS


WRITTEN = {
    r"Global.output=C:\runs\a": r"Global.output=C:\runs\a",
    r"Global.output=C:\my runs\a": r'"Global.output=C:\my runs\a"',
    "-o": "-o",
    "Predict.threshold={default: 0.5, cat: 0.3}": '"Predict.threshold={default: 0.5, cat: 0.3}"',
    "Export.x=[1,2]": '"Export.x=[1,2]"',
    "Global.dataset_dir=图像": "Global.dataset_dir=图像",
    "it's": '"it\'s"',
    'K=["a", "b"]': '\'K=["a", "b"]\'',
    "K=$HOME's": "'K=$HOME''s'",
    "C:\\my runs\\": "'C:\\my runs\\'",
    "": "''",
}


@pytest.mark.parametrize("word", WRITTEN)
def test_a_word_for_powershell_is_read_again(word: str, on_windows: None) -> None:
    assert systems.quote(word) == WRITTEN[word]
    assert systems.split(systems.join(["-o", word, word])) == ["-o", word, word]


def test_a_word_for_a_posix_shell_is_as_ever() -> None:
    for word in WRITTEN:
        assert systems.quote(word) == shlex.quote(word)
        assert systems.split(systems.join(["-o", word])) == ["-o", word]


def test_an_interpreter_with_spaces_is_called_and_not_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_windows: None
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", r"C:\Program Files\Python\python.exe")
    expected = r'& "C:\Program Files\Python\python.exe" -m pip install x'
    assert program.pip_install("x") == expected


def test_commands_in_turn_are_for_every_powershell(monkeypatch: pytest.MonkeyPatch) -> None:
    assert systems.in_turn(["mv a b", "mv c d"]) == "mv a b && mv c d"
    monkeypatch.setattr(systems, "IS_WINDOWS", True)
    assert systems.in_turn(["mv a b", "mv c d"]) == "mv a b; mv c d"
