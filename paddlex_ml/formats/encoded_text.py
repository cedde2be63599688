# SPDX-License-Identifier: Apache-2.0
"""The text of an XML or JSON file, whatever its encoding.

A byte order mark counts before all else, then the encoding that the first line of an XML file
declares, then what the bytes show. A declaration that the bytes contradict does not count.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import NamedTuple

from paddlex_ml.data.faults import DatasetFault
from paddlex_ml.data.lines import UTF8, to_utf8
from paddlex_ml.storage import regular_file
from paddlex_ml.systems import quote

_DECLARED = re.compile(rb"""\s*<\?xml[^>]*?\bencoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
# Encodings of one language each; UTF-8 and UTF-16 are seen in the bytes.
_FAMILIES = re.compile(r"(gb|big5|s(hift)?[_-]?jis|euc|iso|latin|windows|cp|koi8|tis)", re.I)
_TWO_BYTES = re.compile(r"(gb|big5|shift|euc|cp9|hz)")  # names of Python's codecs
_NOT_PLAIN = re.compile(rb"[\0\x1b]")  # UTF-16, or an encoding that shifts
# Up to two letters of two bytes each, beside no plain letter: two to four bytes that are as well
# one or two Chinese characters.
_LONE = re.compile(r"(?<![A-Za-z\x80-\U0010ffff])[\x80-\u07ff]{1,2}(?![A-Za-z\x80-\U0010ffff])")


class EncodedText(NamedTuple):
    """The content of a file."""

    text: str
    encoding: str
    """UTF-8, UTF-16, GB18030, or what the file declares."""


def read_bytes(
    path: Path, name: str, largest: int = regular_file.LARGEST_LIST
) -> bytes | DatasetFault:
    """Read a whole file of at most `largest` bytes; `name` is its path relative to the data set."""
    try:
        return regular_file.read(path, largest)
    except OSError as error:
        text = f"{name} cannot be read: {error.strerror}"
        return DatasetFault("file not readable", name, text, regular_file.repair(error))


def read_text(
    path: Path, name: str, largest: int = regular_file.LARGEST_LIST
) -> EncodedText | DatasetFault:
    """Read and decode a whole file of at most `largest` bytes."""
    content = read_bytes(path, name, largest)
    return content if isinstance(content, DatasetFault) else decode(content, name)


def decode(content: bytes, name: str) -> EncodedText | DatasetFault:
    """Decode the content of a file."""
    if content.isascii() and not _NOT_PLAIN.search(content):
        return EncodedText(content.decode("ascii"), UTF8)
    if content.startswith(codecs.BOM_UTF8):
        return _finish(content, UTF8, name)
    for start, codec in ((b"<\0", "utf-16-le"), (b"\0<", "utf-16-be")):
        if content.startswith(start) and (text := _try_decoding(content, codec)):
            return EncodedText(text, "UTF-16")
    found = _DECLARED.match(content[:1000])
    declared = found[1].decode() if found else ""
    plain = _try_decoding(content, "utf-8")
    codec = _find_codec(declared)
    text = _try_decoding(content, codec) if codec else None
    if text is not None and not content.isascii():
        if plain is None:
            if _TWO_BYTES.match(codec) or to_utf8(content)[1] == UTF8:
                return EncodedText(text, declared)
            return _explain_doubt(name, f"is declared as {declared}, but looks like GB18030")
        # Valid UTF-8 is no accident where it has letters of three bytes, nor where each byte would
        # be a letter.
        if _TWO_BYTES.match(codec) and max(plain) < "\u0800":
            return EncodedText(text, declared)
        return EncodedText(plain, f"UTF-8 (declared: {declared})")
    content, encoding = to_utf8(content)
    if not declared and encoding == UTF8 and plain and (chinese := _find_chinese(plain)):
        return _explain_doubt(name, f"may be UTF-8 or GB18030: {chinese}")
    return _finish(content, encoding, name)


def show_head(head: bytes) -> str:
    """The beginning of a file, which may end within a letter, as text."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return head[: len(head) // 2 * 2].decode("utf-16", "replace")
    return to_utf8(head)[0].decode("utf-8", "replace")


def _find_codec(declared: str) -> str:
    """Python's name of a declared encoding; "" where the bytes have to tell it."""
    if not _FAMILIES.match(declared):
        return ""
    try:
        codec = codecs.lookup(declared).name
    except LookupError:
        return ""
    return "gb18030" if codec.startswith("gb") else codec  # it holds the others


def _find_chinese(text: str) -> str:
    """The first of the letters of a text if all that are not ASCII may be Chinese, as two readings;
    "" for none."""
    foreign = re.sub(r"[\x00-\x7f]+", "", text)
    lone = [] if not foreign or max(foreign) >= "\u0800" else _LONE.findall(text)
    if not lone or len("".join(lone)) < len(foreign):
        return ""
    try:
        chinese = lone[0].encode().decode("gb2312")
        "".join(lone).encode().decode("gb2312")
    except UnicodeDecodeError:
        return ""
    return f"{lone[0]!r} or {chinese!r}"


def _explain_doubt(name: str, what: str) -> DatasetFault:
    fix = (
        "save such files as UTF-8 with a byte order mark "
        f"(from GB18030: iconv -f GB18030 -t UTF-8 {quote(name)} > new, then rename new to {name})"
    )
    return DatasetFault("encoding in doubt", name, f"{name} {what}", fix)


def _finish(content: bytes, encoding: str, name: str) -> EncodedText | DatasetFault:
    try:
        return EncodedText(content.removeprefix(codecs.BOM_UTF8).decode("utf-8"), encoding)
    except UnicodeDecodeError as wrong:
        line = content.count(b"\n", 0, wrong.start) + 1
        text = "the line is neither UTF-8 nor GB18030 text, and no other encoding is declared"
        fix = f"save the file as UTF-8 (from Latin-1: iconv -f LATIN1 -t UTF-8 {quote(name)} > new)"
        return DatasetFault("not UTF-8", f"{name}:{line}", text, fix)


def _try_decoding(content: bytes, codec: str) -> str | None:
    try:
        return content.decode(codec)
    except UnicodeDecodeError:
        return None
