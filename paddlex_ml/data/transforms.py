# SPDX-License-Identifier: Apache-2.0
"""Image files -> upright RGB images, the input of `preprocess`.

Pixels agree with the published decoding, which is OpenCV's: EXIF orientation is applied,
transparency is dropped, 16-bit samples keep their high byte, grey and CMYK become RGB. Beyond it,
samples that use a part of their range are scaled (`deep_samples`), and of several pages or frames
the first is read. A file that cannot be read to its last row is an error that names it.
"""

from __future__ import annotations

import logging
import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageFile, UnidentifiedImageError

from paddlex_ml.data import decode_header, decode_memory, deep_samples, file_kinds
from paddlex_ml.errors import PaddlexMLError

SUFFIXES = frozenset(
    (
        *(".apng", ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".hif", ".j2c", ".j2k"),
        *(".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".jxl", ".mpo", ".pbm"),
        *(".pcx", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".tga", ".tif", ".tiff", ".webp"),
    )
)
"""Endings, in lower case, of the files in a folder that count as images. A file that is named
explicitly may have any ending."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by its orientation in EXIF."""

_log = logging.getLogger(__name__)


class Decoded(NamedTuple):
    """An image file that was read."""

    image: Image.Image
    """RGB, upright."""
    format: str
    """Pillow's name: JPEG, PNG, ..."""
    mode: str
    """Pillow's name for the kind of pixels, as stored: RGB, L (grey), CMYK, ..."""
    reading: str = ""
    """How samples of more than 8 bits were scaled; "" where they keep their high byte."""


def read_image(path: str | Path, min_side: int | None = None) -> Image.Image:
    """Read an image file as RGB; `min_side` as in `decode_image`.

    Raises PaddlexMLError naming the file when it is not readable.
    """
    try:
        content = decode_header.read_file(path)
    except OSError as error:
        raise explain_unopened(path, error) from error
    return decode_image(content, where=str(path), min_side=min_side)


def explain_unopened(path: str | Path, error: OSError) -> PaddlexMLError:
    """The error for an image file that the system does not open."""
    what = f"the image cannot be opened: {error.strerror}"
    fix = "restore the file, or remove its line from the list"
    if os.path.islink(path) and not os.path.exists(path):
        what = f"a dangling link: it leads to {os.readlink(path)}, which is not there"
        fix = "copy the image itself there, or correct the link"
    return PaddlexMLError(what, where=str(path), fix=fix)


def decode_image(content: bytes, *, where: str, min_side: int | None = None) -> Image.Image:
    """Decode the bytes of an image file as RGB, upright; `where` names the file in errors.

    With `min_side`, a JPEG is decoded at an eighth, a quarter or a half of its size where both
    sides of the smaller picture keep that many pixels, which saves most of the work. Its pixels are
    nearly the means of blocks of the full picture (computed in the format's cosine transform).
    """
    return decode(content, where=where, min_side=min_side).image


def decode(content: bytes, *, where: str, min_side: int | None = None) -> Decoded:
    """The image of `decode_image`, and what is known about its file."""
    if not content:
        raise _unreadable("the image file is empty (0 bytes)", where)
    with decode_memory.reading():
        try:
            return _decode(content, where, min_side)
        except PaddlexMLError:
            raise
        except MemoryError as error:
            raise _unreadable("the memory does not suffice to decode the image", where) from error
        except Exception as error:  # whatever a decoder raises is the fault of this file
            raise _explain(content, error, where) from error


def _decode(content: bytes, where: str, min_side: int | None) -> Decoded:
    image: Image.Image = open_image(content)
    name, mode = str(image.format), image.mode
    is_deep, bits = deep_samples.is_deep(image), deep_samples.stored_bits(image)
    step = load(image, len(content), is_deep=is_deep, where=where, min_side=min_side)
    turn, reading = decode_header.orientation(image), ""
    if is_deep:
        image, reading = deep_samples.scale(image, bits, content, where)
    if step > 1:
        _tell_reduced(where, step)
    image = turned(image, turn)
    return Decoded(image if image.mode == "RGB" else image.convert("RGB"), name, mode, reading)


def load(
    image: Image.Image, size: int, *, is_deep: bool, where: str, min_side: int | None = None
) -> int:
    """Decode the pixels of an image of `open_image`, from a file of `size` bytes.

    Returns by how much it was reduced because of its size: see `decode_header.make_room`, which
    also tells of `min_side` and what is raised.
    """
    step = decode_header.make_room(image, size, is_deep=is_deep, where=where, min_side=min_side)
    header = image.width * image.height
    image.load()
    if step > 1 and image.format == "JPEG2000":
        vars(image)["_reduce"] = 0  # else the method `reduce` stays hidden
    if image.width * image.height > header:
        raise ValueError(f"{image.width} x {image.height} pixels are more than its header says")
    return step


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """The image as it is seen; the same object where it is upright already.

    Only the pixels are looked at: damage elsewhere in EXIF does no harm.
    """
    method = _TURNS.get(orientation)
    if method is None:
        return image
    upright = image.transpose(method)
    for key in ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"):
        upright.info.pop(key, None)  # they would say that it must be turned
    return upright


def open_image(content: bytes) -> ImageFile.ImageFile:
    """Read the header of an image file, no pixels yet: the formats of `decode_header`.

    Raises nearly any Exception for damaged files and those of other kinds, and ValueError for a
    huge image in very few bytes.
    """
    try:
        image = decode_header.open_known(content)
    except UnidentifiedImageError:
        if not file_kinds.register(content):
            raise
        image = decode_header.open_known(content)
    decode_header.refuse_thin(image, len(content))
    decode_header.refuse_scans(image, content)
    if image.format == "TIFF" and file_kinds.is_raw_tiff(content, image):
        raise UnidentifiedImageError("a RAW photograph")
    return image


@lru_cache(maxsize=4096)
def _tell_reduced(where: str, step: int) -> None:
    """Say once that an image is not decoded whole."""
    _log.warning("%s: so large that it is decoded at 1/%d of its sides", where, step)


def _explain(content: bytes, error: Exception, where: str) -> PaddlexMLError:
    """The error for bytes that Pillow cannot read, by what they are."""
    if not isinstance(error, UnidentifiedImageError):
        kind = file_kinds.recognise_other(content)
        if kind is None:
            reason = str(error) or type(error).__name__
            return _unreadable(f"the image cannot be decoded: {reason}", where)
    else:
        kind = file_kinds.recognise(content)
        if kind is None:
            return _unreadable("not an image, or a format that is not known", where)
    return PaddlexMLError(kind.what, where=where, fix=kind.fix)


def _unreadable(what: str, where: str) -> PaddlexMLError:
    fix = "replace the file by an intact copy, or remove its line from the list"
    return PaddlexMLError(what, where=where, fix=fix)
