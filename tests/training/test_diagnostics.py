# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import paddle
import pytest

from paddlex_ml.artifacts.train_result import Best, EpochRow
from paddlex_ml.data.targets import to_sparse
from paddlex_ml.training import diagnostics
from paddlex_ml.training.diagnostics import Diagnostics
from paddlex_ml.training.ema import Ema


def row(
    number: int = 1,
    raw_map: float | None = None,
    ema_map: float | None = None,
    data_wait: float = 0.0,
) -> EpochRow:
    return EpochRow(
        epoch=number,
        step=number,
        lr=1e-3,
        loss=1.0,
        raw_map=raw_map,
        ema_map=ema_map,
        images_per_second=1.0,
        data_wait=data_wait,
        memory_mib=1.0,
        seconds=1.0,
    )


@pytest.fixture
def after_epoch(caplog: pytest.LogCaptureFixture) -> Callable[..., str | None]:
    """Runs the checks of one epoch; returns the message, or None."""

    def check(
        number: int = 1,
        data_wait: float = 0.0,
        repairs: Sequence[str] = (),
        peak_rate: float = 1e-3,
        **other: Any,
    ) -> str | None:
        caplog.clear()
        facts = {"losses": [], "waited": 0.0, "is_constant": False, **other}
        Diagnostics(repairs).after_epoch(
            row(number, data_wait=data_wait), peak_rate=peak_rate, **facts
        )
        assert len(caplog.messages) < 2
        return caplog.messages[0] if caplog.messages else None

    return check


@pytest.fixture
def at_end(caplog: pytest.LogCaptureFixture) -> Callable[..., str | None]:
    """Compares both kinds of weights at the end of a run; returns the message, or None."""

    def check(raw: float | None, ema: float | None, decay: float, updates: int) -> str | None:
        caplog.clear()
        Diagnostics().at_end([row(1, raw, ema)], decay, updates)
        return caplog.messages[0] if caplog.messages else None

    return check


Check = Callable[..., str | None]


def test_equal_scores_are_reported_with_a_tenth_of_the_rate(after_epoch: Check) -> None:
    text = after_epoch(100, is_constant=True, peak_rate=5e-3)
    assert text is not None
    assert "the scores no longer differ between images" in text
    assert text.endswith("try -o Train.learning_rate=5e-04")
    assert after_epoch(is_constant=False, peak_rate=5e-3) is None
    assert "has collapsed" in str(after_epoch(500, is_constant=True, peak_rate=3e-4))


@pytest.mark.parametrize(
    ("updates", "rate", "reason"),
    [
        (3, 1e-4, "3 updates are few"),
        (10, 1e-3, "10 updates are few"),
        (99, 1e-2, "99 updates are few"),
        (500, 1e-6, "a learning rate of 1e-06 is low"),
    ],
)
def test_equal_scores_of_a_training_that_has_not_begun_ask_for_more_of_it(
    after_epoch: Check, updates: int, rate: float, reason: str
) -> None:
    text = after_epoch(updates, is_constant=True, peak_rate=rate)
    assert text is not None
    assert f"nothing was learned so far; {reason}" in text
    assert "too large" not in text
    assert "-o Train.epochs_iters=" in text


def test_a_collapse_is_told_after_too_few_updates_were(caplog: pytest.LogCaptureFixture) -> None:
    diagnostics = Diagnostics()
    for updates in (50, 90, 100, 150):
        diagnostics.after_epoch(
            row(updates), peak_rate=1e-3, losses=[], waited=0.0, is_constant=True
        )
    early, late = caplog.messages
    assert "nothing was learned so far; 50 updates are few" in early
    assert "the training has collapsed" in late


@pytest.mark.parametrize(
    ("score", "interval", "told"),
    [
        (0.4, (0.2, 0.6), "(95 % interval 0.2000 to 0.6000)"),
        (0.25, None, "its mAP is 0.2500, that"),
        (0.4, (0.3, 0.6), None),
        (0.4, None, None),
    ],
)
def test_a_best_model_that_guesses_is_named(
    caplog: pytest.LogCaptureFixture,
    score: float,
    interval: tuple[float, float] | None,
    told: str | None,
) -> None:
    targets = np.array([[1, 0], [0, 0], [0, 1], [0, 0]])  # the constant predictor has 0.25
    Diagnostics().check_best(Best(score, "raw", 1, interval), targets)
    Diagnostics().check_best(None, targets)
    assert len(caplog.messages) == (told is not None)
    if told is not None:
        assert "the best model is not better than guessing" in caplog.text
        assert told in caplog.text


@pytest.mark.parametrize("rate", [1e-7, 1e-6, 1e-4])
def test_a_low_rate_is_never_called_too_large(after_epoch: Check, rate: float) -> None:
    text = after_epoch(is_constant=True, peak_rate=rate)
    assert text is not None
    assert "nothing was learned so far" in text
    assert "too large" not in text
    losses = [10.0] * 50 + [15.5] * 50
    text = after_epoch(losses=losses, peak_rate=rate)
    assert text is not None
    assert f"A rate of {rate:g} is not the cause" in text


def test_a_loss_that_grows_by_half_within_an_epoch_is_reported_in_the_first_three(
    after_epoch: Check,
) -> None:
    losses = [10.0] * 25 + [12.0] * 50 + [15.5] * 25
    text = after_epoch(2, losses=losses)
    assert text is not None
    assert text.startswith("the loss grew within epoch 2, from 10.00 in its first quarter to 15.50")
    assert "-o Train.learning_rate=3e-04" in text
    assert after_epoch(4, losses=losses) is None


@pytest.mark.parametrize(
    "losses",
    [[], [1.0] * 7, [1.0, 1.0, 9.0, 9.0], [10.0] * 50 + [14.9] * 50, [9.0] * 4 + [1.0] * 4],
)
def test_a_loss_that_falls_or_has_too_few_steps_is_no_sign(
    after_epoch: Check, losses: Sequence[float]
) -> None:
    assert after_epoch(1, losses=losses) is None


def test_waiting_for_data_is_reported_above_a_fifth_of_the_time(after_epoch: Check) -> None:
    repairs = ["-o Train.num_workers=8", "-o Train.cache=ram"]
    text = after_epoch(data_wait=0.43, waited=130.0, repairs=repairs)
    assert text is not None
    assert text.startswith("43% of the epoch's time (130 s) was spent waiting for data")
    assert text.endswith("Try -o Train.num_workers=8, or -o Train.cache=ram")
    assert after_epoch(data_wait=0.2, waited=130.0) is None
    assert after_epoch(data_wait=0.9, waited=9.9) is None  # not worth a message
    text = after_epoch(data_wait=0.21, waited=10.0)
    assert str(text).endswith("All loader options are already on; only more CPU cores would help")


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


def test_averaged_weights_that_end_far_behind_are_reported_with_a_decay_that_fits(
    at_end: Check,
) -> None:
    text = at_end(0.80, 0.70, 0.9997, 890)
    assert text is not None
    assert "an average over the last 100 of 890 updates" in text
    assert "-o Train.ema_decay=0.96 averages over a quarter of them" in text
    assert diagnostics.averaging_window(0.96, 890) == pytest.approx(100 / 4)


@pytest.mark.parametrize(("raw", "ema"), [(None, None), (0.8, None), (0.8, 0.785), (0.7, 0.8)])
def test_averaged_weights_that_are_near_or_better_are_no_sign(
    at_end: Check, raw: float | None, ema: float | None
) -> None:
    assert at_end(raw, ema, 0.9997, 890) is None


def test_where_an_average_cannot_be_shorter_its_option_is_to_be_switched_off(
    at_end: Check,
) -> None:
    text = at_end(0.8, 0.1, 0.5, 100)
    assert text is not None
    assert text.endswith("-o Train.ema_decay=0 switches averaging off")


def test_a_run_too_short_to_compare_averages_has_no_sign(at_end: Check) -> None:
    assert at_end(0.8, 0.1, 0.9997, 99) is None


def targets(counts: Sequence[int], images: int = 60) -> np.ndarray:
    """Targets [images, C] with so many images of each class."""
    return (np.arange(images)[:, None] < np.array(counts)).astype(np.uint8)


def test_classes_that_are_never_seen_are_counted_and_ten_are_named() -> None:
    names = [f"c{i}" for i in range(14)]
    counts = [0] * 12 + [4, 5]
    unseen, rare = diagnostics.check_lists(names, targets(counts), targets([9] * 14))
    assert unseen.startswith(
        "12 classes have no image in train.txt (c0, c1, c2, c3, c4, c5, c6, c7, c8, c9 and 2 more)"
        ": a class without images is never predicted; "
    )
    assert rare.startswith("1 class has fewer than 5 images in train.txt (c12 (4)): ")
    assert diagnostics.check_lists(names[13:], targets([5]), targets([9])) == []


def test_classes_without_a_known_absent_label_are_named_where_unknown_ones_are_ignored() -> None:
    train = np.full((60, 4), -1, np.int8)
    train[:9, 0] = 1  # present and unknown alone
    train[:9, 1], train[9, 1] = 1, 0  # one image is known to be without it
    train[:, 2] = 1  # in all images, as far as everybody knows
    train[9:, 3] = 0
    names, val = ["owl", "cat", "sky", "dog"], np.tile(np.eye(4, dtype=np.int8), (20, 1))
    masked = diagnostics.check_lists(names, train, val, unknown="ignore")
    assert [text for text in masked if "everywhere" in text] == [
        "1 class has no image in train.txt that is known not to show it (owl): a model learns that "
        "such a class is everywhere; label some images without it, or train with "
        "-o Train.loss.unknown=em"
    ]
    trained = diagnostics.check_lists(names, train, val, unknown="em")
    assert len(trained) == len(masked) - 1
    assert masked == diagnostics.check_lists(names, to_sparse(train), val, unknown="ignore")


@pytest.mark.parametrize(
    ("unknown", "told"),
    [
        ("ignore", "nothing is learned of a class that nobody has looked for; label some images, "),
        (
            "em",
            "-o Train.loss.unknown=em draws the scores of such a class to 0.5; label some images, ",
        ),
        (
            "role",
            "-o Train.loss.unknown=role draws the scores of such a class to estimates that begin "
            "by chance; label some images, ",
        ),
        (
            "weak_negative",
            "-o Train.loss.unknown=weak_negative teaches that such a class is nowhere; label some "
            "images, ",
        ),
    ],
)
def test_what_is_learned_of_a_class_that_nobody_looked_for_is_told(unknown: str, told: str) -> None:
    train = np.full((60, 1), -1, np.int8)
    val = np.tile(np.array([[0], [1]], np.int8), (30, 1))
    assert diagnostics.check_lists(["owl"], train, val, unknown=unknown) == [
        f"1 class has only unknown labels in train.txt (owl): {told}with it and without it"
    ]


def test_classes_that_val_cannot_measure_are_named() -> None:
    (text,) = diagnostics.check_lists(["cat", "dog"], targets([9, 9]), targets([3, 0]))
    assert text.startswith(
        "1 class has no image in val.txt (dog): mAP ignores a class without validation images; "
    )
    assert diagnostics.check_lists(["cat"], targets([9]), targets([2])) == []


def test_a_small_validation_list_is_reported_with_its_reasons() -> None:
    names, train = ["cat", "dog"], targets([9, 9])
    start = "mAP on val.txt is unreliable: "
    (both,) = diagnostics.check_lists(names, train, targets([1, 8], 49))
    assert both.startswith(
        f"{start}val.txt has only 49 images and only one image in val.txt shows cat. Ignore "
    )
    (one,) = diagnostics.check_lists(names, train, targets([1, 1], 50))
    assert one.startswith(f"{start}only one image in val.txt shows each of cat, dog. Ignore ")
    (unmeasured,) = diagnostics.check_lists(names, train, targets([2, 0], 50))
    assert "unreliable" not in unmeasured


def test_lists_without_a_fault_have_no_message() -> None:
    full = np.ones((60, 2), np.uint8)
    assert diagnostics.check_lists(["cat", "dog"], full, full) == []
    assert len(diagnostics.check_lists(["cat", "dog"], full[:3] * [1, 0], full[:1] * [1, 0])) == 4


def test_classes_that_nobody_has_looked_for_are_told_from_classes_without_images() -> None:
    names = ["cat", "cow", "yak", "elk"]
    known = np.tile(np.arange(60)[:, None] < 20, 4).astype(np.int8)
    partly = known.copy()
    partly[:, 1] = 0
    partly[:, 2] = -1
    partly[20:, 3] = -1  # 20 images show it, and no image is known not to
    messages = diagnostics.check_lists(names, partly, partly)
    starts = [text.partition(":")[0] for text in messages]
    assert starts == [
        "1 class has no image in train.txt (cow)",
        "1 class has only unknown labels in train.txt (yak)",
        "1 class has no image in train.txt that is known not to show it (elk)",
        "1 class has no image in val.txt (cow)",
        "1 class has only unknown labels in val.txt (yak)",
        "1 class has no image in val.txt that is known not to show it (elk)",
    ]
    assert diagnostics.check_lists(names, known, to_sparse(known)) == []
    assert diagnostics.check_lists(names, partly, to_sparse(partly)) == messages
    everywhere = np.ones((60, 1), np.int8)  # of a list that is known throughout, it is no surprise
    assert diagnostics.check_lists(["sky"], everywhere, everywhere) == []


def test_a_best_model_is_compared_with_the_guesses_of_known_labels(
    caplog: pytest.LogCaptureFixture,
) -> None:
    best = Best(0.4, "raw", 1)
    truth = np.array([[1], [-1], [-1], [-1]], np.int8)
    Diagnostics().check_best(best, truth)  # guessing has 1 of 1 known image right
    assert "gives every image the same scores 1.0000" in caplog.text


def test_each_sign_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    diagnostics = Diagnostics(["-o Train.cache=ram"])
    rising = [1.0] * 8 + [9.0] * 8
    for number in (1, 2, 3):
        diagnostics.after_epoch(
            row(number, data_wait=0.5),
            peak_rate=1e-3,
            losses=rising,
            waited=60.0,
            is_constant=number > 1,
        )
        diagnostics.at_end([row(1, 0.8, 0.2), row(2)], 0.9997, 890)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 4
    starts = [text[:20] for text in caplog.messages]
    assert starts == [
        "the loss grew within",
        "50% of the epoch's t",
        "the averaged weights",
        "the scores of a clas",
    ]


def test_a_training_without_scores_has_no_message_about_its_average(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Diagnostics().at_end([], 0.9997, 10)
    Diagnostics().at_end([row()], 0.9997, 10)
    assert caplog.messages == []


@pytest.mark.parametrize("value", [0, -1])
def test_a_list_without_a_known_label_measures_nothing(value: int, caplog: Any) -> None:
    best = Best(score=0.0, epoch=1, weights="raw", interval=None)
    diagnostics.Diagnostics().check_best(best, np.full((4, 2), value, np.int8))
    assert "the best model was chosen by no score" in caplog.text
    assert "Train for more epochs" not in caplog.text
