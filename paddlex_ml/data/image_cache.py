# SPDX-License-Identifier: Apache-2.0
"""Resized images, kept from the first epoch on: in memory, or in a file that outlives the run.

    N entries of 16 bytes: stamp (12), CRC-32 of stamp and pixels (4)
    padding up to a multiple of 4096
    N images of S x S x 3 bytes

The stamp in a file on disk is a hash of path, time and length of the image file, so a changed image
is read again. An entry is written after its pixels and is valid when its CRC fits them: what a
killed process or a power cut left incomplete is read again. So any number of processes may fill one
file without a lock. It uses `pread` and `pwrite`, not a memory map: with a full disk these raise an
error, whereas a write to a map kills the process.
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
_FORMAT = 2  # raise it when equal settings give other pixels, or another layout of the file
_ANY = b"\1" * 12  # stamp in memory: images do not change during one run
_MEMORY_SHARE = 0.8


class ImageCache:
    """Pixels [S, S, 3] uint8 of one list; pickled to worker processes, which share its content."""

    def __init__(self, count: int, image_size: int, path: Path | None = None) -> None:
        """In memory without `path`. Raises OSError where the file cannot be opened."""
        self.image_size = image_size
        self.path = path
        self.failure: str | None = None
        """Why nothing is stored any more, after a fault of the cache."""
        self.is_reported = False
        self._image_bytes = image_size**2 * 3
        self._start = -(-count * _ENTRY.size // _PAGE) * _PAGE  # of the first image
        self.length = self._start + count * self._image_bytes
        """Bytes of the whole file when it is full."""
        if path is not None:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        elif hasattr(os, "memfd_create"):
            # Memory without a name: the system frees it with the last process that holds it.
            self._file = os.memfd_create("paddlex_ml images")
        else:
            with tempfile.TemporaryFile() as file:  # unlinked at once
                self._file = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._file)
        if os.fstat(self._file).st_size < self.length:
            os.truncate(self._file, self.length)  # allocates no space yet

    @property
    def missing_bytes(self) -> int:
        """Disk space that the file does not occupy yet."""
        return max(0, self.length - os.fstat(self._file).st_blocks * 512)

    def get(self, index: int, path: Path, read: Callable[[Path], np.ndarray]) -> np.ndarray:
        """Pixels of image `index`, whose file is `path`: the kept ones, else `read(path)`.

        Pixels that were read are kept. Raises whatever `read` raises; faults of the cache itself
        are stored in `failure`.
        """
        stamp = _ANY if self.path is None else _stamp(path)
        if stamp is not None and (kept := self._load(index, stamp)) is not None:
            return kept
        pixels = np.ascontiguousarray(read(path))
        if stamp is not None and self.failure is None:
            self._store(index, stamp, pixels)
        return pixels

    def report(self, failure: str | None) -> None:
        """Log a warning about a fault that any process met, once."""
        if failure is None or self.is_reported:
            return
        self.is_reported = True
        logger.warning("%s: images that it does not hold are read again in every epoch", failure)

    def _load(self, index: int, stamp: bytes) -> np.ndarray | None:
        try:
            entry = os.pread(self._file, _ENTRY.size, index * _ENTRY.size)
            if entry[:12] != stamp:
                return None
            pixels = np.empty((self.image_size, self.image_size, 3), np.uint8)
            start = self._start + index * self._image_bytes
            length = os.preadv(self._file, [pixels.data], start)
        except OSError as error:
            self._stop(error)
            return None
        is_complete = length == pixels.nbytes and entry == _build_entry(stamp, pixels)
        return pixels if is_complete else None

    def _store(self, index: int, stamp: bytes, pixels: np.ndarray) -> None:
        assert pixels.shape == (self.image_size, self.image_size, 3)
        entry = _build_entry(stamp, pixels)
        try:
            start = self._start + index * self._image_bytes
            # A disk may take only a part of the pixels, and fail at the next call.
            if os.pwrite(self._file, pixels.data, start) == pixels.nbytes:
                os.pwrite(self._file, entry, index * _ENTRY.size)
        except OSError as error:
            self._stop(error)

    def _stop(self, error: OSError) -> None:
        self.failure = f"the cache of images at {self.path or 'memory'} fails ({error.strerror})"

    def __getstate__(self) -> dict[str, Any]:
        """Memory is passed as an open file: it has no name that a kill could leave behind."""
        state = dict(self.__dict__)
        state["_file"] = reduction.DupFd(self._file) if self.path is None else None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        try:
            file = state["_file"]
            self._file = file.detach() if self.path is None else os.open(self.path, os.O_RDWR)
            weakref.finalize(self, os.close, self._file)
        except OSError as error:  # the folder was removed meanwhile
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

    `processes` is the number of trainings on this machine that each keep images in their own
    memory. Raises PaddlexMLError when memory or disk cannot hold all lists; a folder that cannot
    be written to is a warning.
    """
    if kind == "none":
        return [None for _ in lists]
    if not hasattr(os, "preadv"):
        raise PaddlexMLError(
            "this operating system cannot share kept images among processes",
            where="Train.cache",
            fix="-o Train.cache=none",
        )
    if kind == "disk":
        return _open_on_disk(lists, image_size, folder)
    caches = [ImageCache(len(images), image_size) for images, _ in lists]
    needed, free = sum(cache_.length for cache_ in caches) * processes, available_memory()
    if needed > _MEMORY_SHARE * free:
        raise PaddlexMLError(
            f"the resized images take {needed / 1e9:.2f} GB of memory; of {free / 1e9:.2f} GB that "
            f"are available, {_MEMORY_SHARE:.0%} may be used",
            where="Train.cache",
            fix="-o Train.cache=disk",
        )
    return list(caches)


def _open_on_disk(
    lists: Sequence[tuple[ImageList, bool]], image_size: int, folder: Path | None
) -> list[ImageCache | None]:
    folder = cache.folder() / "images" if folder is None else folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        caches = [
            ImageCache(len(images), image_size, folder / _name(images, image_size, reduced))
            for images, reduced in lists
        ]
    except OSError as error:
        logger.warning(
            "%s cannot hold a cache of images (%s): this run reads them again in every epoch; to "
            "repair it, -o Train.cache_dir=/another/folder",
            folder,
            error.strerror,
        )
        return [None for _ in lists]
    needed = sum(cache_.missing_bytes for cache_ in caches)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise PaddlexMLError(
            f"the resized images take {needed / 1e9:.2f} GB more, and {free / 1e9:.2f} GB are free",
            where=str(folder),
            fix="free some space there, or -o Train.cache_dir=/another/folder, or "
            "-o Train.cache=none",
        )
    logger.info("images are kept in %s, which may be removed at any time", folder)
    return list(caches)


def available_memory(
    cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> int:
    """Bytes that this process may still take: of the machine, cut by the limits of its cgroups.

    Pages of files that the kernel can drop count as free.
    """
    free = int(psutil.virtual_memory().available)
    version_2 = ("memory.max", "memory.current", "inactive_file")
    version_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return free
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        if controllers and "memory" not in controllers.split(","):
            continue
        root, names = (cgroups / "memory", version_1) if controllers else (cgroups, version_2)
        limit, used, droppable = names
        inner = Path(path.lstrip("/"))
        for folder in (root / part for part in (inner, *inner.parents)):  # up to the root
            try:
                bound = (folder / limit).read_text().strip()
                if bound == "max":
                    continue
                pairs = (folder / "memory.stat").read_text().splitlines()
                statistics = dict(pair.split(maxsplit=1) for pair in pairs)
                taken = int((folder / used).read_text()) - int(statistics.get(droppable, 0))
                free = min(free, int(bound) - taken)
            except (OSError, ValueError):  # no such controller here
                continue
    return max(0, free)


def _name(images: ImageList, image_size: int, reduced: bool) -> str:
    """File name for these images in this order, at this size, decoded by this library."""
    digest = hashlib.sha256()
    settings = [_FORMAT, PIL.__version__, image_size, reduced, images.root.absolute()]
    for word in (*map(str, settings), *images.paths):
        digest.update(word.encode("utf-8", "surrogateescape") + b"\0")
    return f"{digest.hexdigest()[:24]}.{image_size}.images"


def _stamp(path: Path) -> bytes | None:
    """Hash of the state of an image file; None when it does not exist."""
    try:
        status = path.stat()
    except OSError:
        return None  # the error comes when it is read
    text = f"{path}\0{status.st_mtime_ns}\0{status.st_size}"
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=12).digest()


def _build_entry(stamp: bytes, pixels: np.ndarray) -> bytes:
    return _ENTRY.pack(stamp, zlib.crc32(pixels.data, zlib.crc32(stamp)))
