# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paddlex_ml.storage import csv_text


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=1+1", "'=1+1"), ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"), ("@SUM(A1)", "'@SUM(A1)"),
        ("-2+3", "'-2+3"), ("\t=1", "'\t'=1"), ("\r=1", "'\r'=1"), ("＝1", "'＝1"),
        ("a;=1+1;b", "a;'=1+1;b"), ("a\n'=1", "a\n''=1"), ("a;b\t@c", "a;b\t'@c"), (";-1", ";'-1"),
        ("'=1", "''=1"), ("''-a", "'''-a"),
        ("-0.5", "-0.5"), ("+3e-7", "+3e-7"), ("'quoted'", "'quoted'"), ("a=b", "a=b"), ("", ""),
        (-0.5, -0.5), (None, None),
    ],
)  # fmt: skip
def test_a_formula_gets_an_apostrophe_and_a_number_none(cell: object, written: object) -> None:
    assert csv_text.escape(cell) == written
    if isinstance(cell, str):
        assert csv_text.plain(str(written)) == cell


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_every_row_of_texts_is_read_back(row: list[str]) -> None:
    text = csv_text.write([row])
    cells = next(csv.reader(io.StringIO(text, newline="")), [])
    assert [csv_text.plain(cell) for cell in cells] == row
    number = "+-0123456789.eE"
    assert not any(cell[:1] in tuple("=+-@\t\r") and cell.strip(number) for cell in cells if cell)


def test_a_mark_stands_only_before_other_letters_than_ascii() -> None:
    assert csv_text.encode("a,b\n") == b"a,b\n"
    assert csv_text.encode("a,猫\n") == "\ufeffa,猫\n".encode()
    assert csv_text.encode("\ufeffa,猫\n") == "\ufeffa,猫\n".encode()
