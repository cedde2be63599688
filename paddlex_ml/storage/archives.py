# SPDX-License-Identifier: Apache-2.0
"""Published archives: found or fetched, compared with what was published, and unpacked safely.

path or URL -> locate: size and checksum -> unpack: the wanted files, each under a place of ours

Archives come from strangers. A member that leads out of the folder, or that is a link or a device,
spoils the whole archive before anything is written. Nothing but the bytes of plain files is taken:
no path, permission or owner of the archive reaches the disk.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.progress import ReportProgress
from paddlex_ml.storage import fetch

_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,  # a compression that Python does not know
    ValueError,
    OverflowError,
)


@dataclass(frozen=True)
class Archive:
    """A file as its authors publish it."""

    name: str
    url: str
    option: str
    """How a command names it: "--train2017"."""
    size: int | None = None
    """In bytes; None where it was never recorded."""
    md5: str = ""

    @property
    def key(self) -> str:
        """The option as argparse keeps it: "train2017"."""
        return self.option.strip("-").replace("-", "_")


class ArchiveMember(NamedTuple):
    """A file inside an archive."""

    name: str
    size: int
    entry: zipfile.ZipInfo | tarfile.TarInfo


def locate(archive: Archive, given: str | None, folder: Path | None, *, any_size: bool) -> Path:
    """Path of an archive: `given` (a path or URL), else `folder` has it under its own name.

    What a URL leads to is fetched into the cache, and goes on where a fetch broke off. Raises
    PaddlexMLError for an archive that is not there, and for one of another size or checksum than
    published, unless `any_size`.
    """
    check = partial(_refuse_other, archive, any_size=any_size)
    if given is not None and fetch.is_url(given):
        fix = f"download it another way and name the file: {archive.option} FILE"
        path = fetch.cached(given, check=check, fix=fix)
    elif given is not None or folder is not None:
        path = Path(given) if given is not None else Path(str(folder), archive.name)
    else:
        raise _missing(archive, "is not given", "the command line")
    if not path.is_file():
        raise _missing(archive, "is not a file" if path.exists() else "does not exist", str(path))
    check(path)
    return path


def unpack(archive: Path, inside: str, pattern: str, target: Path, progress: ReportProgress) -> int:
    """Unpack the files of the folder `inside` whose names match `pattern` into the folder `target`.

    `inside` may lie in other folders of the archive; `pattern` has * and ? as a shell. Returns how
    many files came out. Raises PaddlexMLError for an archive that is damaged, unsafe, too large for
    the disk, or holds none of these, and for a file that `target` has already.
    """
    with opened(archive) as (members, open_member):
        chosen = [member for member in members if _is_in(member.name, inside, pattern)]
        if not chosen:
            raise _refused(f"it holds no {inside}/{pattern}", archive)
        target.mkdir(parents=True, exist_ok=True)
        _refuse_too_large(sum(member.size for member in chosen), target, archive)
        for done, member in enumerate(chosen, 1):
            to = target / PurePosixPath(member.name).name
            if os.path.lexists(to):
                raise _refused(f"{member.name!r} comes a second time", archive)
            with open_member(member) as source, to.open("xb") as file:
                shutil.copyfileobj(source, file, 2**20)
            progress(done, len(chosen))
    return len(chosen)


def _is_in(name: str, inside: str, pattern: str) -> bool:
    folder, _, last = name.rpartition("/")
    return f"/{folder}".endswith(f"/{inside}") and fnmatchcase(last, pattern)


@contextmanager
def opened(
    archive: Path,
) -> Iterator[tuple[list[ArchiveMember], Callable[[ArchiveMember], IO[bytes]]]]:
    """The plain files of a zip or an uncompressed tar archive, and a function that opens one.

    Raises PaddlexMLError for an archive that is damaged or unsafe, also while it is read.
    """
    try:
        with archive.open("rb") as file:
            is_zip = file.read(2) == b"PK"
        if is_zip:
            with zipfile.ZipFile(archive) as unzipped:
                members = [_judge_zip(info, archive) for info in unzipped.infolist()]
                yield _plain(members, archive), lambda member: _open_zip(unzipped, member)
        else:
            with tarfile.open(archive, "r:") as untarred:
                members = [_judge_tar(info, archive) for info in untarred]
                yield _plain(members, archive), lambda member: _open_tar(untarred, member)
    except (*_DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise  # EINVAL: the zip sends the reader to a place before its beginning
        told = str(error) or type(error).__name__
        raise _refused(f"no zip or tar archive, or a damaged one ({told})", archive) from error


def _judge_zip(info: zipfile.ZipInfo, archive: Path) -> ArchiveMember | None:
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was made without kinds
    is_plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
    _refuse_unsafe(info.filename, is_plain, archive)
    if info.flag_bits & 1:
        raise _refused(f"its entry {info.filename!r} has a password", archive)
    return None if info.is_dir() else ArchiveMember(info.filename, info.file_size, info)


def _judge_tar(info: tarfile.TarInfo, archive: Path) -> ArchiveMember | None:
    is_plain = (info.isreg() or info.isdir()) and not info.issparse() and info.size >= 0
    _refuse_unsafe(info.name, is_plain, archive)
    return None if info.isdir() else ArchiveMember(info.name, info.size, info)


def _refuse_unsafe(name: str, is_plain: bool, archive: Path) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name:
        raise _refused(f"its entry {name!r} leads out of the folder", archive)
    if not is_plain:
        raise _refused(f"its entry {name!r} is no plain file, but a link or so", archive)


def _plain(members: list[ArchiveMember | None], archive: Path) -> list[ArchiveMember]:
    """The files among the members, none of them twice."""
    found: dict[str, ArchiveMember] = {}
    for member in filter(None, members):
        if found.setdefault(str(PurePosixPath(member.name)), member) is not member:
            raise _refused(f"its entry {member.name!r} is there twice", archive)
    return list(found.values())


def _open_zip(archive: zipfile.ZipFile, member: ArchiveMember) -> IO[bytes]:
    assert isinstance(member.entry, zipfile.ZipInfo)
    return archive.open(member.entry)


def _open_tar(archive: tarfile.TarFile, member: ArchiveMember) -> IO[bytes]:
    assert isinstance(member.entry, tarfile.TarInfo)
    file = archive.extractfile(member.entry)
    assert file is not None  # only plain files become members
    return file


def _refuse_too_large(size: int, target: Path, archive: Path) -> None:
    free = shutil.disk_usage(target).free
    if size > free:
        raise PaddlexMLError(
            f"{size / 1e9:.1f} GB are to be unpacked, the disk has {free / 1e9:.1f} GB left",
            where=f"{archive}, into {target}",
            fix="free some space there, or choose another --output",
        )


def _refuse_other(archive: Archive, path: Path, *, any_size: bool) -> None:
    """Raise PaddlexMLError for a file that is not the published one, bit for bit where known."""
    if any_size:
        return
    size = os.path.getsize(path)
    if archive.size is not None and size != archive.size:
        raise PaddlexMLError(
            f"{archive.name} has {size:,} bytes, the published one {archive.size:,}",
            where=str(path),
            fix="download it again (wget -c goes on where it broke off), "
            "or take it as it is: --any-size",
        )
    if archive.md5 and (found := _md5(path)) != archive.md5:
        raise PaddlexMLError(
            f"{archive.name} has the md5 {found}, the published one {archive.md5}",
            where=str(path),
            fix="download it again, or take it as it is: --any-size",
        )


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _missing(archive: Archive, what: str, where: str) -> PaddlexMLError:
    return PaddlexMLError(
        f"the archive {archive.name} {what}",
        where=where,
        fix=f"{archive.option} FILE, or --archives with the folder that holds {archive.name},\n"
        f"         or {archive.option} {archive.url} to fetch it",
    )


def _refused(why: str, archive: Path) -> PaddlexMLError:
    return PaddlexMLError(
        f"the archive cannot be used: {why}",
        where=str(archive),
        fix="download it again from its authors",
    )
