# SPDX-License-Identifier: Apache-2.0
"""Images of more than 8 bits per channel -> 8 bits, scaled by the range that their values show.

Whole numbers keep their high byte, as OpenCV does, if the largest one needs 15 or 16 bits. A
smaller one shows how many bits the camera has written into a file of 16: 8, 10, 12 or 14. Floats
are 0 to 1, or whole numbers as above. Other values have no brightness that is known: an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from PIL import Image

from paddlex_ml.data import decode_memory
from paddlex_ml.errors import PaddlexMLError

_BITS = (8, 10, 12, 14, 16)
_DARK = 1 / 16  # of floats from 0 to 1: less may be another unit, and would be nearly black
_CHANNELS = frozenset(("LA", "RGB", "RGBA", "RGBX"))
# Formats whose images of several channels Pillow cuts to their high bytes.
_CUT = frozenset(("PNG", "PPM", "TIFF"))
_DARK_COLOURS = 24  # bytes for each pixel, until those of a dark image have 8 bits
_ROWS = 256  # that are converted at once, for little memory
_SAVE_AGAIN = "save the image with 8 or 16 bits per channel"


def is_deep(image: Image.Image) -> bool:
    """Whether an image has more than 8 bits per channel; known before it is loaded, not after."""
    if image.mode.startswith(("I", "F")):
        return True
    if image.format not in _CUT or image.mode not in _CHANNELS:
        return False
    # The arguments of Pillow's decoders: "RGB;16B", ("RGB;16L", 0, 1), of PPM ("RGB", 65535).
    arguments = [str(tile[3]) for tile in getattr(image, "tile", ())]
    return any(";16" in each or "65535" in each for each in arguments)


def scale(image: Image.Image, bits: int, content: bytes, where: str) -> tuple[Image.Image, str]:
    """The image, which is deep, with 8 bits, and how its values were read ("": by the high byte).

    `bits` are its `stored_bits`, `content` are the bytes of the file. Raises PaddlexMLError where
    the values have no range.
    """
    if image.mode in _CHANNELS:
        image = image if image.mode == "RGB" else image.convert("RGB")
        high = np.asarray(image)
        if high.max() >= 1 << 6:
            return image, ""
        taken = len(content) + _DARK_COLOURS * image.width * image.height
        if taken > decode_memory.limit():
            fix = "save the image smaller, or with 8 bits per channel"
            what = f"dark 16-bit samples take {taken / 1e9:.1f} GB while they are scaled"
            raise PaddlexMLError(what, where=where, fix=fix)
        whole = _read_channels(content)
        if whole is None or whole.shape != high.shape or not _have_high_bytes(whole, high):
            raise _refuse(f"16-bit samples below {int(high.max() + 1) << 8}", where)
        eight, reading = to_eight_bits(whole, bits, where)
    else:
        eight, reading = to_eight_bits(np.asarray(image), bits, where)
    return Image.fromarray(eight), reading


def to_eight_bits(
    samples: np.ndarray, bits: int, where: str, fix: str = _SAVE_AGAIN
) -> tuple[np.ndarray, str]:
    """Samples of any shape as uint8, and how they were read ("": by the high byte).

    `bits` are those of a sample as it is stored. Raises PaddlexMLError, with this `fix`, where the
    values have no range.
    """
    if samples.dtype.kind == "f":
        if not np.isfinite(samples).all():
            raise _refuse(f"{samples.dtype} samples that are not numbers", where, fix)
        if samples.min() >= 0 and _DARK <= samples.max() <= 1:
            scaled = samples.astype(np.float32, copy=False) * np.float32(255)
            return np.rint(scaled).astype(np.uint8), "floats from 0 to 1"
    smallest, greatest = samples.min(), samples.max()
    is_broken = samples.dtype.kind == "f" and bool((samples != np.rint(samples)).any())
    if smallest < 0 or greatest > 0xFFFF or is_broken:
        raise _refuse(f"{samples.dtype} samples from {smallest:.5g} to {greatest:.5g}", where, fix)
    largest = int(greatest)
    shown = next(number for number in _BITS if largest < 1 << number)
    number = bits if 8 < bits < 16 else shown
    eight = np.empty(samples.shape, np.uint8)
    for rows in _blocks(samples):
        eight[rows] = (samples[rows].astype(np.uint16) >> (number - 8)).astype(np.uint8)
    unit = "floats" if samples.dtype.kind == "f" else "samples"
    return eight, f"{number} bits in {bits}-bit {unit}" if largest and number != bits else ""


def stored_bits(image: Image.Image) -> int:
    """Bits of one sample as the file declares them."""
    if image.format == "TIFF":
        tags: Any = getattr(image, "tag_v2", {})
        return int(tags.get(258, (1,))[0])  # BitsPerSample
    is_long = image.mode == "F" or (image.mode == "I" and image.format not in _CUT)
    return 32 if is_long else 16


def _read_channels(content: bytes) -> np.ndarray | None:
    """RGB samples [H, W, 3] uint16 of a file, as they are stored; None where OpenCV has others."""
    import cv2  # here: its import takes long, and nearly no image needs it

    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 3 or pixels.shape[2] < 3:
        return None
    return cast(np.ndarray, pixels[:, :, 2::-1])


def _have_high_bytes(whole: np.ndarray, high: np.ndarray) -> bool:
    """Whether the high bytes of 16-bit samples are these: of PPM files Pillow rounds."""
    return all(
        np.abs((whole[rows] >> 8) - high[rows].astype(np.int32)).max() <= 1
        for rows in _blocks(whole)
    )


def _blocks(samples: np.ndarray) -> Iterator[slice]:
    for start in range(0, len(samples), _ROWS):
        yield slice(start, start + _ROWS)


def _refuse(samples: str, where: str, fix: str = _SAVE_AGAIN) -> PaddlexMLError:
    return PaddlexMLError(f"{samples} have no defined brightness range", where=where, fix=fix)
