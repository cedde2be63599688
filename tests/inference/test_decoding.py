# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from threading import BoundedSemaphore

import numpy as np
import pytest
from PIL import Image

from paddlex_ml.data.preprocess import standard
from paddlex_ml.inference import decoding, inputs, predictor


class Watch:
    """Counts the images that are decoded at once."""

    def __init__(self) -> None:
        self.lock, self.now, self.most = threading.Lock(), 0, 0

    def decode(self, *_: object) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.02)
        with self.lock:
            self.now -= 1


def read_all(sources: list[object]) -> None:
    """Read each source in a thread of its own, as the handlers of a web server do."""

    def read(source: object) -> None:
        assert len(list(predictor._read_ahead(inputs.walk(source), 1, standard(32), None))) == 1

    threads = [threading.Thread(target=read, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    found = Watch()
    monkeypatch.setattr(decoding, "_turns", BoundedSemaphore(2))
    monkeypatch.setattr(predictor, "_decode", found.decode)
    return found


def test_many_callers_decode_no_more_images_at_once_than_there_are_cores(watch: Watch) -> None:
    read_all([np.zeros((30, 40, 3), np.uint8) for _ in range(8)])
    assert watch.most == 2


def test_images_behind_a_url_do_not_wait_for_a_turn(watch: Watch) -> None:
    with decoding.turn(), decoding.turn():
        begin = time.monotonic()
        read_all([f"http://127.0.0.1:9/{number}.jpg" for number in range(4)])
    assert time.monotonic() - begin < decoding.PATIENCE
    assert watch.most > 2


def test_an_image_that_never_ends_does_not_stop_the_others(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "PATIENCE", 0.01)
    with decoding.turn(), decoding.turn():
        read_all([np.zeros((30, 40, 3), np.uint8)])
    assert watch.most == 1
    with decoding.turn(), decoding.turn():  # the turns are as many as before
        assert not decoding._turns.acquire(blocking=False)


def test_an_error_gives_the_turn_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(decoding, "_turns", BoundedSemaphore(1))
    (tmp_path / "a.jpg").write_bytes(b"no image")
    for _ in range(3):
        ((batch),) = predictor._read_ahead(
            inputs.walk(str(tmp_path / "a.jpg")), 1, standard(32), None
        )
        assert "a.jpg" in str(batch.contents[0])
    assert decoding._turns.acquire(blocking=False)


def test_the_memory_of_large_images_is_given_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[int] = []
    monkeypatch.setattr(decoding, "_trim", given.append)
    for side in (100, 2100):
        Image.new("RGB", (side, side)).save(tmp_path / "a.jpg")
        list(predictor._read_ahead(inputs.walk(str(tmp_path)), 1, standard(32), None))
        assert len(given) == (side * side > decoding.LARGE)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_process_has_all_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_turns", BoundedSemaphore(1))
    with decoding.turn():
        child = os.fork()
        if not child:  # no assertion here: it would run the rest of the tests
            has_turn = decoding._turns.acquire(blocking=False)
            os.kill(os.getpid(), signal.SIGKILL if has_turn else signal.SIGTERM)
        _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
