# SPDX-License-Identifier: Apache-2.0
"""The git state of the folder in which a command was started: its commit, and what differs from it.

A repository may be a stranger's, and the settings in its .git/config name programs: fsmonitor,
external differences, filters, hooks. So git reads them only for questions that start no program.
The difference is found with a folder of settings of our own, which has the objects and the index of
the repository and nothing else of it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from paddlex_ml.storage import temporary

LIMIT = 10.0
"""Seconds that git may take for an answer."""
_HARMLESS = "filemode|autocrlf|eol|symlinks|ignorecase|trustctime|checkstat|precomposeunicode"
"""Settings of the section core that say how the files of a folder are read, and name no program."""
_LARGEST_INDEX = 1 << 30
"""Bytes: five million files have less."""
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class GitState(msgspec.Struct, frozen=True, kw_only=True):
    """What git says about a folder."""

    commit: str | None = None
    is_dirty: bool | None = None
    """Whether files that git tracks differ from the commit; None: not known."""
    difference: str | None = None
    """SHA-256 of that difference; None: there is none, or it is not known."""
    note: str = ""
    """Why something is not known; "": all of it is."""


def describe(folder: Path | None = None, *, limit: float = LIMIT) -> GitState:
    """The state of a folder, None: of the working folder; each question takes `limit` s at most.

    Never raises: what is not known is told in `note`. Files that git does not track do not count.
    """
    commit = None
    try:
        place = Path.cwd() if folder is None else folder
        program = shutil.which("git")
        if program is None or Path(program).parent.resolve() == place.resolve():
            return GitState(note="git is not installed")
        git = _Git(program, place, limit)
        found = git.ask("rev-parse", "--show-toplevel", "--git-path", "objects",
                        "--git-path", "index")  # fmt: skip
        if found.returncode:
            return GitState(note=_explain(found.stderr))
        commit = os.fsdecode(git.ask("rev-parse", "--verify", "--quiet", "HEAD").stdout).strip()
        if not _COMMIT.fullmatch(commit):
            return GitState(note="the repository has no commit")
        lines = os.fsdecode(found.stdout).removesuffix("\n").split("\n")
        if len(lines) != 3:
            return GitState(commit=commit, note="the path of the repository has a line end in it")
        top, objects, index = (place / line for line in lines)
        with tempfile.TemporaryDirectory(prefix="git-", dir=temporary.own_folder()) as aside:
            own = Path(aside)
            _make_own_settings(own, commit, index)
            difference = git.find_difference(own, top, objects)
    except subprocess.TimeoutExpired:
        return GitState(commit=commit, note=f"git gave no answer within {limit:g} s")
    except OSError as error:
        return GitState(commit=commit, note=f"git cannot be asked: {error.strerror or error}")
    if difference is None:
        return GitState(commit=commit, note="git cannot compare the files with the commit")
    return GitState(commit=commit, is_dirty=difference != "", difference=difference or None)


class _Git:
    """Questions to git about one folder."""

    def __init__(self, program: str, folder: Path, limit: float) -> None:
        self._program, self._folder, self._limit = program, folder, limit

    def ask(
        self, *words: str, environment: Mapping[str, str] = os.environ
    ) -> subprocess.CompletedProcess[bytes]:
        """Raises OSError where it cannot be started, and TimeoutExpired."""
        return subprocess.run(  # noqa: S603  # no shell; words that are fixed here
            [self._program, *words],
            cwd=self._folder,
            env={**environment, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=self._limit,
            check=False,
        )

    def find_difference(self, own: Path, top: Path, objects: Path) -> str | None:
        """SHA-256 of the difference between commit and files; "" without one, None: not known.

        own: the folder of our settings; top, objects: of the repository.
        """
        settings = []
        answer = self.ask("config", "--null", "--get-regexp", rf"^core\.({_HARMLESS})$").stdout
        for entry in os.fsdecode(answer).split("\0"):
            name, _, value = entry.partition("\n")
            if re.fullmatch(r"[a-z]{1,12}", value, re.IGNORECASE):
                settings += ["-c", f"{name}={value}"]
        user = {key: text for key, text in os.environ.items() if not key.startswith("GIT_")}
        answered = self.ask(
            *settings, "--no-pager", "diff", "--no-ext-diff", "--no-textconv", "--no-color",
            "--no-renames", "--full-index", "--ignore-submodules=dirty", "HEAD", "--",
            environment={
                **user,
                "GIT_DIR": str(own),
                "GIT_WORK_TREE": str(top),
                "GIT_OBJECT_DIRECTORY": str(objects.resolve()),
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_CONFIG_GLOBAL": os.devnull,
                "GIT_ATTR_NOSYSTEM": "1",
                "GIT_NO_LAZY_FETCH": "1",
                "GIT_TERMINAL_PROMPT": "0",
            },
        )  # fmt: skip
        if answered.returncode:
            return None
        # The line `index` has the hash of every content: also that of a binary file.
        return hashlib.sha256(answered.stdout).hexdigest() if answered.stdout else ""


def _make_own_settings(own: Path, commit: str, index: Path) -> None:
    """Make a folder that git takes for a repository at this commit, with this index."""
    # Of larger files the difference has hashes alone, and is never long.
    text = "[core]\n\trepositoryformatversion = 1\n\tbare = false\n\tbigFileThreshold = 1m\n"
    text += "[extensions]\n\tobjectformat = sha256\n" if len(commit) == 64 else ""
    (own / "config").write_text(text)
    (own / "HEAD").write_text(f"{commit}\n")
    for name in ("objects", "refs"):
        (own / name).mkdir()
    if index.is_file():
        if index.stat().st_size > _LARGEST_INDEX:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        # With its time: git compares it with those of the files.
        shutil.copy2(index, own / "index")


def _explain(said: bytes) -> str:
    """Why git has found no repository, in words of ours: its own may have anything in them."""
    if b"dubious ownership" in said or b"safe.directory" in said:
        return "git refuses the repository, which belongs to another user (safe.directory)"
    if b"must be run in a work tree" in said:
        return "the folder is inside of a repository without files"
    return "the folder belongs to no git repository"
