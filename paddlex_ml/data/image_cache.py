# SPDX-License-Identifier: Apache-2.0
"""Resized images, kept from the first epoch on: in memory, or in a file that outlives the run.

    N entries of 16 bytes: stamp (12), CRC-32 of stamp and pixels (4)
    filled up to a multiple of 4096
    N images of S x S x 3 bytes

The stamp of a file on disk tells path, time and length of the image file, so a changed image is
read anew. An entry is written after its pixels and counts when its CRC fits them: what a killed
process or a power cut left half done is read again. So any number of processes may fill one file
without a lock. `pread` and `pwrite`, no memory map: a full disk is an error of one call there,
and the death of the process in a map.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import struct
import tempfile
import weakref
import zlib
from collections.abc import Callable, Sequence
from multiprocessing import reduction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL
import psutil

from paddlex_ml.data.annotation import ImageList
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import cache

logger = logging.getLogger(__name__)

Kind = Literal["none", "ram", "disk"]

_ENTRY = struct.Struct("<12sI")
_PAGE = 4096
_FORMAT = 1  # raise it when equal settings give other pixels, or other places in the file
_ANY = b"\1" * 12  # stamp in memory: what one run has read stays as it is
_MEMORY_SHARE = 0.8


class ImageCache:
    """Pixels [S, S, 3] uint8 of one list. Travels to worker processes, which share its content."""

    def __init__(self, count: int, image_size: int, path: Path | None = None) -> None:
        """In memory without `path`. Raises OSError where the file cannot be opened."""
        self.count = count
        self.image_size = image_size
        self.path = path
        self.trouble: str | None = None
        """Why nothing is kept any more, once that is so."""
        self.is_reported = False
        self._hold(_anonymous() if path is None else os.open(path, os.O_RDWR | os.O_CREAT, 0o666))
        if os.fstat(self._file).st_size < self.length:
            os.truncate(self._file, self.length)  # takes no room yet

    @property
    def length(self) -> int:
        """Bytes of the whole file when it is full."""
        return self._start(self.count)

    @property
    def missing_bytes(self) -> int:
        """Room that the disk has yet to give."""
        return max(0, self.length - os.fstat(self._file).st_blocks * 512)

    def get(self, index: int, path: Path, read: Callable[[Path], np.ndarray]) -> np.ndarray:
        """Image `index`, which lies at `path`: kept pixels, else those of `read`, kept from now on.

        Raises whatever `read` raises; faults of the cache itself end up in `trouble`.
        """
        stamp = _ANY if self.path is None else _stamp(path)
        if stamp is not None and (kept := self._load(index, stamp)) is not None:
            return kept
        pixels = np.ascontiguousarray(read(path))
        if stamp is not None and self.trouble is None:
            self._store(index, stamp, pixels)
        return pixels

    def report(self, trouble: str | None) -> None:
        """Warn of a fault that any process met, once."""
        if trouble is None or self.is_reported:
            return
        self.is_reported = True
        logger.warning("%s: what it does not hold is read anew in every epoch", trouble)

    def _load(self, index: int, stamp: bytes) -> np.ndarray | None:
        try:
            entry = os.pread(self._file, _ENTRY.size, index * _ENTRY.size)
            if entry[:12] != stamp:
                return None
            pixels = np.empty((self.image_size, self.image_size, 3), np.uint8)
            length = os.preadv(self._file, [pixels.data], self._start(index))
        except OSError as error:
            self._stop(error)
            return None
        whole = length == pixels.nbytes and entry == _ENTRY.pack(stamp, _checksum(stamp, pixels))
        return pixels if whole else None

    def _store(self, index: int, stamp: bytes, pixels: np.ndarray) -> None:
        assert pixels.shape == (self.image_size, self.image_size, 3)
        entry = _ENTRY.pack(stamp, _checksum(stamp, pixels))
        try:
            if os.pwrite(self._file, pixels.data, self._start(index)) == (
                pixels.nbytes  # a disk may take a part, and fail at the next call
            ):
                os.pwrite(self._file, entry, index * _ENTRY.size)
        except OSError as error:
            self._stop(error)

    def _start(self, index: int) -> int:
        pages = -(-self.count * _ENTRY.size // _PAGE)
        return pages * _PAGE + index * self.image_size**2 * 3

    def _stop(self, error: OSError) -> None:
        self.trouble = f"the cache of images at {self.path or 'memory'} fails ({error.strerror})"

    def _hold(self, file: int) -> None:
        self._file = file
        weakref.finalize(self, os.close, file)

    def __getstate__(self) -> dict[str, Any]:
        """Memory travels as an open file, which has no name that a kill could leave behind."""
        state = dict(self.__dict__)
        state["_file"] = reduction.DupFd(self._file) if self.path is None else None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        try:
            file = state["_file"]
            self._hold(os.open(self.path, os.O_RDWR) if self.path is not None else file.detach())
        except OSError as error:  # the folder went away meanwhile
            self._file = -1
            self._stop(error)


def open_caches(
    kind: Kind,
    lists: Sequence[tuple[ImageList, bool]],
    image_size: int,
    *,
    folder: Path | None = None,
    processes: int = 1,
) -> list[ImageCache | None]:
    """One cache for each list and whether its JPEGs are decoded reduced; None: nothing is kept.

    `processes` is the number of trainings of this machine that keep images in memory of their
    own. Raises PaddlexMLError when memory or disk cannot hold all lists; a folder that cannot be
    written to is a warning.
    """
    if kind == "none":
        return [None for _ in lists]
    if not hasattr(os, "preadv"):
        raise PaddlexMLError(
            "this operating system cannot share kept images among processes",
            where="Train.cache",
            fix="-o Train.cache=none",
        )
    if kind == "ram":
        found = [ImageCache(len(images), image_size) for images, _ in lists]
        _refuse_too_little_memory(sum(kept.length for kept in found) * processes)
        return list(found)
    folder = cache.folder() / "images" if folder is None else folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = [
            ImageCache(len(images), image_size, folder / _name(images, image_size, reduced))
            for images, reduced in lists
        ]
    except OSError as error:
        logger.warning(
            "%s cannot hold a cache of images (%s): this run reads them anew in every epoch; to "
            "repair it, -o Train.cache_dir=/another/folder",
            folder,
            error.strerror,
        )
        return [None for _ in lists]
    _refuse_too_little_disk(sum(kept.missing_bytes for kept in found), folder)
    logger.info("images are kept in %s, which may be removed at any time", folder)
    return list(found)


def available_memory(
    cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> int:
    """Bytes that this process may still take: of the machine, cut by the limits of its cgroups.

    Pages of files that the kernel can drop count as free.
    """
    free = int(psutil.virtual_memory().available)
    for folder, names in _memory_cgroups(cgroups, own):
        limit, used, droppable = names
        try:
            bound = (folder / limit).read_text().strip()
            if bound == "max":
                continue
            statistics = dict(
                line.split(maxsplit=1) for line in (folder / "memory.stat").read_text().splitlines()
            )
            taken = int((folder / used).read_text()) - int(statistics.get(droppable, 0))
            free = min(free, int(bound) - taken)
        except (OSError, ValueError):  # no such controller here
            continue
    return max(0, free)


def _memory_cgroups(cgroups: Path, own: Path) -> list[tuple[Path, tuple[str, str, str]]]:
    """Folders of this process's memory cgroups up to the root, with the names of their files."""
    version_2 = ("memory.max", "memory.current", "inactive_file")
    version_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    found = []
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if controllers and "memory" not in controllers.split(","):
            continue
        root, names = (cgroups / "memory", version_1) if controllers else (cgroups, version_2)
        inner = Path(path.lstrip("/"))
        found += [(root / part, names) for part in (inner, *inner.parents)]
    return found


def _refuse_too_little_memory(needed: int) -> None:
    free = available_memory()
    if needed > _MEMORY_SHARE * free:
        raise PaddlexMLError(
            f"the resized images take {_gigabytes(needed)} of memory; of {_gigabytes(free)} that "
            f"are available, {_MEMORY_SHARE:.0%} may be used",
            where="Train.cache",
            fix="-o Train.cache=disk",
        )


def _refuse_too_little_disk(needed: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise PaddlexMLError(
            f"the resized images take {_gigabytes(needed)} more, and {_gigabytes(free)} are free",
            where=str(folder),
            fix="free some space there, or -o Train.cache_dir=/another/folder, or "
            "-o Train.cache=none",
        )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def _name(images: ImageList, image_size: int, reduced: bool) -> str:
    """File name for these images in this order, at this size, decoded by this library."""
    digest = hashlib.sha256()
    settings = [_FORMAT, PIL.__version__, image_size, reduced, images.root.absolute()]
    for word in (*map(str, settings), *images.paths):
        digest.update(word.encode("utf-8", "surrogateescape") + b"\0")
    return f"{digest.hexdigest()[:24]}.{image_size}.images"


def _stamp(path: Path) -> bytes | None:
    """Tell one state of an image file from all others; None when it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None  # reading it says what is wrong
    text = f"{path}\0{status.st_mtime_ns}\0{status.st_size}"
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=12).digest()


def _checksum(stamp: bytes, pixels: np.ndarray) -> int:
    return zlib.crc32(pixels.data, zlib.crc32(stamp))


def _anonymous() -> int:
    """Open memory that has no name: the system frees it with the last process that holds it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("paddlex_ml images")
    with tempfile.TemporaryFile() as file:  # unlinked at once
        return os.dup(file.fileno())
