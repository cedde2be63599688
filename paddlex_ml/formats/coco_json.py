# SPDX-License-Identifier: Apache-2.0
"""The content of a COCO json file: the few fields that are used, and what is wrong with it.

Why not pycocotools: it builds all the content as Python objects, several times the size of the file
and polygons included, does not report where a fault is, and is a C extension to be compiled.
msgspec reads the few fields used here directly into records and skips the rest without parsing it.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path

import msgspec

from paddlex_ml.data.faults import DatasetFault, combine
from paddlex_ml.data.lines import UTF8, to_utf8
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import regular_file

Id = int | str
WrittenId = int | float | str
"""An id as a file has it."""

EXACT = 2**53
"""Whole numbers up to it are exact as floats."""
LARGE = 2**60
"""Whole numbers from it on are compared by their digits. Python gives all multiples of 2^61 - 1 one
hash: a table of 40,000 of them would take 20 s, and one of a million hours."""
_WHOLE = re.compile(r"\s*([+-]?[0-9]{1,300})(\.0*)?\s*", re.ASCII)
_LARGE_ID = re.compile(r"-?[1-9][0-9]{17,299}", re.ASCII)
_NOT_JSON = re.compile(rb"-?(NaN|Infinity)")
_TYPE_NAMES = {
    "int | float | str": "a whole number or a text",
    "str": "a text",
    "int": "a whole number",
    "float": "a number with a fraction",
    "bool": "true or false",
    "array": "a list [...]",
    "object": "an object {...}",
}


class CocoImage(msgspec.Struct, gc=False):
    """An image: other fields are skipped."""

    id: WrittenId
    file_name: str
    neg_category_ids: msgspec.Raw = msgspec.Raw(b"")  # of LVIS: verified as absent


class _UrlImage(CocoImage, gc=False):
    """An image of LVIS v1, which names images by their address alone."""

    file_name: str = msgspec.field(name="coco_url")


class CocoAnnotation(msgspec.Struct, gc=False):
    """A label of an image, with or without a place in it."""

    image_id: WrittenId
    category_id: WrittenId
    bbox: msgspec.Raw = msgspec.Raw(b"")  # parsed separately: an odd box must not cost a label


class CocoCategory(msgspec.Struct, gc=False):
    """A class."""

    id: WrittenId
    name: str
    supercategory: msgspec.Raw = msgspec.Raw(b"")  # of the root category of Roboflow: "none"


class CocoContent(msgspec.Struct):
    """The lists of a file."""

    images: list[CocoImage]
    annotations: list[CocoAnnotation]
    categories: list[CocoCategory]
    info: msgspec.Raw = msgspec.Raw(b"")


class _UrlContent(CocoContent):
    images: list[_UrlImage]  # type: ignore[assignment]


_decoder = msgspec.json.Decoder(CocoContent)
_url_decoder = msgspec.json.Decoder(_UrlContent)
_box_decoder = msgspec.json.Decoder(tuple[float, float, float, float])


def to_id(written: WrittenId) -> Id | None:
    """The value of an id: 7 for 7, 7.0, "7" and "007"; a LARGE number as a text; None for a number
    that is not whole."""
    if isinstance(written, str):
        match = _WHOLE.fullmatch(written)
        return _value(int(match[1])) if match else written
    if isinstance(written, float):
        return int(written) if written.is_integer() and abs(written) <= EXACT else None
    return _value(written)


def _value(number: int) -> Id:
    return number if -LARGE < number < LARGE else str(number)


def order(value: Id) -> tuple[int, Id]:
    """Numbers by their size, then texts."""
    if isinstance(value, str):
        return (0, int(value)) if _LARGE_ID.fullmatch(value) else (1, value)
    return (0, value)


def read_absent(image: CocoImage) -> set[Id | None] | None:
    """The categories that somebody looked for in an image of LVIS, and did not find; None where the
    file does not say that, as COCO does not. The text of the file is not kept. Raises
    msgspec.DecodeError for a list of other things than ids."""
    text, image.neg_category_ids = bytes(image.neg_category_ids), msgspec.Raw(b"")
    if not text.startswith(b"["):
        return None
    return set(map(to_id, msgspec.json.decode(text, type=list[WrittenId])))


def is_flat(box: msgspec.Raw) -> bool:
    """Whether it is x, y, width, height with no width or no height."""
    try:
        _, _, width, height = _box_decoder.decode(box)
    except msgspec.DecodeError:
        return False
    return width <= 0 or height <= 0


def decode(root: Path, name: str) -> tuple[CocoContent, str]:
    """Read the file `name` of the data set; return its content and the encoding that it has.

    Raises one PaddlexMLError with the line, or with the entry, of the first damage.
    """
    path = root / name
    try:
        raw = regular_file.read(path)
    except OSError as error:
        fix = regular_file.repair(error)
        what = f"the file cannot be read: {error.strerror}"
        raise combine([DatasetFault("file not readable", name, what, fix)], root) from error
    mark = len(codecs.BOM_UTF8) if raw.startswith(codecs.BOM_UTF8) else 0
    try:
        return _decoder.decode(memoryview(raw)[mark:]), UTF8
    except msgspec.ValidationError as error:
        if "`file_name`" in str(error) and (content := _decode_addresses(raw, mark)):
            return content, UTF8
        raise _explain_content(str(error), path) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text, encoding = to_utf8(raw)
        if encoding != UTF8:
            raw, mark = text, 0
        elif not _NOT_JSON.search(raw):
            raise _explain_syntax(error, raw, mark, path) from error
    try:
        return _decoder.decode(memoryview(_hide_not_json(raw))[mark:]), encoding
    except msgspec.ValidationError as error:
        message = str(error).replace("got `array`", "got NaN, Infinity or a list")
        raise _explain_content(message, path) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _explain_syntax(error, raw, mark, path) from error


def _decode_addresses(raw: bytes, mark: int) -> CocoContent | None:
    """The content of a file of LVIS v1: folder and name of its images are the end of `coco_url`."""
    try:
        content = _url_decoder.decode(memoryview(raw)[mark:])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    for image in content.images:
        image.file_name = "/".join(image.file_name.split("/")[-2:])
    return content


def _hide_not_json(raw: bytes) -> bytearray:
    """Put lists in the place of NaN and Infinity, which Python writes into JSON: no field that is
    used may be one, and all others are skipped. Texts in quotes stay as they are."""
    changed = bytearray(raw)
    is_quoted, last = False, 0
    for match in _NOT_JSON.finditer(raw):
        between = raw[last : match.start()]
        if b"\\" in between:
            between = re.sub(rb"\\.", b"", between, flags=re.DOTALL)
        is_quoted ^= between.count(b'"') % 2 == 1
        last = match.end()
        if not is_quoted:
            changed[match.start() : match.end()] = b"[" + b" " * (len(match[0]) - 2) + b"]"
    return changed


def _explain_content(message: str, path: Path) -> PaddlexMLError:
    """Explain JSON that is not COCO: "Expected `str`, got `int` - at `$.images[7].file_name`"."""
    match = re.fullmatch(r"(.*?)(?: - at `\$\.?(.*)`)?", message, re.DOTALL)
    assert match is not None  # every part of it may be empty
    entry = f": {match[2]}" if match[2] else ""
    if missing := re.fullmatch(r"Object missing required field `(.*)`", match[1]):
        text = f"the key `{missing[1]}` is missing"
    else:
        text = re.sub(r"`([^`]*)`", lambda name: _TYPE_NAMES.get(name[1], name[1]), match[1])
        text = text[:1].lower() + text[1:]
    fix = (
        "write it as COCO does: lists `images` (id, file_name), `annotations` (image_id, "
        "category_id) and `categories` (id, name); ids are whole numbers or texts"
    )
    return PaddlexMLError(text, where=f"{path}{entry}", fix=fix)


def _explain_syntax(error: Exception, raw: bytes, mark: int, path: Path) -> PaddlexMLError:
    """Explain a file that is not JSON, with the line. `mark`: length of the byte order mark."""
    at, what = len(raw), str(error)
    fix = "write the file again with the tool that made it, or restore it from a copy"
    if isinstance(error, RecursionError):
        what = "the file has lists within lists without end"
    elif match := re.search(r"\(byte ([0-9]+)\)", what):
        at = int(match[1]) + mark
        what = what.replace(match[0], "").replace("malformed", "damaged").rstrip()
    elif "truncated" in what:
        what = "the file ends in the middle: it was cut off"
    elif (start := _find_not_utf8(raw)) < len(raw):  # msgspec has no place for it
        at, what, fix = start, "this is not UTF-8 text", "save the file as UTF-8"
    line = raw.count(b"\n", 0, at) + 1
    where = f"{path}:{line}" + (f" (byte {at:,})" if at else "")
    return PaddlexMLError(what, where=where, fix=fix)


def _find_not_utf8(raw: bytes) -> int:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return len(raw)
