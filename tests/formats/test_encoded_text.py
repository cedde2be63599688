# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from paddlex_ml.data.faults import DatasetFault
from paddlex_ml.formats.encoded_text import decode, read_text, show_head


def declare(encoding: str, text: str) -> str:
    return f'<?xml version="1.0" encoding="{encoding}"?>\n<name>{text}</name>'


@pytest.mark.parametrize(
    ("content", "text", "encoding"),
    [
        (b"{}", "{}", "UTF-8"),
        ("猫".encode("utf-8-sig"), "猫", "UTF-8"),
        (declare("gb2312", "猫").encode("utf-8-sig"), declare("gb2312", "猫"), "UTF-8"),
        ("<a>猫</a>".encode("utf-16"), "<a>猫</a>", "UTF-16"),
        ("<a>猫</a>".encode("utf-16-be"), "<a>猫</a>", "UTF-16"),
        ("狗".encode("gbk"), "狗", "GB18030"),
        ("mère".encode(), "mère", "UTF-8"),
        ("кот, да".encode(), "кот, да", "UTF-8"),
        (declare("gbk", "猫").encode("gbk"), declare("gbk", "猫"), "gbk"),
        (declare("gb2312", "镕").encode("gbk"), declare("gb2312", "镕"), "gb2312"),
        (declare("Shift_JIS", "ねこ").encode("cp932"), declare("Shift_JIS", "ねこ"), "Shift_JIS"),
        (declare("utf-16", "cat").encode(), declare("utf-16", "cat"), "UTF-8"),
        (declare("unknown-1", "猫").encode(), declare("unknown-1", "猫"), "UTF-8"),
        (declare("gbk", "猫狗").encode(), declare("gbk", "猫狗"), "UTF-8 (declared: gbk)"),
        (
            declare("iso-8859-1", "été").encode(),
            declare("iso-8859-1", "été"),
            "UTF-8 (declared: iso-8859-1)",
        ),
        (declare("utf-8", "狗").encode("gbk"), declare("utf-8", "狗"), "GB18030"),
        (declare("utf-8", "è").encode(), declare("utf-8", "è"), "UTF-8"),
    ],
)
def test_the_mark_then_the_declaration_then_the_bytes_count(
    content: bytes, text: str, encoding: str
) -> None:
    assert decode(content, "a.xml") == (text, encoding)


@pytest.mark.parametrize(
    ("content", "kind", "what"),
    [
        ("<a>\n<b>été</b>".encode("latin-1"), "not UTF-8", "neither UTF-8 nor GB18030"),
        ('{"label": "猫"}'.encode("gbk"), "encoding in doubt", "'è' or '猫'"),
        (declare("latin1", "狗").encode("gbk"), "encoding in doubt", "declared as latin1"),
    ],
)
def test_what_is_not_clear_is_a_fault(content: bytes, kind: str, what: str) -> None:
    fault = decode(content, "a.xml")
    assert isinstance(fault, DatasetFault)
    assert (fault.kind, what in fault.text) == (kind, True)


def test_the_line_of_a_fault_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes("<a>\n<b>été</b>".encode("latin-1"))
    fault = read_text(tmp_path / "a.xml", "x/a.xml")
    assert isinstance(fault, DatasetFault)
    assert fault.where == "x/a.xml:2"
    missing = read_text(tmp_path / "b.xml", "b.xml")
    assert isinstance(missing, DatasetFault)
    assert missing.kind == "file not readable"


def test_a_head_that_ends_within_a_letter_can_be_shown() -> None:
    assert show_head("<a>猫".encode()[:-1]).startswith("<a>")
    assert show_head("<a>猫".encode("utf-16")[:-1]) == "<a>"
