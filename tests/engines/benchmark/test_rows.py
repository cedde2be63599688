# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paddlex_ml.artifacts.inference_yml import InferenceYml
from paddlex_ml.config import load, shipped
from paddlex_ml.data.preprocess import standard
from paddlex_ml.engines.benchmark import rows
from paddlex_ml.engines.benchmark.candidates import Candidate
from paddlex_ml.engines.benchmark.measured_process import Started
from paddlex_ml.engines.benchmark.turns import MeasuredExport

RNG = np.random.default_rng(0)
TARGETS = (RNG.random((200, 3)) < 0.4).astype(np.int8)
SCORES = np.clip(0.3 * TARGETS + 0.7 * RNG.random(TARGETS.shape), 0, 1).astype(np.float32)


@pytest.fixture
def config():
    words = ["Global.mode=benchmark", "Global.dataset_dir=set"]
    return load.load(shipped.find("PP-LCNet_x1_0_ML")[0], words).config


def measured(
    run_mode: str, ms: float, scores: np.ndarray = SCORES, threshold=0.5, *, form="onnx", gone=False
) -> MeasuredExport:
    described = InferenceYml(
        model_name="PP-LCNet_x1_0_ML",
        preprocess=standard(32),
        label_names=("a", "b", "c"),
        threshold=threshold,
    )
    found = MeasuredExport(Candidate(form, run_mode, Path("folder"), gone, described))
    found.loads, found.first_answers = [1.0, 3.0, 2.0], [4.0, 5.0, 9.0]
    found.loaded = Started(1.0, run_mode, [], 10**8)
    found.scores, found.seconds = [scores[:50], scores[50:]], [ms / 1e3] * 9 + [5 * ms / 1e3]
    found.passes, found.peaks = {8: [8 * ms / 1e3] * 3}, {8: 2 * 10**8}
    return found


def test_a_row_has_medians_and_the_differences_from_the_reference(config):
    moved = SCORES.copy()
    moved[:5, 0] = 1 - moved[:5, 0]
    reference, other = measured("paddle", 40.0), measured("onnxruntime", 10.0, moved)
    first, last = rows.make(config, [reference, other], TARGETS)
    assert (first.run_mode, last.run_mode) == ("onnxruntime", "paddle")
    assert (first.load_seconds, first.first_answer_seconds) == (2.0, 5.0)
    assert first.latency_p50 == pytest.approx(0.01)
    assert first.latency_p95 > 0.02
    assert [(each.batch_size, each.peak_bytes) for each in first.speeds] == [(1, 1e8), (8, 2e8)]
    assert first.speeds[1].images_per_second == pytest.approx(100.0)
    changed = ((moved >= 0.5) != (SCORES >= 0.5)).mean()
    assert (first.changed_decisions, last.changed_decisions) == (pytest.approx(changed), 0.0)
    assert first.largest_movement == pytest.approx(np.abs(moved - SCORES).max())
    assert last.is_on_front
    assert last.map > first.map


def test_what_is_beyond_a_budget_is_not_recommended(config):
    random = np.random.default_rng(1).random(SCORES.shape).astype(np.float32)
    reference, fast = measured("paddle", 40.0), measured("onnxruntime", 10.0, random)
    first, last = rows.make(config, [reference, fast], TARGETS)
    assert not first.keeps_to_budgets
    assert (first.is_recommended, last.is_recommended) == (False, True)
    wide = load.load(
        shipped.find("PP-LCNet_x1_0_ML")[0],
        [
            *("Global.mode=benchmark", "Global.dataset_dir=set"),
            *("Export.max_changed_decisions=1", "Export.max_map_loss=1"),
        ],
    ).config
    first, _ = rows.make(wide, [reference, fast], TARGETS)
    assert first.keeps_to_budgets
    assert first.is_recommended


def test_of_equal_speed_the_export_that_is_there_is_recommended(config):
    there, gone = measured("paddle", 10.4), measured("onnxruntime", 10.0, gone=True)
    found = rows.make(config, [there, gone], TARGETS)
    assert [(row.run_mode, row.folder, row.is_recommended) for row in found] == [
        ("onnxruntime", None, False),
        ("paddle", "folder", True),
    ]
    slower = measured("paddle", 11.0)
    found = rows.make(config, [slower, gone], TARGETS)
    assert [row.is_recommended for row in found] == [True, False]


def test_rounding_makes_nothing_better(config):
    reference = measured("paddle", 40.0)
    other = measured("onnxruntime", 10.0, SCORES + np.float32(1e-7))
    first, last = rows.make(config, [reference, other], TARGETS)
    assert (first.is_on_front, last.is_on_front) == (True, False)


def test_scores_that_are_no_numbers_change_decisions(config):
    broken = np.full_like(SCORES, np.nan)
    reference, other = measured("paddle", 40.0), measured("onnxruntime", 10.0, broken)
    first, _ = rows.make(config, [reference, other], TARGETS)
    assert first.changed_decisions == pytest.approx((SCORES >= 0.5).mean())
    assert not first.keeps_to_budgets


def test_thresholds_of_its_own_are_told():
    reference, same = measured("paddle", 40.0), measured("mkldnn", 20.0)
    own = measured("onnxruntime", 10.0, threshold=[0.9, 0.5, 0.5], form="onnx int8")
    (note,) = rows.find_notes([reference, same, own])
    share = ((SCORES[:, 0] >= 0.9) != (SCORES[:, 0] >= 0.5)).sum() / SCORES.size
    assert note.startswith("onnx int8 by onnxruntime has thresholds of its own")
    assert f"{share:.2%} of the decisions" in note


def test_an_export_for_the_benchmark_alone_has_the_thresholds_in_use():
    tuned = measured("onnxruntime", 10.0, threshold=[0.9, 0.5, 0.5])
    both = [measured("paddle", 40.0, gone=True), tuned]
    assert rows.find_thresholds(both) == pytest.approx([0.9, 0.5, 0.5])
    assert list(rows.find_notes(both)) == []
    assert rows.find_thresholds(both[:1]) == pytest.approx([0.5, 0.5, 0.5])
