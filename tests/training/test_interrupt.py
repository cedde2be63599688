# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from paddlex_ml.training.interrupt import SIGINT, SIGTERM, Interrupt


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def wait_until(is_so: Callable[[], bool]) -> None:
    latest = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < latest
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "name"), [(SIGINT, "SIGINT"), (SIGTERM, "SIGTERM")])
def test_the_first_signal_is_noted_and_logged(
    number: int, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Interrupt() as interrupt:
        assert interrupt.signal is None
        send(number)
        assert interrupt.signal == number
        wait_until(lambda: bool(caplog.messages))
    assert caplog.messages == [f"{name}: saving the state after this step"]


class SignallingFile(io.RawIOBase):
    """A log file that a stop reaches while it is written."""

    content = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        if not self.content:
            send(SIGTERM)
        self.content += bytes(data)
        return len(data)


def test_a_signal_while_a_line_is_written_is_logged_behind_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = SignallingFile()
    handler = logging.StreamHandler(io.TextIOWrapper(io.BufferedWriter(file), "utf-8"))
    logger = logging.getLogger("paddlex_ml.training.interrupt")
    logger.addHandler(handler)
    try:
        with Interrupt():
            logger.warning("a step")
            wait_until(lambda: file.content.count(b"\n") == 2)
    finally:
        logger.removeHandler(handler)
    assert file.content == b"a step\nSIGTERM: saving the state after this step\n"
    assert "Logging error" not in capsys.readouterr().err


def test_a_second_sigint_interrupts_at_once() -> None:
    with Interrupt() as interrupt:
        send(SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(SIGINT)
    assert interrupt.signal == SIGINT


def test_sigint_after_sigterm_interrupts_and_a_second_sigterm_waits() -> None:
    with Interrupt() as interrupt:
        send(SIGTERM)
        send(SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            send(SIGINT)
    assert interrupt.signal == SIGTERM


def test_the_handlers_of_before_come_back_also_after_an_error() -> None:
    before = [signal.getsignal(number) for number in (SIGINT, SIGTERM)]
    with Interrupt() as interrupt:
        assert signal.getsignal(SIGINT) == interrupt._note
    with pytest.raises(KeyError), Interrupt():
        raise KeyError
    assert [signal.getsignal(number) for number in (SIGINT, SIGTERM)] == before


def test_a_thread_leaves_the_handlers_alone() -> None:
    seen = []

    def work() -> None:
        with Interrupt():
            seen.append(signal.getsignal(SIGINT))

    before = signal.getsignal(SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
