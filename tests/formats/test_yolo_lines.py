# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from paddlex_ml.formats.yolo_lines import ClassIds, sniff

POINTS = "0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8"
PIXELS = "2753 2408 2861 2385.5 2888 2468 2805 2502"


@pytest.mark.parametrize(
    "line",
    [
        "1 0.5 0.5 0.2 0.2",
        "1.0 0.5 0.5 0.2 0.2",
        "1.000000000000000000e+00 5e-1 5e-1 2e-1 2e-1",
        "01\t0.5  0.5 0.2 0.2 0.93",  # with a confidence
        f"1 {POINTS}",
        f"1 {POINTS} 0.9 0.9",
        f"1 0.5 0.5 0.2 0.2 {' '.join(['0.3 0.4 2'] * 17)}",  # a box and key points
        f"{PIXELS} small ship 0",
        f"{PIXELS} small ship 2",
        f"{PIXELS} small ship",
        "0 0 0 2 2 2 2 0 small ship 0",
    ],
)
def test_boxes_polygons_points_and_dota_lines_have_one_class(line: str) -> None:
    assert ClassIds(["plane", "small ship"], 2).parse(line) == 1


def test_a_name_may_be_a_number_when_the_points_are_pixels() -> None:
    ids = ClassIds(["7", "8"], 2)
    assert ids.parse(f"{PIXELS} 8 0") == 1
    assert ids.parse("1 0.1 0.2 0.3 0.4 0.5 0.6 0.7 8 0") == 1  # the id, and nine numbers


@pytest.mark.parametrize("line", ["", " \t", "imagesource:GoogleEarth", "gsd:0.146", "gsd: null"])
def test_empty_lines_and_headers_have_no_object(line: str) -> None:
    assert ClassIds(["a"], 1).parse(line) is None


def test_names_that_are_unknown_are_refused_or_become_classes() -> None:
    line = f"{PIXELS} ship 0"
    what = "the class 'ship' is not one of the 2 that are named"
    assert ClassIds(["plane", "Ship"], 2).parse(line) == what
    ids = ClassIds([], 0, grow=True)
    assert [ids.parse(line), ids.parse(f"{PIXELS} plane 1"), ids.parse(line)] == [0, 1, 0]
    assert ids.names == ["ship", "plane"]
    assert ids.parse("0 0.5 0.5 0.2 0.2") == (
        "the class id 0 has no name: other lines have names in their place"
    )


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b"0 0.5 0.5 0.2 0.2\r\n12 .5 1e-1 0 1\n", "ids"),
        ("\ufeff0 0.5 0.5 0.2 0.2\n".encode("utf-16-le"), "ids"),
        (f"imagesource:x\ngsd:1\n{PIXELS} ship 1\n".encode(), "names"),
        (b"0 0.5 0.5 0.2\n", ""),
        (b"0 0.5 0.5 0.2 0.2\ncat\n", ""),
        (b"img.jpg 0 1 0 1\n", ""),
        (b"0,0.5,0.5,0.2,0.2\n", ""),
        (b"", ""),
        (b"\n\n", ""),
        (bytes(range(256)), ""),
    ],
)
def test_files_are_told_apart_by_their_first_lines(text: bytes, kind: str) -> None:
    assert sniff(text) == kind
