# SPDX-License-Identifier: Apache-2.0
"""A file of several frames -> every n-th of them with its number, counted from 0.

GIF, animated WebP, PNG and AVIF, and TIFF with several pages are read by Pillow, videos by OpenCV.
Frames are decoded one after the other, as they are taken: a frame that is wanted again later is
looked for from the beginning.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from PIL import Image

from paddlex_ml.data.transforms import DAMAGED, explain_unopened, open_image
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import pixels

VIDEOS = frozenset(
    (
        *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"),
        *(".mts", ".ogv", ".webm", ".wmv"),
    )
)
"""Endings, in lower case, of the files that count as videos."""
_FORMATS = frozenset(("AVIF", "GIF", "PNG", "TIFF", "WEBP"))  # no MPO: its others are previews
_MISSING = 0.9  # share of the frames of a video that must be readable, whose number is an estimate

_log = logging.getLogger(__name__)


class SampledFrame:
    """Loads a frame: the first time what was decoded already, later from the source."""

    def __init__(self, number: int, image: Image.Image, again: Callable[[], Image.Image]) -> None:
        self.number = number
        self._image: Image.Image | None = image
        self._again = again

    def __call__(self) -> Image.Image:
        """RGB. Raises PaddlexMLError where the file has changed meanwhile."""
        image, self._image = self._image, None
        return self._again() if image is None else image


def has_several(source: str | bytes) -> bool:
    """Whether a file is a video by its name, or it or its content an image of several frames."""
    if isinstance(source, str) and is_video(source):
        return True
    try:
        with Image.open(source if isinstance(source, str) else io.BytesIO(source)) as image:
            if image.format not in _FORMATS:
                return False
            try:
                image.seek(1)
            except EOFError:
                return False
            except DAMAGED:
                pass  # what follows the first frame is damaged: told when it is read
            return True
    except DAMAGED:
        return False  # reading it as an image tells why


def sample(source: str | bytes, every: int, *, where: str) -> Iterator[SampledFrame]:
    """Yield the frames 0, `every`, 2 * `every`, ... of a file or content that `has_several`.

    Raises PaddlexMLError, which names `where`, after the frames that can be read.
    """
    for number, image in _read(source, every, where):
        yield SampledFrame(number, image, partial(_load, source, number, where))


def _load(source: str | bytes, wanted: int, where: str) -> Image.Image:
    for number, image in _read(source, max(1, wanted), where):
        if number == wanted:
            return image
    raise PaddlexMLError(
        f"the file has no frame {wanted} any more",
        where=where,
        fix="keep the file until its results are drawn",
    )


def is_video(path: str) -> bool:
    """Whether a file counts as a video, by its name."""
    return os.path.splitext(path)[1].lower() in VIDEOS


def _read(source: str | bytes, every: int, where: str) -> Iterator[tuple[int, Image.Image]]:
    if isinstance(source, str) and is_video(source):
        yield from _read_video(source, every)
        return
    number = 0
    try:
        image = open_image(Path(source).read_bytes() if isinstance(source, str) else source)
        for number in count(0, every):
            image.seek(number)
            yield number, pixels.from_pil(image.copy(), where)
    except EOFError:
        return
    except DAMAGED as error:
        if isinstance(error, OSError) and error.strerror:
            raise explain_unopened(where, error) from error
        raise PaddlexMLError(
            f"frame {number} cannot be decoded: {error}",
            where=where,
            fix="replace the file by an intact copy",
        ) from error


def _read_video(path: str, every: int) -> Iterator[tuple[int, Image.Image]]:
    cv2 = _import_opencv(path)
    capture = cv2.VideoCapture(path)
    number = 0
    try:
        total = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        while capture.grab():
            if number % every == 0:
                is_read, frame = capture.retrieve()
                if not is_read:
                    break
                yield number, pixels.from_array(frame, path, pixels.BGR)
            number += 1
    finally:
        capture.release()
    if not number:
        raise PaddlexMLError(
            "no frame of the video can be read",
            where=path,
            fix="replace it by an intact copy, or convert it: ffmpeg -i IN -c:v libx264 OUT.mp4",
        )
    if number < _MISSING * total:
        _log.warning("%s: only %d of about %d frames could be read", path, number, total)


def _import_opencv(path: str) -> Any:
    try:
        import cv2

        videos = cv2.videoio_registry
        names = [videos.getBackendName(backend) for backend in videos.getBackends()]
    except (ImportError, AttributeError):
        names = []
    if "FFMPEG" in names:
        return cv2
    raise PaddlexMLError(
        "videos need an OpenCV with FFMPEG, which is not installed here",
        where=path,
        fix="pip install opencv-python-headless, or take the frames out of it: ffmpeg -i VIDEO "
        "frames/%06d.jpg",
    )
