# SPDX-License-Identifier: Apache-2.0
"""What a file is, known from its first bytes: an image, or what cannot be read as one."""

from __future__ import annotations

import codecs
import importlib
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from PIL import Image, features

from paddlex_ml import program
from paddlex_ml.data import decode_header
from paddlex_ml.errors import PaddlexMLError

_HEAD = 4096  # bytes that are looked at
_PICTURE = "save it as JPEG or PNG"
_EXPORT = "export it as JPEG or PNG"
_AGAIN = "download or copy the image again"
_INTACT = "replace the file by an intact copy, or remove its line from the list"
_FRAMES = "extract the frames that you want as JPEG files"


VIDEO = "not an image, but a video"
"""`FileKind.what` of a video."""


class FileKind(NamedTuple):
    """What a file is, as a sentence, and what its owner can do."""

    what: str
    fix: str


# The first expression that matches the head of a file; "." is any byte.
_SIGNATURES = [
    (re.compile(pattern, re.DOTALL), name, fix)
    for pattern, name, fix in (
        (
            rb"\x00\x05\x16[\x00\x07]",
            "a macOS resource file",
            "delete all ._ files: dot_clean -m .",
        ),
        (rb"%PDF-", "a PDF document", _EXPORT),
        (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript drawing", _EXPORT),
        (rb"\xd7\xcd\xc6\x9a|\x01\x00\x00\x00.{36} EMF", "a Windows metafile", _EXPORT),
        (rb"8BPS", "a Photoshop file (PSD)", _EXPORT),
        (rb"gimp xcf", "a GIMP file (XCF)", _EXPORT),
        (rb"RIFF....AVI |\x1aE\xdf\xa3|FLV\x01|\x00\x00\x01[\xb3\xba]", "a video", _FRAMES),
        (rb"\x30\x26\xb2\x75\x8e\x66|....(moov|mdat|wide|free)", "a video", _FRAMES),
        (rb"II\*\x00....CR|IIU\x00|IIR[OS]|MMOR|FUJIFILMCCD-RAW", "a RAW photograph", _EXPORT),
        (rb"FOVb|\x00MRM|II\x1a\x00\x00\x00HEAPCCDR|....ftypcrx ", "a RAW photograph", _EXPORT),
        (rb"PK\x03\x04|7z\xbc\xaf|Rar!|.{257}ustar", "an archive", "unpack it"),
        (rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd", "a compressed file", "unpack it"),
        (rb".{128}DICM", "a DICOM file", _PICTURE),
        (rb"\x93NUMPY", "a NumPy array", _PICTURE),
        (rb"\x89HDF|MATLAB 5\.0", "a file of arrays (HDF5 or MATLAB)", _PICTURE),
        (rb"GRIB|BUFR", "a file of weather data", _PICTURE),
        (rb"v/1\x01|#\?RADIANCE|#\?RGBE", "a picture of floats (OpenEXR or Radiance)", _PICTURE),
        (rb"II\xbc", "a picture in JPEG XR", _PICTURE),
        (rb"L\x00\x00\x00\x01\x14\x02\x00", "a Windows shortcut", "copy the image itself there"),
        (rb"ID3|\xff[\xf2\xf3\xfb]|OggS|RIFF....WAVE", "a sound", "remove it"),
    )
]
_IMAGES = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "PNG": re.compile(rb"\x89PNG"),
    "GIF": re.compile(rb"GIF8"),
    "WebP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "BMP": re.compile(rb"BM....\x00\x00\x00\x00", re.DOTALL),
    "TIFF": re.compile(rb"II[*+]\x00|MM\x00[*+]"),
    "JPEG 2000": re.compile(rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51"),
    "JPEG XL": re.compile(rb"\x00\x00\x00\x0cJXL |\xff\x0a"),
}
_HEIF_BRANDS = frozenset(
    (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1")
)
_AVIF_BRANDS = frozenset((b"avif", b"avis"))


class _Plugin(NamedTuple):
    """A package that adds a format to Pillow."""

    module: str
    register: str
    """Its function; "": importing it is enough."""
    install: str
    """What pip is asked for."""


_PLUGINS: Mapping[str, _Plugin] = {
    "HEIC": _Plugin("pillow_heif", "register_heif_opener", "paddlex-ml[heic]"),
    "AVIF": _Plugin("pillow_avif", "", "--upgrade Pillow"),
    "JPEG XL": _Plugin("pillow_jxl", "", "pillow-jxl-plugin"),
}
"""Formats that Pillow may not know alone: their packages are imported for the first such image."""
PLUGIN_SUFFIXES = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
    ".avif": "AVIF",
    ".jxl": "JPEG XL",
}
"""Endings, in lower case, of these formats."""


# Pillow knows their first bytes, which are short.
_BY_PILLOW = ("PPM", "QOI")
_NOTES = tuple(
    f"not an image, but {name}"
    for name in ("a text file", "a JSON file", "an XML file", "an HTML page")
)


def look(path: str) -> FileKind | Literal["image", "text"]:
    """What a file is whose name does not say that it is an image: an image that can be read, a text
    such as notes or annotations, or something else, by its kind."""
    try:
        with decode_header.open_file(path) as file:
            head = file.read(_HEAD)
    except OSError as error:
        return FileKind(f"it cannot be opened: {error.strerror}", "give yourself permission")
    except PaddlexMLError as error:
        return FileKind(error.what, error.fix)
    if not head:
        return FileKind("an empty file (0 bytes)", _AGAIN)
    if other := recognise_other(head):
        return "text" if other.what.startswith(_NOTES) else other
    name = _name_image(head)
    if needed := _recognise_plugin(name):
        return needed
    try:
        if name == "TIFF" or not name:
            with decode_header.open_file(path) as file:
                image = decode_header.open_known(file, ("TIFF",) if name else _BY_PILLOW)
                if is_raw_tiff(head, image):
                    return FileKind("not an image, but a RAW photograph", _EXPORT)
    except Exception:  # damaged, or no image: the first is told when it is read
        return (
            "image" if name else FileKind("not an image, or a format that is not known", _PICTURE)
        )
    return "image"


def is_image(head: bytes) -> bool:
    """Whether bytes begin as an image file of a known format does."""
    return bool(_name_image(head))


def is_video(path: str) -> bool:
    """Whether a file begins as a video does, whatever its name."""
    try:
        with decode_header.open_file(path) as file:
            kind = recognise_other(file.read(_HEAD))
    except (OSError, PaddlexMLError):
        return False
    return kind is not None and kind.what == VIDEO


def may_need_package(suffix: str) -> bool:
    """Whether images of this ending, in lower case, may be in a format that cannot be read here."""
    name = PLUGIN_SUFFIXES.get(suffix)
    return name is not None and _recognise_plugin(name) is not None


def _recognise_plugin(name: str) -> FileKind | None:
    """What an image of a format is that neither Pillow nor an installed package reads."""
    plugin = _PLUGINS.get(name)
    if plugin is None or (name == "AVIF" and features.check("avif")):
        return None
    try:
        importlib.import_module(plugin.module)
    except ImportError:
        what = f"a picture in {name}, which needs a package"
        return FileKind(what, f"{name}: {program.pip_install(*plugin.install.split())}")
    return None


def register(content: bytes) -> bool:
    """Import the package for an image that Pillow does not know; whether it is there."""
    plugin = _PLUGINS.get(_name_image(content[:_HEAD]))
    if plugin is None:
        return False
    try:
        module = importlib.import_module(plugin.module)
    except ImportError:
        return False
    if plugin.register:
        getattr(module, plugin.register)()
    return True


def recognise(content: bytes) -> FileKind | None:
    """What a file is that Pillow does not read; None where the bytes tell nothing."""
    head = content[:_HEAD]
    if other := recognise_other(content):
        return other
    name = _name_image(head)
    if needed := _recognise_plugin(name):
        return needed
    if name == "TIFF":
        what = "a TIFF whose kind of samples is not known, or that is damaged"
        return FileKind(what, "save it with 8 bits per channel, or replace it by an intact copy")
    if name:
        return FileKind(f"a damaged {name}: its beginning cannot be read", _INTACT)
    return None


def recognise_other(content: bytes) -> FileKind | None:
    """What a file is that is no image at all; None for images and unknown bytes."""
    head = content[:_HEAD]
    name, fix = next(((n, f) for pattern, n, f in _SIGNATURES if pattern.match(head)), ("", ""))
    if not name and is_raw_tiff(content):
        name, fix = "a RAW photograph", _EXPORT
    if not name and head[4:8] == b"ftyp" and not _name_image(head):
        name, fix = "a video", _FRAMES
    if not name and not content.strip(b"\0"):
        name, fix = "only zero bytes, as an interrupted copy leaves", _AGAIN
    if name:
        return FileKind(f"not an image, but {name}", fix)
    text = _decode(head)
    return None if text is None else _recognise_text(text.strip(), len(content) > len(head))


def is_raw_tiff(content: bytes, image: Image.Image | None = None) -> bool:
    """Whether a TIFF is the photograph of a camera (DNG, NEF, ARW): Pillow would read its preview.

    `image` is the file, if it is open already.
    """
    if not _IMAGES["TIFF"].match(content):
        return False
    try:
        tags = getattr(image or decode_header.open_known(content, ("TIFF",)), "tag_v2", {})
    except Exception:  # no TIFF that Pillow knows
        return False
    version, kind, more = 50706, 254, 330  # DNGVersion, NewSubfileType, SubIFDs
    return version in tags or (tags.get(kind) == 1 and more in tags)


def _name_image(head: bytes) -> str:
    """The format of an image; "" for anything else."""
    if head[4:8] == b"ftyp":
        size = int.from_bytes(head[:4], "big")
        brands = {head[8:12], *(head[i : i + 4] for i in range(16, min(size, len(head)), 4))}
        return "AVIF" if brands & _AVIF_BRANDS else "HEIC" if brands & _HEIF_BRANDS else ""
    return next((name for name, pattern in _IMAGES.items() if pattern.match(head)), "")


def _decode(head: bytes) -> str | None:
    """The beginning of a text file; None for other bytes."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        name = "utf-16"
    else:
        name = "utf-8"
        head = head.removeprefix(codecs.BOM_UTF8)
    try:
        text = codecs.getincrementaldecoder(name)().decode(head)  # a letter may be cut at the end
    except UnicodeDecodeError:
        return None
    return None if not text.strip() or re.search(r"[\x00-\x08\x0e-\x1a\x7f]", text) else text


def _recognise_text(text: str, is_cut: bool) -> FileKind:
    lower = text.lower()
    name, fix = f"a text file that begins with {text[:30]!r}", _INTACT
    if lower.startswith("version https://git-lfs"):
        name, fix = "a Git LFS pointer", "git lfs pull (in the repository that the file is from)"
    elif "annex/objects/" in text:
        name, fix = (
            "a git-annex pointer",
            "git annex get . (in the repository that the file is from)",
        )
    elif lower.startswith("<"):
        if re.search(r"<svg[\s>]", lower):
            name, fix = "an SVG drawing", _EXPORT
        elif re.search(r"<(!doctype html|html|head|body|script)[\s>]", lower):
            name = "an HTML page"
            fix = f"{_AGAIN}: a server sends a page where an address is wrong or needs a login"
        else:
            name = "an XML file"
    elif lower.startswith("data:image/"):
        name, fix = "a data: address, the text of an image", "decode its base64 text into a file"
    elif text[0] in "{[":
        name = "a JSON file"
    elif not is_cut and re.fullmatch(r"(\.{0,2}/)?[^\s:/]+(/[^\s:/]+)*", text) and "/" in text:
        name = f"the text of a link to {text}"
        fix = "copy the image itself there: git writes such texts where a system has no links"
    return FileKind(f"not an image, but {name}", fix)
