# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import paddlex_ml
from paddlex_ml import program, systems
from paddlex_ml.data import lost_images

ROOT = Path(__file__).resolve().parent.parent
OWN = Path(sys.executable).parent


def make_program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_python_is_named_shortly_where_a_shell_finds_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = make_program(tmp_path / "own" / "python")
    other = make_program(tmp_path / "other" / "python")
    monkeypatch.setattr(sys, "executable", str(own))
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setenv("PATH", f"{own.parent}:{other.parent}")
    assert program.python() == "python"
    monkeypatch.setenv("PATH", f"{other.parent}:{own.parent}")
    assert program.python() == str(own)
    (tmp_path / "links").symlink_to(own.parent)
    monkeypatch.setenv("PATH", str(tmp_path / "links"))
    assert program.python() == "python"


def test_the_python_of_an_environment_is_not_the_one_that_it_links_to(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    system = make_program(tmp_path / "bin" / "python")
    own = tmp_path / "my env" / "python"
    own.parent.mkdir()
    own.symlink_to(system)
    monkeypatch.setattr(sys, "executable", str(own))
    monkeypatch.setenv("PATH", str(system.parent))
    assert program.python() == f"'{own}'"


def test_a_python_that_has_only_the_name_python3_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = make_program(tmp_path / "python3")
    (tmp_path / "python3.12").symlink_to(own)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3.12"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program.python() == "python3"


@pytest.mark.parametrize(
    ("started", "expected"),
    [
        ("main.py", "python main.py"),
        ("../my clone/main.py", "python '../my clone/main.py'"),
        (str(Path(paddlex_ml.__file__).with_name("__main__.py")), "python -m paddlex_ml"),
        ("/elsewhere/pytest", "python -m paddlex_ml"),
        ("-c", "python -m paddlex_ml"),
    ],
)
def test_the_command_is_that_by_which_the_program_was_started(
    monkeypatch: pytest.MonkeyPatch, started: str, expected: str
) -> None:
    monkeypatch.setattr(sys, "argv", [started])
    monkeypatch.setattr(program, "python", lambda: "python")
    assert program.command() == expected


def test_the_installed_command_is_named_where_a_shell_finds_this_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    installed = make_program(tmp_path / "bin" / "paddlex-ml")
    make_program(tmp_path / "other" / "paddlex-ml")
    monkeypatch.setattr(sys, "argv", [str(installed)])
    monkeypatch.setenv("PATH", str(installed.parent))
    assert program.command() == "paddlex-ml"
    monkeypatch.setenv("PATH", str(tmp_path / "other"))
    assert program.command() == f"{shlex.quote(sys.executable)} -m paddlex_ml"


def test_a_folder_that_uv_puts_before_path_is_not_searched_by_a_shell(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    installed = make_program(tmp_path / "bin" / "paddlex-ml")
    monkeypatch.setattr(sys, "argv", [str(installed)])
    monkeypatch.setenv("UV", "/usr/bin/uv")
    monkeypatch.setenv("PATH", f"{installed.parent}:{tmp_path}")
    assert program.command() == f"{shlex.quote(sys.executable)} -m paddlex_ml"
    monkeypatch.setenv("PATH", f"{installed.parent}:{installed.parent}:{tmp_path}")
    assert program.command() == "paddlex-ml"


def test_an_environment_without_pip_gets_packages_by_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/my env/bin/python")
    monkeypatch.setattr("importlib.metadata.distributions", lambda name: [])
    assert program.pip_install("x") == "uv pip install --python '/my env/bin/python' x"


def test_packages_are_installed_for_the_interpreter_that_needs_them() -> None:
    words = program.pip_install("paddlex-ml[onnx]", "x").split()
    assert words[1:] == ["-m", "pip", "install", "'paddlex-ml[onnx]'", "x"]
    assert words[0] == program.python()


def test_another_environment_gets_what_this_one_was_made_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert program.own_package("cpu,onnx") == shlex.quote(f"{ROOT}[cpu,onnx]")
    wheel = tmp_path / "a folder" / "paddlex_ml-0.1.0-py3-none-any.whl"
    note = tmp_path / "direct_url.json"
    monkeypatch.setattr(program, "_is_clone", lambda: False)
    distribution = Distribution(note)
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: distribution)
    for text in ("", "{}", json.dumps({"url": wheel.as_uri()}), "damaged"):
        note.write_text(text)
        assert program.own_package("cpu") == "'paddlex-ml[cpu]'"
    make_program(wheel)
    note.write_text(json.dumps({"url": wheel.as_uri()}))
    assert program.own_package("cpu") == f"'{wheel}[cpu]'"


class Distribution:
    """What pip has written beside a package."""

    def __init__(self, note: Path) -> None:
        self.note = note

    def read_text(self, name: str) -> str:
        assert name == self.note.name
        return self.note.read_text()


def test_help_names_a_command_that_runs_where_no_python_is_found(tmp_path: Path) -> None:
    bare = {"PATH": str(tmp_path), "PYTHONPATH": str(ROOT), "HOME": os.environ.get("HOME", "/")}
    start = [sys.executable, "-m", "paddlex_ml"]
    shown = subprocess.run([*start, "--help"], capture_output=True, text=True, env=bare, check=True)
    line = shown.stdout.partition("all options:\n")[2].splitlines()[0]
    again = subprocess.run(
        shlex.split(line), capture_output=True, text=True, env=bare, check=True, cwd=tmp_path
    )
    assert again.stdout.startswith("Global:")


def test_messages_name_pages_by_where_they_are() -> None:
    """`docs/data.md` as text is no file after `pip install`: `program.page` finds it."""
    named, typed = set(), []
    for path in sorted(Path(program.__file__).parent.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        told = [node for node in ast.walk(tree) if isinstance(node, ast.Expr)]
        docstrings = {node.value for node in told if isinstance(node.value, ast.Constant)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "program.page":
                named.add(ast.literal_eval(node.args[0]))
            if not isinstance(node, ast.Constant) or node in docstrings:
                continue
            if re.search(r"docs/\w+\.md|README,", str(node.value)):
                typed.append(f"{path.name}:{node.lineno}")
    assert typed == []
    assert len(named) >= 3
    assert [name for name in named if not (program.documents() / name).is_file()] == []


def test_a_page_is_named_as_shortly_as_the_working_folder_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(program.documents().parent)
    assert program.page("data.md") == str(Path("docs/data.md"))
    monkeypatch.chdir(tmp_path)
    assert Path(program.page("data.md")) == program.documents() / "data.md"


def test_without_a_clone_the_pages_lie_in_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site-packages" / "paddlex_ml"
    monkeypatch.setattr(program, "__file__", str(package / "program.py"))
    (package.parent / "docs").mkdir(parents=True)  # of another package
    assert program.documents() == package / "docs"


@pytest.mark.parametrize(
    ("started", "words"),
    [
        ("main.py", [str(Path("main.py").absolute())]),
        ("/x/__main__.py", ["-m", "paddlex_ml"]),
        ("/bin/paddlex-ml", ["-m", "paddlex_ml"]),
    ],
)
def test_a_child_is_started_as_this_program_was(
    started: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [started])
    assert program.child() == [sys.executable, *words]


def test_packages_to_install_are_quoted_as_the_system_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert program.pip_install("paddlex-ml[excel]").endswith(" 'paddlex-ml[excel]'")
    monkeypatch.setattr(systems, "IS_WINDOWS", True)
    assert program.pip_install("a>=1,<2").endswith(' "a>=1,<2"')
    assert lost_images.leave_out("missing") == '-o "CheckDataset.drop=[missing]"'


def test_no_message_writes_the_quotes_of_one_system() -> None:
    found = []
    for path in Path(program.__file__).parent.rglob("*.py"):
        nodes = [*ast.walk(ast.parse(path.read_text("utf-8")))]
        documents = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        found += [
            f"{path.name}:{node.lineno}"
            for node in nodes
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            if id(node) not in documents and re.search(r"-o '[A-Z]|'paddlex-ml\[", node.value)
        ]
    assert found == []
