# SPDX-License-Identifier: Apache-2.0
"""The only place where image files are opened: known formats, and no more memory than allowed.

    path -> bytes -> header (format, width, height, mode) -> bytes that decoding takes

Pillow knows 40 formats, and starts a program for one of them (EPS). Here it tries those of
`FORMATS` alone; the others are not even imported.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import stat
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, Final, cast

from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from paddlex_ml.data import decode_memory
from paddlex_ml.errors import PaddlexMLError

_FIRST = ("JPEG", "PNG", "BMP", "DIB", "GIF", "PPM")  # those that Pillow has imported
# Formats without a signature come last. Their modules are imported for the first such file.
_REST = {
    "TIFF": "TiffImagePlugin",
    "WEBP": "WebPImagePlugin",
    "AVIF": "AvifImagePlugin",
    "JPEG2000": "Jpeg2KImagePlugin",
    "QOI": "QoiImagePlugin",
    "PCX": "PcxImagePlugin",
    "TGA": "TgaImagePlugin",
}
_OF_PACKAGES = ("HEIF", "JXL")
FORMATS: Final = frozenset((*_FIRST, *_REST, *_OF_PACKAGES, "MPO"))
"""Pillow's names of the formats that are opened. MPO is a JPEG with further pictures in it."""

Image.MAX_IMAGE_PIXELS = 2**28
"""Pillow warns of images with more pixels and refuses twice as many. Its default is 89 million;
phones make photographs of 200 million pixels. This bounds what a plugin does before the header is
known here."""
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# Pillow warns of damaged EXIF and odd palettes: the pixels are sound, nothing can be repaired.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
_HUGE = 2**26  # pixels: 270 MB when they are decoded
_MOST_QOI = 2**25  # pixels, whose decoding by Pillow takes 8 s
_MOST_SCANS = 200  # of a progressive JPEG: each costs time for the whole image; usual are 10
_DENSEST = 4096  # most pixels per byte of a huge file; an image of one colour has about 340

# Without waiting for the one who writes into a pipe.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_SMALL = 2**20  # pixels, for which no format takes more than 64 MB
_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}  # bytes; others 4
# Bytes that a decoder takes for each pixel beside the image: its canvas, planes, rows and output.
_DECODER = {"WEBP": 14, "AVIF": 14, "HEIF": 14, "JXL": 24, "GIF": 16, "QOI": 4}
_OPENJPEG = 6  # for each channel of a pixel
_IN_PYTHON = 8  # of Pillow's decoders of PPM that are not compiled
_DEEP_GREY = {"I": 14, "F": 20}  # until its samples have 8 bits; others 9
_DEEP_COLOURS = 11
_RESIZED = 4096  # bytes for each row, or column, that `Image.resize` makes first
_REDUCTIONS = (1, 2, 4, 8)
SMALLER = "save it smaller, or remove its line from the list"


def read_file(path: str | Path) -> bytes:
    """The content of an image file. Raises as `open_file`, and for one larger than the memory."""
    file, size = _open_regular(path)
    try:
        _check_size(size, path)
        content = os.read(file, size + 1)  # twice as fast as by an object of `open`
        while len(content) != size and (more := os.read(file, 2**20)):  # it is growing
            content += more
            _check_size(len(content), path)
        return content
    finally:
        os.close(file)


def open_file(path: str | Path) -> IO[bytes]:
    """Open an image file to read its beginning. Raises OSError, and PaddlexMLError for what is a
    pipe or a device, which may never end."""
    return os.fdopen(_open_regular(path)[0], "rb")


def _open_regular(path: str | Path) -> tuple[int, int]:
    """The descriptor of a file, and how many bytes it has."""
    file = os.open(path, _FLAGS)
    try:
        found = os.fstat(file)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(found.st_mode):
            fix = "put the image itself there, or remove its line from the list"
            raise PaddlexMLError("not an image, but a pipe or a device", where=str(path), fix=fix)
    except BaseException:
        os.close(file)
        raise
    return file, found.st_size


def _check_size(size: int, path: str | Path) -> None:
    if size > _SMALL and size > (most := decode_memory.limit()):
        what = f"the file has {size / 1e9:.1f} GB, and one image may take {most / 1e9:.1f} GB"
        raise PaddlexMLError(what, where=str(path), fix=SMALLER)


def open_known(source: bytes | IO[bytes], formats: tuple[str, ...] = ()) -> ImageFile.ImageFile:
    """Read the header of an image of the `FORMATS`, or of these; no pixels yet.

    Raises UnidentifiedImageError for other files, and nearly anything for damaged ones.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    if not formats:
        try:
            return Image.open(file, formats=_FIRST)
        except UnidentifiedImageError:
            pass
    _import_rest()  # unknown names would make Pillow import all that it has
    wanted = formats or (*_REST, *_OF_PACKAGES)
    return Image.open(file, formats=[name for name in wanted if name in Image.OPEN])


@cache
def _import_rest() -> None:
    Image.preinit()
    for module in _REST.values():
        with suppress(ImportError):  # an older Pillow
            importlib.import_module(f"PIL.{module}")


def refuse_thin(image: Image.Image, size: int) -> None:
    """Raise ValueError for a huge image in very few bytes, before gigabytes are allocated.

    Pillow decodes some formats to the end although the file is incomplete. Raises it also for
    images of a format whose decoder would take minutes.
    """
    if image.format == "QOI" and image.width * image.height > _MOST_QOI:
        raise ValueError(f"{image.width} x {image.height} pixels are too many for a QOI image")
    if image.width * image.height > max(_HUGE, _DENSEST * size):
        raise ValueError(f"{size} bytes cannot hold {image.width} x {image.height} pixels")


def refuse_scans(image: Image.Image, content: bytes) -> None:
    """Raise ValueError for a JPEG that is to be decoded again and again."""
    if "progressive" in image.info and content.count(b"\xff\xda") > _MOST_SCANS:
        raise ValueError(f"a JPEG of more than {_MOST_SCANS} scans")


def make_room(
    image: Image.Image,
    size: int,
    *,
    is_deep: bool,
    where: str,
    min_side: int | None = None,
    may_reduce: bool = True,
) -> int:
    """Wait for the memory that an image takes which is open and not loaded yet.

    size: bytes of the file. min_side: a JPEG is reduced as far as both sides keep so many pixels.
    One that would take too much is reduced further (JPEG, JPEG 2000); returns by how much, 1 for an
    image that is not. Raises PaddlexMLError for one that takes too much however it is decoded.
    """
    if image.width * image.height <= _SMALL and max(image.size) <= _SMALL // 64:
        if min_side is not None:
            image.draft(None, (min_side, min_side))  # does nothing to other formats
        return 1
    most, wished = decode_memory.limit(), 1
    can_reduce = may_reduce and image.format in ("JPEG", "MPO", "JPEG2000")
    if min_side is not None and image.format in ("JPEG", "MPO"):
        wished = max((s for s in _REDUCTIONS if s <= min(image.size) // min_side), default=1)
    whole = needed(image, size, is_deep=is_deep)
    for step in [step for step in _REDUCTIONS if step >= wished] if can_reduce else [1]:
        taken = needed(image, size, is_deep=is_deep, reduction=step)
        if taken <= most:
            break
    else:
        what = (
            f"{image.width} x {image.height} pixels ({image.format}, {image.mode}) take "
            f"{whole / 1e9:.1f} GB while they are decoded, and one image may take "
            f"{most / 1e9:.1f} GB"
        )
        raise PaddlexMLError(what, where=where, fix=SMALLER)
    decode_memory.wait_for(taken)
    if step == wished:
        if min_side is not None:
            image.draft(None, (min_side, min_side))
        return 1
    if image.format == "JPEG2000":
        cast(Any, image).reduce = step.bit_length() - 1
    else:
        image.draft(None, (image.width // step, image.height // step))
    return step


def needed(image: Image.Image, size: int, *, is_deep: bool, reduction: int = 1) -> int:
    """Bytes that an image takes until it is RGB and resized, by its header."""
    pixels = image.width * image.height
    stored = _STORED.get(image.mode, 4)
    a_pixel = stored + _DECODER.get(str(image.format), 0)
    fixed = size
    if image.format == "JPEG2000":
        a_pixel += _OPENJPEG * len(image.getbands())
    elif image.format == "PPM" and any(tile[0] != "raw" for tile in getattr(image, "tile", ())):
        a_pixel += _IN_PYTHON
    elif image.format == "TIFF" and image.info.get("compression") != "raw":  # one strip may be all
        tags: Any = getattr(image, "tag_v2", {})
        bits = tags.get(258, (8,))  # BitsPerSample
        samples = tags.get(277, 1)  # SamplesPerPixel
        a_pixel += -(-max(bits) * samples // 8)
    elif image.format in ("JPEG", "MPO"):
        fixed += pixels * _coefficients(image)  # whatever the reduction
    if is_deep:
        is_grey = image.mode.startswith(("I", "F"))
        a_pixel += _DEEP_GREY.get(image.mode, 9) if is_grey else _DEEP_COLOURS
    elif image.mode != "RGB":
        a_pixel += 4
    if _is_turned(image):
        a_pixel += 4 if is_deep else stored
    rows = max(image.size) // reduction * _RESIZED
    return fixed + pixels * a_pixel // reduction**2 + rows


def _is_turned(image: Image.Image) -> bool:
    """Whether the pixels will be turned, as far as it is known: a PNG may say it at its end."""
    if image.format == "PNG":
        return "exif" in image.info or "Raw profile type exif" in image.info
    return orientation(image) > 1


def orientation(image: Image.Image) -> int:
    """How an image must be turned, from 1 (as it is stored) to 8; 1 where that is damaged."""
    try:
        turn = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # damaged EXIF beside sound pixels: keep them as they are stored
        return 1
    return turn if type(turn) is int and turn in range(1, 9) else 1


def _coefficients(image: Image.Image) -> int:
    """Bytes a pixel of the coefficients of a JPEG, which are kept where it has several scans."""
    layers: list[tuple[int, int, int, int]] = getattr(image, "layer", [])
    file = cast(ImageFile.ImageFile, image).fp
    if not layers or file is None:
        return 8
    length = 6 + 2 * len(layers)  # of the header of a scan that has all layers
    place = file.tell()  # behind the header of the first scan
    file.seek(max(0, place - length))
    has_all = file.read(2) == length.to_bytes(2, "big")
    file.seek(place)
    if has_all and "progressive" not in image.info:
        return 0
    largest = max(layer[1] for layer in layers) * max(layer[2] for layer in layers)
    return -(-2 * sum(layer[1] * layer[2] for layer in layers) // max(1, largest))
