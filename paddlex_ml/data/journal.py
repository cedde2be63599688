# SPDX-License-Identifier: Apache-2.0
"""Changing several files of a data set as one: old or new after a kill, and every original kept.

    new texts -> .paddlex_ml/0001.new/   the new files, complete and on the disk
              -> .paddlex_ml/0001.json   the record: from here on the change will happen
              -> train.txt.bak ...       originals step aside
              -> train.txt ...           new files take their names
              -> 0001.new is removed     the change is done

A kill before the record leaves the old data set. After it `finish_interrupted` finishes the
change; everything that reads a data set calls it first. An original that is in nobody's way stays
where it is, and no backup is ever overwritten: .bak, .bak.1, .bak.2, ...
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import msgspec
from filelock import FileLock, Timeout

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import files

FOLDER = ".paddlex_ml"
"""Records of all changes, inside the data set."""

_WAIT = 600.0  # seconds for another process; its renames take none, its new lists maybe a minute
_BACKUP = re.compile(r"(?P<file>.+)\.bak(?:\.(?P<number>[0-9]+))?")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Transaction:
    """One change of a data set; paths are relative to it, with "/"."""

    what: str
    aside: list[tuple[str, str]] = field(default_factory=list)
    """File -> its backup. All of these come before the first new file."""
    arrive: list[tuple[str, str]] = field(default_factory=list)
    """Staged file (or backup, when a change is taken back) -> its place."""
    undoes: int | None = None
    """Number of the change that this one takes back; 0: backups without a record."""
    when: str = ""

    def told(self) -> list[str]:
        """What became of the files, a line each."""
        new = {place for _, place in self.arrive}
        lines = [f"{old} is now {backup}" for old, backup in self.aside]
        return lines + [f"{place} is written" for place in sorted(new)]


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Keep other processes from changing the data set, and finish what a kill interrupted.

    Reading and writing back belong inside: what was read is then still true. Raises PaddlexMLError
    where the folder cannot be written, and when another process does not end its change.
    """
    if not root.is_dir():
        raise PaddlexMLError(
            f"the data set folder {root} " + ("is a file" if root.exists() else "does not exist"),
            where=str(root),
            fix="name the folder that holds the images and their annotations",
        )
    lock = FileLock(_lock_path(root), is_singleton=True)  # one per process: it may be taken again
    with _explained(root):
        try:
            lock.acquire(timeout=_WAIT)
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

    A file that exists becomes a backup, unless it has this content already. Returns what was done;
    nothing is where nothing differs. Raises PaddlexMLError where the folder cannot be written.
    """
    with writing(root), _explained(root):
        new = {name: text.encode("utf-8", "surrogateescape") for name, text in texts.items()}
        new = {name: content for name, content in new.items() if not _holds(root / name, content)}
        retired = [path.relative_to(root).as_posix() for path in retire]
        leaving = [name for name in dict.fromkeys([*retired, *new]) if _there(root, name)]
        if not leaving and not new:
            return Transaction(what)
        number = _last_number(root) + 1
        staged = _staged(root, number)
        staged.mkdir(parents=True)
        try:
            arrive = []
            for i, (name, content) in enumerate(new.items()):
                (staged / str(i)).write_bytes(content)
                files.flush(staged / str(i))
                arrive.append((f"{FOLDER}/{staged.name}/{i}", name))
            taken: set[str] = set()
            aside = [(name, _free_name(root, name, "bak", taken)) for name in leaving]
            change = Transaction(what, aside, arrive)
            _record(root, number, change)
        except BaseException:
            if not _record_path(root, number).exists():
                shutil.rmtree(staged, ignore_errors=True)
            raise
        _carry_out(root, number, change)
        return change


def undo(root: Path) -> Transaction:
    """Take the last change back that was not taken back yet: its backups get their names again.

    The files that it made step aside as .undone. Without a record (a backup of another tool) the
    newest backup of every file is put back. Raises PaddlexMLError when there is none.
    """
    with writing(root), _explained(root):
        last = _last_to_undo(root)
        change = _read_record(root, last) if last else None
        backups = change.aside if change else _newest_backups(root)
        made = [name for _, name in change.arrive] if change else []
        gone = [backup for _, backup in backups if not _there(root, backup)]
        if gone or not (backups or made):
            raise PaddlexMLError(
                f"the backup {gone[0]} is gone" if gone else "there is no backup to put back",
                where=str(root),
                fix="backups stand beside the files and end in .bak: was this folder converted or "
                "divided anew?",
            )
        taken: set[str] = set()
        names = dict.fromkeys([*made, *(name for name, _ in backups)])
        away = [name for name in names if _there(root, name)]
        back = Transaction(
            what=f"taken back: {change.what}" if change else "newest backups put back",
            aside=[(name, _free_name(root, name, "undone", taken)) for name in away],
            arrive=[(backup, name) for name, backup in backups],
            undoes=last or 0,
        )
        number = _last_number(root) + 1
        _staged(root, number).mkdir(parents=True)
        _record(root, number, back)
        _carry_out(root, number, back)
        return back


def finish_interrupted(root: Path) -> None:
    """Finish a change that a kill interrupted; costs one look where there is none."""
    if _pending(root):
        with writing(root):
            pass


def undo_command(root: Path) -> str:
    """The command line that takes the last change back, ready to be pasted."""
    tool = Path(__file__).resolve().parents[2] / "dataset_tools" / "restore_backup.py"
    # In a clone the tools stand beside the package, installed they are a part of it.
    name = os.path.relpath(tool) if tool.is_file() else "-m paddlex_ml.dataset_tools.restore_backup"
    return f"python {name} {shlex.quote(str(root))}"


def find_backups(folder: Path) -> list[Path]:
    """The backups of a folder, in the order of their names."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    return [folder / name for name in names if _BACKUP.fullmatch(name)]


def _lock_path(root: Path) -> Path:
    # Not in the data set: where nothing is changed in the end, nothing at all shall appear.
    digest = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:16]
    user = os.getuid() if hasattr(os, "getuid") else ""
    return Path(tempfile.gettempdir()) / f"paddlex_ml-{user}-{digest}.lock"


def _last_to_undo(root: Path) -> int | None:
    changes = {number: _read_record(root, number) for number in _numbers(root, "json")}
    undone = {change.undoes for change in changes.values()}
    free = [n for n, change in changes.items() if change.undoes is None and n not in undone]
    return max(free, default=None)


def _newest_backups(root: Path) -> list[tuple[str, str]]:
    newest: dict[str, tuple[int, str]] = {}
    for path in [*find_backups(root), *find_backups(root / "annotations")]:
        match = _BACKUP.fullmatch(path.relative_to(root).as_posix())
        assert match is not None
        rank = int(match["number"] or 0), match[0]
        newest[match["file"]] = max(newest.get(match["file"], rank), rank)
    return [(name, backup) for name, (_, backup) in newest.items()]


def _finish(root: Path) -> None:
    """Carry out what is recorded, and drop what was never recorded."""
    for number in _pending(root):
        if _record_path(root, number).exists():
            change = _read_record(root, number)
            _log.warning("finishing an interrupted change of %s: %s", root, change.what)
            _carry_out(root, number, change)
        else:
            shutil.rmtree(_staged(root, number))
    for path in (root / FOLDER).glob(".[0-9]*.json.*"):  # a record that was never complete
        path.unlink()


def _carry_out(root: Path, number: int, change: Transaction) -> None:
    """Do what is left of a change; each step may have been done before."""
    for old, backup in change.aside:
        if _there(root, old) and not _there(root, backup):
            os.rename(root / old, root / backup)
    for source, name in change.arrive:
        if not _there(root, source):
            continue
        if _there(root, name):  # somebody wrote it between the kill and now
            os.rename(root / name, root / _free_name(root, name, "bak", set()))
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        os.rename(root / source, root / name)
    for folder in {(root / name).parent for pair in change.aside + change.arrive for name in pair}:
        if folder.is_dir():
            files.flush_folder(folder)
    shutil.rmtree(_staged(root, number))


def _record(root: Path, number: int, change: Transaction) -> None:
    when = datetime.now(timezone.utc).isoformat(timespec="seconds")
    files.write_json(_record_path(root, number), {**asdict(change), "when": when})
    files.flush_folder(root / FOLDER)


def _read_record(root: Path, number: int) -> Transaction:
    path = _record_path(root, number)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Transaction)
    except msgspec.MsgspecError as error:
        raise PaddlexMLError(
            f"the record of a change is damaged: {error}",
            where=str(path),
            fix="look which .bak files stand beside train.txt, rename them by hand, and move this "
            "record away",
        ) from error


def _pending(root: Path) -> list[int]:
    return _numbers(root, "new")


def _last_number(root: Path) -> int:
    return max(_numbers(root, "json"), default=0)


def _numbers(root: Path, ending: str) -> list[int]:
    try:
        names = os.listdir(root / FOLDER)
    except OSError:
        return []
    matches = (re.fullmatch(rf"([0-9]{{4,}})\.{ending}", name) for name in names)
    return sorted(int(match[1]) for match in matches if match)


def _record_path(root: Path, number: int) -> Path:
    return root / FOLDER / f"{number:04d}.json"


def _staged(root: Path, number: int) -> Path:
    return root / FOLDER / f"{number:04d}.new"


def _there(root: Path, name: str) -> bool:
    return os.path.lexists(root / name)


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False


def _free_name(root: Path, name: str, ending: str, taken: set[str]) -> str:
    """`name` with .bak (or .undone), numbered when that is taken."""
    free, number = f"{name}.{ending}", 0
    while _there(root, free) or free in taken:
        number += 1
        free = f"{name}.{ending}.{number}"
    taken.add(free)
    return free


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
