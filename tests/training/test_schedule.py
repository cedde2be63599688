# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest

from paddlex_ml.training.schedule import (
    FLOOR,
    START,
    OneCycle,
    WarmupCosine,
    build_schedule,
)

# The sequences of the reference with our start and floor; the others set them, or count in epochs.
EXPRESSIBLE = [
    "recipe_10x20_w5",
    "recipe_40x7_w5",
    "clip_40x3_w5",
    "no_warmup_4x10",
    "one_step_per_epoch_8x1_w5",
]


def build(settings):
    return build_schedule(
        "cosine",
        settings["learning_rate"],
        epochs=settings["epochs"],
        steps_per_epoch=settings["step_each_epoch"],
        warmup_epochs=settings["warmup_epoch"],
    )


@pytest.mark.parametrize("name", EXPRESSIBLE)
def test_every_step_of_the_training_has_the_published_rate(refdata, name):
    case = refdata.load_json("schedules", "lr.json")[name]
    schedule, steps = build(case["settings"]), case["steps_in_training"]
    rates = [schedule.rate(step) for step in range(steps)]
    assert rates == pytest.approx(case["lr"][:steps], abs=1e-15, rel=0)
    assert schedule.total_steps == steps


def test_past_the_end_the_rate_stays_at_the_floor_where_the_published_one_climbs(refdata):
    case = refdata.load_json("schedules", "lr.json")["one_step_per_epoch_8x1_w5"]
    schedule = build(case["settings"])
    assert case["lr"][9] > 1e-5
    assert [schedule.rate(step) for step in (8, 9, 10, 1000)] == [
        pytest.approx(FLOOR, abs=1e-18)
    ] * 4


def test_a_warm_up_as_long_as_the_training_reaches_the_peak_at_its_end(refdata):
    # The reference warms up for as many epochs as there are when more are asked for.
    case = refdata.load_json("schedules", "lr.json")["warmup_equals_epochs_3x5_w5"]
    schedule = build_schedule("cosine", 1e-4, epochs=3, steps_per_epoch=5, warmup_epochs=3)
    rates = [schedule.rate(step) for step in range(18)]
    assert rates == pytest.approx(case["lr"], abs=1e-15, rel=0)


def test_a_fraction_of_an_epoch_is_a_warm_up_too():
    # The reference crashes here.  0.25 epochs of 10 steps: 2 steps (2.5 is rounded to even).
    schedule = build_schedule("cosine", 1e-3, epochs=4, steps_per_epoch=10, warmup_epochs=0.25)
    assert isinstance(schedule, WarmupCosine)
    assert schedule.warmup_steps == 2
    assert [schedule.rate(s) for s in (0, 1, 2)] == pytest.approx([START, (START + 1e-3) / 2, 1e-3])


def test_by_hand_at_half_way_and_at_the_end():
    schedule = WarmupCosine(peak=0.5, total_steps=12, warmup_steps=2)
    assert schedule.rate(0) == START
    assert schedule.rate(2) == 0.5
    assert schedule.rate(7) == pytest.approx((0.5 + FLOOR) / 2)
    assert schedule.rate(12) == FLOOR


def test_the_rate_never_rises_after_the_warm_up():
    schedule = WarmupCosine(peak=1e-3, total_steps=50, warmup_steps=10)
    rates = [schedule.rate(step) for step in range(60)]
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_one_cycle_by_hand():
    cycle = OneCycle(peak=1.0, total_steps=13, warmup_steps=4)
    assert cycle.rate(0) == pytest.approx(1 / 25)
    assert cycle.rate(1) == pytest.approx(1 - 0.96 * (1 + math.cos(math.pi / 4)) / 2)
    assert cycle.rate(2) == pytest.approx((1 + 1 / 25) / 2)
    assert cycle.rate(4) == 1.0
    assert cycle.rate(8) == pytest.approx((1 + 1e-4) / 2)
    assert cycle.rate(12) == pytest.approx(1e-4)  # the last step
    assert cycle.rate(13) == cycle.rate(1000) == pytest.approx(1e-4)


def test_one_cycle_rises_to_its_peak_and_falls_to_its_end():
    cycle = OneCycle(peak=2e-3, total_steps=100, warmup_steps=30)
    rates = [cycle.rate(step) for step in range(100)]
    assert rates[:31] == sorted(rates[:31])
    assert rates[30:] == sorted(rates[30:], reverse=True)
    assert max(rates) == rates[30] == 2e-3
    assert rates[99] == pytest.approx(2e-7)


def test_one_cycle_without_warm_up_begins_at_the_peak():
    cycle = OneCycle(peak=0.5, total_steps=3, warmup_steps=0)
    assert [cycle.rate(step) for step in range(3)] == pytest.approx([0.5, (0.5 + 5e-5) / 2, 5e-5])


@pytest.mark.parametrize("warmup_steps", [0, 1])
def test_one_cycle_of_a_single_step_has_a_rate(warmup_steps):
    cycle = OneCycle(peak=0.5, total_steps=1, warmup_steps=warmup_steps)
    assert cycle.rate(0) == pytest.approx(0.02 if warmup_steps else 0.5)


@pytest.mark.parametrize(("kind", "made"), [("cosine", WarmupCosine), ("one_cycle", OneCycle)])
def test_a_schedule_is_built_from_epochs(kind, made):
    schedule = build_schedule(kind, 1e-3, epochs=4, steps_per_epoch=10, warmup_epochs=1.2)
    assert schedule == made(peak=1e-3, total_steps=40, warmup_steps=12)
    assert schedule.rate(12) == schedule.peak == 1e-3
