# SPDX-License-Identifier: Apache-2.0
"""The package as `pip install` leaves it, away from the clone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from paddlex_ml.config.shipped import MODELS

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed package and nothing of the clone."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("paddlex_ml", "configs", "dataset_tools"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
         "--disable-pip-version-check", "--target", str(target), str(source)],
        check=True,
    )  # fmt: skip
    return target


def test_the_shipped_files_are_found_without_the_clone(installed: Path, tmp_path: Path) -> None:
    for model in MODELS:
        done = subprocess.run(
            [sys.executable, "-m", "paddlex_ml", "-c", model, "--print-config"],
            env={**os.environ, "PYTHONPATH": str(installed)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, f"model: {model}" in done.stdout) == (0, True), done.stderr
        assert f"{installed}/paddlex_ml/configs/{model}.yaml" in done.stderr


def test_the_command_is_installed(installed: Path) -> None:
    assert (installed / "bin" / "paddlex-ml").is_file()


def test_the_data_set_tools_are_installed_too(installed: Path, tmp_path: Path) -> None:
    tools = sorted(path.stem for path in (ROOT / "dataset_tools").glob("*.py"))
    assert "restore_backup" in tools
    code = "from paddlex_ml.data import journal; from pathlib import Path; "
    code += "print(journal.undo_command(Path('x')))"
    places = {"PYTHONPATH": str(installed), "PATH": os.environ["PATH"]}
    told = subprocess.run(
        [sys.executable, "-c", code],
        env=places,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "python -m paddlex_ml.dataset_tools.restore_backup x\n"
    for tool in tools:
        done = subprocess.run(
            [sys.executable, "-m", f"paddlex_ml.dataset_tools.{tool}", "--help"],
            env=places,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, "usage: " in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize(
    ("room", "some"), [("pictures", "report.html.j2"), ("report", "page.js.j2")]
)
def test_the_templates_of_the_reports_are_installed(installed: Path, room: str, some: str) -> None:
    wanted, found = (
        {path.name for path in (root / "paddlex_ml" / room).glob("*.j2")}
        for root in (ROOT, installed)
    )
    assert some in wanted
    assert found == wanted
