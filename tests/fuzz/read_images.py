# SPDX-License-Identifier: Apache-2.0
"""Images through the loader, the check, the thumbnails, and those of several frames; videos."""

from __future__ import annotations

import importlib
import io
from contextlib import suppress
from functools import cache
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from paddlex_ml.data import inspect_images, transforms
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.inference import frames
from paddlex_ml.pictures import thumbnails
from tests.fuzz.harness import Reader

_SIZE = (24, 16)
_MODES = {
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "RGBA", "P", "1", "I;16", "LA"),
    "TIFF": ("RGB", "I;16", "F", "CMYK", "1"),
    "BMP": ("RGB", "P"),
    "PPM": ("RGB", "L", "I;16"),
    "TGA": ("RGBA",),
    "PCX": ("RGB",),
    **dict.fromkeys(("GIF", "WEBP", "JPEG2000", "AVIF", "QOI", "HEIF"), ("RGB",)),
}
"""Pillow's format -> the kinds of pixels of the samples."""
_SEVERAL = ("GIF", "PNG", "TIFF", "WEBP")


@cache
def _write_images() -> tuple[bytes, ...]:
    with suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
    noise = np.random.default_rng(0).integers(0, 255, (*_SIZE[::-1], 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    found = []
    for form, modes in _MODES.items():
        for mode in modes:
            image = Image.fromarray(noise)
            if mode in ("I;16", "F"):
                image = image.convert("I" if mode == "I;16" else "F")
            image = image.convert(mode)
            for options in _options(form, mode, exif.tobytes(), image):
                with suppress(KeyError, OSError, ValueError):  # a format that Pillow lacks here
                    content = io.BytesIO()
                    image.save(content, form, **options)
                    found.append(content.getvalue())
    return tuple(found)


def _options(form: str, mode: str, exif: bytes, image: Image.Image) -> list[dict[str, Any]]:
    options: list[dict[str, Any]] = [{}]
    if form in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF") and mode == "RGB":
        options.append({"exif": exif})
    if form == "JPEG":
        options.append({"progressive": True, "dpi": (72, 72)})
    if form == "TIFF":
        options += [{"compression": name} for name in ("tiff_lzw", "tiff_deflate", "packbits")]
        options += [{"compression": "group4"}] if mode == "1" else []
    if form in _SEVERAL and mode == "RGB":
        others = [image.rotate(90 * turn) for turn in (1, 2)]
        options.append({"save_all": True, "append_images": others})
    return options


def _read_image(folder: Path, content: bytes) -> object:
    """Read one photograph in every way; all of them agree whether it can be read."""
    path = folder / "photo.jpg"
    path.write_bytes(content)
    [inspected] = inspect_images.inspect_chunk(str(folder), ["photo.jpg"])
    read = lambda path, side: transforms.read_image(path, side)  # noqa: E731
    small = thumbnails.shrink_all([path], read)[path]
    with suppress(PaddlexMLError):
        transforms.read_image(path, 8)
    image = transforms.read_image(path)
    return image.mode, inspected.problem, bool(small)


def _read_frames(folder: Path, content: bytes) -> object:
    path = folder / "photo.gif"
    path.write_bytes(content)
    if not frames.has_several(str(path)):
        return False
    found = islice(frames.sample(str(path), 2, where="photo.gif"), 50)
    return [frame.number for frame in found]


@cache
def _write_videos() -> tuple[bytes, ...]:
    cv2: Any = importlib.import_module("cv2")
    found = []
    with TemporaryDirectory() as folder:
        for suffix, code in ((".avi", "MJPG"), (".mp4", "mp4v"), (".avi", "XVID")):
            path = Path(folder) / f"x{suffix}"
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), 5.0, (32, 32))
            for shade in (0, 100, 200):
                writer.write(np.full((32, 32, 3), shade, np.uint8))
            writer.release()
            found.append(path.read_bytes())
    return tuple(found)


def _read_video(folder: Path, content: bytes) -> object:
    path = folder / "film.mp4"
    path.write_bytes(content)
    return [frame.number for frame in islice(frames.sample(str(path), 2, where="film.mp4"), 50)]


_WORDS = (
    *(b"\xff\xd8", b"\xff\xd9", b"\xff\xc0", b"\xff\xc2", b"\xff\xda", b"\xff\xe1", b"\xff\xdb"),
    *(
        b"Exif\0\0II*\0",
        b"Exif\0\0MM\0*",
        b"\x12\x01\x03\x00",
        b"\x01\x12\x00\x03",
        b"IHDR",
        b"IDAT",
    ),
    *(b"PLTE", b"tRNS", b"zTXt", b"iTXt", b"eXIf", b"iCCP", b"acTL", b"fcTL", b"fdAT", b"IEND"),
    *(
        b"GIF89a",
        b"\x21\xff\x0bNETSCAPE2.0",
        b"RIFF",
        b"WEBPVP8X",
        b"VP8L",
        b"ANMF",
        b"qoif",
        b"II*\0",
    ),
    *(b"MM\0*", b"II+\0", b"P6\n", b"P5 9 9 65535\n", b"P7\n", b"Pf\n-1\n", b"%!PS-Adobe", b"BM"),
    *(
        b"\0\0\0\x0cjP  ",
        b"ftypavif",
        b"ftypheic",
        b"\x00\x01\x00\x01",
        b"\x03\x01\x00\x00",
        b"JFIF",
    ),
    *(
        b"#EXTM3U\n",
        b"file ../victim/secret.txt\n",
        b"moov",
        b"mdat",
        b"idx1",
        b"<svg",
        b"\x0a\x05\x01",
    ),
)
_MEMORY = (1 << 30) + (300 << 20)  # docs/data.md: 1 GB for one image
READERS = [
    Reader("image", _read_image, _write_images, _WORDS, _MEMORY),
    Reader("frames", _read_frames, _write_images, _WORDS, _MEMORY),
    Reader("video", _read_video, _write_videos, _WORDS, _MEMORY),
]
