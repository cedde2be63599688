# SPDX-License-Identifier: Apache-2.0
"""Published archives: located or fetched, compared with what was published, and unpacked safely.

path or URL -> locate: size and checksum -> unpack: the wanted files, each by its bare name

Archives come from strangers. One entry that leads out of the folder, or that is a link or a device,
makes the whole archive unusable before anything is written. Only the bytes of plain files are
taken: no path, permission or owner of the archive reaches the disk.
"""

from __future__ import annotations

import errno
import hashlib
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from paddlex_ml.errors import PaddlexMLError, alternatives
from paddlex_ml.progress import ReportProgress, ignore_progress, named
from paddlex_ml.storage import fetch, regular_file

DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    # A compression that Python does not know, a member that is encrypted after all, thousands of
    # long-name headers in a row:
    RuntimeError,
    LookupError,  # an entry without a name
    ValueError,
    OverflowError,
)
"""What Python raises for an archive that is none, beside OSError."""
_LONGEST_NAME = 255  # bytes: no disk takes more
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
"""How entries of a zip may be compressed: LZMA takes as much memory as the entry asks for."""
LARGEST_TAR_HEADER = 1 << 20
"""Bytes of a name or of the attributes of one entry of a tar archive."""
MOST_ENTRIES = 2_000_000
"""Entries of an archive: ten times those of the largest published set; each takes a kilobyte."""


_LONGEST_END = 20 + 22 + (1 << 16)  # bytes of the end of a zip file, its comment included
LARGEST_DIRECTORY = 64 << 20
"""Bytes of the table of a zip archive, which is in memory as a whole: 500,000 names have less."""


@dataclass(frozen=True)
class Archive:
    """A file as its authors publish it."""

    name: str
    url: str
    option: str
    """Option of a command for it: "--train2017"."""
    size: int | None = None
    """In bytes; None where it was never recorded."""
    md5: str = ""

    @property
    def key(self) -> str:
        """Name of the option in argparse: "train2017"."""
        return self.option.strip("-").replace("-", "_")


class ArchiveMember(NamedTuple):
    """A plain file inside an archive."""

    name: str
    size: int
    entry: zipfile.ZipInfo | tarfile.TarInfo


OpenMember = Callable[[ArchiveMember], IO[bytes]]


class TarEntry(tarfile.TarInfo):
    """An entry whose long names and attributes, which Python reads whole, have a limit."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        """All that an entry makes tarfile read begins here, in every Python from 3.10 on; newer
        ones do not call `frombuf` any more. Raises tarfile.ReadError for such a long entry.
        """
        has_text = self.type not in (*tarfile.REGULAR_TYPES, tarfile.GNUTYPE_SPARSE)
        if has_text and self.size > LARGEST_TAR_HEADER:
            what = f"a header of {self.size:,} bytes, at most {LARGEST_TAR_HEADER:,} are read"
            raise tarfile.ReadError(what)
        return super()._proc_member(archive)  # type: ignore[misc]


def locate(archive: Archive, given: str | None, folder: Path | None, *, any_size: bool) -> Path:
    """Path of an archive: `given` (a path or URL), else the file of its name in `folder`.

    A URL is fetched into the cache; a fetch that broke off is resumed. Raises PaddlexMLError for
    an archive that is not there, and for one of another size or checksum than published, unless
    `any_size`.
    """
    check = partial(_refuse_other, archive, any_size=any_size)
    path: Path | None = None
    if given is not None and fetch.is_url(given):
        fix = f"download it another way and name the file: {archive.option} FILE"
        path = fetch.cached(given, check=check, fix=fix)
    elif given is not None or folder is not None:
        path = Path(given) if given is not None else Path(str(folder), archive.name)
    if path is None or not path.is_file():
        what = "is not a file" if path is not None and path.exists() else "does not exist"
        raise PaddlexMLError(
            f"the archive {archive.name} {'is not given' if path is None else what}",
            where=str(path or "the command line"),
            fix=alternatives(
                f"{archive.option} FILE, or --archives with the folder that holds {archive.name}",
                f"{archive.option} {archive.url} to fetch it",
            ),
        )
    check(path)
    return path


def unpack(archive: Path, inside: str, pattern: str, target: Path, progress: ReportProgress) -> int:
    """Unpack the files of the folder `inside` whose names match `pattern` into the folder `target`.

    `inside` may be in other folders of the archive; `pattern` has * and ? as in a shell. Returns
    the number of files. Raises PaddlexMLError for an archive that is damaged, unsafe, too large
    for the disk, or has none of these files, and for a file that `target` has already.
    """
    with opened(archive) as (members, open_member):
        chosen = []
        for member in members:
            folder, _, name = member.name.rpartition("/")
            if f"/{folder}".endswith(f"/{inside}") and fnmatchcase(name, pattern):
                chosen.append(member)
        if not chosen:
            raise _refused(f"it holds no {inside}/{pattern}", archive)
        unpack_members(chosen, open_member, archive, target, progress)
    return len(chosen)


def unpack_members(
    members: list[ArchiveMember],
    open_member: OpenMember,
    archive: Path,
    target: Path,
    progress: ReportProgress = ignore_progress,
) -> None:
    """Write members of an `opened` archive into the folder `target`, each by its bare name.

    Raises PaddlexMLError as `unpack`.
    """
    target.mkdir(parents=True, exist_ok=True)
    size, free = sum(member.size for member in members), shutil.disk_usage(target).free
    if size > free:
        raise PaddlexMLError(
            f"{size / 1e9:.1f} GB are to be unpacked, the disk has {free / 1e9:.1f} GB left",
            where=f"{archive}, into {target}",
            fix="free some space there, or choose another folder on a larger disk",
        )
    for done, member in enumerate(members, 1):
        path = target / PurePosixPath(member.name).name
        if os.path.lexists(path):
            raise _refused(f"the file of its entry {member.name!r} exists already", archive)
        with open_member(member) as source, path.open("xb") as file:
            shutil.copyfileobj(source, file, 2**20)
        progress(done, len(members))


@contextmanager
def opened(
    archive: Path, *, allow_zip: bool = True, size_limit: int | None = None
) -> Iterator[tuple[list[ArchiveMember], OpenMember]]:
    """The plain files of an uncompressed tar or a zip archive, and a function that opens one.

    size_limit: bytes of all files together, unpacked. Raises PaddlexMLError for an archive that is
    damaged, unsafe or larger, also while its files are read.
    """
    kind = "zip or tar" if allow_zip else "plain tar"
    try:
        with regular_file.open_regular(archive, 1 << 50, is_text=False) as file:
            is_zip = allow_zip and file.read(2) == b"PK"
        if is_zip:
            refuse_large_directory(archive)
            with zipfile.ZipFile(archive) as unzipped:
                members = _validate(unzipped.infolist(), archive, size_limit)
                yield members, partial(_open_member, unzipped)
        else:  # a compressed tar could hide its size until it is too late
            with tarfile.open(archive, "r:", tarinfo=TarEntry) as untarred:
                members = _validate(untarred, archive, size_limit)
                _refuse_early_end(untarred)
                yield members, partial(_open_member, untarred)
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # EINVAL: the zip names a position before its beginning; None: bzip2 is damaged
        reason = str(error) or type(error).__name__
        raise _refused(f"not a {kind} archive, or a damaged one ({reason})", archive) from error


def refuse_large_directory(path: Path) -> None:
    """Raise zipfile.BadZipFile for a zip file whose table is larger than LARGEST_DIRECTORY.

    Only its length is looked at, not how many entries the file claims: that number may be a lie.
    """
    with regular_file.open_regular(path, 1 << 50, is_text=False) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LONGEST_END))
        end = file.read(_LONGEST_END)
        found = end.rfind(b"PK\5\6")
        if found < 0 or len(end) - found < 22:
            raise zipfile.BadZipFile("its end is missing")
        (length,) = struct.unpack_from("<I", end, found + 12)
        if length == 0xFFFFFFFF and found >= 20:  # a large one, which stands elsewhere
            file.seek(min(struct.unpack_from("<Q", end, found - 12)[0], size))
            large = file.read(56)
            length = struct.unpack_from("<Q", large, 40)[0] if len(large) == 56 else size
    if length > LARGEST_DIRECTORY:
        raise zipfile.BadZipFile(
            f"the table of its entries has {length:,} bytes, at most {LARGEST_DIRECTORY:,} are read"
        )


def _validate(
    entries: Iterable[zipfile.ZipInfo | tarfile.TarInfo], archive: Path, size_limit: int | None
) -> list[ArchiveMember]:
    """The plain files among the entries. One bad entry makes the whole archive unusable."""
    members: dict[PurePosixPath, ArchiveMember] = {}
    total = 0
    for number, entry in enumerate(entries, 1):
        if number > MOST_ENTRIES:
            raise _refused(f"it has more than {MOST_ENTRIES:,} entries, the most", archive)
        if isinstance(entry, zipfile.ZipInfo):
            member = ArchiveMember(entry.filename, entry.file_size, entry)
            is_folder = entry.is_dir()
            kind = stat.S_IFMT(entry.external_attr >> 16)  # 0: the archive has no kinds
            is_plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
            has_password = bool(entry.flag_bits & 1)
            if entry.compress_type not in _METHODS:
                what = "is compressed in a way other than deflate and bzip2"
                raise _refused(f"its entry {member.name!r} {what}", archive)
        else:
            member = ArchiveMember(entry.name, entry.size, entry)
            is_folder, has_password = entry.isdir(), False
            is_plain = (entry.isreg() or is_folder) and not entry.issparse()
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or set(member.name) & {"\\", ":", "\0"}:
            raise _refused(f"its entry {member.name!r} leads out of the folder", archive)
        if len(os.fsencode(path.name)) > _LONGEST_NAME:
            what = f"has a name of more than {_LONGEST_NAME} bytes"
            raise _refused(f"its entry {member.name[:60]!r}... {what}", archive)
        if not is_plain:
            raise _refused(f"its entry {member.name!r} is a link or another special file", archive)
        if has_password:
            raise _refused(f"its entry {member.name!r} has a password", archive)
        if member.size < 0:
            raise ValueError(f"{member.name!r} has {member.size} bytes")  # damaged, see `opened`
        total += member.size
        if size_limit is not None and total > size_limit:
            raise _refused(f"unpacked it is larger than {size_limit / 2**30:g} GiB", archive)
        if not is_folder and members.setdefault(path, member) is not member:
            raise _refused(f"its entry {member.name!r} is there twice", archive)
    return list(members.values())


def _refuse_early_end(archive: tarfile.TarFile) -> None:
    """Raise tarfile.ReadError where its entries end before the zeros at its end.

    tarfile says nothing of an entry in the middle that it cannot read, and leaves out the rest.
    """
    assert archive.fileobj is not None
    end = 0  # of the last entry that was read; archive.offset may be behind another one
    for last in archive.getmembers()[-1:]:
        has_content = last.isreg() or last.type not in tarfile.SUPPORTED_TYPES
        blocks = -(-last.size // tarfile.BLOCKSIZE) if has_content else 0
        end = last.offset_data + blocks * tarfile.BLOCKSIZE
    archive.fileobj.seek(end)
    # The end is two blocks of zeros; some programs write none.
    if any(archive.fileobj.read(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError(f"the entry at byte {end:,} cannot be read")


def _open_member(archive: zipfile.ZipFile | tarfile.TarFile, member: ArchiveMember) -> IO[bytes]:
    if isinstance(archive, zipfile.ZipFile):
        return archive.open(member.name)
    assert isinstance(member.entry, tarfile.TarInfo)
    file = archive.extractfile(member.entry)
    assert file is not None  # only plain files become members
    return file


@named("comparing the archive with the published one")
def _refuse_other(archive: Archive, path: Path, *, any_size: bool) -> None:
    """Raise PaddlexMLError for a file that is not the published one, as far as that is known."""
    if any_size:
        return
    size = os.path.getsize(path)
    if archive.size is not None and size != archive.size:
        raise PaddlexMLError(
            f"{archive.name} has {size:,} bytes, the published one {archive.size:,}",
            where=str(path),
            fix="download it again (wget -c resumes a download that broke off), "
            "or use it as it is: --any-size",
        )
    if archive.md5:
        digest = hashlib.md5(usedforsecurity=False)
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
        if digest.hexdigest() != archive.md5:
            raise PaddlexMLError(
                f"{archive.name} has the md5 {digest.hexdigest()}, the published one {archive.md5}",
                where=str(path),
                fix="download it again, or use it as it is: --any-size",
            )


def _refused(why: str, archive: Path) -> PaddlexMLError:
    return PaddlexMLError(
        f"the archive cannot be used: {why}",
        where=str(archive),
        fix="download it again from its authors",
    )
