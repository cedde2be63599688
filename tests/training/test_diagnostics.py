# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import paddle
import pytest

from paddlex_ml.training import diagnostics
from paddlex_ml.training.diagnostics import Diagnostics, Epoch
from paddlex_ml.training.ema import Ema


def test_a_dead_model_is_told_with_a_tenth_of_the_rate() -> None:
    text = diagnostics.dead(True, 5e-3)
    assert text is not None
    assert "the scores no longer differ between images" in text
    assert text.endswith("try -o Train.learning_rate=5e-04")
    assert diagnostics.dead(False, 5e-3) is None


def test_a_loss_that_grows_by_half_within_an_epoch_is_told_in_the_first_three() -> None:
    losses = [10.0] * 25 + [12.0] * 50 + [15.5] * 25
    text = diagnostics.growing(2, losses, 1e-3)
    assert text is not None
    assert text.startswith("the loss grew within epoch 2, from 10.00 in its first quarter to 15.50")
    assert "-o Train.learning_rate=3e-04" in text
    assert diagnostics.growing(4, losses, 1e-3) is None


@pytest.mark.parametrize(
    "losses",
    [[], [1.0] * 7, [1.0, 1.0, 9.0, 9.0], [10.0] * 50 + [14.9] * 50, [9.0] * 4 + [1.0] * 4],
)
def test_a_loss_that_falls_or_has_too_few_steps_is_no_sign(losses: Sequence[float]) -> None:
    assert diagnostics.growing(1, losses, 1e-3) is None


def test_waiting_for_data_is_told_above_a_fifth_of_the_time() -> None:
    text = diagnostics.starving(0.43, 130.0, ["-o Train.num_workers=8", "-o Train.cache=ram"])
    assert text is not None
    assert text.startswith("43% of the epoch's time (130 s) went by waiting for data")
    assert text.endswith("Try -o Train.num_workers=8, or -o Train.cache=ram")
    assert diagnostics.starving(0.2, 130.0, []) is None
    assert diagnostics.starving(0.9, 9.9, []) is None  # nobody's time
    assert str(diagnostics.starving(0.21, 10.0, [])).endswith("on already, but for more cores")


def test_only_repairs_that_are_not_yet_done_are_named() -> None:
    every = [
        "-o Train.num_workers=8",
        "-o Train.cache=ram (or disk)",
        "-o Train.reduced_decode=true",
    ]
    assert diagnostics.loader_repairs("none", 2, 8, reduced_decode=False) == every
    assert diagnostics.loader_repairs("none", 8, 8, reduced_decode=True) == every[1:2]
    assert diagnostics.loader_repairs("disk", 8, 8, reduced_decode=False) == every[2:]
    assert diagnostics.loader_repairs("ram", 12, 8, reduced_decode=True) == []


@pytest.mark.parametrize(("decay", "updates"), [(0.9, 30), (0.9997, 40), (0.99, 2000)])
def test_the_averaging_window_is_that_of_the_real_average(decay: float, updates: int) -> None:
    model = paddle.nn.Linear(1, 1)
    ema = Ema(model, decay)
    for update in range(1, updates + 1):
        model.bias.set_value(paddle.full([1], float(update)))
        ema.update(model)
    behind = updates - float(ema.weights["bias"].numpy()[0])  # how old its content is: window - 1
    window = diagnostics.averaging_window(decay, updates)
    assert 0.8 * (window - 1) < behind <= 1.01 * (window - 1)


@pytest.mark.parametrize("updates", [2, 10, 1000, 100_000])
def test_no_average_is_older_than_its_run(updates: int) -> None:
    assert diagnostics.averaging_window(0.999999, updates) <= updates


def test_averaged_weights_that_end_far_behind_are_told_with_a_decay_that_fits() -> None:
    text = diagnostics.lagging(0.80, 0.70, 0.9997, 890)
    assert text is not None
    assert "an average over the last 100 of 890 updates" in text
    assert "-o Train.ema_decay=0.96 averages over a quarter of them" in text
    assert diagnostics.averaging_window(0.96, 890) == pytest.approx(100 / 4)


@pytest.mark.parametrize(("raw", "ema"), [(None, None), (0.8, None), (0.8, 0.785), (0.7, 0.8)])
def test_averaged_weights_that_are_near_or_better_are_no_sign(
    raw: float | None, ema: float | None
) -> None:
    assert diagnostics.lagging(raw, ema, 0.9997, 890) is None


def test_an_average_that_cannot_be_shorter_is_told_to_be_switched_off() -> None:
    text = diagnostics.lagging(0.8, 0.1, 0.5, 100)
    assert text is not None
    assert text.endswith("-o Train.ema_decay=0 switches it off")


def test_a_run_too_short_to_judge_averages_has_no_sign() -> None:
    assert diagnostics.lagging(0.8, 0.1, 0.9997, 99) is None


def test_classes_that_are_never_seen_are_counted_and_ten_are_named() -> None:
    names = [f"c{i}" for i in range(14)]
    counts = np.array([0] * 12 + [4, 5])
    text = diagnostics.unseen(names, counts)
    assert text is not None
    assert text.startswith(
        "12 classes have no image in train.txt "
        "(c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 and 2 more): the model never names "
    )
    text = diagnostics.rare(names, counts)
    assert text is not None
    assert text.startswith("1 class has fewer than 5 images in train.txt (c12 (4)): ")
    assert diagnostics.unseen(names[12:], counts[12:]) is None
    assert diagnostics.rare(names[13:], counts[13:]) is None


def test_classes_that_val_cannot_measure_are_named() -> None:
    text = diagnostics.unmeasured(["cat", "dog"], np.array([3, 0]))
    assert text is not None
    assert text.startswith("1 class has no image in val.txt (dog): mAP leaves out what has no ")
    assert diagnostics.unmeasured(["cat"], np.array([1])) is None


def test_a_small_validation_list_is_told_with_its_reasons() -> None:
    names = ["cat", "dog"]
    start = "mAP on val.txt will jump by chance, for "
    both = diagnostics.jumping(names, 49, np.array([1, 8]))
    assert str(both).startswith(f"{start}it has 49 images and one image alone judges cat: ")
    one = diagnostics.jumping(names, 50, np.array([1, 1]))
    assert str(one).startswith(f"{start}one image alone judges cat, dog: ")
    assert diagnostics.jumping(names, 50, np.array([2, 0])) is None


def test_lists_without_a_fault_have_nothing_to_tell() -> None:
    full = np.ones((60, 2), np.uint8)
    assert diagnostics.of_lists(["cat", "dog"], full, full) == []
    assert len(diagnostics.of_lists(["cat", "dog"], full[:3] * [1, 0], full[:1] * [1, 0])) == 4


def test_each_doubt_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    asking = Diagnostics(["-o Train.cache=ram"])
    rising = [1.0] * 8 + [9.0] * 8
    for number in (1, 2, 3):
        asking.after_epoch(
            Epoch(
                number=number,
                peak_rate=1e-3,
                losses=rising,
                data_share=0.5,
                waited=60.0,
                died=number > 1,
            )
        )
        row = {"raw_map": 0.8, "ema_map": 0.2}
        asking.at_end([row, {"raw_map": None, "ema_map": None}], 0.9997, 890)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 4
    starts = [text[:20] for text in caplog.messages]
    assert starts == [
        "the loss grew within",
        "50% of the epoch's t",
        "the averaged weights",
        "the scores no longer",
    ]


def test_a_training_without_scores_has_no_doubt_about_its_average(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Diagnostics().at_end([], 0.9997, 10)
    Diagnostics().at_end([{"raw_map": None}], 0.9997, 10)
    assert caplog.messages == []
