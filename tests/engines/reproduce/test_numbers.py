# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.engines.reproduce import numbers
from tests.results import ROW


def test_the_clock_is_not_compared() -> None:
    other = replace(ROW, seconds=1.0, images_per_second=9.0, data_wait=0.0, memory_mib=1.0)
    [row] = numbers.compare_epochs([ROW], [other])
    assert row.is_same
    assert row.before == {"step": 3, "lr": 1e-3, "loss": 2.5, "raw_map": 0.5, "ema_map": None}


@pytest.mark.parametrize("name", ["loss", "lr", "raw_map", "ema_map", "step"])
def test_the_last_bit_of_a_number_counts(name: str) -> None:
    rows = [ROW, replace(ROW, epoch=2)]
    value = getattr(ROW, name)
    changed: Any = math.nextafter(value, 1) if isinstance(value, float) else 7
    compared = numbers.compare_epochs(rows, [ROW, replace(rows[1], **{name: changed})])
    assert [row.is_same for row in compared] == [True, False]
    assert compared[1].now[name] == changed


def test_epochs_that_one_run_alone_has_are_left_to_their_numbers() -> None:
    assert len(numbers.compare_epochs([ROW], [ROW, ROW])) == 1


def keep(folder: Path, **entries: np.ndarray) -> RunFolder:
    run = RunFolder(folder)
    for path in (run.best_model.weights, run.latest.weights, run.latest.ema):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(entries))
    return run


ONES = np.ones((2, 3), np.float32)


def test_equal_weights_are_the_same_bit_for_bit(tmp_path: Path) -> None:
    runs = [keep(tmp_path / name, a=ONES, b=np.zeros(2, np.float32)) for name in "xy"]
    compared = numbers.compare_weights(*runs)
    assert [each.name for each in compared] == [
        "best_model/best_model.pdparams", "latest/latest.pdparams", "latest/latest.pdema",
    ]  # fmt: skip
    assert [(e.entries, e.differing, e.largest, e.problem) for e in compared] == [(2, 0, 0, "")] * 3


def test_differences_are_counted_and_the_largest_is_told(tmp_path: Path) -> None:
    first = keep(tmp_path / "x", a=ONES, b=ONES, c=np.zeros(1, np.float32))
    second = keep(tmp_path / "y", a=ONES, b=ONES * 1.5, c=-np.zeros(1, np.float32))
    [best, *_] = numbers.compare_weights(first, second)
    assert (best.differing, best.largest) == (2, 0.5)  # -0.0 is not the same bits as 0.0


def test_other_shapes_and_arrays_have_no_largest_difference(tmp_path: Path) -> None:
    first = keep(tmp_path / "x", a=ONES, b=ONES)
    second = keep(tmp_path / "y", a=ONES.T, c=ONES)
    [best, *_] = numbers.compare_weights(first, second)
    assert (best.differing, best.largest) == (3, None)


def test_weights_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    runs = [keep(tmp_path / name, a=ONES) for name in "xy"]
    runs[0].latest.weights.unlink()
    runs[0].latest.ema.write_bytes(b"damaged")
    best, latest, ema = numbers.compare_weights(*runs)
    assert best.problem == ""
    assert str(runs[0].latest.weights) in latest.problem
    assert str(runs[0].latest.ema) in ema.problem
