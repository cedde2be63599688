# SPDX-License-Identifier: Apache-2.0
"""A file of several frames -> every n-th of them with its number, counted from 0.

GIF, animated WebP, PNG and AVIF, and TIFF with several pages are read by Pillow, videos by OpenCV.
Frames are decoded one after the other, as they are taken: a frame that is wanted again later is
looked for from the beginning.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

from PIL import Image

from paddlex_ml import program
from paddlex_ml.data import decode_header, decode_memory, deep_samples, file_kinds
from paddlex_ml.data.transforms import explain_unopened, open_image
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import pixels

VIDEOS = frozenset(
    (
        *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"),
        *(".mts", ".ogv", ".webm", ".wmv"),
    )
)
"""Endings, in lower case, of the files that count as videos, whatever is in them."""
_FORMATS = frozenset(("AVIF", "GIF", "PNG", "TIFF", "WEBP"))  # no MPO: its others are previews
_A_PIXEL = 20  # bytes while a frame of a video is decoded and converted
_HEAD = 4096  # bytes that tell what a file is
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
    """Whether a file is a video, or it or its content an image of several frames."""
    if isinstance(source, str) and is_video(source):
        return True
    try:
        content = decode_header.read_file(source) if isinstance(source, str) else source
        image = open_image(content)
    except Exception:
        return False  # reading it as an image tells why
    if image.format not in _FORMATS:
        return False
    try:
        _seek(image, 1, len(content), "")
    except (EOFError, PaddlexMLError):  # the second: the first frame is too large
        return False
    except Exception:  # noqa: S110
        pass  # what follows the first frame is damaged: told when it is read
    return True


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
    """Whether a file counts as a video, by its name or its first bytes."""
    return os.path.splitext(path)[1].lower() in VIDEOS or file_kinds.is_video(path)


def _read(source: str | bytes, every: int, where: str) -> Iterator[tuple[int, Image.Image]]:
    if isinstance(source, str) and is_video(source):
        yield from _read_video(source, every)
        return
    number = 0
    try:
        content = decode_header.read_file(source) if isinstance(source, str) else source
        image = open_image(content)
        for number in count(0, every):
            _seek(image, number, len(content), where)
            yield number, _decode(image, len(content), where)
    except EOFError:
        return
    except PaddlexMLError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise explain_unopened(where, error) from error
        raise PaddlexMLError(
            f"frame {number} cannot be decoded: {error}",
            where=where,
            fix="replace the file by an intact copy",
        ) from error


def _seek(image: Image.Image, number: int, size: int, where: str) -> None:
    """Set an image to a frame. Most formats decode the frames before it, each within its budget."""
    while image.format != "TIFF" and image.tell() < number:
        with decode_memory.reading():
            decode_header.refuse_thin(image, size)
            is_deep = deep_samples.is_deep(image)
            decode_header.make_room(image, size, is_deep=is_deep, where=where, may_reduce=False)
            image.seek(image.tell() + 1)
    image.seek(number)


def _decode(image: Image.Image, size: int, where: str) -> Image.Image:
    """The frame that the image has been set to, which may be larger than the first."""
    with decode_memory.reading():
        decode_header.refuse_thin(image, size)
        is_deep = deep_samples.is_deep(image)
        decode_header.make_room(image, size, is_deep=is_deep, where=where, may_reduce=False)
        image.load()
        return pixels.from_pil(image, where)


def _read_video(path: str, every: int) -> Iterator[tuple[int, Image.Image]]:
    cv2 = _import_opencv(path)
    _refuse_texts(path)
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    number = 0
    try:
        width, height = (
            capture.get(each) for each in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        if (taken := width * height * _A_PIXEL) > decode_memory.limit():
            raise PaddlexMLError(
                f"a frame of {width:.0f} x {height:.0f} pixels takes {taken / 1e9:.1f} GB",
                where=path,
                fix="make it smaller: ffmpeg -i IN -vf scale=1920:-2 OUT.mp4",
            )
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


def _refuse_texts(path: str) -> None:
    """Refuse a list of files with the name of a video: FFMPEG would open what it names."""
    try:
        with decode_header.open_file(path) as file:
            kind = file_kinds.recognise_other(file.read(_HEAD))
    except OSError as error:
        raise explain_unopened(path, error) from error
    if kind is not None and kind.what != file_kinds.VIDEO:
        raise PaddlexMLError(kind.what, where=path, fix=kind.fix)


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
        fix=program.pip_install("opencv-python-headless")
        + ", or take the frames out of it: ffmpeg -i VIDEO frames/%06d.jpg",
    )
