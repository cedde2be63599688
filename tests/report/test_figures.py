# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from msgspec.structs import replace

from paddlex_ml.report.figures import Figures, format_number


@pytest.fixture
def figures(evaluated) -> Figures:
    """617, 0 and 1 of 1234 images show the classes."""
    result = evaluated(["a", "b", "c"], images=4, complete=False).result
    counts = ((617, 0.9), (0, None), (1, 0.2))
    rows = [
        replace(row, positives=positives, negatives=1234 - positives, average_precision=value)
        for row, (positives, value) in zip(result.per_class, counts, strict=True)
    ]
    metrics = replace(result.metrics, images=1234, OP=None, MultiLabelMAP_ci95=(0.12345, 0.5))
    result = replace(result, metrics=metrics, per_class=rows)
    return Figures(result, ["<a>", "", "c"])


def test_a_number_carries_its_place_and_all_its_digits(figures):
    assert figures.show("metrics.MultiLabelMAP_ci95.0") == (
        '<span data-key="metrics.MultiLabelMAP_ci95.0" data-value="0.12345">0.123</span>'
    )
    assert figures.show("metrics.images") == (
        '<span data-key="metrics.images" data-value="1234">1,234</span>'
    )


def test_an_undefined_number_is_a_dash_that_says_why(figures):
    assert figures.show("metrics.OP", 'no "images"') == (
        '<span class="none" data-key="metrics.OP" data-value="" '
        'title="no &#34;images&#34;">&ndash;</span>'
    )


def test_paths_that_lead_nowhere_give_nothing(figures):
    for key in ("metrics.other", "metrics.MultiLabelMAP_ci95.7", "metrics.images.0", "other.thing"):
        assert figures.value(key) is None


def test_an_interval_shows_both_ends(figures):
    assert figures.interval("metrics.MultiLabelMAP_ci95").striptags() == "0.123–0.500"
    assert (
        figures.interval("metrics.MultiLabelMAP_ci95", signed=True).striptags()
        == "+0.123 to +0.500"
    )


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
    assert format_number(value, signed=signed) == text


def test_classes_are_named_linked_and_ordered(figures):
    assert figures.worst_first() == [2, 0]
    assert figures.share(0) == 0.5
    assert figures.links([0, 1]) == (
        '<a href="#class-0">&lt;a&gt;</a> and <a href="#class-1">(class 1, no name)</a>'
    )
    assert figures.links([0, 1, 2], most=1).striptags() == "<a> and 2 more"
