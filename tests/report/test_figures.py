# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from paddlex_ml.report.figures import Figures, write_number

RESULT = {
    "metrics": {"images": 1234, "low": None, "ci": [0.12345, 0.5]},
    "per_class": [
        {"positives": 617, "average_precision": 0.9},
        {"positives": 0, "average_precision": None},
        {"positives": 1, "average_precision": 0.2},
    ],
}


@pytest.fixture
def figures() -> Figures:
    return Figures(RESULT, ["<a>", "", "c"])


def test_a_number_carries_its_place_and_all_its_digits(figures):
    assert figures.show("metrics.ci.0") == (
        '<span data-key="metrics.ci.0" data-value="0.12345">0.123</span>'
    )
    assert figures.show("metrics.images") == (
        '<span data-key="metrics.images" data-value="1234">1,234</span>'
    )


def test_an_undefined_number_is_a_dash_that_says_why(figures):
    assert figures.show("metrics.low", 'no "images"') == (
        '<span class="none" data-key="metrics.low" data-value="" '
        'title="no &#34;images&#34;">&ndash;</span>'
    )


def test_paths_that_lead_nowhere_give_nothing(figures):
    for key in ("metrics.other", "metrics.ci.7", "metrics.images.0", "other.thing"):
        assert figures.value(key) is None


def test_an_interval_shows_both_ends(figures):
    assert figures.interval("metrics.ci").striptags() == "0.123–0.500"
    assert figures.interval("metrics.ci", signed=True).striptags() == "+0.123 to +0.500"


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [
        (0.12345, False, "0.123"),
        (-0.5, True, "\N{MINUS SIGN}0.500"),
        (0.5, True, "+0.500"),
        (-0.0001, True, "0.000"),
        (0.0, True, "0.000"),
        (12345, False, "12,345"),
    ],
)
def test_numbers_are_rounded_and_signed(value, signed, text):
    assert write_number(value, signed=signed) == text


def test_classes_are_named_linked_and_ordered(figures):
    assert figures.worst_first() == [2, 0]
    assert figures.share(0) == 0.5
    assert figures.links([0, 1]) == (
        '<a href="#class-0">&lt;a&gt;</a> and <a href="#class-1">(class 1, no name)</a>'
    )
    assert figures.links([0, 1, 2], most=1).striptags() == "<a> and 2 more"
