# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import paddle
import pytest

from paddlex_ml.artifacts.weights import to_arrays
from paddlex_ml.models import head_layout
from paddlex_ml.models.head_layout import HeadLayout, published
from paddlex_ml.models.ml_decoder import MLDecoder


@pytest.mark.parametrize(
    ("classes", "wanted", "queries"),
    [
        *((1, "auto", 1), (80, "auto", 80), (100, "auto", 100), (101, "auto", 100)),
        *((9605, "auto", 100), (80, 80, 80), (80, 10, 10), (9605, 200, 200)),
    ],
)
def test_auto_is_one_query_per_class_up_to_a_hundred(classes, wanted, queries):
    assert head_layout.count_queries(classes, wanted) == queries


@pytest.mark.parametrize(
    ("classes", "queries", "size"), [(80, 80, 1), (80, 10, 8), (101, 100, 2), (9605, 100, 97)]
)
def test_the_groups_are_those_of_the_paper(classes, queries, size):
    layout = published(classes, queries)
    assert (layout.group_size, layout.slots, layout.class_queries) == (size, None, None)


def test_the_query_of_a_class_is_that_of_its_output():
    assert HeadLayout(4, 2, 3, (5, 0, 3, 1)).class_queries == (1, 0, 1, 0)
    assert published(4, 2).class_queries is None


@pytest.mark.parametrize(
    "layout", [published(7, 7), published(7, 3), published(9, 3), HeadLayout(4, 2, 3, (5, 0, 3, 1))]
)
def test_a_layout_is_read_from_the_weights_of_its_head(layout):
    head = MLDecoder(layout.classes, 8, layout=layout)
    entries = {f"fc.{name}": value for name, value in to_arrays(head.state_dict()).items()}
    found = head_layout.read(entries, "fc.")
    assert found is not None
    assert (found.queries, found.group_size) == (layout.queries, layout.group_size)
    assert (found.slots, found.fits(layout.classes)) == (layout.slots, True)
    assert not found.fits(layout.classes + layout.queries)
    assert not found.fits(max(layout.classes - layout.queries, 0))
    assert head_layout.read(entries, "head.") is None


def test_a_padded_head_fits_only_what_makes_the_same_groups():
    found = HeadLayout(200, 100, 2)  # as it is read: 200 outputs
    assert [n for n in range(1, 300) if found.fits(n)] == list(range(101, 201))
    assert [n for n in range(1, 300) if HeadLayout(150, 150, 1).fits(n)] == [150]


@pytest.mark.parametrize(
    "harm",
    [
        {"class_slots": np.array([0.0, 0.0, 1.0])},
        {"class_slots": np.array([0.0, 1.5, 2.0])},
        {"class_slots": np.array([0.0, 1.0, 6.0])},
        {"class_slots": np.array([-1.0, 1.0, 2.0])},
        {"class_slots": np.zeros(0)},
        {"class_slots": np.array([[0.0, 1.0]])},
        {"group_conv.bias": np.zeros(7)},
        {"query_pos_embed.weight": np.zeros((4, 768))},
        {"group_conv.weight": np.zeros((0, 768, 1, 1))},
    ],
    ids=str,
)
def test_entries_that_contradict_each_other_are_no_layout(harm):
    head = to_arrays(MLDecoder(6, 8, 3).state_dict())
    assert head_layout.read(head, "") == published(6, 3)
    assert head_layout.read({**head, **harm}, "") is None


def test_the_order_of_classes_survives_as_numbers_of_float32():
    slots = np.array(paddle.randperm(9700)[:9605].numpy(), np.float32)
    head = {
        "query_pos_embed.weight": np.zeros((100, 1)),
        "group_conv.weight": np.zeros((9700, 1, 1, 1)),
        "group_conv.bias": np.zeros(9700),
    }
    found = head_layout.read({**head, "class_slots": slots}, "")
    assert found is not None
    assert found.slots == tuple(slots.astype(int).tolist())
