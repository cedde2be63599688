# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from paddlex_ml.artifacts.saved_states import Progress
from paddlex_ml.distributed.group import ProcessGroup
from paddlex_ml.training import memory
from paddlex_ml.training.losses import asymmetric_loss
from paddlex_ml.training.meter import Meter
from paddlex_ml.training.plan import Plan
from paddlex_ml.training.schedule import build_schedule


class Clock:
    """Replaces time.perf_counter; moves only when a test sets `now`."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


@pytest.fixture(autouse=True)
def log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.fixture(autouse=True)
def memory_of_known_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "resident_mib", lambda: 1945.6)


def plan_of(epochs: int, steps: int, log_interval: int, **other: Any) -> Plan:
    return Plan(
        epochs=epochs,
        batch_size=1,
        grad_accum_steps=1,
        images=steps,
        order=np.arange,
        schedule=build_schedule(
            "cosine", 1e-3, epochs=epochs, steps_per_epoch=steps, warmup_epochs=0
        ),
        seed=0,
        loss_fn=asymmetric_loss,
        log_interval=log_interval,
        **other,
    )


@contextmanager
def watch_of(
    epoch: int, epochs: int, *, done: int, left: int, log_interval: int, **other: Any
) -> Iterator[Meter]:
    progress = Progress(epoch, done, evaluation_seconds=other.pop("evaluation_seconds", 0.0))
    meter = Meter(progress, plan_of(epochs, done + left, log_interval, **other))
    with meter.bar:
        yield meter


def run_step(meter: Meter, clock: Clock, *, wait: float, work: float, loss: float) -> None:
    clock.now += wait
    meter.data_arrived()
    clock.now += work
    meter.step_done(loss, rate=9.1e-5, images=32)


def test_slow_steps_have_a_line_every_half_minute_and_no_numbers_of_their_own(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[int, float]] = []

    def scalars(step: int, found: Mapping[str, float]) -> None:
        told.append((step, found["train/loss"]))

    with watch_of(0, 1, done=0, left=8, log_interval=4, scalars=scalars) as meter:
        for number in range(8):
            run_step(meter, clock, wait=1, work=15, loss=float(number))
    steps = [int(found) for found in re.findall(r"\[Iter (\d+)/8\]", caplog.text)]
    assert steps == [2, 4, 6, 8]
    assert told == [(4, 1.5), (8, 5.5)]


def test_the_line_of_a_step_is_the_documented_one(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with watch_of(0, 20, done=0, left=230, log_interval=40) as watch:
        for _ in range(40):
            run_step(watch, clock, wait=0.12, work=0.88, loss=23.414)
    # 40 of 20 * 230 steps are done, one second each: 4560 seconds are left.
    assert [line.partition(" lr ")[0] for line in caplog.messages] == [
        "[Train][Epoch 1/20][Iter 30/230]",  # after half a minute
        "[Train][Epoch 1/20][Iter 40/230]",
    ]
    assert caplog.messages[1:] == [
        "[Train][Epoch 1/20][Iter 40/230] lr 9.1e-05 loss 23.41 ips 32.0 images/s data 12% "
        "mem 1.9 GiB eta 1:16:00"
    ]


def test_the_form_of_the_line_fits_any_numbers(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with watch_of(2, 3, done=0, left=2, log_interval=1) as watch:
        run_step(watch, clock, wait=0.0, work=0.01, loss=1234.5)
        run_step(watch, clock, wait=5.0, work=0.01, loss=0.001)
    form = (
        r"\[Train\]\[Epoch 3/3\]\[Iter \d/2\] lr \S+ loss \d+\.\d\d ips \d+\.\d images/s "
        r"data \d+% mem \d+\.\d GiB eta \d+:\d\d:\d\d"
    )
    assert len(caplog.messages) == 2
    assert all(re.fullmatch(form, line) for line in caplog.messages)
    assert caplog.messages[1].endswith("eta 0:00:00")


def test_the_loss_is_the_mean_since_the_last_line(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with watch_of(0, 1, done=0, left=5, log_interval=2) as watch:
        for loss in (1.0, 2.0, 10.0, 20.0, 7.0):
            run_step(watch, clock, wait=0.0, work=1.0, loss=loss)
    losses = [re.search(r"Iter (\d) ?/5\] lr \S+ loss (\S+)", text) for text in caplog.messages]
    # The last step has its line in any case.
    assert [m and m.groups() for m in losses] == [("2", "1.50"), ("4", "15.00"), ("5", "7.00")]


def test_a_resumed_epoch_counts_on_but_times_its_own_steps(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with watch_of(1, 2, done=7, left=3, log_interval=1) as watch:
        run_step(watch, clock, wait=1.0, work=1.0, loss=1.0)
    (line,) = caplog.messages
    assert line.startswith("[Train][Epoch 2/2][Iter 8/10]")
    assert line.endswith("ips 16.0 images/s data 50% mem 1.9 GiB eta 0:00:04")


def test_speed_is_zero_before_the_first_step(clock: Clock) -> None:
    with watch_of(0, 1, done=3, left=0, log_interval=1) as watch:
        assert (watch.images_per_second, watch.data_share) == (0.0, 0.0)


def test_plain_lines_alone_where_no_terminal_looks_on(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with watch_of(0, 1, done=0, left=2, log_interval=5) as watch:
        run_step(watch, clock, wait=0.0, work=1.0, loss=1.0)
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar_that_goes_away_when_a_step_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with pytest.raises(KeyError), watch_of(0, 4, done=0, left=2, log_interval=5):
        raise KeyError
    shown = capsys.readouterr().err
    assert "epoch 1/4" in shown
    assert shown.endswith("\r")


def test_the_time_left_counts_the_evaluations_to_come_once_one_was_measured(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    other: dict[str, Any] = {"eval_interval": 2, "evaluation_seconds": 100.0}
    with watch_of(1, 5, done=0, left=2, log_interval=1, **other) as watch:
        run_step(watch, clock, wait=0.0, work=1.0, loss=1.0)
        # 1 + 3 * 2 steps, and the evaluations after epochs 2, 4 and 5.
        assert watch.left.total_seconds() == 307
        with watch.evaluating():
            clock.now += 10
        assert watch.left.total_seconds() == 37


def test_a_slow_first_step_says_nothing_about_those_to_come(clock: Clock) -> None:
    with watch_of(0, 3, done=0, left=10, log_interval=99) as watch:
        run_step(watch, clock, wait=20.0, work=1.0, loss=1.0)
        for _ in range(4):
            run_step(watch, clock, wait=0.0, work=1.0, loss=1.0)
    assert watch.left.total_seconds() == 25


def test_time_goes_to_the_progress_that_a_resume_reads(clock: Clock) -> None:
    progress = Progress(seconds=1000.0, waited=200.0)
    watch = Meter(progress, plan_of(1, 2, 1))
    run_step(watch, clock, wait=0.5, work=2.0, loss=1.0)
    with watch.evaluating():
        clock.now += 7.0
    assert (progress.seconds, progress.waited) == (1009.5, 200.5)
    assert progress.evaluation_seconds == 7.0


def test_the_speed_of_a_process_group_counts_the_images_of_all_ranks(clock: Clock) -> None:
    with watch_of(0, 1, done=0, left=1, log_interval=1, group=ProcessGroup(size=2)) as watch:
        run_step(watch, clock, wait=0.0, work=1.0, loss=1.0)
    assert watch.images_per_second == 64.0


def test_the_numbers_of_every_line_are_scalars_of_the_plan(clock: Clock) -> None:
    scalars: list[tuple[int, Mapping[str, float]]] = []
    plan = replace(plan_of(3, 4, 2), scalars=lambda *call: scalars.append(call))
    watch = Meter(Progress(epoch=2), plan)
    for loss in (1.0, 2.0, 3.0, 5.0):
        run_step(watch, clock, wait=0.25, work=0.75, loss=loss)
    speed = {
        "speed/images_per_second": 32.0,
        "speed/data_wait": 0.25,
        "speed/memory_mib": 1945.6,
    }
    assert scalars == [
        (10, {"train/loss": 1.5, "train/lr": 9.1e-5, **speed}),
        (12, {"train/loss": 4.0, "train/lr": 9.1e-5, **speed}),
    ]


def test_the_memory_of_a_gpu_is_logged_too(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(memory, "gpu_mib", lambda: 3174.4)
    with watch_of(0, 1, done=0, left=1, log_interval=1) as watch:
        run_step(watch, clock, wait=0.0, work=1.0, loss=1.0)
    assert "data 0% mem 1.9 GiB gpu 3.1 GiB eta 0:00:00" in caplog.text


def test_a_clock_without_earlier_times_begins_at_zero(clock: Clock) -> None:
    progress = Progress(epoch=1, step=1, loss_sum=2.0, saved_epochs=[1])
    watch = Meter(progress, plan_of(2, 2, 1))
    run_step(watch, clock, wait=1.0, work=3.0, loss=1.0)
    assert (progress.seconds, progress.waited, progress.evaluation_seconds) == (4.0, 1.0, 0.0)
