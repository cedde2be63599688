# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import multiprocessing
import pickle
import select
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from paddlex_ml import machine_memory
from paddlex_ml.data import decode_memory
from paddlex_ml.data.decode_memory import Readers


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 GB for four readers: each may take 1 GB without a turn."""
    monkeypatch.setattr(machine_memory, "total", lambda: 16 * 10**9)
    monkeypatch.setattr(decode_memory, "_readers", Readers(4, threading.Lock()))
    monkeypatch.delenv("PADDLE_TRAINERS_NUM", raising=False)


def is_free() -> bool:
    turn = decode_memory._readers.turn
    if free := turn.acquire(False):  # type: ignore[attr-defined]
        turn.release()  # type: ignore[attr-defined]
    return free


def test_small_shares_need_no_turn_and_one_large_image_has_it_until_it_is_released():
    with decode_memory.reading():
        decode_memory.wait_for(10**9)
        assert is_free()
        with decode_memory.reading():  # of `decode`, within its caller's
            decode_memory.wait_for(10**9 + 1)
        assert not is_free()  # its pixels are still there
        decode_memory.wait_for(3 * 10**9)  # who has the turn does not wait for itself
    assert is_free()


def test_an_error_gives_the_turn_back():
    with pytest.raises(ZeroDivisionError), decode_memory.reading():
        print(decode_memory.wait_for(2 * 10**9), 1 // 0)
    assert is_free()


def test_large_images_are_decoded_one_after_the_other():
    begun, order, lock = threading.Event(), [], threading.Lock()

    def read(name: str) -> None:
        with decode_memory.reading():
            decode_memory.wait_for(2 * 10**9)
            with lock:
                order.append(f"{name} begins")
            begun.set()
            with lock:
                order.append(f"{name} ends")

    threads = [threading.Thread(target=read, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert begun.is_set()
    assert [line.split()[0] for line in order[::2]] == [line.split()[0] for line in order[1::2]]


def test_processes_share_a_turn():
    context = multiprocessing.get_context("spawn")
    decode_memory.join(Readers(2, context.Lock()))
    with decode_memory.reading():
        decode_memory.wait_for(3 * 10**9)
        assert not is_free()
    assert is_free()


@pytest.mark.parametrize(
    ("gigabytes", "trainings", "expected"),
    [(64, 1, 1.0), (16, 4, 1.0), (2, 1, 0.5), (16, 16, 0.25)],
)
def test_the_limit_of_one_image_is_a_quarter_of_a_small_memory(
    monkeypatch: pytest.MonkeyPatch, gigabytes: int, trainings: int, expected: float
):
    monkeypatch.setattr(machine_memory, "total", lambda: gigabytes * 10**9)
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", str(trainings))
    assert decode_memory.limit() == expected * 10**9


def test_processes_take_turns_and_a_killed_one_gives_its_turn_back(tmp_path: Path) -> None:
    turn = decode_memory.SharedLock()
    script = (
        "import pickle, sys, time; turn = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "with turn:\n    print('has it', flush=True); time.sleep(600)"
    )
    with turn:
        child = subprocess.Popen(
            [sys.executable, "-c", script, pickle.dumps(turn).hex()],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        waiting = select.select([child.stdout], [], [], 1.0)[0]
        assert not waiting
    assert child.stdout.readline() == "has it\n"
    child.kill()
    child.wait()
    child.stdout.close()
    with turn:
        pass


def test_a_turn_whose_owner_has_ended_is_one_of_its_own() -> None:
    with decode_memory.SharedLock("/proc/0/fd/none"), decode_memory.SharedLock("/proc/0/fd/none"):
        pass
