# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats import csv_table, table_files
from paddlex_ml.formats.collector import Options

Plant = Callable[..., Path]
ROWS: list[list[Any]] = [["image", "tags", "n"], ["a.jpg", "cat|dog", 1.0], ["b.jpg", None, 2.5]]
IMAGES = ("a.jpg", "b.jpg")


def save(
    path: Path, merged: Sequence[str] = (), number_format: str = "", **sheets: list[list[Any]]
) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
        for (cell,) in sheet.iter_rows(max_col=1) if number_format else ():
            cell.number_format = number_format
        for cells in merged:
            sheet.merge_cells(cells)
    book.save(path)


@pytest.mark.parametrize(
    ("lines", "delimiter"),
    [
        (["image,labels", "a.jpg,cat|dog|bird", "b.jpg,a;b;c"], ","),
        (["image|labels", "a.jpg|cat, dog"], "|"),
        (["image;labels", "a.jpg;a,b"], ";"),
        (["image\tlabels", "a.jpg\ta,b"], "\t"),
        (['"a;b;c",labels', "a.jpg,x"], ","),
        (["a.jpg,cat|dog", "b.jpg,x"], ","),
        (["Our photographs", "", "image;labels", "a.jpg;a,b"], ";"),
        (["Photographs, of 2026", "image;labels", "a.jpg;a"], ";"),
        (["image"], ","),
        ([], ","),
    ],
)
def test_the_delimiter_is_found(lines: list[str], delimiter: str) -> None:
    assert table_files.find_delimiter(lines) == delimiter


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".tab", ".txt", ".CSV", ".TXT"])
@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
def test_every_ending_and_delimiter_is_read(
    plant: Plant, labels: Any, suffix: str, sign: str
) -> None:
    text = f"image,cat,dog\r\na.jpg,1,0\r\n\r\nb.jpg,0,1\r\n".replace(",", sign)  # noqa: F541
    root = plant({f"tags{suffix}": text}, *IMAGES)
    assert csv_table.recognise(Inventory(root)) == f"tags{suffix}, a table of images"
    expected = {"a.jpg": ["cat"], "b.jpg": ["dog"]}
    assert labels(csv_table.read(root, Options())) == {"train": expected}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gb18030"])
def test_encodings_of_excel_are_read(plant: Plant, encoding: str) -> None:
    text = "图片,标签\na.jpg,小猫、小狗\nb.jpg,小猫\n"
    dataset = csv_table.read(plant({"x.csv": text.encode(encoding)}, *IMAGES), Options())
    assert dataset.label_names == ["小狗", "小猫"]


def test_the_line_of_excel_that_tells_the_delimiter_is_no_header(plant: Plant) -> None:
    text = "sep=;\nimage;labels\na.jpg;cat\nb.jpg;dog\n"
    assert csv_table.read(plant({"x.csv": text}, *IMAGES), Options()).label_names == ["cat", "dog"]


def test_quoted_cells_may_have_line_ends(plant: Plant, labels: Any) -> None:
    text = 'image,caption,labels\na.jpg,"one\ntwo",cat\nb.jpg,"a ""b"", c",dog\n'
    dataset = csv_table.read(plant({"x.csv": text}, *IMAGES), Options())
    assert labels(dataset) == {"train": {"a.jpg": ["cat"], "b.jpg": ["dog"]}}


def test_empty_cells_beyond_the_last_column_are_harmless(plant: Plant) -> None:
    text = "image,labels\na.jpg,cat,,\nb.jpg,dog,\n"
    assert csv_table.read(plant({"x.csv": text}, *IMAGES), Options()).label_names == ["cat", "dog"]


def test_a_workbook_is_read(plant: Plant, labels: Any) -> None:
    root = plant({}, *IMAGES)
    save(root / "tags.xlsx", Sheet1=ROWS, Sheet2=[])
    assert csv_table.recognise(Inventory(root)) == "tags.xlsx, a table of images"
    dataset = csv_table.read(root, Options())
    assert labels(dataset) == {"train": {"a.jpg": ["cat", "dog"], "b.jpg": []}}
    assert dataset.account.records == {"tags.xlsx": 2}


def test_whole_numbers_of_a_workbook_have_no_fraction(plant: Plant, labels: Any) -> None:
    root = plant({}, "1.jpg", "2.jpg")
    save(root / "t.xlsx", s=[["id", "cat", "dog"], [1.0, True, 0], [2.0, False, 1]])
    expected = {"1.jpg": ["cat"], "2.jpg": ["dog"]}
    assert labels(csv_table.read(root, Options())) == {"train": expected}


def test_numbers_find_images_with_zeros_in_front(plant: Plant, refusal: Any, labels: Any) -> None:
    root = plant({}, "000001.jpg", "000002.jpg")
    rows: list[list[Any]] = [["id", "tags"], [1, "cat"], [2, "dog"]]
    save(root / "t.xlsx", s=rows)
    expected = {"000001.jpg": ["cat"], "000002.jpg": ["dog"]}
    dataset = csv_table.read(root, Options())
    assert labels(dataset) == {"train": expected}
    told = "2 images were found by the number: 1 = 000001.jpg, 2 = 000002.jpg"
    assert told in dataset.account.format_lines()
    plant({}, "2.jpg")
    assert refusal(csv_table.read, root).startswith("2 may be 000002.jpg or 2.jpg")
    save(root / "t.xlsx", number_format="000000", s=rows)
    assert labels(csv_table.read(root, Options())) == {"train": expected}
    save(root / "t.xlsx", s=[*rows, [3, "cat"], ["2.023E+11", "cat"], ["2E+11", "cat"]])
    message = refusal(csv_table.read, root)
    assert "t.xlsx:4: 3 is not there" in message
    assert "t.xlsx:5: 2.023E+11 is not there" in message
    assert message.count("a spreadsheet has cut off digits of a long number") == 2
    assert "give the column the format Text" in message


def test_merged_cells_count_for_each_row_that_they_span(plant: Plant, labels: Any) -> None:
    root = plant({}, *IMAGES, "c.jpg")
    rows: list[list[Any]] = [["tags", "image"], ["cat", "a.jpg"], [None, "b.jpg"], ["dog", "c.jpg"]]
    save(root / "t.xlsx", merged=["A2:A3"], s=rows)
    expected = {"a.jpg": ["cat"], "b.jpg": ["cat"], "c.jpg": ["dog"]}
    assert labels(csv_table.read(root, Options())) == {"train": expected}


def test_titles_and_sheets_of_notes_are_no_table(plant: Plant, labels: Any) -> None:
    root = plant({}, *IMAGES)
    titles: list[list[Any]] = [["Our photographs"], [], ["of 2026", None]]
    save(root / "t.xlsx", notes=[["see the next sheet"]], data=[*titles, *ROWS])
    assert csv_table.recognise(Inventory(root)) == "t.xlsx, a table of images"
    dataset = csv_table.read(root, Options())
    assert labels(dataset) == {"train": {"a.jpg": ["cat", "dog"], "b.jpg": []}}
    assert "t.xlsx: left out: 1 sheet of one column: notes" in dataset.notes
    above = "2 rows above the table of data: Our photographs, of 2026"
    assert f"t.xlsx: left out: {above}" in dataset.notes


@pytest.mark.parametrize(
    "above", ["Our photographs\n\nof 2026\n", '"Our photographs",,\n,,\nof 2026,,\n']
)
def test_titles_above_a_table_of_text_are_left_out_and_told(
    plant: Plant, labels: Any, refusal: Any, above: str
) -> None:
    text = f"{above}image,tags,n\na.jpg,cat|dog,1\nb.jpg,,2.5\n"
    root = plant({"t.csv": text}, *IMAGES)
    assert csv_table.recognise(Inventory(root)) == "t.csv, a table of images"
    dataset = csv_table.read(root, Options())
    assert labels(dataset) == {"train": {"a.jpg": ["cat", "dog"], "b.jpg": []}}
    told = "t.csv: left out: 2 rows above the table: Our photographs, of 2026"
    assert told in dataset.notes
    plant({"t.csv": f"{text}c.jpg,cat,3\n"}, *IMAGES)
    assert "t.csv:7" in refusal(csv_table.read, root)


def test_a_header_without_the_name_of_the_index_is_no_title(plant: Plant, refusal: Any) -> None:
    root = plant({"t.csv": ",tags\na.jpg,cat\nb.jpg,dog\n"}, *IMAGES)
    assert "column 1 has no name\n  where: " in refusal(csv_table.read, root)
    (root / "t.csv").unlink()
    save(root / "t.xlsx", s=[[None, "tags"], ["a.jpg", "cat"], ["b.jpg", "dog"]])
    assert "column 1 has no name\n  where: " in refusal(csv_table.read, root)


def test_a_first_image_without_labels_is_no_title(plant: Plant, refusal: Any) -> None:
    root = plant({}, *IMAGES)
    save(root / "t.xlsx", s=[["a.jpg", None], ["b.jpg", "cat"]])
    assert "t.xlsx:2" in refusal(csv_table.read, root)


def test_sheets_for_train_and_val_divide(plant: Plant, labels: Any) -> None:
    root = plant({}, *IMAGES)
    save(root / "t.xlsx", train=[ROWS[0], ROWS[1]], val=[ROWS[0], ["b.jpg", "dog", 3]])
    dataset = csv_table.read(root, Options())
    assert labels(dataset) == {"train": {"a.jpg": ["cat", "dog"]}, "val": {"b.jpg": ["dog"]}}


def test_a_fault_of_a_workbook_names_sheet_and_row(plant: Plant, refusal: Any) -> None:
    root = plant({}, "a.jpg")
    save(root / "t.xlsx", train=[*ROWS, [None, "dog"]], val=[ROWS[0], ROWS[1]])
    assert "t.xlsx[train]:4" in refusal(csv_table.read, root)


def test_a_workbook_without_the_package_tells_what_to_install(
    plant: Plant, refusal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = plant({}, *IMAGES)
    save(root / "t.xlsx", s=ROWS)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert csv_table.recognise(Inventory(root)) == "t.xlsx, a workbook"
    assert "pip install 'paddlex-ml[excel]'" in refusal(csv_table.read, root)


def test_what_is_no_workbook_is_refused(plant: Plant, refusal: Any) -> None:
    message = refusal(csv_table.read, plant({"t.xlsx": "PK nonsense"}, *IMAGES))
    assert "the workbook cannot be read" in message
    message = refusal(csv_table.read, plant({"t.xls": "x"}, *IMAGES))
    assert "t.xls" in message


def _in_workbook(path: Path, sheet: str) -> None:
    """Put another XML behind the cells of a workbook."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["xl/worksheets/sheet1.xml"] = (
        '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
        f"{sheet}</sheetData></worksheet>"
    ).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ("sheet", "what"),
    [
        ('<row r="2000000000"><c r="A2000000000"><v>1</v></c></row>', "10,485 rows"),
        ('<row><c r="XFD1"><v>1</v></c></row>' * 13, "200,000 cells"),
        (" " * (10 << 20), "it unpacks to 10,5"),
        ("<row", "the workbook cannot be read"),
    ],
)
def test_a_workbook_that_asks_for_more_than_it_holds_is_refused(
    plant: Plant, refusal: Any, monkeypatch: pytest.MonkeyPatch, sheet: str, what: str
) -> None:
    assert (table_files._MOST_ROWS, table_files._MOST_CELLS) == (1_048_576, 20_000_000)
    monkeypatch.setattr(table_files, "_MOST_ROWS", 10_485)  # a hundredth: all are gone through
    monkeypatch.setattr(table_files, "_MOST_CELLS", 200_000)
    root = plant({}, *IMAGES)
    save(root / "labels.xlsx", one=ROWS)
    _in_workbook(root / "labels.xlsx", sheet)
    assert what in refusal(csv_table.read, root)
