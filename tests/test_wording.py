# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

import paddlex_ml
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


_PLURALS = re.compile(
    r"( of the| of)?( [a-z]+)? (images|epochs|classes|labels|lines|records|objects|tasks|entries|"
    r"attributes|values|queries|cores|threads|thresholds|warnings|runs|trials|names)\b"
)
_OTHERS = {  # files with a number that is never 1, or on which the noun does not depend
    ("account.py", "labels"),
    ("account.py", "records"),
    ("advice.py", "classes"),
    ("archives.py", "entries"),
    ("class_transfer.py", "classes"),
    ("class_transfer.py", "queries"),
    ("costs.py", "images"),
    ("demo.py", "images"),
    ("files.py", "runs"),
    ("findings.py", "images"),
    ("limited_yaml.py", "values"),
    ("mmpretrain.py", "entries"),
    ("model_card.py", "classes"),
    ("pickled.py", "values"),
    ("plan.py", "labels"),
    ("records.py", "names"),
    ("rewrite.py", "labels"),
    ("split.py", "images"),
    ("text_list.py", "labels"),
    ("weights.py", "entries"),
}


def _find_counts_without_count() -> set[tuple[str, str]]:
    """File and noun of texts such as `{len(paths):,} images`, which are wrong for one."""
    found = set()
    for path in sorted(Path(paddlex_ml.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for value, text in pairwise(node.values if isinstance(node, ast.JoinedStr) else ()):
                if not isinstance(value, ast.FormattedValue) or not isinstance(text, ast.Constant):
                    continue
                spec = ast.unparse(value.format_spec) if value.format_spec else ""
                is_number = ast.unparse(value.value).startswith("len(") or spec == "f','"
                if is_number and (noun := _PLURALS.match(str(text.value))):
                    found.add((path.name, noun[3]))
    return found


def test_counts_of_one_have_a_singular() -> None:
    assert _find_counts_without_count() <= _OTHERS
