# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from paddlex_ml.data import list_line
from paddlex_ml.data.faults import DatasetFault
from paddlex_ml.data.lines import UTF8, UTF16, read_lines
from paddlex_ml.data.list_line import Line


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A list in a folder of one image without an ending."""
    (tmp_path / "photo").touch()
    return tmp_path / "train.txt"


def refuse(text: str, file: Path, number: int = 7, encoding: str = UTF8) -> DatasetFault:
    fault = list_line.parse(text, number, file, encoding)
    assert isinstance(fault, DatasetFault)
    assert fault.where == f"train.txt:{number}"
    return fault


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("a b.jpg\t0,1", ("a b.jpg", "0,1", "")),
        ("a.jpg\t@3?5\t0.5", ("a.jpg", "@3?5", "0.5")),
        ("a.jpg\t0;1\t2", ("a.jpg", "0;1", "2")),
        ("a.jpg\t0,1\t", ("a.jpg", "0,1", "")),
        ("a.jpg\t", ("a.jpg", "", "")),
        ("a.jpg\tcat,dog", ("a.jpg", "cat,dog", "")),
        ("photo\tcat", ("photo", "cat", "")),
        ("photos/1\tcat", ("photos/1", "cat", "")),
        ("photo 1\t0,1", ("photo 1", "0,1", "")),
        ("1\tTrue,False", ("1", "True,False", "")),
        ("1\t@", ("1", "@", "")),
    ],
)
def test_a_line_has_two_or_three_columns(
    file: Path, text: str, columns: tuple[str, str, str]
) -> None:
    for number in (1, 7):
        assert list_line.parse(text, number, file, UTF8) == Line(number, *columns)


@pytest.mark.parametrize(
    "text",
    [
        *("image\tlabels", "filename\ttags", "\u56fe\u7247\t\u6807\u7b7e", "image\tcat,dog,bird"),
        *("image\tclass 0\tclass 1", "path\tlabels\tweight", "image labels", "image,labels"),
        *("file_name;tags", "image\tlabel_0,label_1"),
    ],
)
def test_a_first_line_that_names_columns_is_a_header(file: Path, text: str) -> None:
    fault = refuse(text, file, 1)
    assert fault.kind == "header"
    assert fault.text == f"the line looks like a header: {text.replace(chr(9), '<tab>')}"
    assert f"(sed -i.bak 1d {file})" in fault.fix
    assert "sed" not in refuse(text, file, 1, UTF16).fix
    later = list_line.parse(text, 2, file, UTF8)
    assert isinstance(later, Line) or later.kind == "malformed line"


@pytest.mark.skipif(sys.platform == "win32", reason="it has no sed")
def test_the_repair_of_a_header_works_when_pasted(tmp_path: Path) -> None:
    folder = tmp_path / "my 'set'"
    folder.mkdir()
    file = folder / "train.txt"
    file.write_text("\ufeffimage\tlabels\r\na.jpg\t0,1\r\n", "utf-8", newline="")
    fix = refuse(str(read_lines(file).lines[0]), file, 1).fix
    command = fix.partition("(")[2].partition("): a list has no header")[0]
    subprocess.run(command, shell=True, check=True)
    assert read_lines(file).lines == ["a.jpg\t0,1"]


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("", "the line is empty", "remove the line"),
        ("# made by hand", "the line is a comment", "remove the line"),
        ("a.jpg", "no tab between path and values", "ONE tab"),
        ("a.jpg 0,1", "separated by spaces", "put ONE tab there: a.jpg<tab>..."),
        ("a.jpg 0, 1", "separated by spaces", "put ONE tab there: a.jpg<tab>..."),
        ("a 1.jpg @3,4?5", "separated by spaces", "put ONE tab there: a 1.jpg<tab>..."),
        ("a,b.jpg,0,1,-1", "no tab between", "put ONE tab there: a,b.jpg<tab>0,1,-1"),
        ("a.jpg;0,0.5", "no tab between", "put ONE tab there: a.jpg<tab>0,0.5"),
        ("a.jpg 0 1 -1", "separated by spaces", "there, and commas: a.jpg<tab>0,1,-1"),
        ("a 1.jpg 0,1 0.5", "separated by spaces", "weight of the image: a 1.jpg<tab>0,1<tab>0.5"),
        ("a.jpg @3 70%", "separated by spaces", "weight of the image: a.jpg<tab>@3<tab>0.7"),
        ("a.jpg 0, 1 2", "separated by spaces", "weight of the image: a.jpg<tab>0,1<tab>2"),
        ("a.jpg\t0,1\t\t", "the line has 3 tabs", "remove the tabs at the end of the line"),
        ("a.jpg\t0\t\t", "the line has 3 tabs", "between the values: a.jpg<tab>0,,"),
        ("a.jpg\t0\t1\t-1", "the line has 3 tabs", "between the values: a.jpg<tab>0,1,-1"),
        ("a.jpg\tcat\tdog", "the line has 2 tabs", "ONE tab"),
        ("\t\t", "the line is empty", "remove the line"),
        ("\t0,1", "no tab between path and values", "ONE tab"),
        ("a.jpg\t0,\0,1", "a NUL character", "remove the character"),
        ("a\0.jpg\t0,1,1", "a NUL character", "remove the character"),
    ],
)
def test_what_is_wrong_with_a_line_is_told_with_a_repair(
    file: Path, text: str, what: str, fix: str
) -> None:
    fault = refuse(text, file)
    assert what in fault.text
    assert fix in fault.fix


@pytest.mark.parametrize(
    "text",
    [
        *("0 " * 100_000 + "x", ".jpg,1" * 50_000 + "x", "a" + " " * 200_000 + "1", "1" * 200_000),
        *(
            "a.jpg" + "\t0" * 100_000 + "\tx",
            "a " + "1" * 200_000 + "x",
        ),
    ],
)
def test_no_line_takes_forever(file: Path, text: str) -> None:
    refuse(text, file)
    refuse(text, file, 1)
