# SPDX-License-Identifier: Apache-2.0
"""Photographs whose EXIF has an entry of an odd type, beside a sound orientation."""

from __future__ import annotations

import io
import struct

from PIL import Image

RED = (254, 0, 0)
ENTRIES = {
    "a text that is a float": (271, 11, b"\0\0\0\0"),
    "bytes that are a float": (34675, 11, b"\0\0\0\0"),
    "a fraction that is not a number": (282, 11, b"\xff\xff\xff\xff"),
    "a number below zero": (256, 6, b"\xff\xff\xff\xff"),
}
"""Tag, type and value."""


def photograph(entry: str) -> bytes:
    """A JPEG of 96 x 80 pixels that is seen as 80 x 96, red in its upper right corner."""
    tags = sorted([ENTRIES[entry], (274, 3, b"\6\0\0\0")])  # a quarter turn
    entries = b"".join(struct.pack("<HHI", tag, kind, 1) + value for tag, kind, value in tags)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)
    image, memory = Image.new("RGB", (96, 80)), io.BytesIO()
    image.paste((255, 0, 0), (0, 0, 32, 32))
    image.save(memory, "JPEG", quality=95, exif=exif)
    return memory.getvalue()
