# SPDX-License-Identifier: Apache-2.0
"""Two processes on the CPU against one that has the same batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paddlex_ml.devices import Devices
from paddlex_ml.distributed import launch
from paddlex_ml.distributed.group import ProcessGroup
from tests.ranks import Lesson, judge, learn

pytestmark = pytest.mark.story

TWO = Devices("cpu", (0, 1))


def largest_difference(found: dict[str, Any], expected: dict[str, Any], what: str) -> float:
    assert found[what].keys() == expected[what].keys()
    each = {k: float(np.abs(found[what][k] - expected[what][k]).max()) for k in expected[what]}
    return max(each.values())


def test_a_shared_evaluation_gives_the_very_scores_of_one_process(toy: Path) -> None:
    # 12 images in batches of 5: one process has two batches, the other has one.
    assert launch.run(judge, toy, TWO) == judge(toy, ProcessGroup())


@pytest.mark.parametrize(
    ("norm", "sync_bn", "accumulate", "taught"),
    [(True, True, 1, False), (False, False, 2, False), (False, False, 2, True)],
)
def test_two_processes_learn_what_one_learns_from_the_same_batches(
    toy: Path, tmp_path: Path, norm: bool, sync_bn: bool, accumulate: int, taught: bool
) -> None:
    lesson = Lesson(
        *(toy, tmp_path / "two"),
        norm=norm,
        sync_bn=sync_bn,
        accumulate=accumulate,
        taught=taught,
    )
    both = launch.run(learn, lesson, TWO)
    alone = learn(lesson._replace(output=tmp_path / "one"), ProcessGroup())
    for kind in ("weights", "ema"):
        assert largest_difference(both, alone, kind) < 1e-5
    for row, other in zip(both["history"], alone["history"], strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert row["raw_map"] == pytest.approx(other["raw_map"], abs=1e-5)
        assert row["ema_map"] == pytest.approx(other["ema_map"], abs=1e-5)
    assert both["history"][2]["loss"] < both["history"][0]["loss"]


def test_without_sync_bn_each_process_norms_its_own_part_and_the_statistics_are_averaged(
    toy: Path, tmp_path: Path
) -> None:
    lesson = Lesson(toy, tmp_path / "two", epochs=1)
    both = launch.run(learn, lesson, TWO)
    alone = learn(lesson._replace(output=tmp_path / "one"), ProcessGroup())
    mean, variance = (both["weights"][f"norm.{k}"] for k in ("_mean", "_variance"))
    theirs = (alone["weights"][f"norm.{k}"] for k in ("_mean", "_variance"))
    # The mean of the halves' means is that of the whole; the mean of their variances is smaller by
    # the variance between the halves.
    assert np.abs(mean - next(theirs)).max() < 0.01
    assert (variance < next(theirs)).all()
    assert largest_difference(both, alone, "weights") > 1e-5
