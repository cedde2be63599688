# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from paddlex_ml.artifacts.saved_states import Progress
from paddlex_ml.config import load
from paddlex_ml.config.shipped import find
from paddlex_ml.data.annotation import ImageList
from paddlex_ml.data.dataset import SampleIndex
from paddlex_ml.distributed.group import ProcessGroup
from paddlex_ml.engines.train.plan import _choose_order
from paddlex_ml.training.losses import asymmetric_loss
from paddlex_ml.training.plan import Plan, Saving
from paddlex_ml.training.schedule import build_schedule


def plan_of(size: int, batch_size: int, seed: int = 1, **other: Any) -> Plan:
    plan = Plan(
        epochs=4,
        batch_size=batch_size,
        grad_accum_steps=1,
        images=size,
        order=lambda epoch: np.random.default_rng([seed, epoch]).permutation(size),
        schedule=build_schedule("cosine", 1e-3, epochs=4, steps_per_epoch=3, warmup_epochs=0),
        seed=seed,
        loss_fn=asymmetric_loss,
        log_interval=1,
    )
    return replace(plan, **other)


def samples(steps: list[list[list[SampleIndex]]]) -> list[int]:
    return [draw.sample for step in steps for batch in step for draw in batch]


def test_seed_and_epoch_decide_the_order() -> None:
    first = plan_of(50, 8).epoch_steps(0)
    assert first == plan_of(50, 8).epoch_steps(0)
    assert samples(first) != samples(plan_of(50, 8).epoch_steps(1))
    assert samples(first) != samples(plan_of(50, 8, seed=2).epoch_steps(0))
    assert samples(first) != sorted(samples(first))


@pytest.mark.parametrize(
    ("size", "accumulate", "expected"),
    [
        (63, 1, [[8]] * 7 + [[7]]),
        (64, 1, [[8]] * 8),
        (50, 1, [[8]] * 6 + [[2]]),
        (49, 1, [[8]] * 6),
        (1, 1, [[1]]),
        (7, 4, [[7]]),
        (64, 4, [[8] * 4] * 2),
        (63, 4, [[8] * 4, [8, 8, 8, 7]]),
        (42, 2, [[8, 8], [8, 8], [8, 2]]),
        (41, 2, [[8, 8], [8, 8], [8]]),
    ],
)
def test_the_last_batch_is_used_unless_it_is_a_single_image(
    size: int, accumulate: int, expected: list[list[int]]
) -> None:
    plan = plan_of(size, 8, grad_accum_steps=accumulate)
    steps = plan.epoch_steps(3)
    assert [[len(batch) for batch in step] for step in steps] == expected
    assert plan.steps == len(expected)
    assert [plan.step_images(k) for k in range(plan.steps)] == [sum(step) for step in expected]
    assert plan.used == len(set(samples(steps))) == len(samples(steps))
    assert {draw.epoch for draw in chain(*chain(*steps))} == {3}


def test_no_image_is_left_out_for_ever() -> None:
    plan = plan_of(17, 8)
    left_out = [set(range(17)) - {*samples(plan.epoch_steps(epoch))} for epoch in range(4)]
    assert [len(each) for each in left_out] == [1] * 4
    assert len(set.union(*left_out)) > 1


def test_a_list_shorter_than_a_batch_is_one_batch() -> None:
    ((only,),) = plan_of(3, 8).epoch_steps(0)
    assert sorted(draw.sample for draw in only) == [0, 1, 2]


@pytest.mark.parametrize(
    ("size", "accumulate"), [(52, 1), (52, 2), (55, 4), (48, 1), (49, 2), (7, 1)]
)
def test_the_ranks_of_a_group_share_the_batches_of_one_process(size: int, accumulate: int) -> None:
    alone = plan_of(size, 8, grad_accum_steps=accumulate)
    both = [
        plan_of(size, 4, grad_accum_steps=accumulate, group=ProcessGroup(rank, 2))
        for rank in range(2)
    ]
    assert [plan.steps for plan in both] == [alone.steps] * 2
    first, second = (plan.epoch_steps(2) for plan in both)
    joined = [
        [a + b for a, b in zip(*steps, strict=True)] for steps in zip(first, second, strict=True)
    ]
    assert joined == alone.epoch_steps(2)


@pytest.mark.parametrize(("size", "used"), [(24, 24), (25, 24), (29, 24), (30, 30), (32, 32)])
def test_every_rank_gets_two_images_of_the_last_batch_or_none(size: int, used: int) -> None:
    ranks = [plan_of(size, 4, group=ProcessGroup(rank, 3)) for rank in range(3)]
    steps = [plan.epoch_steps(0) for plan in ranks]
    assert {plan.steps for plan in ranks} == {len(each) for each in steps} == {2 + (used > 24)}
    assert min(len(batch) for each in steps for step in each for batch in step) >= 2
    assert sum(len(samples(each)) for each in steps) == used == ranks[0].used


def test_the_batches_left_are_those_of_the_steps_left() -> None:
    plan = plan_of(23, 4, grad_accum_steps=2, epochs=3)
    steps = plan.epoch_steps(1)
    assert len(steps) == 3
    assert list(plan.batches_left(Progress(epoch=1))) == [*steps[0], *steps[1], *steps[2]]
    assert list(plan.batches_left(Progress(epoch=1, step=2))) == steps[2]
    assert list(plan.batches_left(Progress(epoch=3))) == []


def test_an_image_that_is_drawn_again_in_an_epoch_is_changed_in_another_way() -> None:
    plan = plan_of(5, 5, order=lambda epoch: np.array([3, 1, 3, 3, 0]))
    ((batch,),) = plan.epoch_steps(0)
    assert batch == [
        SampleIndex(0, 3, 0),
        SampleIndex(0, 1, 0),
        SampleIndex(0, 3, 1),
        SampleIndex(0, 3, 2),
        SampleIndex(0, 0, 0),
    ]


def test_evaluations_and_epoch_folders_come_when_they_are_due() -> None:
    plan = plan_of(8, 8, epochs=10, eval_interval=3, start_eval_epoch=5, saving=Saving(4))
    epochs = range(1, 11)
    assert [epoch for epoch in epochs if plan.is_evaluated(epoch)] == [6, 9, 10]
    assert [epoch for epoch in epochs if plan.is_kept(epoch)] == [4, 8, 10]


def order_of(*overrides: str, targets: np.ndarray) -> tuple[int, list[np.ndarray]]:
    path, _ = find("PP-LCNet_x1_0_ML")
    config = load.load(path, overrides, to_run=False).config
    paths = [f"{i}.jpg" for i in range(len(targets))]
    dataset = SimpleNamespace(train=ImageList(Path(), paths, targets))
    size, order = _choose_order(config, dataset)  # type: ignore[arg-type]
    return size, [order(epoch) for epoch in range(2)]


def test_the_sampler_repeat_factor_draws_images_of_rare_classes_more_often() -> None:
    targets = np.zeros((100, 2), np.uint8)
    targets[:, 0], targets[:4, 1] = 1, 1  # a share of 0.04 below the threshold of 0.16: twice
    size, (plain, _) = order_of(targets=targets)
    assert size == 100
    assert sorted(plain) == list(range(100))
    size, orders = order_of(
        "Train.sampler=repeat_factor", "Train.repeat_threshold=0.16", targets=targets
    )
    assert size == 104
    for order in orders:
        assert Counter(order.tolist()) == Counter([*range(100), *range(4)])
    assert list(orders[0]) != list(orders[1])
