# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import paddle
import pytest

from paddlex_ml.artifacts.weights import to_arrays
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.models import class_transfer
from paddlex_ml.models.class_transfer import ClassTransfer
from paddlex_ml.models.head_layout import SLOTS, HeadLayout, published
from paddlex_ml.models.ml_decoder import MLDecoder


def names(count: int, first: int = 0) -> list[str]:
    return [f"class {i}" for i in range(first, first + count)]


def shuffled(listed: list[str]) -> list[str]:
    return [listed[i] for i in np.random.default_rng(0).permutation(len(listed))]


def middle(listed: list[str], added: int) -> list[str]:
    half = len(listed) // 2
    return [*listed[:half], *(f"new {i}" for i in range(added)), *listed[half:]]


def logits(layout: HeadLayout, entries: dict[str, np.ndarray], features: paddle.Tensor):
    head = MLDecoder(layout.classes, 8, layout=layout)
    for name, value in head.state_dict().items():
        value.set_value(entries[name].astype(str(value.numpy().dtype)))
    head.eval()
    with paddle.no_grad():
        return head(features).numpy()


def random_entries(layout: HeadLayout) -> dict[str, np.ndarray]:
    entries = to_arrays(MLDecoder(layout.classes, 8, layout=layout).state_dict())
    entries["group_conv.bias"] = np.random.default_rng(1).standard_normal(
        entries["group_conv.bias"].shape, np.float32
    )
    return entries


OLD = names(12)
CHANGES = {
    "another order": shuffled(OLD),
    "added in the middle": middle(OLD, 3),
    "removed": OLD[::2],
    "all of it": shuffled(middle(OLD[3:], 5)),
    "many added": middle(OLD, 90),
}


@pytest.mark.parametrize("before", [12, 5, 4, 1])
@pytest.mark.parametrize("wanted", ["all", 12, 5, 3])
@pytest.mark.parametrize("change", CHANGES)
def test_a_kept_class_has_the_logit_that_it_had(change, wanted, before):
    now, old = CHANGES[change], published(12, before)
    queries = len(now) if wanted == "all" else min(wanted, len(now))
    transfer = class_transfer.plan(old, OLD, now, queries, may_add=True)
    layout = transfer.layout
    assert layout.classes == len(now)
    assert queries <= layout.queries <= max(queries, before)
    assert layout.group_size <= max(old.group_size, -(-len(now) // queries))
    used = layout.slots or range(len(now))
    assert len({*used}) == len(now)
    assert max(used) < layout.queries * layout.group_size
    entries, fresh = random_entries(old), random_entries(layout)
    # What is no query and no read-out comes from the weights.
    moved = class_transfer.move(transfer, entries, fresh, "")
    features = paddle.randn([3, 8, 2, 2])
    was, found = logits(old, entries, features), logits(layout, moved, features)
    for name in transfer.kept:
        difference = found[:, now.index(name)] - was[:, OLD.index(name)]
        assert np.abs(difference).max() < 1e-5
    assert transfer.kept == [name for name in now if name in OLD]
    assert transfer.new == [name for name in now if name not in OLD]
    assert transfer.dropped == [name for name in OLD if name not in now]
    rows = moved["group_conv.weight"]
    for name in transfer.new:
        slot = used[now.index(name)]
        assert np.array_equal(rows[slot], fresh["group_conv.weight"][slot])


def test_a_second_change_finds_the_classes_where_the_first_one_put_them():
    first = class_transfer.plan(published(12, 4), OLD, CHANGES["all of it"], 4, may_add=True)
    assert first.layout.slots is not None
    entries = random_entries(first.layout)
    second = class_transfer.plan(first.layout, CHANGES["all of it"], OLD, 6, may_add=True)
    moved = class_transfer.move(second, entries, random_entries(second.layout), "")
    features = paddle.randn([3, 8, 2, 2])
    was, found = logits(first.layout, entries, features), logits(second.layout, moved, features)
    for name in second.kept:
        column = was[:, CHANGES["all of it"].index(name)]
        assert np.abs(found[:, OLD.index(name)] - column).max() < 1e-5
    assert len(second.kept) == 9


def test_one_query_per_class_needs_no_order():
    transfer = class_transfer.plan(published(12, 4), OLD, shuffled(OLD), 12, may_add=False)
    assert transfer.layout == published(12, 12)
    assert [transfer.queries[c] for c in range(12)] == [
        int(name.split()[1]) // 3 for name in shuffled(OLD)
    ]
    moved = class_transfer.move(
        transfer, random_entries(published(12, 4)), random_entries(published(12, 12)), ""
    )
    assert SLOTS not in moved


def test_classes_of_one_query_stay_together_in_a_list_of_thousands():
    old, listed = published(9605, 100), names(9605)
    now = shuffled(middle(listed[10:], 30))
    transfer = class_transfer.plan(old, listed, now, 100, may_add=True)
    assert (transfer.layout.queries, transfer.layout.group_size) == (100, 97)
    assert len({*transfer.queries.values()}) == 100
    assert (len(transfer.kept), len(transfer.new), len(transfer.dropped)) == (9595, 30, 10)


def plan_few(queries: int, *, may_add: bool) -> ClassTransfer:
    return class_transfer.plan(published(12, 12), OLD, shuffled(OLD), queries, may_add=may_add)


def test_fewer_queries_than_the_kept_classes_come_from_are_refused_or_added():
    assert plan_few(5, may_add=True).layout.queries == 12
    with pytest.raises(PaddlexMLError, match="come from 12 queries: with 5 they would") as caught:
        plan_few(5, may_add=False)
    assert caught.value.where == "Train.num_queries"
    assert "-o Train.num_queries=auto" in caught.value.fix


def test_names_compare_exactly_and_nothing_in_common_keeps_nothing_of_the_head():
    transfer = class_transfer.plan(
        published(2, 2), ["Cat", "dog "], ["cat", "dog"], 2, may_add=True
    )
    assert (transfer.kept, transfer.new) == ([], ["cat", "dog"])
    moved = class_transfer.move(
        transfer, random_entries(published(2, 2)), random_entries(published(2, 2)), ""
    )
    left_out = {"query_pos_embed.weight", "group_conv.weight", "group_conv.bias"}
    assert left_out.isdisjoint(moved)
    assert "input_proj.weight" in moved
