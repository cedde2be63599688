# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import os
import struct
import subprocess
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from paddlex_ml import cli
from paddlex_ml.data import decode_header, decode_memory, file_kinds, inspect_images, transforms
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.formats import exporters
from paddlex_ml.inference import frames, pixels
from paddlex_ml.pictures import thumbnails

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 88\n%%EndComments\nshowpage\n%%EOF\n"
# How files begin whose formats Pillow reads and does not write.
HEADS = {
    "EPS": EPS,
    "CUR": b"\0\0\2\0\1\0" + bytes(40),
    "DCX": struct.pack("<I", 0x3ADE68B1) + bytes(60),
    "FITS": b"SIMPLE  =                    T" + bytes(200),
    "FLI": bytes(4) + b"\x12\xaf" + bytes(14) + b"\3\0" + bytes(200),
    "FTEX": b"FTEX" + bytes(60),
    "GBR": struct.pack(">III", 28, 1, 4) + bytes(60),
    "GRIB": b"GRIB\0\0\0\1" + bytes(60),
    "BUFR": b"BUFR" + bytes(60),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(60),
    "MCIDAS": b"\0\0\0\0\0\0\0\4" + bytes(260),
    "MPEG": b"\0\0\1\xb3\x01\x00\x10" + bytes(60),
    "PIXAR": b"\200\350\0\0" + bytes(520),
    "PSD": b"8BPS\0\1" + bytes(60),
    "SUN": struct.pack(">I", 0x59A66A95) + bytes(60),
    "WMF": b"\xd7\xcd\xc6\x9a" + bytes(60),
    "XPM": b"/* XPM */\nstatic char *x[] = {\n" + bytes(60),
    "XVTHUMB": b"P7 332\n#END_OF_COMMENTS\n4 4 255\n" + bytes(16),
    "XBM": b"#define a_width 8\n#define a_height 1\nstatic char a_bits[] = { 0x01 };\n",
}
WITHOUT_SIGN = {"IMT", "IPTC", "PCD", "SPIDER", "IM"}
"""Their plugins look into the file, and refuse nothing by its first bytes."""


def sample(name: str) -> bytes:
    if name in HEADS:
        return HEADS[name]
    memory = io.BytesIO()
    mode = {"MSP": "1", "SPIDER": "F", "BLP": "P"}.get(name, "RGB")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats that Pillow will no longer write
            Image.new(mode, (48, 32)).save(memory, name)
    except (KeyError, OSError, ValueError):
        return b"*" * 200
    return memory.getvalue()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Any]]:
    """What was started as a process, which stays empty; and a `gs` that would leave a file."""
    found: list[Any] = []
    for owner, name in (
        *((subprocess, name) for name in ("Popen", "run", "call", "check_call", "check_output")),
        *((os, name) for name in ("system", "popen", "posix_spawn", "posix_spawnp", "fork")),
        *((os, name) for name in ("execv", "execve", "execvp", "execvpe")),
    ):
        monkeypatch.setattr(owner, name, lambda *a, **_: found.append(a))
    folder = tmp_path / "programs"
    folder.mkdir()
    script = folder / "gs"
    script.write_text(f"#!/bin/sh\necho started > {tmp_path}/gs_was_started\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    yield found
    assert found == []
    assert not (tmp_path / "gs_was_started").exists()


Image.init()


@pytest.mark.parametrize("name", sorted(Image.OPEN))
def test_no_format_that_pillow_has_starts_a_process_or_is_opened_unpromised(
    name: str, started: list[Any], tmp_path: Path
):
    content = sample(name)
    if name not in WITHOUT_SIGN:
        _, accept = Image.OPEN[name]
        assert accept is None or accept(content[:16])
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    answers = [
        lambda: transforms.read_image(path),
        lambda: transforms.read_image(path, 16),
        lambda: frames.has_several(str(path)),
        lambda: file_kinds.look(str(path)),
        lambda: thumbnails.shrink(path, transforms.read_image),
        lambda: exporters._measure(path),
        lambda: inspect_images.inspect_chunk(str(tmp_path), ["photo.jpg"]),
    ]
    opened: list[Any] = []
    for answer in answers:
        try:
            opened.append(answer())
        except PaddlexMLError:
            opened.append(None)
    is_read = isinstance(opened[0], Image.Image)
    if name not in decode_header.FORMATS:
        assert not is_read
        assert opened[-1][0].problem
    elif name != "HEIF":
        assert (is_read, opened[0].size) == (True, (48, 32))
        assert opened[-1][0].problem == ""


def test_the_trap_of_this_test_closes(monkeypatch: pytest.MonkeyPatch):
    """Pillow alone starts Ghostscript for the same file."""
    found: list[Any] = []

    def stop(*arguments: Any, **_: Any) -> None:
        found.append(arguments)
        raise FileNotFoundError("not started")

    for name in ("Popen", "check_call", "run"):
        monkeypatch.setattr(subprocess, name, stop)
    with pytest.raises(OSError, match=r"not started|[Gg]hostscript"):
        Image.open(io.BytesIO(EPS)).load()
    monkeypatch.undo()
    assert found or not _has_ghostscript()


def _has_ghostscript() -> bool:
    from PIL import EpsImagePlugin

    return bool(EpsImagePlugin.has_ghostscript())


def test_an_image_that_the_caller_has_opened_is_read_in_the_same_formats(started: list[Any]):
    with pytest.raises(PaddlexMLError, match="images in EPS are not decoded") as caught:
        pixels.from_pil(Image.open(io.BytesIO(EPS)), "input[0]")
    assert (caught.value.where, "JPEG" in caught.value.fix) == ("input[0]", True)


def test_the_check_names_a_drawing_with_the_name_of_a_photograph(
    toy: Path, draw_set: Callable[..., Path], command, tmp_path: Path, started: list[Any], capsys
):
    root = draw_set(tmp_path / "set", 4, 2)
    (root / "images" / "train_1.png").write_bytes(EPS)
    assert cli.main(command("check_dataset", root, tmp_path / "out")) == 2
    said = capsys.readouterr().err
    assert "images/train_1.png" in said
    assert "a PostScript drawing" in said
    assert "Traceback" not in said


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipes_devices_and_files_with_holes_are_not_read(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    with (tmp_path / "holes.jpg").open("wb") as file:
        file.truncate(10**11)
    (tmp_path / "folder.jpg").mkdir()
    names = ["pipe.jpg", "zero.jpg", "holes.jpg", "folder.jpg"]
    found = inspect_images.inspect_chunk(str(tmp_path), names)
    assert [each.problem for each in found] == [
        "not an image, but a pipe or a device",
        "not an image, but a pipe or a device",
        "the file has 100.0 GB, and one image may take 1.0 GB",
        "the image cannot be opened: Is a directory",
    ]
    for name in names:
        with pytest.raises(PaddlexMLError) as caught:
            transforms.read_image(tmp_path / name)
        assert caught.value.where == str(tmp_path / name)
        assert not frames.has_several(str(tmp_path / name))


def test_a_file_is_read_to_its_end_as_it_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.bin"
    path.write_bytes(content := os.urandom(3000))
    read = os.read
    monkeypatch.setattr(os, "read", lambda file, size: read(file, min(size, 700)))
    assert decode_header.read_file(path) == content  # from a disk that gives it piece by piece
    opened = os.fstat
    monkeypatch.setattr(os, "fstat", lambda file: (path.write_bytes(content * 2), opened(file))[1])
    assert decode_header.read_file(path) == content * 2


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG of zeros, sound to its last row, that takes little time to make."""
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    packer, block = zlib.compressobj(1), bytes(2**22)
    left, parts = height * (1 + -(-width * bits // 8)), []
    while left > 0:
        parts.append(packer.compress(block[: min(left, len(block))]))
        left -= len(block)
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(3)) if colour == 3 else b""
    data = chunk(b"IDAT", b"".join(parts) + packer.flush())
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + palette + data + chunk(b"IEND", b"")


def declared(kind: str, mode: str, width: int, height: int, **options: Any) -> Image.Image:
    """The header of an image of this size, with few bytes behind it."""
    memory = io.BytesIO()
    Image.new(mode, (64, 48)).save(memory, kind, **options)
    image = Image.open(memory)
    image._size = width, height
    return image


# Bytes for each pixel as they were measured (peak of the process), for images of 9 million pixels.
MEASURED = [
    *(("PNG", "RGB", 4.4), ("PNG", "RGBA", 8.0), ("PNG", "L", 5.0), ("PNG", "P", 5.3)),
    *(("PNG", "I;16", 6.1), ("JPEG", "RGB", 4.4), ("JPEG", "CMYK", 8.1), ("WEBP", "RGB", 16.1)),
    *(("AVIF", "RGB", 9.4), ("JPEG2000", "RGB", 19.5), ("JPEG2000", "RGBA", 24.4)),
    *(("TIFF", "RGB", 4.4), ("TIFF", "F", 17.0), ("TIFF", "I", 12.0), ("GIF", "P", 5.5)),
    *(("BMP", "RGB", 4.4), ("TGA", "RGB", 4.4), ("QOI", "RGBA", 8.4), ("PPM", "RGB", 4.4)),
]


@pytest.mark.parametrize(("kind", "mode", "a_pixel"), MEASURED)
def test_the_memory_of_an_image_is_known_from_its_header(kind: str, mode: str, a_pixel: float):
    if f".{kind.lower()}" == ".avif" and "AVIF" not in Image.OPEN:
        pytest.skip("needs a newer Pillow")
    image = declared(kind, mode, 10_000, 9_000)
    is_deep = mode.startswith(("I", "F"))
    found = decode_header.needed(image, 10**6, is_deep=is_deep) / 9e7
    assert a_pixel < found < 3.5 * a_pixel + 5


def test_scans_and_turns_count():
    def bytes_of(**options: Any) -> float:
        image = declared("JPEG", "RGB", 10_000, 9_000, **options)
        return decode_header.needed(image, 0, is_deep=False) / 9e7

    plain = bytes_of()
    assert bytes_of(progressive=True, subsampling=0) == pytest.approx(plain + 6)
    assert bytes_of(progressive=True, subsampling=2) == pytest.approx(plain + 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert bytes_of(exif=exif) == pytest.approx(plain + 4)


@pytest.mark.parametrize(
    ("width", "height", "depth", "colour"),
    [(23_000, 23_000, 16, 0), (1, 200_000_000, 8, 0), (200_000_000, 1, 1, 0),
     (12_000, 12_000, 8, 6), (21_000, 21_000, 1, 0), (21_000, 21_000, 8, 3),
     (9_000, 9_000, 16, 2)],
)  # fmt: skip
def test_images_above_the_budget_are_refused_before_they_are_decoded(
    width: int, height: int, depth: int, colour: int, tmp_path: Path, monkeypatch
):
    def fail(*_: object) -> None:
        raise AssertionError("pixels are decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    monkeypatch.setattr(decode_header, "_DENSEST", 10**9)  # whatever the size of the file
    content = png(width, height, depth, colour) if height < 10**8 else png(1, 10, 8, 0)
    if height >= 10**8:
        head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
        content = content[:8] + chunk(b"IHDR", head) + content[33:]
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(PaddlexMLError) as caught:
        transforms.read_image(tmp_path / "a.png")
    assert caught.value.what.startswith(f"{width} x {height} pixels (PNG, ")
    assert caught.value.what.endswith("while they are decoded, and one image may take 1.0 GB")
    assert caught.value.where == str(tmp_path / "a.png")
    (checked,) = inspect_images.inspect_chunk(str(tmp_path), ["a.png"])
    assert (checked.problem, checked.fix) == (caught.value.what, caught.value.fix)
    opened = Image.open(io.BytesIO(content))
    with pytest.raises(PaddlexMLError, match=r"pixels \(PNG, .*one image may take"):
        pixels.from_pil(opened, "input[0]")


@pytest.fixture
def small_budget(monkeypatch: pytest.MonkeyPatch) -> int:
    """Images of two million pixels are large."""
    monkeypatch.setattr(decode_memory, "LARGEST", 20_000_000)
    monkeypatch.setattr(decode_header, "_SMALL", 2**16)
    return 20_000_000


def waves(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[:height, :width] / 90
    values = 127 + 120 * np.stack([np.sin(x + k) * np.cos(y - k) for k in range(3)], 2)
    return Image.fromarray(values.astype(np.uint8))


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
def test_what_can_be_reduced_is_reduced_and_told(kind: str, small_budget: int, caplog):
    memory, image = io.BytesIO(), waves(2400, 2000)
    image.save(memory, kind)
    with caplog.at_level("WARNING"):
        found = transforms.decode(memory.getvalue(), where=f"{kind}.jpg")
    step = 2 if kind == "JPEG" else 4
    assert found.image.size == (2400 // step, 2000 // step)
    assert f"{kind}.jpg: so large that it is decoded at 1/{step} of its sides" in caplog.text
    expected = np.asarray(image.reduce(step), int)
    assert np.abs(np.asarray(found.image, int) - expected).mean() < 3
    found.image.resize((60, 50), reducing_gap=2)  # as pictures of results are made
    memory = io.BytesIO()
    waves(600, 500).save(memory, kind)
    assert transforms.decode_image(memory.getvalue(), where="small").size == (600, 500)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_large_images_are_turned_like_small_ones(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    exif, memory = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    waves(120, 80).save(memory, kind, exif=exif)
    small = transforms.decode_image(memory.getvalue(), where="a")
    monkeypatch.setattr(decode_header, "_SMALL", 64)
    large = transforms.decode_image(memory.getvalue(), where="a")
    assert small.size == (80, 120)
    assert large.tobytes() == small.tobytes()
    (tmp_path / "a").write_bytes(memory.getvalue())
    (checked,) = inspect_images.inspect_chunk(str(tmp_path), ["a"])
    assert (checked.width, checked.height) == (80, 120)


def test_a_jpeg_of_thousands_of_scans_is_refused():
    memory = io.BytesIO()
    waves(64, 48).save(memory, "JPEG", progressive=True)
    content = memory.getvalue()
    start = content.rindex(b"\xff\xda")
    scan = content[start:-2]
    with pytest.raises(PaddlexMLError, match="a JPEG of more than 200 scans"):
        transforms.decode_image(content[:-2] + scan * 5000 + b"\xff\xd9", where="a.jpg")
    assert transforms.decode_image(content, where="a.jpg").size == (64, 48)


def test_a_reduction_that_was_asked_for_is_kept_where_it_is_enough(small_budget: int, caplog):
    memory = io.BytesIO()
    waves(2400, 2000).save(memory, "JPEG")
    for min_side, size in ((900, (1200, 1000)), (400, (600, 500)), (1500, (1200, 1000))):
        found = transforms.decode_image(memory.getvalue(), where="a.jpg", min_side=min_side)
        assert found.size == size
    assert caplog.text.count("a.jpg: so large") == 1  # of the last


def test_a_frame_that_is_larger_than_the_first_counts_by_itself(small_budget: int, tmp_path: Path):
    path = tmp_path / "pages.tif"
    pages = [Image.new("RGB", (64, 48)), Image.new("RGB", (2400, 2000))]
    pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_lzw")
    found = frames.sample(str(path), 1, where=str(path))
    assert next(found).number == 0
    with pytest.raises(PaddlexMLError, match=r"2400 x 2000 pixels \(TIFF, RGB\) take"):
        next(found)
