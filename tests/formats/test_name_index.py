# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from paddlex_ml.formats.name_index import NameIndex

INDEX = NameIndex(
    ["x/s/a.xml", "x/t/a.xml", "x/b.jpg.xml", "x/photo 1.xml", "x/c.1.xml", "x/D.xml", "x/d.xml"]
)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("x/s/a.xml", ["x/s/a.xml"]),
        ("s/a", ["x/s/a.xml"]),
        ("JPEGImages\\t\\A.jpg", ["x/t/a.xml"]),
        ("a", ["x/s/a.xml", "x/t/a.xml"]),
        ("b", []),
        ("b.jpg", ["x/b.jpg.xml"]),
        ("photo 1", ["x/photo 1.xml"]),
        ("photo", []),
        ("c.1", ["x/c.1.xml"]),
        ("c", []),
        ("c.2", []),
        ("D", ["x/D.xml"]),
        ("d.png", ["x/d.xml"]),
        ("", []),
    ],
)
def test_the_longest_common_end_of_the_path_counts(name: str, found: list[str]) -> None:
    assert INDEX.find(name) == found
