# SPDX-License-Identifier: Apache-2.0
"""Image files -> upright RGB images, the input of `preprocess`.

Pixels agree with the published decoding, which is OpenCV's: EXIF orientation is applied,
transparency is dropped, 16-bit samples keep their high byte, grey and CMYK become RGB. A file that
cannot be read to its last row is an error that names it.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from paddlex_ml.errors import PaddlexMLError

SUFFIXES = frozenset(
    (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
"""Endings, in lower case, of the files in a folder that count as images. A file that is named
explicitly may have any ending."""

# Pillow warns of images with more pixels and refuses twice as many. Its default is 89 million;
# phones make photographs of 200 million pixels.
Image.MAX_IMAGE_PIXELS = 2**28
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
_HUGE = 2**26  # pixels: 270 MB when they are decoded
_DENSEST = 4096  # most pixels per byte of a huge file; an image of one colour has about 340
# Pillow warns of damaged EXIF and odd palettes: the pixels are sound, nothing can be repaired.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def read_image(path: str | Path, min_side: int | None = None) -> Image.Image:
    """Read an image file as RGB; `min_side` as in `decode_image`.

    Raises PaddlexMLError naming the file when it is not readable.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise PaddlexMLError(
            f"the image cannot be opened: {error.strerror}",
            where=str(path),
            fix="restore the file, or remove its line from the list",
        ) from error
    return decode_image(content, where=str(path), min_side=min_side)


def decode_image(content: bytes, *, where: str, min_side: int | None = None) -> Image.Image:
    """Decode the bytes of an image file as RGB, upright; `where` names the file in errors.

    With `min_side`, a JPEG is decoded at an eighth, a quarter or a half of its size where both
    sides of the smaller picture keep that many pixels, which saves most of the work. Its pixels are
    nearly the means of blocks of the full picture (computed in the format's cosine transform).
    """
    if not content:
        raise _unreadable("the image file is empty (0 bytes)", where)
    try:
        image = open_image(content)
        if min_side is not None:
            image.draft(None, (min_side, min_side))  # does nothing to other formats
        image.load()
    except UnidentifiedImageError as error:
        raise _unreadable("not an image, or a format that is not known", where) from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(f"the image cannot be decoded: {error}", where) from error
    upright: Image.Image = image
    try:
        # Without the test, Pillow would copy an upright image: as slow as decoding a large JPEG.
        if image.getexif().get(ExifTags.Base.Orientation) in range(2, 9):
            upright = ImageOps.exif_transpose(image)
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, ZeroDivisionError):
        pass  # damaged EXIF beside sound pixels: keep them as they are stored
    return _to_rgb(upright, where)


def open_image(content: bytes) -> Image.Image:
    """Read the header of an image file, no pixels yet. Raises what Pillow raises.

    Raises ValueError for a huge image in very few bytes, before gigabytes are allocated: Pillow
    decodes some formats to the end although the file is incomplete.
    """
    image = Image.open(io.BytesIO(content))
    if image.width * image.height > max(_HUGE, _DENSEST * len(content)):
        raise ValueError(f"{len(content)} bytes cannot hold {image.width} x {image.height} pixels")
    return image


def _to_rgb(image: Image.Image, where: str) -> Image.Image:
    if image.mode == "RGB":
        return image
    if not image.mode.startswith(("I", "F")):
        return image.convert("RGB")
    samples = np.asarray(image)
    if image.mode == "F" or samples.min() < 0 or samples.max() > 0xFFFF:
        raise PaddlexMLError(
            f"{samples.dtype} samples have no defined brightness range",
            where=where,
            fix="save the image with 8 or 16 bits per channel",
        )
    # 16-bit grey; Pillow would clip instead of scaling
    return Image.fromarray((samples >> 8).astype(np.uint8)).convert("RGB")


def _unreadable(what: str, where: str) -> PaddlexMLError:
    fix = "replace the file by an intact copy, or remove its line from the list"
    return PaddlexMLError(what, where=where, fix=fix)
