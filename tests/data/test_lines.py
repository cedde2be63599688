# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import pytest

from paddlex_ml.data.lines import read_lines, to_utf8


def test_lines_come_without_their_ends_and_empty_ones_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffcat\r\n\r\n猫\t\n\n \n".encode())
    assert read_lines(path) == (["cat", "", "猫\t"], [], "UTF-8")
    path.write_bytes("cat\r\r猫\t\r\r".encode())  # of old Macs
    assert read_lines(path) == (["cat", "", "猫\t"], [], "UTF-8")
    path.write_bytes(b"cat\rdog\nowl\n")
    assert read_lines(path) == (["cat\rdog", "owl"], [], "UTF-8")
    path.write_bytes(b" \n\n")
    assert read_lines(path) == ([], [], "UTF-8")


@pytest.mark.parametrize(
    ("encoding", "told"),
    [("utf-16", "UTF-16"), ("gbk", "GB18030"), ("gb18030", "GB18030"), ("utf-8", "UTF-8")],
)
@pytest.mark.parametrize(
    "text", ["猫\n狗", "图片/照片.jpg\t1,0\n", "朱镕基纪念馆和天安门广场", "0 鹦鹉\n1 孔雀"]
)
def test_the_encodings_of_chinese_are_recognised(
    tmp_path: Path, text: str, encoding: str, told: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(encoding))
    lines, faults, found = read_lines(path)
    assert (lines, faults, found) == (text.strip("\n").split("\n"), [], told)


@pytest.mark.parametrize(
    "content",
    [
        "Größe".encode("latin-1"),
        "Müller, Käse und Brötchen".encode("latin-1"),
        "señor".encode("cp1252"),
        b"\xff\xfe\x00\x00a\x00\x00\x00",  # UTF-32
        b"\xff\xfea",  # half a character
        b"cat \xff",
    ],
)
def test_what_is_no_text_in_these_is_left_as_it_is(content: bytes) -> None:
    assert to_utf8(content) == (content, "UTF-8")


def test_a_line_that_is_no_text_is_a_fault_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"cat\nGr\xf6\xdfe\nowl")
    lines, (fault,), _ = read_lines(path, "x/a.txt")
    assert lines == ["cat", None, "owl"]
    assert (fault.kind, fault.where) == ("not UTF-8", "x/a.txt:2")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("kind", ["pipe", "device", "sparse"])
def test_what_is_no_plain_file_of_a_bounded_size_is_a_fault(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "train.txt"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.touch()
        os.truncate(path, 100_000_000_000)
    [fault] = read_lines(path).faults
    assert fault.kind == "file not readable"
    reasons = {"pipe": "a named pipe", "device": "a device", "sparse": "100,000,000,000 bytes"}
    assert reasons[kind] in fault.text
