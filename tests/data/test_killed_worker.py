# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

import pytest

from paddlex_ml import machine_memory
from paddlex_ml.data import killed_worker
from paddlex_ml.errors import PaddlexMLError

WORKERS = killed_worker.Workers("works", "2 worker processes", "take one", ends_before=0)


def end_with(code: int) -> None:
    """End this process by the signal -code, or with the code."""
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code)


def explain(code: int) -> PaddlexMLError:
    """The error for a pool of two workers of which one ends so, and the other is at work."""
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        pool.submit(time.sleep, 60)
        broken = pool.submit(end_with, code)
        pool.submit(int)  # the pool may look only now whether its second process lives
        with pytest.raises(BrokenProcessPool):
            broken.result()
        return killed_worker.explain(pool, WORKERS, "here")


@pytest.fixture(autouse=True)
def without_cgroups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_memory, "count_ends", lambda: 0)


@pytest.mark.story
@pytest.mark.skipif(os.name == "nt", reason="this system has no such signals")
@pytest.mark.parametrize(
    ("code", "told"),
    [
        (-signal.SIGKILL, "a process that works was killed by the system, most likely for memory"),
        (-signal.SIGBUS, "a process that works was killed by the system, most likely for memory"),
        (-signal.SIGSEGV, "a process that works crashed (SIGSEGV)"),
        (7, "a process that works ended with exit code 7"),
    ],
)
def test_the_way_in_which_a_worker_ended_is_told(code: int, told: str) -> None:
    error = explain(code)
    assert error.what == told
    assert error.where.startswith("here: 2 worker processes; of ")
    assert error.where.endswith(" GB are free now")
    assert error.fix.endswith("take one")


@pytest.mark.story
def test_the_count_of_the_kernel_makes_it_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_memory, "count_ends", lambda: 1)
    assert (
        explain(-9).what == "a process that works was killed by the system, because memory ran out"
    )
