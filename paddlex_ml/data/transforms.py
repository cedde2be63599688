# SPDX-License-Identifier: Apache-2.0
"""Image files -> upright RGB images; `preprocess` makes of them what the network sees.

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
"""Endings, in lower case, of files in folders that count as images. A file that is named itself
may have any."""

# Pillow refuses twice this number; it warns from the number on, which is 89 million by default.
# Telephones take 200 million today.
Image.MAX_IMAGE_PIXELS = 2**28
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
_HUGE = 2**26  # pixels: 270 MB when they are decoded
_DENSEST = 4096  # pixels that a byte of a huge file may stand for; of one colour alone: about 340
# Pillow's remarks on damaged EXIF and odd palettes: the pixels are sound, nothing can be repaired.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def read_image(path: str | Path, at_least: int | None = None) -> Image.Image:
    """Read an image file as RGB; `at_least` as in `decode_image`.

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
    return decode_image(content, where=str(path), at_least=at_least)


def decode_image(content: bytes, *, where: str, at_least: int | None = None) -> Image.Image:
    """Decode the bytes of an image file as RGB, upright; `where` names the file in errors.

    With `at_least`, a JPEG is decoded at an eighth, a quarter or a half of its size where both
    sides of the smaller picture keep that many pixels: most of the work is never done. Its pixels
    are means over blocks of the whole picture's (in the cosine transform of the format), nearly.
    """
    if not content:
        raise _unreadable("the image file is empty (0 bytes)", where)
    try:
        image = open_image(content)
        if at_least is not None:
            image.draft(None, (at_least, at_least))  # does nothing to other formats
        image.load()
    except UnidentifiedImageError as error:
        raise _unreadable("not an image, or a format that is not known", where) from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _unreadable(f"the image cannot be decoded: {error}", where) from error
    return _to_rgb(_upright(image), where)


def open_image(content: bytes) -> Image.Image:
    """Read the head of an image file, no pixels yet. Raises what Pillow raises.

    Raises ValueError, before gigabytes are taken, for a huge image in next to no bytes: Pillow
    decodes some formats to the end though the file is not all there.
    """
    image = Image.open(io.BytesIO(content))
    if image.width * image.height > max(_HUGE, _DENSEST * len(content)):
        raise ValueError(f"{len(content)} bytes cannot hold {image.width} x {image.height} pixels")
    return image


def _upright(image: Image.Image) -> Image.Image:
    try:
        if image.getexif().get(ExifTags.Base.Orientation) not in range(2, 9):
            return image  # Pillow would copy it, which takes as long as decoding a large JPEG
        return ImageOps.exif_transpose(image)
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, ZeroDivisionError):
        return image  # damaged EXIF beside sound pixels: keep the pixels as they lie


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
