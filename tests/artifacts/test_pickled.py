# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import pickle
import struct
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddlex_ml.artifacts import pickled
from paddlex_ml.artifacts.pickled import TooMuchError


def read(content: bytes) -> Any:
    return pickled.load(io.BytesIO(content), len(content))


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def nested(first: bytes, begin: bytes, end: bytes, rounds: int) -> bytes:
    """A value that refers ten times to one that refers ten times to another, and so on."""
    parts = [b"\x80\x02", first, b"q\x00"]
    for number in range(rounds):
        many = (b"h" + bytes([number])) * 10
        parts += [b"0", begin, many, end, b"q", bytes([number + 1])]
    return b"".join(parts) + b"."


@pytest.mark.parametrize("protocol", range(6))
def test_what_a_training_writes_comes_back(protocol: int) -> None:
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(7)}
    plain = {"n": None, "yes": [True, False], "t": (1, 2.5, "狗"), "e": [{}, [], ()], "i": -(2**70)}
    again = read(pickle.dumps({**arrays, "plain": plain}, protocol))
    assert again["plain"] == plain
    for name, array in arrays.items():
        assert np.array_equal(again[name], array)
        assert again[name].dtype == array.dtype


@pytest.mark.parametrize("index", [b"r\x00\x65\xcd\x1d", b"p500000000\n", b"r\xff\xff\xff\xff"])
def test_a_far_index_makes_no_table(index: bytes) -> None:
    with pytest.raises(TooMuchError, match="asks for a table of"):
        read(b"\x80\x02N" + index + b".")


def hostile() -> Iterator[Any]:
    yield pytest.param(nested(b"]", b"(", b"l", 12), id="lists")
    yield pytest.param(nested(b")", b"(", b"t", 12), id="tuples")
    deep = b"]" * 100_000 + b"a" * 99_999 + b"."
    yield pytest.param(b"\x80\x02" + deep, id="depth")
    yield pytest.param(b"\x80\x02]q\x00h\x00a.", id="a list in itself")
    million = text("x" * 1_000_000)
    codec = b"c_codecs\nencode\n"
    shared = b"(" + b"".join(codec + b"h\x00\x85R" for _ in range(10_000)) + b"l"
    yield pytest.param(b"\x80\x02" + million + b"q\x00" + shared + b".", id="copies")
    twice = b"(" + b"h\x00" * 10_000 + b"l"
    yield pytest.param(b"\x80\x02" + million + b"q\x00" + twice + b".", id="one text 10,000 times")


@pytest.mark.parametrize("content", [*hostile()])
def test_references_are_counted(content: bytes) -> None:
    with pytest.raises(TooMuchError):
        read(content)


def test_a_buffer_that_many_arrays_share_is_counted() -> None:
    one = np.zeros(1 << 18, np.float32)
    content = pickle.dumps({str(number): one for number in range(10_000)})
    with pytest.raises(TooMuchError, match="more than 4 times the bytes"):
        read(content)
    tied = read(pickle.dumps({"a": one, "b": one}))
    assert np.array_equal(tied["a"], tied["b"])


def test_keys_are_plain_and_lengths_are_those_of_the_file() -> None:
    for content in (
        nested(b")", b"(", b"t", 12)[:-1] + b"q\x400}h\x40Ns.",  # a key that is compared for ever
        pickle.dumps({(1, 2): 3}),
        pickle.dumps({1 << 70: 3}),
        pickle.dumps({1.5: 3}),
    ):
        with pytest.raises(pickle.UnpicklingError, match="a key of type"):
            read(content)
    for content in (
        b"\x8e" + struct.pack("<Q", 1 << 62) + b".",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.",
        b"X\xff\xff\xff\xff.",
    ):
        with pytest.raises(EOFError, match="are left"):
            read(content)


@pytest.mark.parametrize(
    "content", [b"", b".", b"R.", b"t.", b"e.", b"s.", b"\x87.", b"h\x05.", b"\x00"]
)
def test_a_damaged_file_is_an_error(content: bytes) -> None:
    with pytest.raises((pickle.UnpicklingError, EOFError, IndexError)):
        read(content)


@pytest.mark.story
def test_hostile_files_take_little_memory_and_time(tmp_path: Path) -> None:
    files = {
        "memo": b"\x80\x02Nr\x00\x65\xcd\x1d0.",
        "lists": nested(b"]", b"(", b"l", 30),
        "steps": b"\x80\x02" + b"N0" * 1_000_000 + b"N.",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    program = """
        import resource, sys
        from paddlex_ml.artifacts import pickled
        before = resource.getrusage(resource.RUSAGE_SELF)
        for name in sys.argv[1:]:
            with open(name, "rb") as file:
                try:
                    pickled.load(file, len(file.read()) + file.seek(0))
                except pickled.TooMuchError:
                    pass
        after = resource.getrusage(resource.RUSAGE_SELF)
        print((after.ru_maxrss - before.ru_maxrss) // 1024, after.ru_utime - before.ru_utime)
    """
    paths = [str(tmp_path / name) for name in files]
    command = [sys.executable, "-c", textwrap.dedent(program), *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    mib, seconds = map(float, done.stdout.split())
    assert mib < 100
    assert seconds < 10
