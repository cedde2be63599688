# SPDX-License-Identifier: Apache-2.0
"""Damage to bytes: a small change of an input that a reader knows, as a stranger would make it.

Most of these changes leave the rest of the input as it was, so that it gets past the first checks
of a reader. Random bytes would not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

LONGEST = 1 << 16
"""Bytes of an input: what is small alone may not ask for much."""

WORDS = (
    *(b"../victim/secret.txt", b"/etc/passwd", b"..", b".", b"/", b"//", b"C:\\x", b"~", b"$HOME"),
    *(b"a/../../victim/secret.txt", b"images", b"\\", b"http://127.0.0.1:9/x", b"file:///etc/x"),
    *(b"\0", b"\r", b"\n", b"\t", b"\r\n", b" ", b",", b";", b":", b"|", b'"', b"'", b"=", b"#"),
    *(b"\xff", b"\xfe\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\xc2\x85", b"\xe2\x80\xa8", b"\x1b[2J"),
    *(b"\xed\xa0\x80", b"\xe2\x80\xae", b"\xf0\x9f\x90\xb1", b"\xc3\xa9", b"e\xcc\x81", b"\xd7"),
    *(b"0", b"-0", b"-1", b"1", b"2", b"127", b"255", b"256", b"65535", b"2147483647", b"1_0"),
    *(b"2147483648", b"-2147483649", b"9223372036854775808", b"18446744073709551616", b"0x1F"),
    *(b"9" * 30, b"9" * 500, b"1" * 5000, b"1e999", b"-1e999", b"1e-400", b"1e300", b"0.1", b"1."),
    *(b"NaN", b"nan", b"Infinity", b"-inf", b".nan", b".inf", b"null", b"None", b"true", b"no"),
    *(b"[]", b"{}", b"[[]]", b'{"a":1}', b'""', b"[" * 2000, b'{"a":' * 2000, b"[1,2]", b"]", b"}"),
    *(b"{", b"[", b"(" * 500, b"<a>" * 500, b"<", b">", b"&lt;", b"&#0;", b"&a;", b"<!--", b"]]>"),
    *(
        b"a" * 300,
        b"\xe7\x8c\xab" * 90,
        b"%s",
        b"%n",
        b"{0.a}",
        b"*",
        b"?",
        b"-",
        b"--",
        b"&a",
        b"*a",
    ),
    *(b"!!python/object/apply:os.system ['x']", b"!!binary x", b"!!timestamp 1", b"<<: *a", b"? "),
)
"""What readers may trip over, in any format."""
_BYTES = (b"\x00", b"\x01", b"\x7f", b"\x80", b"\xfe", b"\xff", b"\x10", b"\x20")
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_VALUE = re.compile(rb'"[^"\n]{0,200}"|-?\d+(?:\.\d+)?|\btrue\b|\bnull\b|\[\]|\{\}')
_WORD = re.compile(rb"[A-Za-z_]\w{0,40}")

Change = Callable[[bytes, Random, Sequence[bytes], Sequence[bytes]], bytes]


def mutate(
    content: bytes, random: Random, others: Sequence[bytes], words: Sequence[bytes]
) -> bytes:
    """The input after 1 to 6 changes.

    others: inputs of the same reader, to take parts of. words: the dictionary of the format.
    """
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 6))):
        content = random.choice(_CHANGES)(content, random, others, words)
    return content[:LONGEST]


def _place(content: bytes, random: Random, longest: int = 64) -> tuple[int, int]:
    start = random.randint(0, len(content))
    return start, min(len(content), start + random.randint(0, longest))


def _flip(content: bytes, random: Random, *_: object) -> bytes:
    if not content:
        return content
    at = random.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << random.randrange(8)]) + content[at + 1 :]


def _set_bytes(content: bytes, random: Random, *_: object) -> bytes:
    start, end = _place(content, random, 8)
    value = random.choice(_BYTES) if random.random() < 0.5 else random.randbytes(1)
    return content[:start] + value * (end - start) + content[end:]


def _remove(content: bytes, random: Random, *_: object) -> bytes:
    start, end = _place(content, random, random.choice((1, 8, 64, 1024)))
    return content[:start] + content[end:]


def _cut(content: bytes, random: Random, *_: object) -> bytes:
    return content[: random.randint(0, len(content))]


def _repeat(content: bytes, random: Random, *_: object) -> bytes:
    start, end = _place(content, random, 256)
    return content[:end] + content[start:end] * random.choice((1, 2, 30, 300)) + content[end:]


def _splice(content: bytes, random: Random, others: Sequence[bytes], _: object) -> bytes:
    other = random.choice(others)
    start, end = _place(other, random, random.choice((16, 256, 4096)))
    at, rest = _place(content, random, random.choice((0, end - start)))
    return content[:at] + other[start:end] + content[rest:]


def _insert_word(content: bytes, random: Random, _: object, words: Sequence[bytes]) -> bytes:
    at, rest = _place(content, random, random.choice((0, 4, 16)))
    return content[:at] + _any_word(random, words) + content[rest:]


def _any_word(random: Random, words: Sequence[bytes]) -> bytes:
    return random.choice(words if words and random.random() < 0.5 else WORDS)


def _replace_match(pattern: re.Pattern[bytes]) -> Change:
    def replace(
        content: bytes, random: Random, others: Sequence[bytes], words: Sequence[bytes]
    ) -> bytes:
        found = list(pattern.finditer(content))
        if not found:
            return _insert_word(content, random, others, words)
        chosen = random.choice(found)
        value = random.choice(found)[0] if random.random() < 0.3 else _any_word(random, words)
        return content[: chosen.start()] + value + content[chosen.end() :]

    return replace


def _move_line(content: bytes, random: Random, *_: object) -> bytes:
    lines = content.splitlines(keepends=True)
    if len(lines) < 2:
        return content
    line = lines[random.randrange(len(lines))]
    if random.random() < 0.5:
        lines.remove(line)
    lines.insert(random.randrange(len(lines) + 1), line)
    return b"".join(lines)


def _set_number(content: bytes, random: Random, *_: object) -> bytes:
    """A number of 1 to 8 bytes, as binary formats have lengths and positions."""
    if not content:
        return content
    width, order = random.choice((1, 2, 4, 8)), random.choice(("little", "big"))
    value = random.choice((0, 1, -1, -2, 1 << 7, 1 << 15, 1 << 20, 1 << 31, len(content)))
    at = random.randrange(len(content))
    packed = (value % (1 << 8 * width)).to_bytes(width, "little" if order == "little" else "big")
    return content[:at] + packed + content[at + width :]


_CHANGES: tuple[Change, ...] = (
    *(_flip, _set_bytes, _remove, _cut, _repeat, _splice, _insert_word, _move_line, _set_number),
    *(_replace_match(_NUMBER), _replace_match(_VALUE), _replace_match(_VALUE)),
    _replace_match(_WORD),
)
