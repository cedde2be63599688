# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from paddlex_ml.inference import own_thread
from paddlex_ml.inference.own_thread import OwnThread


@pytest.fixture
def thread() -> Iterator[OwnThread]:
    own = OwnThread("own")
    yield own
    own.close()


def alive() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "own"]


def run(code: str) -> subprocess.CompletedProcess[str]:
    begin = "import threading, time\nfrom paddlex_ml.inference.own_thread import OwnThread\n"
    command = [sys.executable, "-c", f"{begin}own = OwnThread('own')\n{code}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_one_thread_runs_what_all_threads_call(thread: OwnThread):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: thread.call(threading.get_ident), range(100)))
    assert len(set(found)) == 1
    assert threading.get_ident() not in found
    assert len(alive()) == 1


def test_arguments_results_and_errors_go_through(thread: OwnThread):
    assert thread.call(int, "ff", base=16) == 255
    for kind in (ValueError, KeyboardInterrupt, SystemExit):

        def fail(kind: type[BaseException] = kind) -> None:
            raise kind("no")

        with pytest.raises(kind, match="no"):
            thread.call(fail)
    assert thread.call(abs, -1) == 1  # it goes on


def test_a_function_on_the_thread_may_call_again(thread: OwnThread):
    assert thread.call(lambda: thread.call(abs, -2)) == 2


def test_what_an_interrupted_caller_has_left_in_the_queue_is_not_run(
    thread: OwnThread, monkeypatch
):
    begin, free, ran = threading.Event(), threading.Event(), []

    def hold() -> None:
        begin.set()
        free.wait(60)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(thread.call, hold)
        begin.wait(60)
        with monkeypatch.context() as patch:
            patch.setattr("concurrent.futures.Future.result", interrupt)
            with pytest.raises(KeyboardInterrupt):
                thread.call(ran.append, 1)
        free.set()
        first.result(60)
    thread.call(ran.append, 2)
    assert ran == [2]


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


class Big:
    pass


def test_nothing_of_a_call_stays_in_memory(thread: OwnThread):
    given, made = Big(), Big()
    kept = [weakref.ref(given), weakref.ref(made)]

    def fail(_: Big) -> None:
        raise ValueError

    gc.disable()
    try:
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            thread.call(fail, given)
        del caught, given
        assert thread.call(kept[1]) is made
        del made
        thread.call(abs, 0)
        gc.collect()
    finally:
        gc.enable()
    assert [each() for each in kept] == [None, None]


def test_the_thread_ends_with_its_owner():
    own = OwnThread("own")
    assert alive() == []  # it begins with the first call
    own.call(abs, 1)
    [one] = alive()
    del own
    one.join(60)
    assert not one.is_alive()


def test_the_exit_waits_for_a_function_whose_owner_is_gone(monkeypatch: pytest.MonkeyPatch):
    """A stop while a model is loaded: within Paddle the end of Python would abort the process."""
    own, begun, done = OwnThread("own"), threading.Event(), []

    def load() -> None:
        begun.set()
        time.sleep(0.3)
        done.append("loaded")

    def interrupt(_: object) -> None:
        begun.wait(60)
        raise KeyboardInterrupt

    for name in ("_every", "_threads"):  # models of other tests live on
        monkeypatch.setattr(own_thread, name, weakref.WeakSet())
    with monkeypatch.context() as patch:
        patch.setattr(Future, "result", interrupt)
        with pytest.raises(KeyboardInterrupt):
            own.call(load)
    del own
    gc.collect()
    own_thread._close_all()
    assert done == ["loaded"]


def test_after_the_end_of_the_thread_callers_still_take_turns(thread: OwnThread):
    now, most, lock = [0], [0], threading.Lock()

    def work(number: int) -> int:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.01)
        with lock:
            now[0] -= 1
        return number

    thread.close()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda n: thread.call(work, n), range(16))) == list(range(16))
    assert most == [1]
    assert thread.call(lambda: thread.call(abs, -3)) == 3


def test_a_forked_process_has_a_thread_of_its_own(thread: OwnThread):
    thread.call(abs, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fork among threads
        child = os.fork()
    if not child:
        os._exit(thread.call(abs, -7))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert thread.call(abs, -1) == 1


@pytest.mark.story
@pytest.mark.parametrize(
    "code",
    [
        "own.call(abs, 1); print('done')",
        # The main thread ends first.
        "threading.Thread(target=lambda: (time.sleep(.3), print(own.call(str, 'done')))).start()",
        # Nobody waits any more for what is running.
        "threading.Thread(target=own.call, args=(time.sleep, .3), daemon=True).start()\n"
        "time.sleep(.1); print('done')",
        "import atexit; atexit.register(lambda: print(own.call(str, 'done')))",
        # A daemon thread that goes on calling is not in the network when Python ends it.
        "import atexit\nfrom paddlex_ml.inference import own_thread\n"
        "go_on = lambda: [own.call(time.sleep, .2), own.call(print, 'lost')]\n"
        "threading.Thread(target=go_on, daemon=True).start()\ntime.sleep(.1)\n"
        "atexit.register(print, 'done'); atexit.register(time.sleep, .3)\n"
        "atexit.register(own_thread._begin_exit)",
        "own.close(); print(own.call(str, 'done'))",
    ],
)
def test_the_interpreter_ends(code: str):
    done = run(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
