# SPDX-License-Identifier: Apache-2.0
"""Small files that would fill the memory, were what they declare believed."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import pytest
from PIL import Image, TiffTags

from paddlex_ml.data.transforms import decode_image
from paddlex_ml.errors import PaddlexMLError

LIMIT = 2**29  # pixels


def write(kind: str, **options) -> bytearray:
    memory = io.BytesIO()
    Image.new("RGB", (4, 4)).save(memory, kind, **options)
    return bytearray(memory.getvalue())


def chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png(width: int, height: int, extra: bytes = b"") -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(10_000)))
    return b"\x89PNG\r\n\x1a\n" + head + extra + data + chunk(b"IEND", b"")


def gif(width: int, height: int) -> bytes:
    content = write("GIF")
    content[6:10] = struct.pack("<HH", width, height)
    return bytes(content)


def gif_frame(width: int, height: int) -> bytes:
    """The screen is small, its one picture is not."""
    content = write("GIF")
    start = content.index(b",", 13)
    content[start + 5 : start + 9] = struct.pack("<HH", width, height)
    return bytes(content)


def webp(width: int, height: int) -> bytes:
    content = write("WEBP", lossless=True)
    start = content.index(b"VP8L") + 9
    content[start : start + 4] = struct.pack("<I", (width - 1) | (height - 1) << 14)
    return bytes(content)


def tiff(width: int, height: int, **options) -> bytes:
    content = write("TIFF", **options)
    start = struct.unpack("<I", content[4:8])[0] + 2
    sides = {"ImageWidth": width, "ImageLength": height, "RowsPerStrip": height}
    for place in range(start, start + 12 * struct.unpack("<H", content[start - 2 : start])[0], 12):
        tag = struct.unpack("<H", content[place : place + 2])[0]
        if (side := sides.get(TiffTags.lookup(tag).name)) is not None:
            content[place : place + 12] = struct.pack("<HHII", tag, 4, 1, side)
    return bytes(content)


def lzw(width: int, height: int) -> bytes:
    return tiff(width, height, compression="tiff_lzw")


def jpeg(width: int, height: int) -> bytes:
    content = write("JPEG")
    start = content.index(b"\xff\xc0")
    content[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(content)


@pytest.mark.parametrize("build", [png, gif, gif_frame, tiff, lzw, jpeg])
@pytest.mark.parametrize(("width", "height"), [(2**15, 2**14 + 1), (65_000, 65_000)])
def test_more_pixels_than_the_limit_are_refused_before_they_are_decoded(build, width, height):
    assert width * height > LIMIT
    with pytest.raises(PaddlexMLError, match=f"exceeds limit of {LIMIT} pixels") as caught:
        decode_image(build(width, height), where="bomb")
    assert caught.value.where == "bomb"


@pytest.mark.parametrize("build", [png, gif, webp, tiff, lzw, jpeg])
def test_a_huge_image_in_a_few_bytes_is_refused_before_it_is_decoded(build):
    with pytest.raises(PaddlexMLError, match="bytes cannot hold 16383 x 16383 pixels"):
        decode_image(build(16_383, 16_383), where="bomb")


def test_a_large_image_of_one_colour_is_read():
    memory = io.BytesIO()
    Image.new("L", (9000, 9000), 7).save(memory, "PNG")
    assert decode_image(memory.getvalue(), where="black").getpixel((8999, 8999)) == (7, 7, 7)


@pytest.mark.parametrize(
    ("kind", "head"), [(b"iCCP", b"x\0\0"), (b"zTXt", b"x\0\0"), (b"iTXt", b"x\0\1\0\0\0")]
)
def test_text_and_profiles_that_grow_are_not_unpacked(kind, head):
    packed = zlib.compress(bytes(2**26), 9)
    tracemalloc.start()
    try:
        with pytest.raises(PaddlexMLError, match="Decompressed data too large"):
            decode_image(png(4, 4, chunk(kind, head + packed)), where="bomb")
        assert tracemalloc.get_traced_memory()[1] < 8e6
    finally:
        tracemalloc.stop()


def test_of_thousands_of_frames_the_first_alone_is_decoded():
    first = bytes(write("GIF", optimize=False))
    start = first.index(b",", 13)
    frame = first[start:-1]
    image = decode_image(first[:-1] + (frame * 2 + b",broken") * 5000 + b";", where="film")
    assert image.size == (4, 4)
    assert image.getpixel((0, 0)) == (0, 0, 0)
