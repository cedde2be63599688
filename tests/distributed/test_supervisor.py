# SPDX-License-Identifier: Apache-2.0
"""The supervisor against processes that end, fail, die or hang, without Paddle."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.distributed import supervisor
from paddlex_ml.distributed.group import PeerLost, Phase, SharedState
from paddlex_ml.distributed.supervisor import Outcome, WorkerProcess, supervise
from paddlex_ml.errors import PaddlexMLError, Stopped

pytestmark = pytest.mark.story

Act = Callable[[Connection, SharedState], None]
COLLECTIVE_LIMIT = supervisor.COLLECTIVE_LIMIT
BROKEN = PaddlexMLError("the image cannot be decoded", where="a.jpg", fix="replace it")


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "COLLECTIVE_LIMIT", 1.5)
    monkeypatch.setattr(supervisor, "MAIN_WORK_LIMIT", 60.0)
    monkeypatch.setattr(supervisor, "SAVE_LIMIT", 2.0)
    monkeypatch.setattr(supervisor, "CAUSE_LIMIT", 1.0)
    monkeypatch.setattr(supervisor, "HURRY_LIMIT", 0.3)
    monkeypatch.setattr(supervisor, "EXIT_LIMIT", 1.0)


@pytest.fixture
def group() -> Iterator[Callable[..., Any]]:
    """Supervises one forked process for each act; returns or raises their outcome."""
    started: list[WorkerProcess] = []

    def run(*acts: Act, others: tuple[str, ...] = (), asked: int = 0) -> Any:
        forking = multiprocessing.get_context("fork")
        count = len(acts)
        shared = SharedState(*(forking.RawArray("i", n) for n in (count, count, 1)))
        shared.stop[0] = asked
        for rank, act in enumerate(acts):
            shared.phases[rank] = Phase.WORKING
            receiver, sender = forking.Pipe(duplex=False)
            process = forking.Process(target=act, args=(sender, shared))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a fork among threads: the child does little
                process.start()
            sender.close()
            started.append(WorkerProcess(rank, f"cpu:{rank}", process, receiver))
        return supervise(started, shared, others)

    yield run
    assert [w.rank for w in started if w.process.is_alive()] == []


def returns(value: Any) -> Act:
    return lambda reports, shared: reports.send(Outcome(value))


def fails(error: BaseException, after: float = 0.0) -> Act:
    def act(reports: Connection, shared: SharedState) -> None:
        time.sleep(after)
        reports.send(Outcome(error=error))

    return act


def dies(number: int) -> Act:
    return lambda reports, shared: os.kill(os.getpid(), number)


def exits(reports: Connection, shared: SharedState) -> None:
    os._exit(7)


def stays(rank: int, phase: Phase) -> Act:
    def act(reports: Connection, shared: SharedState) -> None:
        shared.phases[rank] = phase
        time.sleep(600)

    return act


def test_a_hung_process_is_found_within_a_minute_and_after_paddles_own_limit() -> None:
    assert 30 < COLLECTIVE_LIMIT < 50  # Paddle's network gives up after 30 seconds on a CPU


def test_the_result_is_that_of_rank_0(group: Callable[..., Any]) -> None:
    assert group(returns({"map": 0.5}), returns(None)) == {"map": 0.5}


def test_a_process_ends_by_itself_after_its_report(
    group: Callable[..., Any], tmp_path: Path
) -> None:
    def has_something_left(reports: Connection, shared: SharedState) -> None:
        reports.send(Outcome("done"))
        time.sleep(0.3)
        (tmp_path / "tidied").touch()

    assert group(has_something_left) == "done"
    assert (tmp_path / "tidied").exists()


def test_a_process_that_does_not_end_after_its_report_is_killed(group: Callable[..., Any]) -> None:
    def never_ends(reports: Connection, shared: SharedState) -> None:
        reports.send(Outcome("done"))
        time.sleep(600)

    began = time.monotonic()
    assert group(never_ends) == "done"
    assert time.monotonic() - began < 60


def test_the_first_error_is_raised_and_not_those_of_its_peers(group: Callable[..., Any]) -> None:
    with pytest.raises(PaddlexMLError, match=r"the image cannot be decoded") as caught:
        group(fails(PeerLost("connection closed")), fails(BROKEN, after=0.3))
    assert (caught.value.where, caught.value.fix) == ("a.jpg", "replace it")


def test_a_process_that_does_not_see_the_stop_gets_sigterm(group: Callable[..., Any]) -> None:
    def asks_and_waits(reports: Connection, shared: SharedState) -> None:
        signal.signal(signal.SIGTERM, lambda *_: reports.send(Outcome(error=Stopped(15))))
        while not shared.stop[0]:  # the first one may arrive before the supervisor catches it
            os.kill(os.getppid(), signal.SIGUSR1)
            time.sleep(0.1)
        time.sleep(600)

    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with pytest.raises(Stopped) as caught:
            group(asks_and_waits)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert caught.value.signal_number == 15


def test_the_others_get_their_time_to_save_and_not_more(group: Callable[..., Any]) -> None:
    began = time.monotonic()
    with pytest.raises(PaddlexMLError, match="the image cannot be decoded"):
        group(stays(0, Phase.WORKING), fails(BROKEN))
    assert 2.0 < time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("end", "how"),
    [
        (dies(signal.SIGKILL), "was killed by the system, most likely for memory"),
        (dies(signal.SIGSEGV), "crashed (SIGSEGV)"),
        (exits, "ended with exit code 7"),
    ],
)
def test_a_death_is_reported_with_the_device_of_the_process(
    group: Callable[..., Any], end: Act, how: str
) -> None:
    with pytest.raises(PaddlexMLError) as caught:
        group(fails(PeerLost("gone")), end)
    assert caught.value.what == f"process 1 (cpu:1) {how}"
    assert " GB of memory here, " in caught.value.where
    assert "Train.resume_path=auto" in caught.value.fix


@pytest.mark.parametrize("waiting", [0, 1])
def test_the_process_that_others_wait_for_is_named(group: Callable[..., Any], waiting: int) -> None:
    acts = [stays(waiting, Phase.COLLECTIVE), stays(1 - waiting, Phase.WORKING)]
    with pytest.raises(PaddlexMLError) as caught:
        group(*(acts if waiting == 0 else acts[::-1]))
    assert caught.value.what.startswith(f"process {1 - waiting} (cpu:{1 - waiting}) hangs")


@pytest.mark.parametrize("phase", [Phase.WORKING, Phase.COLLECTIVE])  # stopped in a collective
def test_a_lost_peer_without_an_error_of_its_own_is_named(
    group: Callable[..., Any], phase: Phase
) -> None:
    with pytest.raises(PaddlexMLError, match=r"process 0 \(cpu:0\) hangs"):
        group(stays(0, phase), fails(PeerLost("timed out")))


def test_a_wait_of_all_means_another_machine(group: Callable[..., Any]) -> None:
    with pytest.raises(PaddlexMLError, match="processes of another machine") as caught:
        group(stays(0, Phase.COLLECTIVE), stays(1, Phase.COLLECTIVE), others=("10.0.0.2",))
    assert caught.value.where == "10.0.0.2"


def test_a_lost_connection_of_all_means_another_machine(group: Callable[..., Any]) -> None:
    lost = fails(PeerLost("timed out"))
    with pytest.raises(PaddlexMLError, match="processes of another machine") as caught:
        group(lost, lost, others=("10.0.0.2",))
    assert caught.value.where == "10.0.0.2"


def test_a_stop_is_raised_with_the_signal_that_asked_for_it(group: Callable[..., Any]) -> None:
    with pytest.raises(Stopped) as caught:
        group(fails(Stopped(signal.SIGTERM)), fails(Stopped(signal.SIGTERM)))
    assert caught.value.signal_number == signal.SIGTERM


def test_workers_that_the_same_signal_kills_are_no_error(group: Callable[..., Any]) -> None:
    with pytest.raises(Stopped):
        group(fails(Stopped(signal.SIGTERM)), dies(signal.SIGKILL), asked=signal.SIGTERM)


def test_a_signal_reaches_the_workers_through_shared_memory(group: Callable[..., Any]) -> None:
    def waits(reports: Connection, shared: SharedState) -> None:
        for _ in range(600):
            if shared.stop[0]:
                reports.send(Outcome(error=Stopped(shared.stop[0])))
                return
            time.sleep(0.05)

    def interrupts(reports: Connection, shared: SharedState) -> None:
        while not shared.stop[0]:  # the first one may arrive before the supervisor catches it
            os.kill(os.getppid(), signal.SIGINT)
            time.sleep(0.5)
        waits(reports, shared)

    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        with pytest.raises(Stopped) as caught:
            group(waits, interrupts)
    finally:
        signal.signal(signal.SIGINT, before)
    assert caught.value.signal_number == signal.SIGINT
