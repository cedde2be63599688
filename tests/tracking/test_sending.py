# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Container, Sequence
from pathlib import Path

import pytest

from paddlex_ml.tracking import sending, tracker
from paddlex_ml.tracking.sending import observing
from paddlex_ml.tracking.tracker import Outcome, Point, TrackedRun, Upload

RUN = TrackedRun(
    id="a1", experiment="e", name="n", output=Path("out"), step=0, parameters={}, tags={}
)


class Service:
    """A tracker that can be down, refuse numbers, or never answer."""

    def __init__(self) -> None:
        self.known_steps: Container[int] = ()
        self.is_down = False
        self.refused = ""
        self.answers = threading.Event()
        self.answers.set()
        self.begun = 0
        self.got: list[tuple[int, str, float]] = []
        self.files: list[str] = []
        self.outcomes: list[Outcome] = []

    def begin(self, run: TrackedRun) -> Service:
        self.check()
        self.begun += 1
        return self

    def check(self) -> None:
        self.answers.wait(30)
        if self.is_down:
            raise ConnectionError("connection refused")

    def log(self, points: Sequence[Point]) -> None:
        self.check()
        if any(self.refused in point.numbers for point in points):
            raise ValueError(f"bad number {self.refused}")
        self.got += [(p.step, name, value) for p in points for name, value in p.numbers.items()]

    def upload(self, upload: Upload) -> None:
        self.check()
        self.files += [f"{upload.name}/{name}" for name in upload.files]

    def close(self, outcome: Outcome) -> None:
        self.check()
        self.outcomes.append(outcome)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    """The service behind the name wandb; pauses and patience are short."""
    service = Service()
    monkeypatch.setattr(tracker, "load", lambda name: service.begin)
    monkeypatch.setattr(sending, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(sending, "LONGEST_PAUSE", 0.02)
    monkeypatch.setattr(sending, "PATIENCE", 0.5)
    monkeypatch.setattr(sending, "SHORT_PATIENCE", 0.1)
    return service


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_numbers_and_files_arrive_in_their_order(service: Service, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with observing(["wandb"], RUN) as observer:
        for step in range(250):
            observer.log(step, {"loss": step / 2})
        observer.upload("run", {"a.txt": tmp_path / "a.txt", "b.txt": tmp_path / "missing"})
    assert service.got == [(step, "loss", step / 2) for step in range(250)]
    assert service.files == ["run/a.txt"]
    assert (service.begun, service.outcomes) == (1, ["finished"])


def test_a_training_shows_before_its_first_number(service: Service) -> None:
    with observing(["wandb"], RUN):
        wait_until(lambda: service.begun == 1)


def test_of_earlier_epochs_only_those_are_sent_that_are_missing(service: Service) -> None:
    service.known_steps = {10, 30}
    history = [Point(step, {"loss": 1.0}, 0.0) for step in (10, 20, 30)]
    with observing(["wandb"], RUN, history=history) as observer:
        observer.log(40, {"loss": 0.5})
    assert service.got == [(20, "loss", 1.0), (40, "loss", 0.5)]


def test_a_tracker_that_is_down_is_told_once_and_gets_everything_when_it_is_back(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    service.is_down = True
    with observing(["wandb"], RUN) as observer:
        for step in range(5):
            observer.log(step, {"loss": 1.0})
        wait_until(lambda: "connection refused" in caplog.text)
        service.is_down = False
    assert sorted(service.got) == [(step, "loss", 1.0) for step in range(5)]
    assert caplog.text.count("does not take the numbers") == 1
    assert "did not arrive" not in caplog.text


def test_what_never_arrived_is_counted_and_the_end_does_not_wait_for_it(
    service: Service, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("a")
    service.is_down = True
    with observing(["wandb"], RUN) as observer:
        for step in range(5):
            observer.log(step, {"loss": 1.0, "lr": 0.1})
        observer.upload("run", {"a.txt": tmp_path / "a.txt"})
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert "wandb: 10 numbers and 1 file did not arrive" in caplog.text
    assert "Train.resume_path=auto sends" in caplog.text


def test_no_step_waits_for_a_tracker_that_never_answers(
    service: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "MOST_WAITING", 1000)
    service.answers.clear()
    with observing(["wandb"], RUN) as observer:
        waits = []
        for step in range(3000):
            began = time.monotonic()
            observer.log(step, {"loss": 1.0})
            waits.append(time.monotonic() - began)
    service.answers.set()
    assert sum(waits) < 10  # a single answer would take 30 s
    assert sorted(waits)[-30] < 0.05  # a busy machine may hold up any program now and then
    assert "wandb: 3,000 numbers and 0 files did not arrive" in caplog.text  # dropped ones too


def test_numbers_that_a_service_refuses_hold_up_no_others(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.refused = "odd"
    with observing(["wandb"], RUN) as observer:
        observer.log(1, {"odd": 1.0})
        wait_until(lambda: "bad number" in caplog.text)
        observer.log(2, {"loss": 1.0})
        wait_until(lambda: bool(service.got))
    assert service.got == [(2, "loss", 1.0)]
    assert "wandb: 1 number and 0 files did not arrive" in caplog.text
    assert service.outcomes == []  # it was given up


def test_the_outcome_says_how_a_training_ended(service: Service) -> None:
    with observing(["wandb"], RUN, hurry=lambda: True):
        pass
    with pytest.raises(ZeroDivisionError), observing(["wandb"], RUN):
        raise ZeroDivisionError
    assert service.outcomes == ["stopped", "failed"]


def test_a_signal_shortens_the_wait(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sending, "PATIENCE", 60.0)
    service.is_down, signals = True, []
    timer = threading.Timer(0.3, lambda: signals.append(15))
    timer.start()
    began = time.monotonic()
    with observing(["wandb"], RUN, hurry=lambda: bool(signals)) as observer:
        observer.log(1, {"loss": 1.0})
    timer.join()
    assert time.monotonic() - began < 30
    assert "did not arrive" in caplog.text


def test_a_large_upload_has_the_time_that_it_takes(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sending, "PATIENCE", 0.0)
    monkeypatch.setattr(sending, "SLOWEST", 1.0)
    (tmp_path / "large").write_bytes(b"x" * 30)
    with observing(["wandb"], RUN) as observer:
        wait_until(lambda: service.begun == 1)
        service.answers.clear()
        observer.upload("run", {"large": tmp_path / "large"})
        threading.Timer(0.5, service.answers.set).start()
    assert service.files == ["run/large"]


def test_a_failed_end_is_tried_again(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    fails = [True, False]
    close = service.close

    def flaky(outcome: Outcome) -> None:
        if fails.pop(0):
            raise ConnectionError("reset")
        close(outcome)

    monkeypatch.setattr(service, "close", flaky)
    with observing(["wandb"], RUN):
        pass
    assert service.outcomes == ["finished"]
