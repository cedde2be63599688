# SPDX-License-Identifier: Apache-2.0
"""What `pip install .[cpu]` brings, how long it takes, and what of it the main job uses.

    python benchmarks/installed_size.py                 packages are downloaded
    python benchmarks/installed_size.py --with-cache    those that pip has kept are not

Copies the checkout, installs it into a fresh virtual environment, lets the whole main job run
there on a tiny data set (draw, check, train, evaluate, export, predict; one image is fetched from
a server on this machine), and prints a table of the packages: size on the disk, which requirement
of ours needs it, and whether the main job tried to import it. `--without NAME` removes a package
before the job: does it end all the same?
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
OURS = "paddlex-ml"
# Every process of the environment writes down what it tries to import.
_RECORDER = """
import os, sys
_seen = set()
def _record(event, arguments):
    if event == "import":
        name = arguments[0].partition(".")[0]
        if name not in _seen:
            _seen.add(name)
            with open(os.environ["IMPORTED"], "a") as file:
                file.write(name + "\\n")
if "IMPORTED" in os.environ:
    sys.addaudithook(_record)
"""


@dataclass(frozen=True)
class Package:
    """One distribution of the environment."""

    name: str
    version: str
    size: int
    """Bytes on the disk, compiled modules included."""
    modules: frozenset[str]
    needs: frozenset[str]
    """Names of the distributions that it requires here, with every extra that somebody asks for."""


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        pass


def main() -> None:
    """Install, run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--with-cache", action="store_true")
    parser.add_argument("--without", nargs="+", default=[], metavar="NAME")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="installed_size-") as name:
        folder = Path(name)
        _copy_checkout(folder / "source")
        environment = folder / "environment"
        venv.create(environment, with_pip=True)
        python = str(environment / "bin" / "python")
        before = {package.name for package in _packages(python)}
        seconds = _install(python, folder / "source", with_cache=given.with_cache)
        packages = [each for each in _packages(python) if each.name not in before]
        size = _size_of(environment)
        if given.without:
            subprocess.run([python, "-m", "pip", "uninstall", "-qy", *given.without], check=True)
        imported = _run_main_job(python, folder)
    cache = "from pip's cache" if given.with_cache else "without pip's cache"
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}")
    print(f"pip install .[cpu], {cache}: {seconds:.0f} s; the environment: {size / 1e6:.0f} MB\n")
    print(_table(packages, imported))


def _copy_checkout(target: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


def _install(python: str, source: Path, *, with_cache: bool) -> float:
    command = [python, "-m", "pip", "install", "--quiet", f"{source}[cpu]"]
    begin = time.monotonic()
    subprocess.run(command + ([] if with_cache else ["--no-cache-dir"]), check=True)
    return time.monotonic() - begin


def _size_of(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def _packages(python: str) -> list[Package]:
    """The distributions of an environment, as pip sees them."""
    shown = subprocess.run(
        [python, "-m", "pip", "inspect", "--local"], check=True, capture_output=True, text=True
    )
    report = json.loads(shown.stdout)
    extras = {(OURS, "cpu")}
    while True:  # a package may ask for an extra of another, as httpx[socks]
        wanted = [_wanted(each, report["environment"], extras) for each in report["installed"]]
        every = [each for needs in wanted for each in needs]
        more = {(canonicalize_name(each.name), name) for each in every for name in each.extras}
        if more <= extras:
            break
        extras |= more
    return [_package(*each) for each in zip(report["installed"], wanted, strict=True)]


def _wanted(
    found: dict[str, Any], environment: dict[str, str], extras: set[tuple[str, str]]
) -> list[Requirement]:
    """What a distribution requires here, with those of its extras that somebody asks for."""
    name = canonicalize_name(found["metadata"]["name"])
    chosen = ["", *(extra for user, extra in extras if user == name)]
    return [
        each
        for each in map(Requirement, found["metadata"].get("requires_dist", []))
        if each.marker is None
        or any(each.marker.evaluate({**environment, "extra": extra}) for extra in chosen)
    ]


def _package(found: dict[str, Any], wanted: list[Requirement]) -> Package:
    metadata, record = found["metadata"], Path(found["metadata_location"]) / "RECORD"
    lines = record.read_text(encoding="utf-8").splitlines() if record.is_file() else []
    files = [line.rsplit(",", 2)[0].strip('"') for line in lines]
    paths = [path for file in files if (path := record.parent.parent / file).is_file()]
    return Package(
        name=canonicalize_name(metadata["name"]),
        version=metadata["version"],
        size=sum(path.stat().st_size for path in paths),
        modules=frozenset(Path(file).parts[0].partition(".")[0] for file in files),
        needs=frozenset(canonicalize_name(each.name) for each in wanted),
    )


def _run_main_job(python: str, folder: Path) -> set[str]:
    """Run each mode on a tiny data set. Returns the modules that were asked for."""
    imported = folder / "imported.txt"
    imported.touch()
    (site,) = Path(python).parent.parent.glob("lib/python*/site-packages")
    (site / "sitecustomize.py").write_text(_RECORDER, encoding="utf-8")
    data, output = folder / "shapes", folder / "output"
    start = [python, "-m", "paddlex_ml"]
    first = [*start, "-c", "PP-LCNet_x1_0_ML"]
    first += ["-o", f"Global.dataset_dir={data}", f"Global.output={output}", "Global.device=cpu"]
    small = ["Train.image_size=64", "Train.epochs_iters=1", "Train.warmup_steps=0"]
    small += ["Train.pretrain_weight_path=null", "Train.learning_rate=0.002"]
    later = [*start, "-c", str(output / "config.yaml"), "-o"]
    handler = functools.partial(_Silent, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    for command in (
        [*start, "--demo", str(data)],
        [*first, "Global.mode=check_dataset"],
        [*first, "Global.mode=train", *small],
        [*later, "Global.mode=evaluate"],
        [*later, "Global.mode=export"],
        [*later, "Global.mode=predict", f"Predict.input={data}/images/00000?.jpg"],
        [*later, "Global.mode=predict", f"Predict.input={address}/shapes/images/000001.jpg"],
    ):
        print(" ".join(command[1:]), file=sys.stderr, flush=True)
        subprocess.run(
            command, cwd=folder, env={**os.environ, "IMPORTED": str(imported)}, check=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    server.shutdown()
    return set(imported.read_text(encoding="utf-8").split())


def _table(packages: list[Package], imported: set[str]) -> str:
    by_name = {package.name: package for package in packages}
    direct = by_name[OURS].needs
    rows = ["| package | version | MB | needed by | imported |", "|---|---|---:|---|---|"]
    for each in sorted(packages, key=lambda package: -package.size):
        users = sorted(user for user in direct if each.name in _closure(by_name, [user]) - {user})
        by = ["this project"] * (each.name in direct) + users
        used = "yes" if each.modules & imported else "no"
        size = f"{each.size / 1e6:.1f}"
        shown = ", ".join(by) or "-"
        rows.append(f"| {each.name} | {each.version} | {size} | {shown} | {used} |")
    total = sum(package.size for package in packages) / 1e6
    return "\n".join([*rows, "", f"{len(packages)} packages, {total:.0f} MB."])


def _closure(by_name: dict[str, Package], names: Iterable[str]) -> set[str]:
    """These packages, and all that they require."""
    found: set[str] = set()
    queue = list(names)
    while queue:
        name = queue.pop()
        if name in by_name and name not in found:
            found.add(name)
            queue += by_name[name].needs
    return found


if __name__ == "__main__":
    main()
