# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import threading

import pytest

from paddlex_ml.training.interrupt import SIGINT, SIGTERM, Interrupt


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "name"), [(SIGINT, "SIGINT"), (SIGTERM, "SIGTERM")])
def test_the_first_signal_is_noted_and_logged(
    number: int, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Interrupt() as interrupt:
        assert interrupt.signal is None
        send(number)
        assert interrupt.signal == number
    assert caplog.messages == [f"{name}: saving the state after this step"]


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
