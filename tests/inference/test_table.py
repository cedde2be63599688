# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import io

import pytest

from paddlex_ml.inference import table


def res(*names: str) -> dict:
    return {"input_path": "a.jpg", "label_names": list(names), "scores": [0.5] * len(names)}


@pytest.mark.parametrize(
    ("classes", "cell"),
    [
        (["cat", "dog"], "cat|dog"),
        (["cat", "dog|puppy"], "cat;dog|puppy"),
        (["a|b", "c;d"], "a|b/c;d"),
    ],
)
def test_labels_are_parted_by_a_mark_that_no_class_has(classes, cell):
    assert table.row(res(*classes), classes)[1] == cell


def test_cells_with_commas_and_quotes_come_back():
    rows = [table.header(['a "b"', "c,d"], with_all_scores=True)]
    rows.append(table.row(res("c,d") | {"all_scores": [0.1, 0.5]}, ['a "b"', "c,d"]))
    assert list(csv.reader(io.StringIO(table.write(rows)))) == [
        ["image", "labels", "scores", "error", 'a "b"', "c,d"],
        ["a.jpg", "c,d", "0.5", "", "0.1", "0.5"],
    ]
