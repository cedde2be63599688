# SPDX-License-Identifier: Apache-2.0
"""The order of the turns, and what is left out, with processes that only pretend."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddlex_ml import machine_memory
from paddlex_ml.artifacts.inference_yml import InferenceYml
from paddlex_ml.data.preprocess import standard
from paddlex_ml.engines.benchmark import turns
from paddlex_ml.engines.benchmark.candidates import Candidate
from paddlex_ml.engines.benchmark.measured_process import Answers, BatchTimes, Started
from paddlex_ml.engines.benchmark.turns import STARTS, TURNS, Turns, Wanted
from paddlex_ml.errors import PaddlexMLError

PIXELS = np.arange(48, dtype=np.uint8).repeat(3).reshape(48, 1, 1, 3)
SECONDS = {"slow": 0.02, "fast": 0.01}


class Pretended:
    """A process that notes what it is asked, and answers at once."""

    asked: list[tuple[str, str, Any]]
    open_now: set[int]
    fails: dict[str, str]

    def __init__(self, task: Any) -> None:
        self.name = task.folder.name
        self.note("start", None)
        if Pretended.fails.get(self.name) == "other mode":
            self.loaded = Started(1.0, "paddle", ["it differs by 1"], 100)
        else:
            self.loaded = Started(1.0, task.run_mode, [], 100)
        self.first_answer_seconds = 2.0
        Pretended.open_now.add(id(self))

    def note(self, what: str, of: Any) -> None:
        Pretended.asked.append((self.name, what, of))
        if Pretended.fails.get(self.name) == what:
            raise PaddlexMLError(f"no {what}", where="here", fix="repair it")

    def answer(self, pixels: np.ndarray) -> Answers:
        self.note("answer", pixels[:, 0, 0, 0].tolist())
        return Answers(np.float32(pixels[:, 0, 0, :2]), [SECONDS[self.name]] * len(pixels))

    def repeat(self, batch: Any) -> BatchTimes:
        self.note("repeat", len(batch.pixels))
        return BatchTimes([len(batch.pixels) * SECONDS[self.name]] * 2, 200)

    def close(self) -> None:
        Pretended.open_now.discard(id(self))

    def __enter__(self) -> Pretended:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture(autouse=True)
def pretended(monkeypatch: pytest.MonkeyPatch) -> type[Pretended]:
    Pretended.asked, Pretended.open_now, Pretended.fails = [], set(), {}
    monkeypatch.setattr(turns, "MeasuredProcess", Pretended)
    monkeypatch.setattr(turns, "PAUSE", 0.0)
    monkeypatch.setattr(turns, "MORE_ROUNDS", 2)
    return Pretended


def make(minutes: float = 10.0, sizes: tuple[int, ...] = (4, 16)) -> Turns:
    described = InferenceYml("model", ("a", "b"), 0.5, standard(32))
    found = [
        Candidate("onnx", "onnxruntime", Path(name), False, described) for name in ("slow", "fast")
    ]
    ends = time.monotonic() + 60 * minutes
    return Turns(found, Wanted("cpu", None, Path("a.jpg"), sizes, ends), PIXELS)


def measure(made: Turns) -> Turns:
    made.start_all()
    made.run()
    return made


def test_all_take_turns_and_only_one_computes(pretended):
    made = measure(make())
    names = [name for name, _, _ in pretended.asked]
    starts = [what for _, what, _ in pretended.asked].count("start")
    assert starts == 2 * STARTS
    answers = [(name, of) for name, what, of in pretended.asked[2 * 2 * (STARTS - 1) + 2 :]
               if what == "answer"]  # fmt: skip
    assert [name for name, _ in answers] == ["slow", "fast"] * TURNS
    assert [k for name, of in answers if name == "fast" for k in of] == list(range(48))
    repeats = [(name, of) for name, what, of in pretended.asked if what == "repeat"]
    small, large = [("slow", 4), ("fast", 4)], [("slow", 16), ("fast", 16)]
    assert repeats == small * 3 + large * 3 + (small + large) * 2
    assert set(names) == {"slow", "fast"}
    assert pretended.open_now == set()
    for each in made.measured:
        assert np.concatenate(each.scores).shape == (48, 2)
        assert len(each.seconds) == 48 - TURNS  # the first of each turn is not counted
        assert len(each.loads) == len(each.first_answers) == STARTS - 1
        assert [speed.batch_size for speed in each.speeds] == [1, 4, 16]
        assert [speed.peak_bytes for speed in each.speeds] == [100, 200, 200]
    assert made.measured[1].speeds[0].images_per_second == pytest.approx(100)
    assert (made.images, made.notes, made.unmeasured) == (48, [], [])


@pytest.mark.parametrize("step", ["start", "answer", "repeat", "other mode"])
def test_what_fails_leaves_with_its_reason_and_the_others_go_on(pretended, step):
    pretended.fails["slow"] = step
    made = measure(make())
    assert [each.candidate.folder.name for each in made.measured] == ["fast"]
    (left,) = made.unmeasured
    reasons = {"other mode": ("it differs by 1", "")}
    assert (left.reason, left.fix) == reasons.get(step, (f"no {step}", "repair it"))
    assert pretended.open_now == set()
    assert len(np.concatenate(made.measured[0].scores)) == 48


def test_where_none_runs_one_error_says_why(pretended):
    pretended.fails |= {"slow": "start", "fast": "start"}
    with pytest.raises(PaddlexMLError, match="onnx by onnxruntime: no start; onnx by") as caught:
        make().start_all()
    assert caught.value.fix == "repair it"


def test_where_all_fail_later_one_error_says_why(pretended):
    made = make()
    made.start_all()
    pretended.fails |= {"slow": "repeat", "fast": "repeat"}
    with pytest.raises(PaddlexMLError, match="no export could be measured to the end"):
        made.run()
    assert pretended.open_now == set()


def test_slow_models_get_fewer_images_and_smaller_batches(pretended, monkeypatch):
    made = make(minutes=0.04)
    monkeypatch.setitem(SECONDS, "slow", 0.05)
    measure(made)
    assert 32 <= made.images < 48
    assert {len(np.concatenate(each.scores)) for each in made.measured} == {made.images}
    assert "repeat" not in [what for _, what, _ in pretended.asked]
    assert made.notes == [
        "no batches of more than 1 image: they would take longer than Benchmark.minutes",
        f"{made.images} images in place of 48: more would take longer than Benchmark.minutes",
    ]


def test_a_machine_that_becomes_slower_ends_the_images_early(pretended, monkeypatch):
    made = make(sizes=(4, 16))
    made.start_all()
    monkeypatch.setattr(made, "_wanted", made._wanted._replace(ends=time.monotonic()))
    made.run()
    assert made.images == 32
    assert {len(np.concatenate(each.scores)) for each in made.measured} == {32}
    assert [note.partition(":")[0] for note in made.notes] == [
        "32 images in place of 48",
        "no batches of more than 1 image",
    ]
    assert "repeat" not in [what for _, what, _ in pretended.asked]


def test_a_machine_that_becomes_slower_within_the_batches_ends_them_early(pretended, monkeypatch):
    made = make(sizes=(4, 16))
    made.start_all()

    def repeat(process: Pretended, batch: Any) -> BatchTimes:
        made._wanted = made._wanted._replace(ends=0.0)
        process.note("repeat", len(batch.pixels))
        return BatchTimes([0.1], 200)

    monkeypatch.setattr(Pretended, "repeat", repeat)
    made.run()
    assert made.images == 48
    assert [of for _, what, of in pretended.asked if what == "repeat"] == [4, 4]
    assert made.notes == [
        "no batches of more than 4 images: they would take longer than Benchmark.minutes"
    ]


def test_where_memory_is_short_they_are_measured_one_after_the_other(pretended, monkeypatch):
    made = make()
    made.start_all()
    monkeypatch.setattr(machine_memory, "available", lambda: 300)
    before = len(pretended.asked)
    made.run()
    names = [name for name, _, _ in pretended.asked[before:]]
    assert names == ["slow"] * (len(names) // 2) + ["fast"] * (len(names) // 2)
    (note,) = made.notes
    assert "in 2 groups" in note
