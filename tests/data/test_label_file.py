# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from paddlex_ml.data import label_file
from paddlex_ml.errors import PaddlexMLError


def test_names_come_in_the_order_of_their_ids() -> None:
    assert label_file.parse(["1 dog", "0  black cat "], "label.txt", is_read=True) == (
        ["black cat", "dog"],
        [],
    )
    assert label_file.labels_text(["black cat", "dog"]) == "0 black cat\n1 dog\n"


@pytest.mark.parametrize(
    ("lines", "where", "what"),
    [
        (["0 cat", "x"], "label.txt:2", "the line 'x' is not a class id and a name"),
        (["0 cat", "0 dog"], "label.txt:2", "id 0 is already in line 1"),
        (["0 cat", "2 dog"], "label.txt:2", "the ids jump from 0 to 2"),
        (["1 cat"], "label.txt:1", "the ids start at 1"),
        (["0 cat", "1 cat"], "label.txt:2", "the name 'cat' is already in line 1"),
        (["0 c\x01t"], "label.txt:1", "the class name 'c\\x01t' has the control code '\\x01'"),
        ([], "label.txt", "label.txt names no class"),
    ],
)
def test_each_fault_has_its_line(lines: list[str | None], where: str, what: str) -> None:
    [fault] = label_file.parse(lines, "label.txt", is_read=True)[1]
    assert (fault.where, fault.text) == (where, what)


def test_a_file_that_could_not_be_read_has_its_fault_already() -> None:
    assert label_file.parse([None], "label.txt", is_read=False) == ([], [])
    assert label_file.parse([], "label.txt", is_read=False) == ([], [])


@pytest.mark.parametrize("names", [["cat", "cat"], [""], [" cat"], ["a\nb"]])
def test_names_that_would_be_read_back_differently_are_refused(names: list[str]) -> None:
    with pytest.raises(PaddlexMLError, match="cannot be written to label"):
        label_file.labels_text(names)
