# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data.inventory import Inventory
from paddlex_ml.formats import csv_table
from paddlex_ml.formats.collector import Options
from paddlex_ml.formats.table_rows import TableRow, part_titles

Plant = Callable[..., Path]
IMAGES = ("a.jpg", "b.jpg")


def split(text: str) -> tuple[int, int]:
    """Numbers of titles and of rows of the table; each line is a row."""
    lines = enumerate(text.split("\n"), 1)
    titles, rows = part_titles(TableRow(n, line.split(",")) for n, line in lines)
    return len(titles), len(list(rows))


@pytest.mark.parametrize("title", ["Survey 2024, north field", "Survey, 2024, north, field"])
@pytest.mark.parametrize(
    "table",
    [
        "image,trees,sea\na.jpg,1,0\nb.jpg,0,1",
        "image,tags\na.jpg,trees\nb.jpg,sea",
        "Image Name,tags,width,height\na.jpg,trees,4,2\nb.jpg,sea,4,2",
        "id,trees,sea\na,1,0\nb,0,1",
    ],
)
def test_a_title_with_commas_is_left_out_and_the_header_told(
    plant: Plant, labels: Any, title: str, table: str
) -> None:
    root = plant({"t.csv": f"{title}\nby us\n\n{table}\n"}, *IMAGES)
    assert csv_table.recognise(Inventory(root)) == "t.csv, a table of images"
    dataset = csv_table.read(root, Options())
    assert labels(dataset) == {"train": {"a.jpg": ["trees"], "b.jpg": ["sea"]}}
    header = table.split("\n")[0].replace(",", ", ")
    text = title.replace(", ", ",").replace(",", ", ")
    note = f"t.csv: left out: 2 rows above the table: {text}, by us; row 4 has the names of the "
    assert f"{note}columns: {header}" in dataset.notes


@pytest.mark.parametrize(
    "text",
    [
        "kind,shown\n123,image\n124,cat\n125,dog",  # the word is a label
        "photo,kind\nimage,cat\nx,dog",  # an image without ending, in a table without titles
        "cat,dog\na.jpg,1,0\nb.jpg,0,1",  # a header without the name of the first column
        "kind,note\n1,image,good\n2,cat,bad",
        "photo,kind\na.jpg,file\nb.jpg,name",
        "image,labels\nid,cat\na.jpg,dog\nb.jpg,dog",  # the first header counts
        ",labels\nimage,\na.jpg,cat\nb.jpg,dog",  # columns of pandas with a name of the index
    ],
)
def test_a_header_in_the_first_row_is_no_title(text: str) -> None:
    assert split(text) == (0, text.count("\n") + 1)


def test_a_first_line_with_other_cells_than_all_rows_is_one_fault(
    plant: Plant, refusal: Any
) -> None:
    root = plant({"t.csv": "Survey 2024, north\nfoto,trees,sea\na.jpg,1,0\nb.jpg,0,1\n"}, *IMAGES)
    message = refusal(csv_table.read, root)
    assert message.startswith("the first line has 2 cells, and no row below has as many")
    assert "t.csv:1" in message
    assert "what stands above the names, remove" in message
