# SPDX-License-Identifier: Apache-2.0
"""Changing several files of a data set as one: old or new after a kill, and every original kept.

    new texts -> .paddlex_ml/0001.new/   the new files, complete and on the disk
              -> .paddlex_ml/0001.json   the record: from here on the change will happen
              -> train.txt.bak ...       originals are renamed
              -> train.txt ...           new files take their names
              -> 0001.new is removed     the change is done

A kill before the record leaves the old data set. After it `finish_interrupted` finishes the
change; everything that reads a data set calls it first. An original stays as it is unless a new
file needs its name, and no backup is ever overwritten: .bak, .bak.1, .bak.2, ...
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import msgspec
from filelock import Timeout

from paddlex_ml import program
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import files, folders

FOLDER = ".paddlex_ml"
"""Records of all changes, inside the data set."""

_WAIT = 600.0  # seconds for another process, which needs a minute at most for its new lists
_BACKUP = re.compile(r"(?P<file>.+)\.bak(?:\.(?P<number>[0-9]+))?")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Transaction:
    """One change of a data set; paths are relative to it, with "/"."""

    what: str
    aside: list[tuple[str, str]] = field(default_factory=list)
    """File -> its backup. All of these come before the first new file."""
    arrive: list[tuple[str, str]] = field(default_factory=list)
    """Staged file (or backup, when a change is taken back) -> its path."""
    undoes: int | None = None
    """Number of the change that this one takes back; 0: backups without a record."""
    when: str = ""

    def lines(self) -> list[str]:
        """What was done to each file, a line each."""
        new = sorted({path for _, path in self.arrive})
        renamed = [f"{old} is now {backup}" for old, backup in self.aside]
        return renamed + [f"{path} is written" for path in new]


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Keep other processes from changing the data set, and finish what a kill interrupted.

    Read and write back inside this context: no other process changes the files in between. Raises
    PaddlexMLError where the folder cannot be written, and when another process does not end.
    """
    if not root.is_dir():
        raise PaddlexMLError(
            f"the data set folder {root} " + ("is a file" if root.exists() else "does not exist"),
            where=str(root),
            fix="name the folder that holds the images and their annotations",
        )
    # Not in the data set: a command that changes nothing in the end must write nothing there.
    lock = files.lock_of(root)
    with _explained(root):
        try:
            files.wait_for(lock, root, timeout=_WAIT)
        except Timeout as error:
            raise PaddlexMLError(
                "another process has been changing this data set for ten minutes",
                where=str(root),
                fix="wait for it, or end it; then run again",
            ) from error
    try:
        with _explained(root):
            _finish(root)
        yield
    finally:
        lock.release()


def apply(
    root: Path, what: str, texts: Mapping[str, str], retire: Sequence[Path] = ()
) -> Transaction:
    """Write `texts` (path relative to `root` -> content) and make backups of `retire`, as one.

    A file that exists becomes a backup, unless it has this content already. Returns what was done:
    an empty transaction where nothing differs. Raises PaddlexMLError where the folder cannot be
    written.
    """
    with writing(root), _explained(root):
        new = {name: text.encode("utf-8", "surrogateescape") for name, text in texts.items()}
        new = {name: content for name, content in new.items() if not _holds(root / name, content)}
        retired = [path.relative_to(root).as_posix() for path in retire]
        leaving = [n for n in dict.fromkeys([*retired, *new]) if os.path.lexists(root / n)]
        if not leaving and not new:
            return Transaction(what)
        number = max(_numbers(root, "json"), default=0) + 1
        staged = _path(root, number, "new")
        staged.mkdir(parents=True)
        try:
            for i, content in enumerate(new.values()):
                (staged / str(i)).write_bytes(content)
            folders.flush(staged)
            change = Transaction(
                what,
                aside=_choose_free_names(root, leaving, "bak"),
                arrive=[(f"{FOLDER}/{staged.name}/{i}", name) for i, name in enumerate(new)],
            )
            _record(root, number, change)
        except BaseException:
            if not _path(root, number, "json").exists():
                shutil.rmtree(staged, ignore_errors=True)
            raise
        _carry_out(root, number, change)
        return change


def undo(root: Path) -> Transaction:
    """Take back the last change that was not taken back yet: its backups get their names again.

    The files that it wrote are renamed to .undone. Without a record (a backup of another tool) the
    newest backup of every file is put back. Raises PaddlexMLError when there is none.
    """
    with writing(root), _explained(root):
        numbers = _numbers(root, "json")
        changes = {number: _read_record(root, number) for number in numbers}
        undone = {change.undoes for change in changes.values()}
        free = [n for n, change in changes.items() if change.undoes is None and n not in undone]
        last = max(free, default=0)
        change = changes.get(last)
        backups = change.aside if change else _find_newest_backups(root)
        written = [name for _, name in change.arrive] if change else []
        gone = [backup for _, backup in backups if not os.path.lexists(root / backup)]
        if gone or not (backups or written):
            raise PaddlexMLError(
                f"the backup {gone[0]} is gone" if gone else "there is no backup to put back",
                where=str(root),
                fix="backups are beside the files and end in .bak: was this folder converted or "
                "split again?",
            )
        names = dict.fromkeys([*written, *(name for name, _ in backups)])
        away = [name for name in names if os.path.lexists(root / name)]
        back = Transaction(
            what=f"taken back: {change.what}" if change else "newest backups put back",
            aside=_choose_free_names(root, away, "undone"),
            arrive=[(backup, name) for name, backup in backups],
            undoes=last,
        )
        number = max(numbers, default=0) + 1
        _path(root, number, "new").mkdir(parents=True)
        _record(root, number, back)
        _carry_out(root, number, back)
        return back


def finish_interrupted(root: Path) -> None:
    """Finish a change that a kill interrupted; without one it costs one listing of a folder."""
    if _numbers(root, "new"):
        with writing(root):
            pass


def undo_command(root: Path) -> str:
    """The command line that takes the last change back, ready to be pasted."""
    tool = Path(__file__).resolve().parents[2] / "dataset_tools" / "restore_backup.py"
    # In a clone the tools are beside the package, installed they are a part of it.
    name = os.path.relpath(tool) if tool.is_file() else "-m paddlex_ml.dataset_tools.restore_backup"
    return f"{program.python()} {name} {shlex.quote(str(root))}"


def _find_newest_backups(root: Path) -> list[tuple[str, str]]:
    """File -> its backup with the highest number, for the lists and the annotations."""
    newest: dict[str, tuple[int, str]] = {}
    for prefix in ("", "annotations/"):
        with suppress(OSError):
            for name in sorted(os.listdir(root / prefix)):
                if match := _BACKUP.fullmatch(prefix + name):
                    backup = int(match["number"] or 0), match[0]
                    newest[match["file"]] = max(newest.get(match["file"], backup), backup)
    return [(name, backup) for name, (_, backup) in newest.items()]


def _finish(root: Path) -> None:
    """Carry out what is recorded, and drop what was never recorded."""
    for number in _numbers(root, "new"):
        if _path(root, number, "json").exists():
            change = _read_record(root, number)
            _log.warning("finishing an interrupted change of %s: %s", root, change.what)
            _carry_out(root, number, change)
        else:
            _drop(_path(root, number, "new"))
    for path in (root / FOLDER).glob(".[0-9]*.json.*"):  # a record that was never complete
        path.unlink()


def _carry_out(root: Path, number: int, change: Transaction) -> None:
    """Do what is left of a change; each step may have been done before."""
    for old, backup in change.aside:
        if os.path.lexists(root / old) and not os.path.lexists(root / backup):
            os.rename(root / old, root / backup)
    for source, name in change.arrive:
        if not os.path.lexists(root / source):
            continue
        if os.path.lexists(root / name):  # written between the kill and now
            ((_, backup),) = _choose_free_names(root, [name], "bak")
            os.rename(root / name, root / backup)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        os.rename(root / source, root / name)
    for folder in {(root / name).parent for pair in change.aside + change.arrive for name in pair}:
        if folder.is_dir():
            files.flush_folder(folder)
    _drop(_path(root, number, "new"))


def _drop(staged: Path) -> None:
    with files.where_possible("empty folders stay"):
        shutil.rmtree(staged)


def _record(root: Path, number: int, change: Transaction) -> None:
    when = datetime.now(timezone.utc).isoformat(timespec="seconds")
    files.write_json(_path(root, number, "json"), {**asdict(change), "when": when})
    files.flush_folder(root / FOLDER)


def _read_record(root: Path, number: int) -> Transaction:
    path = _path(root, number, "json")
    try:
        return msgspec.json.decode(path.read_bytes(), type=Transaction)
    except msgspec.MsgspecError as error:
        raise PaddlexMLError(
            f"the record of a change is damaged: {error}",
            where=str(path),
            fix="look which .bak files are beside train.txt, rename them by hand, and move this "
            "record away",
        ) from error


def _numbers(root: Path, ending: str) -> list[int]:
    """Numbers of the changes with a record ("json") or with staged files ("new"), in order."""
    try:
        names = os.listdir(root / FOLDER)
    except OSError:
        return []
    matches = (re.fullmatch(rf"([0-9]{{4,}})\.{ending}", name) for name in names)
    return sorted(int(match[1]) for match in matches if match)


def _path(root: Path, number: int, ending: str) -> Path:
    return root / FOLDER / f"{number:04d}.{ending}"


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False


def _choose_free_names(root: Path, names: Iterable[str], ending: str) -> list[tuple[str, str]]:
    """Each name with its new one: .bak (or .undone) added, and a number when that is taken."""
    chosen: dict[str, str] = {}
    for name in names:
        chosen[name] = next(
            free
            for free in files.backup_names(name, ending)
            if not os.path.lexists(root / free) and free not in chosen.values()
        )
    return list(chosen.items())


@contextmanager
def _explained(root: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, NotImplementedError) as error:  # the second: a disk that knows no locks
        if isinstance(error, OSError) and files.explain(error) is None:
            raise
        raise PaddlexMLError(
            f"the data set cannot be changed: {getattr(error, 'strerror', None) or error}",
            where=str(getattr(error, "filename", None) or root),
            fix="make the folder writable and free some space there, or work on a copy of it",
        ) from error
