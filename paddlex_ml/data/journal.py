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

A data set may come from a stranger, with records of his own. Only one that this user's installation
has signed is finished or taken back, and only for lists and annotations inside the data set.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

import msgspec
from filelock import Timeout

from paddlex_ml import program, systems
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.progress import named
from paddlex_ml.storage import files, folders, places, signature

FOLDER = ".paddlex_ml"
"""Records of all changes, inside the data set."""

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)
"""What network disks answer that have no locks, or whose service for them does not run."""
_WAIT = 600.0  # seconds for another process, which needs a minute at most for its new lists
_BACKUP = re.compile(r"(?P<file>.+)\.bak(?:\.(?P<number>[0-9]+))?")
_KINDS = re.compile(r".+\.(txt|json|jsonl|csv)(\.(bak|undone)(\.[0-9]+)?)?", re.IGNORECASE)
"""Lists, label.txt, annotations, and their backups: all that a change renames or writes."""
_STAGED = re.compile(rf"{re.escape(FOLDER)}/[0-9]{{4,}}\.new/[0-9]+")
_LARGEST = 2**28
"""Bytes of a record: it names at most the annotation files of a data set."""
_LARGEST_NEW = 2**33
"""Bytes of a staged file: no list is read beyond."""
_LAST_NUMBER = 999_999_999

_log = logging.getLogger(__name__)
_told: set[Path] = set()
"""Records that a warning has named."""


@dataclass(frozen=True)
class Transaction:
    """One change of a data set; paths are relative to it, with "/"."""

    what: str
    aside: list[tuple[str, str]] = field(default_factory=list)
    """File -> its backup. All of these come before the first new file."""
    arrive: list[tuple[str, str]] = field(default_factory=list)
    """Staged file (or backup, when a change is taken back) -> its path."""
    digests: list[str] = field(default_factory=list)
    """SHA-256 of each staged file; none when a change is taken back."""
    undoes: int | None = None
    """Number of the change that this one takes back; 0: backups without a record."""
    when: str = ""
    signature: str = ""
    """Of everything else and the number of the change, by the user who began it."""

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
    with ExitStack() as held:
        with _explained(root):
            held.enter_context(_locked(root))
            _finish(root)
        yield


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the lock of a data set: in it, where everybody who can change it finds the same one."""
    path = root / FOLDER / "lock"
    files.make_folder(path.parent)
    with ExitStack() as held:
        try:
            lock = files.lock_at(path)
            held.enter_context(files.wait_for(lock, root, timeout=_WAIT))
        except Timeout as error:
            raise PaddlexMLError(
                "another process has been changing this data set for ten minutes",
                where=str(root),
                fix="wait for it, or end it; then run again",
            ) from error
        except (OSError, NotImplementedError) as error:
            if getattr(error, "errno", errno.ENOSYS) not in _NO_LOCKS:
                raise
            _log.warning("%s is on a disk without locks: do not change it twice at once", root)
        yield


@named("writing the lists")
def apply(
    root: Path, what: str, texts: Mapping[str, str], retire: Sequence[Path] = ()
) -> Transaction:
    """Write `texts` (path relative to `root` -> content) and make backups of `retire`, as one.

    A file that exists becomes a backup, unless it has this content already. Returns what was done:
    an empty transaction where nothing differs. Raises PaddlexMLError where the folder cannot be
    written.
    """
    with writing(root), _explained(root):
        new = {name: encode(text) for name, text in texts.items()}
        new = {name: content for name, content in new.items() if not holds(root / name, content)}
        retired = [path.relative_to(root).as_posix() for path in retire]
        leaving = [n for n in dict.fromkeys([*retired, *new]) if os.path.lexists(root / n)]
        if not leaving and not new:
            return Transaction(what)
        places.refuse_linked(root, [*leaving, *new])
        number = _choose_number(root)
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
                digests=[hashlib.sha256(content).hexdigest() for content in new.values()],
            )
            _record(root, number, change)
        except BaseException:
            if not _path(root, number, "json").exists():
                shutil.rmtree(staged, ignore_errors=True)
            raise
        _carry_out(root, number, change)
        return change


def undo(root: Path, *, newest: bool = False) -> Transaction:
    """Take back the last change that was not taken back yet: its backups get their names again.

    The files that it wrote are renamed to .undone. Without a record (a backup of another tool), and
    with `newest`, the newest backup of every file is put back. Raises PaddlexMLError when there is
    none, and for a later record that this user did not write.
    """
    with writing(root), _explained(root):
        change, last = (None, 0) if newest else _find_last_change(root)
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
        places.refuse_linked(root, [name for pair in back.aside + back.arrive for name in pair])
        number = _choose_number(root)
        _path(root, number, "new").mkdir(parents=True)
        _record(root, number, back)
        _carry_out(root, number, back)
        return back


def _find_last_change(root: Path) -> tuple[Transaction | None, int]:
    """The last change that is to be taken back, and its number; (None, 0) where there is none."""
    changes, undone = {}, set()
    for number in _numbers(root, "json"):
        change = _read_own_record(root, number)
        if change is not None and change.undoes is not None:
            undone.add(change.undoes)
        else:
            changes[number] = change
    last = max(changes.keys() - undone, default=0)
    if last and changes[last] is None:
        path = _path(root, last, "json")
        fix = f"no backup is there; to forget the record: mv {systems.quote(str(path))} ."
        if _find_newest_backups(root):
            command = f"{undo_command(root)} --newest"
            fix = f"put the newest backup of each list and annotation back: {command}"
        raise PaddlexMLError(
            "the last change of this data set was recorded by another user or machine, or by "
            "release 0.1.0, and its record is not followed",
            where=str(path),
            fix=fix,
        )
    return changes.get(last), last


def finish_interrupted(root: Path) -> None:
    """Finish a change that a kill interrupted; without one it costs one listing of a folder.

    A record of somebody else is named in a warning and left alone.
    """
    if any([_find_unfinished(root, number) for number in _numbers(root, "new")]):
        with writing(root):
            pass


def _find_unfinished(root: Path, number: int) -> Transaction | None:
    """A change of this user that was recorded and not finished; warns of one of somebody else's.

    One that was never recorded is dropped with the next change.
    """
    path = _path(root, number, "json")
    if not os.path.lexists(path):
        return None
    change = _read_own_record(root, number)
    if change is not None and _is_unfinished(root, number, change):
        return change
    if path not in _told:
        _told.add(path)
        whose = "another user or machine" if change is None else "nobody: other files are staged"
        _log.warning(
            "%s is the record of an unfinished change by %s: it is left alone", path, whose
        )
    return None


def _is_unfinished(root: Path, number: int, change: Transaction) -> bool:
    """Whether the staged files are those that were recorded, and no later change of this user says
    that this one was finished: an old record comes with a data set that somebody else had.
    """
    later = (each for each in _numbers(root, "json") if each > number)
    if any(_read_own_record(root, each) is not None for each in later):
        return False
    for (source, _), digest in zip(change.arrive, change.digests, strict=False):
        if not os.path.lexists(root / source):
            continue  # it has its name already
        try:
            content = files.read_regular(root / source, _LARGEST_NEW)
        except OSError:
            return False
        if hashlib.sha256(content).hexdigest() != digest:
            return False
    return True


def undo_command(root: Path) -> str:
    """The command line that takes the last change back, ready to be pasted."""
    tool = Path(__file__).resolve().parents[2] / "dataset_tools" / "restore_backup.py"
    # In a clone the tools are beside the package, installed they are a part of it.
    name = "-m paddlex_ml.dataset_tools.restore_backup"
    if tool.is_file():
        name = systems.quote(systems.relative(tool, os.curdir) or str(tool))
    return f"{program.python()} {name} {systems.quote(str(root))}"


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
        if not os.path.lexists(_path(root, number, "json")):
            _drop(_path(root, number, "new"))
        elif change := _find_unfinished(root, number):
            _log.warning("finishing an interrupted change of %s: %s", root, change.what)
            _carry_out(root, number, change)
    for path in (root / FOLDER).glob(".[0-9]*.json.*"):  # a record that was never complete
        if path.is_symlink() or not path.is_dir():
            path.unlink()


def _carry_out(root: Path, number: int, change: Transaction) -> None:
    """Do what is left of a change; each step may have been done before."""
    places.refuse_linked(root, [name for pair in change.aside + change.arrive for name in pair])
    for old, backup in change.aside:
        if os.path.lexists(root / old) and not os.path.lexists(root / backup):
            systems.rename(root / old, root / backup)
    for source, name in change.arrive:
        if not os.path.lexists(root / source):
            continue
        if os.path.lexists(root / name):  # written between the kill and now
            ((_, backup),) = _choose_free_names(root, [name], "bak")
            systems.rename(root / name, root / backup)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        systems.rename(root / source, root / name)
    for folder in {(root / name).parent for pair in change.aside + change.arrive for name in pair}:
        if folder.is_dir():
            files.flush_folder(folder)
    _drop(_path(root, number, "new"))


def _drop(staged: Path) -> None:
    """Remove a folder of staged files; what else may be in it stays, and where a link leads."""
    files.set_link_aside(staged)
    if not staged.is_dir():
        return
    with files.where_possible("empty folders stay"), os.scandir(staged) as entries:
        found = [entry for entry in entries if not entry.is_dir(follow_symlinks=False)]
        for entry in found:
            if entry.name.isdecimal():
                os.unlink(entry)
        staged.rmdir()


def _record(root: Path, number: int, change: Transaction) -> None:
    when = datetime.now(timezone.utc).isoformat(timespec="seconds")
    change = replace(change, when=when)
    signed = replace(change, signature=signature.sign(_signed_content(number, change)))
    files.write_json(_path(root, number, "json"), asdict(signed))
    files.flush_folder(root / FOLDER)


def _signed_content(number: int, change: Transaction) -> bytes:
    return json.dumps([number, asdict(replace(change, signature=""))], sort_keys=True).encode()


def _read_own_record(root: Path, number: int) -> Transaction | None:
    """The record of a change; None for one that this user did not write, or that is damaged."""
    try:
        text = files.read_regular(_path(root, number, "json"), _LARGEST)
        change = msgspec.convert(json.loads(text), Transaction)
    except (OSError, ValueError, RecursionError):  # the second: errors of json and msgspec too
        return None
    if not signature.is_own(_signed_content(number, change), change.signature):
        return None
    backups = [*change.aside]
    backups += [(new, old) for old, new in change.arrive if not _STAGED.fullmatch(old)]
    names = {name for pair in backups for name in pair} | {new for _, new in change.arrive}
    is_sound = all(map(_is_place, names)) and all(new.startswith(f"{old}.") for old, new in backups)
    is_sound &= len(change.digests) == len(change.arrive) + len(change.aside) - len(backups)
    return change if is_sound else None


def _is_place(name: str) -> bool:
    """Whether a change may rename or write this file of a data set."""
    is_hidden = any(part.startswith(".") for part in name.split("/"))
    return places.is_inner(name) and not is_hidden and _KINDS.fullmatch(name) is not None


def _choose_number(root: Path) -> int:
    last = max((*_numbers(root, "json"), *_numbers(root, "new")), default=0)
    if last >= _LAST_NUMBER:
        path = next(p for p in (_path(root, last, e) for e in ("json", "new")) if p.exists())
        raise PaddlexMLError(
            "a record of a change has the last number that there is: it is not of this tool",
            where=str(path),
            fix=f"move it away: mv {systems.quote(str(path))} {systems.quote(str(root.parent))}",
        )
    return last + 1


def _numbers(root: Path, ending: str) -> list[int]:
    """Numbers of the changes with a record ("json") or with staged files ("new"), in order."""
    if (root / FOLDER).is_symlink():  # a change sets it aside
        return []
    try:
        names = os.listdir(root / FOLDER)
    except OSError:
        return []
    matches = (re.fullmatch(rf"([0-9]{{4,9}})\.{ending}", name) for name in names)
    return sorted(int(match[1]) for match in matches if match)


def _path(root: Path, number: int, ending: str) -> Path:
    return root / FOLDER / f"{number:04d}.{ending}"


def encode(text: str) -> bytes:
    """The bytes of a file with this text."""
    return text.encode("utf-8", "surrogateescape")


def holds(path: Path, content: bytes) -> bool:
    """Whether the file is there and has this content."""
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
