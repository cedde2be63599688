# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddlex_ml.artifacts import checkpoint
from paddlex_ml.distributed.group import ProcessGroup
from paddlex_ml.training.plan import Saving
from tests.ranks import Lesson, learn

ROOT = Path(__file__).resolve().parent.parent.parent
KILLS = 20
FORKS = """
import os, sys
from pathlib import Path
from paddlex_ml import paddle_runtime; paddle_runtime.prepare()
from paddlex_ml.distributed.group import ProcessGroup
from paddlex_ml.kernels import pillow
from paddlex_ml.training import loop
from paddlex_ml.training.plan import Saving
from tests.ranks import Lesson, learn

pillow.loops()
train_step = loop.train_step
def told(*args):
    print('step', flush=True)
    return train_step(*args)
loop.train_step = told
lesson = Lesson(Path(sys.argv[1]), Path(sys.argv[2]), epochs=40, goes_on=True,
                saving=Saving(steps=1, keep_last=3))
for _ in sys.stdin:
    if child := os.fork():
        os.waitpid(child, 0)
        print('gone', flush=True)
    else:
        print(os.getpid(), flush=True)
        learn(lesson, ProcessGroup())
        os._exit(0)
"""
"""A training for each line of the input, from a process that has loaded Paddle and numba, which
takes seconds, once. Prints the id of the training's process, `step` at each step, and `gone`."""


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Folder, epoch and step of every checkpoint that is written."""
    seen = []
    write = checkpoint.write

    def note(folder: Path, saved: checkpoint.Checkpoint) -> None:
        seen.append((folder.name, saved.progress["epoch"], saved.progress["step"]))
        write(folder, saved)

    monkeypatch.setattr(checkpoint, "write", note)
    return seen


def latest(written: list[tuple[str, int, int]]) -> list[tuple[int, int]]:
    return [(epoch, step) for name, epoch, step in written if name == "latest"]


def test_latest_is_saved_within_an_epoch_every_so_many_steps(
    toy: Path, tmp_path: Path, written: list[tuple[str, int, int]]
) -> None:
    learn(Lesson(toy, tmp_path / "out", epochs=2, saving=Saving(steps=2)), ProcessGroup())
    assert latest(written) == [(0, 2), (1, 2)]  # at the end of an epoch it is a copy of epoch_N


def test_latest_is_saved_within_an_epoch_every_so_many_minutes(
    toy: Path, tmp_path: Path, written: list[tuple[str, int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 10**6, 40))  # a look at the clock takes forty seconds
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    learn(Lesson(toy, tmp_path / "out", epochs=1, saving=Saving(minutes=1.0)), ProcessGroup())
    assert latest(written) == [(0, 1)]


def test_by_default_latest_is_saved_at_the_end_of_epochs_alone(
    toy: Path, tmp_path: Path, written: list[tuple[str, int, int]]
) -> None:
    learn(Lesson(toy, tmp_path / "out", epochs=2, saving=Saving(epoch_interval=2)), ProcessGroup())
    assert latest(written) == [(1, 0)]
    assert checkpoint.load(tmp_path / "out" / "latest").progress["epoch"] == 2


def test_the_last_folders_of_epochs_are_kept_and_others_left_alone(
    toy: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    (output / "epoch_77").mkdir(parents=True)  # somebody else's
    result = learn(Lesson(toy, output, epochs=5, saving=Saving(keep_last=2)), ProcessGroup())
    assert len(result["history"]) == 5
    folders = sorted(path.name for path in output.iterdir() if path.is_dir())
    assert folders == ["best_model", "epoch_4", "epoch_5", "epoch_77", "latest"]


def assert_readable(output: Path) -> None:
    """Whatever has a name that a user may read is whole."""
    for folder in output.glob("*"):
        if folder.is_dir() and not folder.name.startswith("."):
            assert checkpoint.load(folder).weights.keys() >= {"conv.weight", "fc.weight"}
    if (output / "metrics.csv").exists():
        with (output / "metrics.csv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                assert 0 <= float(row["raw_map"]) <= 1


@pytest.mark.heavy
@pytest.mark.story
def test_killed_twenty_times_at_random_it_ends_like_the_unbroken_run(
    toy: Path, tmp_path: Path
) -> None:
    chance, output = random.Random(5), tmp_path / "broken"
    lesson = Lesson(toy, output, epochs=40, saving=Saving(steps=1, keep_last=3), goes_on=True)
    kills = 0
    with subprocess.Popen(
        [sys.executable, "-c", FORKS, str(toy), str(output)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        bufsize=1,
    ) as forks:
        assert forks.stdin is not None
        assert forks.stdout is not None
        while kills < KILLS:
            forks.stdin.write("learn\n")
            training = int(forks.stdout.readline())
            if forks.stdout.readline() != "step\n":  # it has come to its end before
                break
            time.sleep(chance.uniform(0, 0.15))
            os.kill(training, signal.SIGKILL)
            while forks.stdout.readline() == "step\n":
                pass
            kills += 1
            if output.exists():
                for name in ("latest", "best_model"):
                    checkpoint.finish_interrupted(output / name)
                assert_readable(output)
        forks.stdin.close()
    broken = learn(lesson, ProcessGroup())
    once = lesson._replace(output=tmp_path / "unbroken", goes_on=False, saving=Saving(keep_last=3))
    unbroken = learn(once, ProcessGroup())
    assert kills == KILLS
    assert broken["history"] == unbroken["history"]
    assert_equal(broken["weights"], unbroken["weights"])
    assert_equal(broken["ema"], unbroken["ema"])
    found, expected = (
        checkpoint.read_progress(folder / "best_model")
        for folder in (output, tmp_path / "unbroken")
    )
    assert found is not None
    assert expected is not None
    assert found["best"] == expected["best"]


def assert_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    assert [k for k in expected if not np.array_equal(found[k], expected[k])] == []
