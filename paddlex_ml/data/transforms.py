# SPDX-License-Identifier: Apache-2.0
"""Image files -> upright RGB images, the input of `preprocess`.

Pixels agree with the published decoding, which is OpenCV's: EXIF orientation is applied,
transparency is dropped, 16-bit samples keep their high byte, grey and CMYK become RGB. Beyond it,
samples that use a part of their range are scaled (`deep_samples`), and of several pages or frames
the first is read. A file that cannot be read to its last row is an error that names it.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from paddlex_ml.data import deep_samples, file_kinds
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

DAMAGED = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError, SyntaxError),
    *(TypeError, ValueError, struct.error, Image.DecompressionBombError),
)
"""What Pillow and its plugins raise for damaged files."""
# Pillow warns of images with more pixels and refuses twice as many. Its default is 89 million;
# phones make photographs of 200 million pixels.
Image.MAX_IMAGE_PIXELS = 2**28
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
_HUGE = 2**26  # pixels: 270 MB when they are decoded
_DENSEST = 4096  # most pixels per byte of a huge file; an image of one colour has about 340
# Pillow warns of damaged EXIF and odd palettes: the pixels are sound, nothing can be repaired.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


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
        content = Path(path).read_bytes()
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
    try:
        image = open_image(content)
        name, mode = str(image.format), image.mode
        is_deep, bits = deep_samples.is_deep(image), deep_samples.stored_bits(image)
        if min_side is not None:
            image.draft(None, (min_side, min_side))  # does nothing to other formats
        image.load()
    except DAMAGED as error:
        raise _explain(content, error, where) from error
    try:
        turn = image.getexif().get(ExifTags.Base.Orientation)
    except DAMAGED:
        turn = None  # damaged EXIF beside sound pixels: keep them as they are stored
    reading, pixels = "", image
    if is_deep:
        pixels, reading = deep_samples.scale(image, bits, content, where)
        pixels.getexif()[ExifTags.Base.Orientation] = turn or 1
    if turn in range(2, 9):  # without the test, Pillow would copy an upright image: that is slow
        with suppress(*DAMAGED):
            pixels = ImageOps.exif_transpose(pixels)
    return Decoded(pixels if pixels.mode == "RGB" else pixels.convert("RGB"), name, mode, reading)


def open_image(content: bytes) -> Image.Image:
    """Read the header of an image file, no pixels yet. Raises one of `DAMAGED`.

    Raises ValueError for a huge image in very few bytes, before gigabytes are allocated: Pillow
    decodes some formats to the end although the file is incomplete.
    """
    try:
        image = Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        if not file_kinds.register(content):
            raise
        image = Image.open(io.BytesIO(content))
    if image.width * image.height > max(_HUGE, _DENSEST * len(content)):
        raise ValueError(f"{len(content)} bytes cannot hold {image.width} x {image.height} pixels")
    if image.format == "TIFF" and file_kinds.is_raw_tiff(content, image):
        raise UnidentifiedImageError("a RAW photograph")
    return image


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
