# SPDX-License-Identifier: Apache-2.0
"""Checks, builds and tries a release; then only tag and push remain: make release VERSION=0.2.0

Before it, commit the version in paddlex_ml/__init__.py and its dated section in CHANGELOG.md. Then:
no uncommitted change -> make check -> sdist and wheel in dist/ -> the wheel in a fresh environment
outside the clone, where the commands of the demo run -> sha256 sums.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from packaging.version import InvalidVersion, Version

from paddlex_ml import terminal
from paddlex_ml.errors import Lines, PaddlexMLError

ROOT = Path(__file__).resolve().parent.parent
HOME = "paddlex_ml/__init__.py"
"""The one file that holds the version."""
LOG = "CHANGELOG.md"
SECTION = re.compile(r"^## \[(.+?)\](?: - (\d{4}-\d{2}-\d{2}))?$", re.MULTILINE)
TINY = [
    *("Train.image_size=32", "Train.batch_size=8", "Train.epochs_iters=1", "Train.num_workers=0"),
    *("Train.warmup_steps=0.5", "Train.pretrain_weight_path=null", "Global.device=cpu"),
]


def main() -> None:
    """Run every step, or stop at the first one that fails."""
    parser = terminal.Parser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("version", help="such as 0.2.0")
    parser.add_argument("--skip-check", action="store_true", help="do not run make check")
    arguments = parser.parse_args()
    version = arguments.version
    validate(ROOT, version)
    if not arguments.skip_check:
        run(["make", "check"], ROOT)
    built = build(ROOT, version)
    wheel = next(path for path in built if path.suffix == ".whl")
    with tempfile.TemporaryDirectory(prefix="paddlex_ml_release_") as folder:
        try_wheel(wheel, Path(folder).resolve(), version)
    print(f"\npaddlex_ml {version} is ready:")
    for path in built:
        print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(ROOT)}")
    print(f"\nleft to do:\n  git tag -a v{version} -m 'paddlex_ml {version}'")
    print(f"  git push origin HEAD v{version}")


def validate(root: Path, text: str) -> None:
    """Raise PaddlexMLError unless the clone `root`, as it is committed, is this version."""
    try:
        version = Version(text)
    except InvalidVersion:
        raise PaddlexMLError(
            f"{text!r} is no version by PEP 440",
            where="VERSION",
            fix="make release VERSION=0.2.0",
        ) from None
    if text != str(version) or version.local:
        raise PaddlexMLError(
            f"{text} is not the normal spelling of a public version",
            where="VERSION",
            fix=f"make release VERSION={version.public}",
        )
    if changed := output_of(["git", "status", "--porcelain"], root):
        raise PaddlexMLError(
            Lines(f"the working tree has changes that are not committed:\n{changed}"),
            where=str(root),
            fix="commit or stash them",
        )
    if (present := read_version(root)) != text:
        raise PaddlexMLError(
            f"the version of the package is {present}, not {text}",
            where=HOME,
            fix=f'write __version__ = "{text}" and commit it',
        )
    _validate_changelog(root, version)
    tagged = [
        tag.removeprefix("v") for tag in output_of(["git", "tag", "--list", "v*"], root).split()
    ]
    _require_greater(version, tagged, "the tags of git")


def _validate_changelog(root: Path, version: Version) -> None:
    """Raise unless the newest section is the one of `version`, dated, with nothing unreleased."""
    text = (root / LOG).read_text(encoding="utf-8")
    sections = list(SECTION.finditer(text))
    names = [section[1] for section in sections]
    fix = f"rename the section Unreleased to [{version}] - YYYY-MM-DD, and begin an empty one"
    if str(version) not in names:
        raise PaddlexMLError(f"no section [{version}]", where=LOG, fix=fix)
    place = names.index(str(version))
    if sections[place][2] is None:
        raise PaddlexMLError(
            f"the section [{version}] has no date",
            where=LOG,
            fix=f"## [{version}] - YYYY-MM-DD",
        )
    if any(line.startswith("- ") for line in text[: sections[place].start()].splitlines()):
        raise PaddlexMLError(f"there are entries above the section [{version}]", where=LOG, fix=fix)
    _require_greater(version, names[place + 1 :], f"the sections below [{version}] in {LOG}")


def _require_greater(version: Version, earlier: list[str], where: str) -> None:
    newest = max(map(Version, earlier), default=None)
    if newest is not None and version <= newest:
        raise PaddlexMLError(
            f"{version} is not greater than {newest}, which has been released",
            where=where,
            fix="choose a greater version",
        )


def read_version(root: Path) -> str:
    """The version in the source code of the clone `root`."""
    for node in ast.parse((root / HOME).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__":
            return str(ast.literal_eval(node.value))
    raise PaddlexMLError("no __version__ is set", where=HOME, fix='__version__ = "0.2.0"')


def build(root: Path, version: str) -> list[Path]:
    """Write sdist and wheel, the wheel from the sdist, into an empty dist/."""
    shutil.rmtree(root / "dist", ignore_errors=True)
    run([sys.executable, "-m", "build", "--no-isolation"], root)
    built = sorted((root / "dist").iterdir())
    assert len(built) == 2
    assert all(f"-{version}" in path.name for path in built)
    return built


def try_wheel(wheel: Path, folder: Path, version: str) -> None:
    """Install the wheel into an environment of its own and run the demo's commands there."""
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    quiet = ("--quiet", "--disable-pip-version-check", "--progress-bar", "off")
    run([str(python), "-m", "pip", "install", *quiet, f"{wheel}[cpu]"], folder)
    code = "import paddlex_ml; print(paddlex_ml.__version__, paddlex_ml.__file__)"
    present, path = output_of([str(python), "-c", code], folder).split(maxsplit=1)
    assert present == version
    assert Path(path).is_relative_to(folder), path

    tool = "paddlex_ml.dataset_tools.make_demo_dataset"
    run([str(python), "-m", tool, "--output", "shapes", "--images", "60"], folder)
    command = [str(python.with_name("paddlex-ml")), "-c"]
    tiny = [word for setting in TINY for word in ("-o", setting)]
    data = ["-o", "Global.dataset_dir=shapes"]
    first = [*command, "PP-LCNet_x1_0_ML", *data, *tiny]
    later = [*command, "output/config.yaml"]
    run([*first, "-o", "Global.mode=check_dataset"], folder)
    run([*first, "-o", "Global.mode=train"], folder)
    run([*later, "-o", "Global.mode=evaluate", "-o", "Evaluate.save_threshold=true"], folder)
    run([*later, "-o", "Global.mode=export"], folder)
    run([*later, "-o", "Global.mode=predict", "-o", "Predict.input=shapes/images"], folder)
    rows = (folder / "output" / "predict" / "predictions.csv").read_text("utf-8").splitlines()
    assert len(rows) > 60


def run(command: list[str], folder: Path) -> None:
    """Run a command of a release; what it prints is shown. Raises PaddlexMLError when it fails."""
    print(f"== {' '.join(command)}", flush=True)
    code = subprocess.run(command, cwd=folder, check=False).returncode
    if code:
        raise PaddlexMLError(
            f"a command failed with exit code {code}",
            where=" ".join(command),
            fix="read its messages above",
        )


def output_of(command: list[str], folder: Path) -> str:
    """What a command prints."""
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.rstrip("\n")


if __name__ == "__main__":
    sys.exit(terminal.run_script(main))
