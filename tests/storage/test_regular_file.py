# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import pytest

from paddlex_ml import machine_memory
from paddlex_ml.storage import regular_file


def test_a_plain_file_and_a_link_to_one_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"text")
    (tmp_path / "link.txt").symlink_to("a.txt")
    assert regular_file.read(tmp_path / "a.txt", 4) == b"text"
    assert regular_file.read(tmp_path / "link.txt", 4) == b"text"


def test_a_larger_file_is_refused_with_the_budget(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(bytes(5000))
    with pytest.raises(OSError, match="it has 5,000 bytes, at most 4,000 are read"):
        regular_file.read(tmp_path / "a.txt", 4000)


def test_a_file_may_take_a_quarter_of_the_memory_with_its_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_bytes(b"x" * 1000)
    monkeypatch.setattr(machine_memory, "total", lambda: 4000)
    assert len(regular_file.read(tmp_path / "a.txt")) == 1000
    with pytest.raises(OSError, match="it has 1,000 bytes, at most 500 are read") as caught:
        regular_file.read(tmp_path / "a.txt", growth=2)
    assert regular_file.repair(caught.value).startswith("write it in several smaller files")
    with pytest.raises(OSError, match="directory") as caught:
        regular_file.read(tmp_path)
    assert regular_file.repair(caught.value) == "make it a plain file that you may read"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_plain_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name, kind in (("pipe", "a named pipe"), ("zero", "a device")):
        with pytest.raises(OSError, match=f"it is {kind}, only plain files are read"):
            regular_file.read(tmp_path / name, 10)
    with pytest.raises(IsADirectoryError):
        regular_file.read(tmp_path, 10)


def test_a_sparse_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with path.open("wb") as file:
        file.write(b"text")
        file.truncate(64 << 20)
    if os.stat(path).st_blocks * 512 > 32 << 20:
        pytest.skip("the disk has no sparse files")
    with pytest.raises(OSError, match="a sparse file"):
        regular_file.read(path, 1 << 30)


def test_lines_are_read_within_a_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regular_file, "LONGEST_LINE", 10)
    path = tmp_path / "table.csv"
    path.write_bytes(b"a\n123456789\nb")
    assert [*regular_file.read_lines(path)] == [b"a\n", b"123456789\n", b"b"]
    path.write_bytes(b"a\n1234567890\n")
    lines = regular_file.read_lines(path)
    assert next(lines) == b"a\n"
    with pytest.raises(OSError, match="a line has more than 10 bytes"):
        next(lines)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff", b"", b"9" * 5000])
def test_what_is_no_json_is_a_value_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"."):
        regular_file.read_json(path)


@pytest.mark.parametrize("place", [0, 10 << 20, (20 << 20) - 4096])
def test_a_large_text_with_zeros_that_were_written_is_refused(tmp_path: Path, place: int) -> None:
    path, content = tmp_path / "train.txt", bytearray(b"a\t0,1\n" * (20 << 20))[: 20 << 20]
    path.write_bytes(content)
    assert len(regular_file.read(path)) == 20 << 20
    content[place : place + 8192] = bytes(len(content[place : place + 8192]))
    path.write_bytes(content)
    with pytest.raises(OSError, match="part of which are all zero"):
        regular_file.read(path)
