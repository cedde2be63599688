# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from paddlex_ml.wording import count, first_names, part_of, path_override, text_width


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b", "c"], "a, b, c"),
        (["a", "b", "c", "d"], "a, b, c and 1 more"),
        (list("abcdefghij"), "a, b, c and 7 more"),
    ],
)
def test_names_beyond_the_limit_are_counted(names, text):
    assert first_names(names, 3) == text


def test_ten_names_are_shown_by_default():
    assert first_names([str(i) for i in range(12)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("runs/a", "-o Export.weight_path=runs/a"),
        ("my runs/a", "-o 'Export.weight_path=my runs/a'"),
        ("~a/b", "-o 'Export.weight_path=./~a/b'"),
        ("-a", "-o Export.weight_path=./-a"),
    ],
)
def test_a_path_is_written_as_it_is_meant(path: str, written: str) -> None:
    assert path_override("Export.weight_path", Path(path)) == written


def test_numbers_have_their_noun() -> None:
    assert [count(n, "image") for n in (0, 1, 2000)] == ["0 images", "1 image", "2,000 images"]
    assert count(2, "class", "classes") == "2 classes"


def test_the_width_of_a_text_is_that_on_a_terminal() -> None:
    assert [text_width(text) for text in ("ab", "一只猫", "e\u0301")] == [2, 6, 1]


def test_a_part_of_things_has_its_verb() -> None:
    classes, have = ("class", "classes"), ("has", "have")
    assert part_of(1, 20, classes, have) == "1 of 20 classes has"
    assert part_of(1, 1, classes, have) == "1 of 1 class has"
    assert part_of(1200, 2000, classes, have) == "1,200 of 2,000 classes have"
