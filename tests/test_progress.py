# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import logging
import threading
import time

import pytest
from tqdm import tqdm

from paddlex_ml import progress


def test_long_work_is_named_and_its_time_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.05)
    monkeypatch.setattr(progress, "WORTH_TELLING", 0.3)
    monkeypatch.setattr(progress, "LONGEST_SILENCE", 0.1)
    with caplog.at_level(logging.INFO), progress.named("converting the model"):
        time.sleep(0.4)
    first, *middle, last = caplog.messages
    assert first == "converting the model ..."
    assert 1 <= len(middle) <= 4
    assert set(middle) == {"converting the model: 0 s so far"}
    assert last == "converting the model: 0 s"


def test_short_work_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), progress.named("converting the model"):
        pass
    assert caplog.messages == []


def test_work_that_fails_ends_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="broken"), progress.named("converting the model"):
        raise ValueError("broken")


def test_of_work_within_work_the_outer_one_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.01)

    @progress.named("inner")
    def work() -> None:
        time.sleep(0.1)

    with caplog.at_level(logging.INFO):
        with progress.named("outer"):
            work()
        work()
    assert caplog.messages == ["outer ...", "inner ..."]


@pytest.mark.parametrize("leave", [True, False])
def test_a_bar_whose_count_stands_is_drawn_again_and_again(
    monkeypatch: pytest.MonkeyPatch, leave: bool
) -> None:
    monkeypatch.setattr(progress, "TICK", 0.02)
    screen = io.StringIO()
    bar = tqdm(total=3, desc="steps", file=screen, delay=0.01, leave=leave)
    threads = threading.active_count()
    with progress.ticking(bar):
        assert threading.active_count() == threads + 1
        time.sleep(0.3)
    assert threading.active_count() == threads
    assert screen.getvalue().count("steps:   0%") >= 3
    assert screen.getvalue().endswith("\n" if leave else "\r")  # taken away at its end


def test_a_bar_of_a_log_is_not_drawn() -> None:
    screen = io.StringIO()
    bar = tqdm(total=3, file=screen, disable=True)
    threads = threading.active_count()
    with progress.ticking(bar):
        assert threading.active_count() == threads
    assert screen.getvalue() == ""
