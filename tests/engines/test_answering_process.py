# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import os
import signal
import time
from multiprocessing.connection import Connection

import numpy as np
import psutil
import pytest

from paddlex_ml.engines.answering_process import (
    AnsweringProcess,
    OutOfMemory,
    begin_answering,
    find_peak,
)
from paddlex_ml.errors import PaddlexMLError


def answer(connection: Connection, task: str) -> None:
    warnings = begin_answering()
    logging.getLogger("paddlex_ml.somewhere").warning("a %s", "warning")
    match task:
        case "reply":
            connection.send((connection.recv(), warnings, find_peak()))
        case "error":
            connection.send(PaddlexMLError("wrong", where="there", fix="repair"))
        case "exit":
            os._exit(3)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stuck":
            time.sleep(60)


def test_it_answers_what_it_is_sent_and_keeps_warnings():
    with AnsweringProcess(answer, "reply") as process:
        pid = process._process.pid
        process.send("question")
        said, warnings, peak = process.receive(tuple)
    assert (said, warnings) == ("question", ["a warning"])
    assert peak is None or peak > 1e6
    assert pid is not None
    assert not psutil.pid_exists(pid)


def test_its_error_is_raised_here():
    with AnsweringProcess(answer, "error") as process, pytest.raises(PaddlexMLError, match="wrong"):
        process.receive(tuple)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no such signal")
def test_the_end_of_one_that_was_killed_is_want_of_memory():
    with AnsweringProcess(answer, "killed") as process, pytest.raises(OutOfMemory) as caught:
        process.receive(tuple)
    assert "was killed by the system" in caught.value.what


def test_another_end_is_told():
    with AnsweringProcess(answer, "exit") as process, pytest.raises(PaddlexMLError) as caught:
        process.receive(tuple)
    assert not isinstance(caught.value, OutOfMemory)
    assert "ended with exit code 3" in caught.value.what


def test_who_looks_may_end_it():
    begin, seen = time.monotonic(), list[int]()

    with AnsweringProcess(answer, "stuck") as process:

        def look() -> None:
            seen.append(1)
            if len(seen) > 2:
                process.kill()
                raise OutOfMemory("full", where="here", fix="less")

        with pytest.raises(OutOfMemory, match="full"):
            process.receive(tuple, look)
    assert time.monotonic() - begin < 50


def test_the_peak_grows_with_what_is_taken():
    before = find_peak()
    if before is None:
        pytest.skip("this system does not tell")
    taken = np.ones(before // 8 + 2**24)  # more than ever before
    assert (find_peak() or 0) > before
    assert taken.sum() > 0


def test_a_pipe_whose_other_end_is_gone_tells_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """`poll` raises BrokenPipeError on Windows, where other systems say that there is something."""

    def refuse(self: Connection, timeout: float) -> bool:
        raise BrokenPipeError(109, "The pipe has been ended")

    with AnsweringProcess(answer, "exit") as process:
        monkeypatch.setattr(Connection, "poll", refuse)
        with pytest.raises(PaddlexMLError, match="ended with exit code 3"):
            process.receive(tuple)
