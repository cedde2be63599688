# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
import io
import os
import struct
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paddlex_ml import program
from paddlex_ml.data import file_kinds, inspect_images
from paddlex_ml.data.transforms import SUFFIXES, decode_image, read_image
from paddlex_ml.errors import PaddlexMLError

LFS = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
SVG = b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="http://www.w3.org/2000/svg"></svg>'
ACCESS_DENIED = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'


def iso(brand: bytes, *compatible: bytes) -> bytes:
    """The first box of an ISO media file: HEIC, AVIF, MP4, CR3."""
    body = b"ftyp" + brand + b"\0\0\0\0" + b"".join(compatible)
    return struct.pack(">I", len(body) + 4) + body + bytes(200)


def archive() -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as packed:
        packed.writestr("a.jpg", b"x")
    return memory.getvalue()


def saved(image: Image.Image, kind: str, **options) -> bytes:
    memory = io.BytesIO()
    image.save(memory, kind, **options)
    return memory.getvalue()


def raw_tiff() -> bytes:
    """As NEF and ARW begin: a small preview, and the photograph in a directory below it."""
    return saved(Image.new("RGB", (16, 12)), "TIFF", tiffinfo={254: 1, 330: 8})


OTHERS = {
    "a Git LFS pointer": LFS,
    "a git-annex pointer": b"/annex/objects/SHA256E-s31390--f50d7ac4.jpg\n",
    "an HTML page": b"\n<!DOCTYPE html>\n<html><body>404 Not Found</body></html>",
    "an HTML page ": b"\xef\xbb\xbf<HTML lang='zh'><head><title>\xe7\x99\xbb\xe5\xbd\x95</title>",
    "an XML file": ACCESS_DENIED,
    "an SVG drawing": SVG,
    "a JSON file": b'{"error": "not found"}',
    "a text file that begins with 'no image'": b"no image",
    "a text file that begins with '找不到'": "找不到".encode("utf-16"),
    "a data: address": b"data:image/png;base64,iVBORw0KGgo=",
    "the text of a link to ../raw/a.jpg": b"../raw/a.jpg",
    "a PDF document": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "a PostScript drawing": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "a Photoshop file (PSD)": b"8BPS\0\1" + bytes(30),
    "a video": iso(b"isom", b"isom", b"mp42"),
    "a video ": b"RIFF\x24\0\0\0AVI LIST" + bytes(40),
    "a video  ": b"\x1aE\xdf\xa3" + bytes(40),
    "a video   ": iso(b"qt  ", b"qt  "),
    "a RAW photograph": b"II*\0\x10\0\0\0CR\x02\0" + bytes(40),
    "a RAW photograph ": iso(b"crx ", b"crx ", b"isom"),
    "a RAW photograph  ": b"FUJIFILMCCD-RAW 0201" + bytes(40),
    "a RAW photograph   ": raw_tiff(),
    "an archive": archive(),
    "a compressed file": b"\x1f\x8b\x08\0" + bytes(20),
    "a macOS resource file": b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(60),
    "a DICOM file": bytes(128) + b"DICM" + bytes(20),
    "a NumPy array": b"\x93NUMPY\1\0v\0{'descr'",
    "a file of arrays": b"\x89HDF\r\n\x1a\n" + bytes(40),
    "only zero bytes": bytes(5000),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_image_is_named_as_what_it_is(name):
    with pytest.raises(PaddlexMLError) as caught:
        decode_image(OTHERS[name], where="a.jpg")
    assert caught.value.what.startswith(f"not an image, but {name.strip()}")
    assert caught.value.where == "a.jpg"


@pytest.mark.parametrize(
    ("content", "fix"),
    [
        (LFS, "git lfs pull"),
        (b"/annex/objects/SHA256E-s1--f5.jpg\n", "git annex get ."),
        (b"\0\5\x16\7" + bytes(60), "dot_clean"),
    ],
)
def test_the_repair_is_a_command_where_there_is_one(content, fix):
    with pytest.raises(PaddlexMLError) as caught:
        decode_image(content, where="a.jpg")
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(60), "a damaged PNG"),
        (b"\xff\xd8\xff\xe0" + bytes(60), "a damaged JPEG"),
        (b"II*\0" + bytes(60), "a TIFF whose kind of samples is not known"),
        (bytes([250, 1, 2, 3, 200]) * 20, "not an image, or a format that is not known"),
    ],
)
def test_damaged_images_are_told_apart_from_other_files(content, what):
    with pytest.raises(PaddlexMLError, match=what):
        decode_image(content, where="a.jpg")


def test_a_text_that_is_cut_within_a_letter_is_a_text():
    head = "x" + "图" * 2000  # 4,096 bytes end within a letter
    assert "a text file" in file_kinds.recognise(head.encode()).what


@pytest.mark.parametrize(
    ("kind", "options"),
    [("AVIF", {}), ("JPEG2000", {}), ("TGA", {}), ("DIB", {}), ("QOI", {}), ("PCX", {})],
)
def test_pillows_other_formats_are_read(kind, options):
    content = saved(Image.new("RGB", (40, 30), (200, 30, 30)), kind, **options)
    red, green, _ = np.asarray(decode_image(content, where="a"))[15, 20]
    assert (red > 180, green < 60) == (True, True)


def test_every_ending_of_the_formats_that_are_read_counts_as_an_image():
    wanted = ".heic .heif .avif .jp2 .j2k .jxl .dib .jpe .tga .jpg .png .tif .webp"
    assert set(wanted.split()) <= SUFFIXES
    Image.init()
    plugins = {".heic", ".heif", ".hif", ".jxl"}
    assert set(Image.registered_extensions()) >= SUFFIXES - plugins


@pytest.mark.parametrize(
    ("content", "fix"),
    [
        (iso(b"heic", b"mif1", b"heic"), "HEIC: paddlex-ml[heic]"),
        (iso(b"mif1", b"mif1", b"heic"), "HEIC: paddlex-ml[heic]"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "JPEG XL: pillow-jxl-plugin"),
        (b"\xff\x0a\x8f\x07" + bytes([255]) * 40, "JPEG XL: pillow-jxl-plugin"),
    ],
)
def test_a_format_that_needs_a_package_names_it(content, fix, monkeypatch):
    for module in ("pillow_heif", "pillow_jxl"):
        monkeypatch.setitem(sys.modules, module, None)  # not installed
    with pytest.raises(PaddlexMLError, match="which needs a package") as caught:
        decode_image(content, where="IMG_0001.HEIC")
    name, _, package = fix.partition(": ")
    assert caught.value.fix == f"{name}: {program.pip_install(package)}"


def test_the_package_is_imported_for_the_first_such_image_and_not_before(monkeypatch):
    registered = []

    def register() -> None:
        registered.append(1)
        opened: Any = Image.new("RGB", (5, 4), (1, 2, 3))
        Image.OPEN["HEIF"] = lambda _file, _name: opened, lambda head: head[4:8] == b"ftyp"

    plugin = types.SimpleNamespace(register_heif_opener=register)
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    decode_image(saved(Image.new("RGB", (5, 4)), "PNG"), where="a.png")
    assert registered == []
    assert decode_image(iso(b"heic", b"mif1"), where="a.heic").getpixel((0, 0)) == (1, 2, 3)
    assert registered == [1]


@pytest.mark.skipif(not importlib.util.find_spec("pillow_heif"), reason="needs pillow-heif")
def test_a_heic_photograph_is_read():
    importlib.import_module("pillow_heif").register_heif_opener()
    y, x = np.mgrid[:60, :80]
    content = saved(Image.fromarray(np.stack([x * 3, y * 4, x + y], 2).astype(np.uint8)), "HEIF")
    assert decode_image(content, where="a.heic").size == (80, 60)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs links")
def test_a_dangling_link_is_named_by_training_and_by_the_check(tmp_path: Path):
    (tmp_path / "a.jpg").symlink_to("../gone/a.jpg")
    with pytest.raises(PaddlexMLError) as caught:
        read_image(tmp_path / "a.jpg")
    (inspected,) = inspect_images.inspect_chunk(str(tmp_path), ["a.jpg"])
    assert caught.value.what == inspected.problem
    assert inspected.problem == "a dangling link: it leads to ../gone/a.jpg, which is not there"
    assert caught.value.fix == inspected.fix
