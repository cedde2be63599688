# SPDX-License-Identifier: Apache-2.0
"""The package as `pip install` leaves it, away from the clone."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from paddlex_ml.config.shipped import MODELS

pytestmark = pytest.mark.story

ROOT = Path(__file__).resolve().parent.parent


TOOLS = sorted(path.stem for path in (ROOT / "dataset_tools").glob("[!_]*.py"))
PIP_INSTALL = [
    *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"),
    *("--no-build-isolation", "--disable-pip-version-check"),
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of everything that an installation reads."""
    source = tmp_path_factory.mktemp("source")
    for name in ("paddlex_ml", "configs", "dataset_tools", "docs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    return source


@pytest.fixture(scope="module")
def installed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed package and nothing of the clone."""
    target = tmp_path_factory.mktemp("installed")
    subprocess.run([*PIP_INSTALL, "--target", str(target), str(source)], check=True)
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


def test_the_pages_that_messages_name_are_installed(installed: Path, tmp_path: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-c", "from paddlex_ml import program; print(program.page('data.md'))"],
        env={**os.environ, "PYTHONPATH": str(installed)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(shown.stdout.strip()) == installed / "paddlex_ml" / "docs" / "data.md"
    pages = {path.relative_to(ROOT) for path in (ROOT / "docs").rglob("*") if path.suffix == ".md"}
    assert len(pages) > 10
    assert [str(page) for page in pages if not (installed / "paddlex_ml" / page).is_file()] == []
    assert (installed / "paddlex_ml" / "docs" / "deploy" / "client.py").is_file()


def test_the_command_is_installed(installed: Path) -> None:
    assert (installed / "bin" / "paddlex-ml").is_file()


def test_the_data_set_tools_are_installed_too(installed: Path, tmp_path: Path) -> None:
    assert "restore_backup" in TOOLS
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
    start = shlex.split(told.stdout)
    assert start[1:] == ["-m", "paddlex_ml.dataset_tools.restore_backup", "x"]
    assert os.path.samefile(shutil.which(start[0]) or "", sys.executable)
    for tool in TOOLS:
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


def test_an_editable_install_finds_the_data_set_tools(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "editable"
    subprocess.run([*PIP_INSTALL, "--target", str(target), "--editable", str(source)], check=True)
    tool = "paddlex_ml.dataset_tools.split"
    code = f"import runpy, site; site.addsitedir({str(target)!r}); "
    code += f"runpy.run_module({tool!r}, run_name='__main__', alter_sys=True)"
    # Without -S this environment's own installation would be found first.
    paths = [path for path in sys.path if Path(path).resolve() != ROOT]
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, "--help"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "--val-percent" in done.stdout) == (0, True), done.stderr
