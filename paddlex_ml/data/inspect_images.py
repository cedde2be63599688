# SPDX-License-Identifier: Apache-2.0
"""Image files -> size, format, fingerprint: each is decoded completely, once, on all cores.

bytes -> pixels (or the problem) -> 32 x 32 grey values -> perceptual hash, 8 x 8 thumbnail
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sys
import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from paddlex_ml import machine_memory, stop_signals, systems
from paddlex_ml.cores import usable_cores
from paddlex_ml.data import (
    decode_header,
    decode_memory,
    deep_samples,
    killed_worker,
    transforms,
    worker,
)
from paddlex_ml.data.transforms import Decoded, decode, explain_unopened, open_image
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.progress import ReportProgress
from paddlex_ml.wording import count

HASH_BYTES = 8
_SIDE = 32  # of the grey values that are hashed
FINGERPRINT_BYTES = HASH_BYTES + 64
"""The perceptual hash, then 8 x 8 grey values."""

_CHUNK = 16  # images handed to a worker at once: a fraction of a second, so that Ctrl-C is prompt
_AHEAD = 8  # chunks in the queue of each worker: enough to keep it busy, and little memory
_FEW = 256  # images decoded faster than worker processes start
_FLAT = 10  # between the darkest and the brightest of 32 x 32 grey values: less may be noise
# Modes whose conversion to RGB cannot fail: such an image can be used if it can be loaded.
_PLAIN = frozenset(("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"))
# Formats of several pages or frames, which the head of the file counts, or only all of it. Not MPO:
# its other pictures are previews of the first.
_COUNTED = frozenset(("AVIF", "HEIF", "PNG", "WEBP"))
_UNCOUNTED = frozenset(("DCX", "FLI", "GIF", "TIFF"))


class Inspected(NamedTuple):
    """Properties of one image file, or why it cannot be used."""

    width: int
    """Pixels of the upright image."""
    height: int
    digest: bytes
    """SHA-1 of the file: equal for equal files. Empty when the image cannot be used."""
    problem: str = ""
    fix: str = ""
    format: str = ""
    """Pillow's name: JPEG, PNG, ..."""
    mode: str = ""
    """Pillow's name for the kind of pixels, as stored: RGB, L (grey), CMYK, ..."""
    fingerprint: bytes = b""
    """Perceptual hash (8 bytes), then 8 x 8 grey values; empty for an image of one colour."""
    reading: str = ""
    """How samples of more than 8 bits were scaled; "" where they keep their high byte."""
    frames: int = 1
    """Pages or frames of the file, of which the first is used."""


def inspect_images(
    root: Path, paths: list[str], progress: ReportProgress, workers: int | None
) -> dict[str, Inspected]:
    """Decode the images `paths` below `root`; `progress(done, total)` is called on the way.

    `workers`: None for one process per core (few images are done in this process), 0 for this
    process. Raises PaddlexMLError when a worker is killed; a broken image is a result.
    """
    if workers is None:
        workers = usable_cores() if len(paths) > _FEW else 0
    chunks = [paths[i : i + _CHUNK] for i in range(0, len(paths), _CHUNK)]
    if workers > 1:
        results = _inspect_in_pool(root, chunks, workers)
    else:
        results = (inspect_chunk(str(root), chunk) for chunk in chunks)
    images: dict[str, Inspected] = {}
    progress(0, len(paths))
    for chunk, inspected in zip(chunks, results, strict=True):
        for path, image in zip(chunk, inspected, strict=True):
            # Each chunk from another process has its own copies of "JPEG" and "RGB".
            form, mode, reading = map(sys.intern, (image.format, image.mode, image.reading))
            images[path] = image._replace(format=form, mode=mode, reading=reading)
        progress(len(images), len(paths))
    return images


def inspect_chunk(root: str, paths: list[str]) -> list[Inspected]:
    """Decode some images of the data set; runs in a worker process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata: the pixels are fine
        return [_inspect(os.path.join(root, path)) for path in paths]


def _inspect_in_pool(
    root: Path, chunks: list[list[str]], workers: int
) -> Iterator[list[Inspected]]:
    # `spawn` on every system: a fork of a process with threads (progress bar, OpenMP) can hang.
    workers = min(workers, len(chunks), systems.most_workers())
    stop_signals.start_tracker()
    context = multiprocessing.get_context("spawn")
    ends_before = machine_memory.count_ends()
    readers = decode_memory.Readers(workers, decode_memory.SharedLock())
    pool = ProcessPoolExecutor(workers, context, worker.start, (None, readers))
    begun: deque[Future[list[Inspected]]] = deque()
    done = 0
    try:
        for chunk in chunks:
            with stop_signals.postponed():  # a worker that this starts inherits them blocked
                begun.append(pool.submit(inspect_chunk, str(root), chunk))
            if len(begun) > workers * _AHEAD:
                yield begun.popleft().result()
                done += 1
        while begun:
            yield begun.popleft().result()
            done += 1
    except BrokenProcessPool as error:
        takes = f"{workers} worker processes, each with an image that takes up to "
        takes += f"{decode_memory.limit() / 1e9:.1f} GB, after {count(done * _CHUNK, 'image')}"
        fix = "end other programs that use memory, look for a huge image there, run again"
        told = killed_worker.Workers("decodes images", takes, fix, ends_before)
        raise killed_worker.explain(pool, told, f"{root}, near {chunks[done][0]}") from error
    finally:
        worker.end(pool)


def _inspect(path: str) -> Inspected:
    try:
        content = decode_header.read_file(path)
        with decode_memory.reading():
            return _describe(content, path)
    except OSError as error:
        unopened = explain_unopened(path, error)
        return Inspected(0, 0, b"", unopened.what, unopened.fix)
    except PaddlexMLError as error:
        return Inspected(0, 0, b"", error.what, error.fix)


def _describe(content: bytes, path: str) -> Inspected:
    """The properties of an image. Raises PaddlexMLError where it cannot be used."""
    image, frames = _decode(content, path)
    return Inspected(
        image.image.width,
        image.image.height,
        # Half the time of BLAKE2 on processors with instructions for it; this is not for security.
        hashlib.sha1(content, usedforsecurity=False).digest(),
        format=image.format,
        mode=image.mode,
        fingerprint=take_fingerprint(image.image),
        reading=image.reading,
        frames=frames,
    )


def _decode(content: bytes, path: str) -> tuple[Decoded, int]:
    """Decode every pixel; with the number of frames. Where that fails, `decode` raises the reason.

    Agrees with `decode` on which images can be used, without its copies: they take up to half of
    its time, and are not needed to see that all pixels exist. So the image may not be RGB.
    """
    try:
        image = open_image(content)
        name, mode = str(image.format), image.mode
        if mode in _PLAIN and not deep_samples.is_deep(image):
            step = transforms.load(image, len(content), is_deep=False, where=path)
            if step == 1:  # else `decode` tells of it
                upright = transforms.turned(image, decode_header.orientation(image))
                return Decoded(upright, name, mode), _count_frames(image, content)
    except Exception:  # noqa: S110  `decode` finds the reason
        pass
    decoded = decode(content, where=path)
    return decoded, _count_frames(decoded.image, content, decoded.format)


def _count_frames(decoded: Image.Image, content: bytes, form: str | None = None) -> int:
    """How many pages or frames an image file has, without smaller copies of its picture and masks.

    1 where they cannot be counted: the first is sound, and the others are not used.
    """
    form = form or decoded.format
    if form in _COUNTED:
        return max(int(getattr(decoded, "n_frames", 1)), 1)
    if form not in _UNCOUNTED:
        return 1
    try:
        with open_image(content) as image:
            number = int(getattr(image, "n_frames", 1))
            if number == 1 or image.format != "TIFF":
                return number
            kinds = []
            for page in range(number):
                image.seek(page)
                kinds.append(int(getattr(image, "tag_v2", {}).get(254, 0)))  # NewSubfileType
            return max(sum(not kind & 5 for kind in kinds), 1)
    except Exception:  # damaged pages make Pillow raise nearly anything
        return 1


def take_fingerprint(image: Image.Image) -> bytes:
    """Perceptual hash and tiny thumbnail of an image; empty when it has only one colour.

    The image is shrunk first: 128 x 128 pixels are sampled, then blocks of 4 x 4 are averaged.
    That costs the same for an image of any size, and the hash is as stable as that of the whole
    image.
    """
    grey = image.resize((128, 128), Image.Resampling.NEAREST).convert("L").reduce(4)
    values = np.asarray(grey)
    if values.max() - values.min() < _FLAT:
        return b""
    return perceptual_hash(values) + grey.reduce(4).tobytes()


def perceptual_hash(grey: npt.NDArray[np.uint8]) -> bytes:
    """Which of the 8 x 8 lowest frequencies of 32 x 32 grey values are above their median.

    The bits of `imagehash.phash`, whose SciPy has 110 MB: docs/decisions.md.
    """
    # Rounded: of a plain or symmetric image many are 0, but for the last digits of the sums.
    frequencies = (_COSINES @ grey @ _COSINES.T).round(3)
    return np.packbits(frequencies > np.median(frequencies)).tobytes()


def _lowest_cosines() -> npt.NDArray[np.float64]:
    """The 8 lowest waves of the discrete cosine transform of 32 values, one a row."""
    waves, places = np.arange(8)[:, None], np.arange(_SIDE)[None]
    cosines: npt.NDArray[np.float64] = np.cos(np.pi * waves * (2 * places + 1) / (2 * _SIDE))
    return 2 * cosines


_COSINES = _lowest_cosines()
