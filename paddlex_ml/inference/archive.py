# SPDX-License-Identifier: Apache-2.0
"""A static model published as a tar archive -> its folder in the cache.

Archives come from strangers. Only plain files called inference.* are taken out, each written by
its bare name: no path, link, device or permission of the archive ever reaches the disk.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from paddlex_ml.artifacts.run_folder import GRAPH, INFERENCE_YML, PARAMETERS, PROGRAM
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import cache, fetch

SIZE_LIMIT = 4 * 2**30  # bytes, unpacked; the largest published model has 0.4


def fetch_folder(url: str, *, fix: str) -> Path:
    """Folder with the static model of the archive behind `url`, fetched unless the cache has it.

    `fix` is what can be done without it. Raises PaddlexMLError for all that goes wrong.
    """
    archive = fetch.cached(url, check=_check, fix=fix)
    folder = cache.beside(archive, ".unpacked")
    if _is_of(folder, archive):
        return folder
    with cache.locked(folder):
        if not _is_of(folder, archive):  # another process may have unpacked it meanwhile
            _unpack(archive, folder)
    return folder


def _is_of(folder: Path, archive: Path) -> bool:
    """Whether `folder` was unpacked from this very archive: one put there by hand is newer."""
    return os.path.isdir(folder) and folder.stat().st_mtime_ns == archive.stat().st_mtime_ns


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack beside `folder` and let it take the name when it is complete."""
    fresh = cache.beside(folder, ".new")
    shutil.rmtree(fresh, ignore_errors=True)  # what a kill left there
    fresh.mkdir()
    try:
        with _opened(archive) as tar:
            for member in _choose(tar, archive):
                _extract(tar, member, fresh)
        modified = archive.stat().st_mtime_ns
        os.utime(fresh, ns=(modified, modified))
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    source = tar.extractfile(member)
    assert source is not None  # only plain files are chosen
    with source, (folder / PurePosixPath(member.name).name).open("xb") as target:
        shutil.copyfileobj(source, target)
        target.flush()
        os.fsync(target.fileno())


def _check(archive: Path) -> None:
    """Raise PaddlexMLError unless the archive is whole, harmless, and holds one static model."""
    with _opened(archive) as tar:
        _choose(tar, archive)


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile]:
    """The archive, not decompressed: a compressed one could hide its size until it is too late."""
    try:
        with tarfile.open(archive, "r:") as tar:
            yield tar
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise _refused(f"not a plain tar archive, or a damaged one ({error})", archive) from error


def _choose(tar: tarfile.TarFile, archive: Path) -> list[tarfile.TarInfo]:
    """The files of the static model. One bad entry anywhere spoils the whole archive."""
    chosen: dict[PurePosixPath, tarfile.TarInfo] = {}
    total = 0
    for member in tar:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or "\\" in member.name or ":" in member.name:
            raise _refused(f"its entry {member.name!r} leads out of the folder", archive)
        if not (member.isreg() or member.isdir()) or member.issparse():
            raise _refused(f"its entry {member.name!r} is no plain file, but a link or so", archive)
        total += member.size
        if member.size < 0 or total > SIZE_LIMIT:
            raise _refused(f"unpacked it is larger than {SIZE_LIMIT / 2**30:g} GiB", archive)
        if member.isreg() and path.name.startswith("inference"):
            if path in chosen:
                raise _refused(f"its entry {member.name!r} is there twice", archive)
            chosen[path] = member
    folders = [path.parent for path in chosen if path.name == INFERENCE_YML]
    if len(folders) != 1:
        raise _refused(f"it holds {len(folders)} files {INFERENCE_YML} in place of one", archive)
    model = {path.name: member for path, member in chosen.items() if path.parent == folders[0]}
    if PARAMETERS not in model or not model.keys() & {GRAPH, PROGRAM}:
        raise _refused(f"it holds only {', '.join(sorted(model))}", archive)
    return list(model.values())


def _refused(why: str, archive: Path) -> PaddlexMLError:
    return PaddlexMLError(
        f"not usable as a static model: {why}",
        where=str(archive),
        fix="name the tar archive of a model as PaddleX publishes it",
    )
