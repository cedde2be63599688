# SPDX-License-Identifier: Apache-2.0
"""Run commands, or the steps of a Dockerfile, in a Debian root that has nothing else in it.

    python benchmarks/clean_root.py --suite trixie 'apt-get install ...' 'make demo' 'make test'
    python benchmarks/clean_root.py --dockerfile deploy/Dockerfile -- --version

The first form copies this checkout to /source and runs each command there, in a shell, as root. The
second one does what `docker build` would do, for the instructions that our files have (FROM, ARG,
RUN, COPY, ENV, WORKDIR, USER, ENTRYPOINT, CMD), and then runs the image with these words, as its
user, in a folder that this user owns. It is no container: nothing but the root folder and the
mounts are of its own.

Linux, as root, with debootstrap. The sources and keys of apt, the configuration of pip and the
certificates are copied from this machine, because a registry may be reached in no other way.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
AS_HERE = (
    *("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/apt/apt.conf.d"),
    *("/etc/ssl/certs", "/usr/local/share/ca-certificates"),
)
PASSED_ON = ("PIP_", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "SSL_CERT_FILE")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SUITE = "bookworm"


@dataclass
class Stage:
    """One root folder, and what the instructions so far have set."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    folder_inside: str = "/"
    user: str = "0:0"
    entry: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def run(self, words: list[str]) -> None:
        """Run a command inside. Raises CalledProcessError where it fails."""
        inside = ["chroot", f"--userspec={self.user}", str(self.folder), "/usr/bin/env", "-i"]
        passed = {k: v for k, v in os.environ.items() if k.startswith(PASSED_ON)}
        passed = {"PATH": SYSTEM_PATH, "HOME": "/root", **passed, **self.variables}
        there = shlex.join(["cd", self.folder_inside]) + " && " + shlex.join(["exec", *words])
        inside += [*(f"{k}={v}" for k, v in passed.items()), "/bin/sh", "-c", there]
        mounts = [
            f"mount --rbind /dev {shlex.quote(str(self.folder / 'dev'))}",
            f"mount -t proc proc {shlex.quote(str(self.folder / 'proc'))}",
            f"mount -t tmpfs tmpfs {shlex.quote(str(self.folder / 'tmp'))}",
            f"chmod 1777 {shlex.quote(str(self.folder / 'tmp'))}",
            shlex.join(["exec", *inside]),
        ]
        # The mounts are of this process alone, and end with it.
        subprocess.run(["unshare", "--mount", "sh", "-ec", "\n".join(mounts)], check=True)


def main() -> int:
    """Run what the command line says; returns the exit code of what failed, or 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", default=SUITE, help="of Debian (default: %(default)s)")
    parser.add_argument("--dockerfile", type=Path)
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("words", nargs="*", help="commands, or words for the image")
    given = parser.parse_args()
    if os.geteuid() or not shutil.which("debootstrap"):
        parser.error("needs root, and debootstrap: apt-get install debootstrap")
    with tempfile.TemporaryDirectory(prefix="clean_root-") as folder:
        roots = Path(folder)
        try:
            if given.dockerfile:
                arguments = dict(each.split("=", 1) for each in given.build_arg)
                image = _build(given.dockerfile, roots, arguments)
                _give_to_user(image)
                image.run([*image.entry, *(given.words or image.words)])
            else:
                stage = Stage(_make_root(given.suite, roots / "root"), folder_inside="/source")
                _copy_checkout(stage.folder / "source", None)
                for command in given.words:
                    _timed(stage, ["/bin/sh", "-ec", command], command)
        except subprocess.CalledProcessError as error:
            return error.returncode
    return 0


def _timed(stage: Stage, words: list[str], shown: str) -> None:
    print(f"== {shown}", flush=True)
    begin = time.monotonic()
    stage.run(words)
    print(f"== {time.monotonic() - begin:.0f} s", flush=True)


def _make_root(suite: str, folder: Path) -> Path:
    """A minimal Debian, with what this machine needs to reach the registries."""
    print(f"== debootstrap {suite}", flush=True)
    # It mounts /proc in there: where it is killed, nothing may be left that a removal would enter.
    subprocess.run(
        ["unshare", "--mount", "debootstrap", "--variant=minbase", "--include=ca-certificates",
         suite, str(folder)],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    for name in filter(os.path.exists, AS_HERE):
        subprocess.run(
            ["cp", "-a", "--remove-destination", "--parents", name, str(folder)], check=True
        )
    return folder


def _build(dockerfile: Path, roots: Path, arguments: dict[str, str]) -> Stage:
    """Do the instructions in turn. Returns the last stage."""
    bases: dict[str, Path] = {}
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    for word, text in _instructions(dockerfile.read_text(encoding="utf-8")):
        if word == "FROM":
            base, _, name = text.partition(" AS ")
            suite = re.fullmatch(r"debian:(\w+)-slim", base)
            assert suite is not None, f"FROM {base}: only debian:SUITE-slim"
            if suite[1] not in bases:
                bases[suite[1]] = _make_root(suite[1], roots / f"base-{suite[1]}")
            folder = roots / f"stage-{len(stages)}"
            subprocess.run(["cp", "-a", str(bases[suite[1]]), str(folder)], check=True)
            stage = stages[name or str(len(stages))] = Stage(folder)
            continue
        assert stage is not None
        if word == "COPY":
            _copy(stage, stages, shlex.split(text))
        elif word == "RUN":
            _timed(stage, ["/bin/sh", "-ec", text], f"RUN {text}")
        elif word == "ARG":
            name, _, default = text.partition("=")
            stage.variables[name] = arguments.get(name, default)
        elif word == "ENV":
            stage.variables |= dict(each.split("=", 1) for each in shlex.split(text))
        elif word == "WORKDIR":
            stage.folder_inside = text
            Path(stage.folder, text.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "USER":
            stage.user = text
        elif word in ("ENTRYPOINT", "CMD"):
            setattr(stage, "entry" if word == "ENTRYPOINT" else "words", json.loads(text))
        else:
            raise AssertionError(f"{word} is not known here")
    assert stage is not None
    return stage


def _instructions(text: str) -> list[tuple[str, str]]:
    """The instructions without comments, each on one line."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found = [line.strip().partition(" ") for line in joined.splitlines() if line.strip()]
    return [(word, re.sub(r" {2,}", " ", rest.strip())) for word, _, rest in found]


def _copy(stage: Stage, stages: dict[str, Stage], words: list[str]) -> None:
    if words[0].startswith("--from="):
        source = stages[words[0].removeprefix("--from=")].folder / words[1].lstrip("/")
        target = stage.folder / words[2].lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", str(source), str(target)], check=True)
        return
    assert words == [".", "."], f"COPY {words}: only all of the checkout"
    target = Path(stage.folder, stage.folder_inside.lstrip("/"))
    _copy_checkout(target, ROOT / ".dockerignore")


def _copy_checkout(target: Path, ignored: Path | None) -> None:
    """Copy the files that git knows; with .dockerignore, those that it lets through (`!name`)."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    chosen = None
    if ignored is not None:
        lines = ignored.read_text(encoding="utf-8").splitlines()
        chosen = {line[1:] for line in lines if line.startswith("!")}
    for name in filter(None, listed.stdout.split("\0")):
        if chosen is None or name.split("/")[0] in chosen:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name, follow_symlinks=False)


def _give_to_user(image: Stage) -> None:
    """The folder that `docker run -v` would mount belongs to the user."""
    user, group = (int(each) for each in image.user.split(":"))
    os.chown(Path(image.folder, image.folder_inside.lstrip("/")), user, group)


if __name__ == "__main__":
    sys.exit(main())
