# SPDX-License-Identifier: Apache-2.0
"""Resized images, kept from the first epoch on: in memory, or in a file that outlives the run.

    N entries of 32 bytes: state (12), content (16), CRC-32 of these and the pixels (4)
    padding up to a multiple of 4096
    N images of S x S x 3 bytes

State and content are hashes of what the system says of the image file (`file_state`) and of its
bytes. Pixels count for a file whose state is the kept one, which costs one look; else for a file
whose bytes are: after a copy, or when a disk was mounted again, images are read, but not decoded.
A file so new that its state proves nothing is compared by its bytes.

An entry is written after its pixels and is valid when its CRC fits them: what a killed process or a
power cut left incomplete is read again. So any number of processes may fill one file without a
lock. It uses `pread` and `pwrite`, not a memory map: with a full disk these raise an error, whereas
a write to a map kills the process.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import stat
import struct
import tempfile
import weakref
import zlib
from collections.abc import Callable, Sequence
from multiprocessing import reduction
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import PIL

from paddlex_ml import machine_memory
from paddlex_ml.data import decode_header
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import cache, file_state, ownership

logger = logging.getLogger(__name__)

Kind = Literal["none", "ram", "disk"]

_ENTRY = struct.Struct("<12s16sI")
_PAGE = 4096
_FORMAT = 3  # raise it when equal settings give other pixels, or another layout of the file
_EMPTY = bytes(_ENTRY.size)
_UNKNOWN = bytes(12)  # state that proves nothing
_MEMORY_SHARE = 0.8


class _Source(NamedTuple):
    """An image file as it is now."""

    state: bytes
    content: bytes


_IN_MEMORY = _Source(b"\1" * 12, bytes(16))  # images do not change during one run


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
            self._file = _open_own(path)
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
        if (kept := self._load(index, path)) is not None:
            return kept
        before = self._identify(path) if self.failure is None else None
        pixels = np.ascontiguousarray(read(path))
        # Kept unless the file was replaced meanwhile. A new one may have become old enough between
        # the two looks to be known without its content.
        if (
            before is not None
            and (after := self._identify(path)) is not None
            and before.content == after.content
            and before.state in (after.state, _UNKNOWN)
        ):
            self._store(index, before, pixels)
        return pixels

    def report(self, failure: str | None) -> None:
        """Log a warning about a fault that any process met, once."""
        if failure is None or self.is_reported:
            return
        self.is_reported = True
        logger.warning("%s: images that it does not hold are read again in every epoch", failure)

    def _load(self, index: int, path: Path) -> np.ndarray | None:
        state = _IN_MEMORY.state if self.path is None else _state(path)
        try:
            entry = os.pread(self._file, _ENTRY.size, index * _ENTRY.size)
            if state is None or len(entry) < _ENTRY.size or entry == _EMPTY:
                return None
            source = _Source(*_ENTRY.unpack(entry)[:2])
            is_same = source.state == state != _UNKNOWN
            if not is_same and source.content != _content(path):
                return None
            pixels = np.empty((self.image_size, self.image_size, 3), np.uint8)
            start = self._start + index * self._image_bytes
            length = os.preadv(self._file, [pixels.data], start)
        except OSError as error:
            self._stop(error)
            return None
        if length != pixels.nbytes or entry != _build_entry(source, pixels):
            return None
        if state not in (source.state, _UNKNOWN):  # from now on a look is enough
            self._store(index, _Source(state, source.content), pixels, only_entry=True)
        return pixels

    def _identify(self, path: Path) -> _Source | None:
        """None for a file that cannot be read: the error comes when its pixels are."""
        if self.path is None:
            return _IN_MEMORY
        state, content = _state(path), _content(path)
        return None if state is None or content is None else _Source(state, content)

    def _store(
        self, index: int, source: _Source, pixels: np.ndarray, *, only_entry: bool = False
    ) -> None:
        assert pixels.shape == (self.image_size, self.image_size, 3)
        entry = _build_entry(source, pixels)
        try:
            start = self._start + index * self._image_bytes
            # A disk may take only a part of the pixels, and fail at the next call.
            if only_entry or os.pwrite(self._file, pixels.data, start) == pixels.nbytes:
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
    needed, free = sum(cache_.length for cache_ in caches) * processes, machine_memory.available()
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
        cache.make(folder)
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


def _open_own(path: Path) -> int:
    """Open the file of a cache, which may lie in a folder that people share. Raises OSError."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
    found = os.fstat(handle)
    is_ours = ownership.belongs_to_us(found) or ownership.is_safe(path)
    if not stat.S_ISREG(found.st_mode) or not is_ours:
        os.close(handle)
        raise OSError(errno.EACCES, "another user may change it", str(path))
    return handle


def _name(images: ImageList, image_size: int, reduced: bool) -> str:
    """File name for these images in this order, at this size, decoded by this library."""
    digest = hashlib.sha256()
    settings = [_FORMAT, PIL.__version__, image_size, reduced, images.root.absolute()]
    for word in (*map(str, settings), *images.paths):
        digest.update(word.encode("utf-8", "surrogateescape") + b"\0")
    return f"{digest.hexdigest()[:24]}.{image_size}.images"


def _state(path: Path) -> bytes | None:
    """Hash of what the system says of the file; None when it does not exist."""
    try:
        text = file_state.describe_settled(path)
    except OSError:
        return None
    return _UNKNOWN if text is None else hashlib.blake2b(text.encode(), digest_size=12).digest()


def _content(path: Path) -> bytes | None:
    """Hash of the bytes of the file; None when it cannot be read."""
    try:
        return hashlib.sha256(decode_header.read_file(path)).digest()[:16]
    except (OSError, PaddlexMLError):
        return None


def _build_entry(source: _Source, pixels: np.ndarray) -> bytes:
    checksum = zlib.crc32(pixels.data, zlib.crc32(source.state + source.content))
    return _ENTRY.pack(source.state, source.content, checksum)
