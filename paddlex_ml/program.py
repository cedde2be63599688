# SPDX-License-Identifier: Apache-2.0
"""How a user starts this program, for commands in messages that must work when they are pasted."""

from __future__ import annotations

import json
import os
import shutil
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from paddlex_ml import systems

GPU_PAGE = "https://www.paddlepaddle.org.cn/install/quick"
"""Paddle's page, which prints the command that installs it for a GPU."""


def python() -> str:
    """The interpreter that runs this process: `python` where a shell would find the same one."""
    for name in ("python", "python3"):
        if _is_found(name, sys.executable):
            return name
    found = systems.quote(sys.executable or "python")
    is_text = systems.IS_WINDOWS and found[0] in "\"'"  # PowerShell must be told to call it
    return f"& {found}" if is_text else found


def pip_install(*words: str) -> str:
    """The command that installs packages for the interpreter that runs this process."""
    packages = systems.join(words)
    if not any(metadata.distributions(name="pip")):  # environments that uv makes have none
        return f"uv pip install --python {systems.quote(sys.executable)} {packages}"
    return f"{python()} -m pip install {packages}"


def own_package(extras: str) -> str:
    """What `pip install` has to be given for this program in another environment."""
    return systems.quote(f"{_source()}[{extras}]")


def _source() -> str:
    """The clone that this is, else the folder or wheel that pip took it from, else its name."""
    if _is_clone():
        return str(Path(__file__).resolve().parent.parent)
    from urllib.request import url2pathname  # an error alone needs it, and it imports much

    with suppress(metadata.PackageNotFoundError, ValueError, KeyError):
        note = metadata.distribution("paddlex-ml").read_text("direct_url.json")
        parts = urlsplit(json.loads(note or "{}")["url"])
        path = url2pathname(parts.path)
        if parts.scheme == "file" and os.path.exists(path):
            return path
    return "paddlex-ml"


def command() -> str:
    """The words before the options: `python main.py`, `python -m paddlex_ml` or `paddlex-ml`."""
    started = sys.argv[0]
    if Path(started).name == "main.py":
        return f"{python()} {systems.quote(started)}"
    if Path(started).stem == "paddlex-ml" and _is_found("paddlex-ml", started):
        return "paddlex-ml"
    return f"{python()} -m paddlex_ml"


def documents() -> Path:
    """The folder of the pages about this program: beside the package in a clone, else in it."""
    package = Path(__file__).resolve().parent
    return (package.parent if _is_clone() else package) / "docs"  # setup.cfg puts the pages there


def _is_clone() -> bool:
    clone = Path(__file__).resolve().parent.parent
    return (clone / "docs" / "architecture.md").is_file() and (clone / "setup.cfg").is_file()


def page(name: str) -> str:
    """The path of a page, such as data.md, as short as the working folder allows."""
    path = documents() / name
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def child() -> list[str]:
    """The words that start this program in a process of its own, as `command` does in a shell."""
    started = Path(sys.argv[0])
    if started.name.endswith("main.py") and started.name != "__main__.py":
        return [sys.executable, str(started.absolute())]
    return [sys.executable, "-m", "paddlex_ml"]


def _is_found(name: str, path: str) -> bool:
    """Whether a shell finds `path` when it looks for the command `name`.

    Links are followed for the folders alone: python of a virtual environment is a link to the
    python that made it, which has other packages.
    """
    found = shutil.which(name, path=_searched_by_shells())
    if not found or not path or not os.path.exists(path):
        return False
    folder, own = os.path.dirname(found), os.path.dirname(os.path.abspath(path))
    return os.path.samefile(folder, own) and os.path.samefile(found, path)


def _searched_by_shells() -> str:
    """PATH without the folder that `uvx` and `uv run` put before it, for this process alone."""
    searched = os.environ.get("PATH", "")
    return searched.partition(os.pathsep)[2] if "UV" in os.environ else searched
