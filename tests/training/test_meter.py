# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import re
import sys
from pathlib import Path

import pytest

from paddlex_ml.training import meter
from paddlex_ml.training.meter import Meter, write_metrics


class Clock:
    """Stands for time.perf_counter; moves only when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(meter.time, "perf_counter", clock)
    return clock


@pytest.fixture(autouse=True)
def hear_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def run_step(meter: Meter, clock: Clock, *, wait: float, work: float, loss: float) -> None:
    clock.now += wait
    meter.data_arrived()
    clock.now += work
    meter.step_done(loss, rate=9.1e-5, images=32)


def test_the_line_of_a_step_is_the_documented_one(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with Meter(0, 20, done=0, left=230, log_interval=40) as watch:
        for _ in range(40):
            run_step(watch, clock, wait=0.12, work=0.88, loss=23.414)
    # 40 of 20 * 230 steps are done, one second each: 4560 seconds are left.
    assert caplog.messages == [
        "[Train][Epoch 1/20][Iter 40/230] lr 9.1e-05 loss 23.41 ips 32.0 images/s data 12% "
        "eta 1:16:00"
    ]


def test_the_form_of_the_line_fits_any_numbers(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with Meter(2, 3, done=0, left=2, log_interval=1) as watch:
        run_step(watch, clock, wait=0.0, work=0.01, loss=1234.5)
        run_step(watch, clock, wait=5.0, work=0.01, loss=0.001)
    form = (
        r"\[Train\]\[Epoch 3/3\]\[Iter \d/2\] lr \S+ loss \d+\.\d\d ips \d+\.\d images/s "
        r"data \d+% eta \d+:\d\d:\d\d"
    )
    assert len(caplog.messages) == 2
    assert all(re.fullmatch(form, line) for line in caplog.messages)
    assert caplog.messages[1].endswith("eta 0:00:00")


def test_the_loss_is_the_mean_since_the_last_line(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with Meter(0, 1, done=0, left=5, log_interval=2) as watch:
        for loss in (1.0, 2.0, 10.0, 20.0, 7.0):
            run_step(watch, clock, wait=0.0, work=1.0, loss=loss)
    losses = [re.search(r"Iter (\d) ?/5\] lr \S+ loss (\S+)", text) for text in caplog.messages]
    # The last step has its line in any case.
    assert [m and m.groups() for m in losses] == [("2", "1.50"), ("4", "15.00"), ("5", "7.00")]


def test_a_resumed_epoch_counts_on_but_times_its_own_steps(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with Meter(1, 2, done=7, left=3, log_interval=1) as watch:
        run_step(watch, clock, wait=1.0, work=1.0, loss=1.0)
    (line,) = caplog.messages
    assert line.startswith("[Train][Epoch 2/2][Iter 8/10]")
    assert line.endswith("ips 16.0 images/s data 50% eta 0:00:04")


def test_speed_is_zero_before_the_first_step(clock: Clock) -> None:
    with Meter(0, 1, done=3, left=0, log_interval=1) as watch:
        assert (watch.images_per_second, watch.data_share) == (0.0, 0.0)


def test_plain_lines_alone_where_no_terminal_looks_on(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Meter(0, 1, done=0, left=2, log_interval=5) as watch:
        run_step(watch, clock, wait=0.0, work=1.0, loss=1.0)
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar_that_goes_away_when_a_step_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with pytest.raises(KeyError), Meter(0, 4, done=0, left=2, log_interval=5):
        raise KeyError
    shown = capsys.readouterr().err
    assert "epoch 1/4" in shown
    assert shown.endswith("\r")


def test_metrics_csv_is_empty_where_an_epoch_was_not_evaluated(tmp_path: Path) -> None:
    row = {"lr": 1e-3, "images_per_second": 61.25, "data_wait": 0.5}
    history = [
        {"epoch": 1, "loss": 2.5, "raw_map": None, "ema_map": None, **row},
        {"epoch": 2, "loss": 1 / 3, "raw_map": 0.75, "ema_map": 0.5, **row},
    ]
    write_metrics(tmp_path / "metrics.csv", history)
    assert (tmp_path / "metrics.csv").read_bytes().decode().split("\n") == [
        "epoch,lr,loss,raw_map,ema_map,images_per_second,data_wait",
        "1,0.001,2.5,,,61.25,0.5",
        "2,0.001,0.3333333333333333,0.75,0.5,61.25,0.5",
        "",
    ]
