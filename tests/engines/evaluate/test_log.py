# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging

import numpy as np
import pytest
from msgspec.structs import replace

from paddlex_ml.artifacts.evaluate_result import (
    LabelErrorCounts,
    LabelErrorResult,
    ThresholdQuality,
    TunedResult,
)
from paddlex_ml.engines.evaluate import log
from paddlex_ml.metrics import bootstrap
from paddlex_ml.metrics.measures import summarise
from paddlex_ml.metrics.threshold_search import Method


def tuned_for(method: Method, before: float | None, held_out: float | None) -> TunedResult:
    def quality(macro_f1: float | None) -> ThresholdQuality:
        return ThresholdQuality(macro_f1=macro_f1, CP=None, CR=None)

    return TunedResult(
        method=method, target=0.9, min_positives=10, shared=0.5, shared_classes=[], unreached=[],
        before=quality(before), tuned=quality(0.9), held_out=quality(held_out), saved=[],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("method", "before", "held_out", "is_proposed"),
    [
        ("f1", 0.7, 0.8, True),
        ("f1", 0.7, 0.702, False),
        ("f1", 0.7, 0.6, False),
        ("f1", 1.0, None, False),
        ("precision", 0.7, 0.6, True),
    ],
)
def test_saving_is_proposed_where_it_helps_new_images(
    caplog: pytest.LogCaptureFixture,
    method: Method,
    before: float | None,
    held_out: float | None,
    is_proposed: bool,
) -> None:
    caplog.set_level(logging.INFO)
    log.log_thresholds(tuned_for(method, before, held_out))
    assert ("Evaluate.save_threshold=true" in caplog.text) is is_proposed
    assert "with the thresholds in use" in caplog.text


def test_classes_in_which_the_target_is_not_reached_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log.log_thresholds(replace(tuned_for("precision", 0.7, 0.6), unreached=["cow", "cat"]))
    assert "no threshold reaches a precision of 0.9 for cow, cat" in caplog.text


def test_thresholds_that_are_worse_on_held_out_images_are_saved_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log.log_thresholds(replace(tuned_for("f1", 0.7, 0.6), saved=["inference.yml"]))
    (warning,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert "worse on images that they were not tuned on" in warning.getMessage()
    caplog.clear()
    log.log_thresholds(replace(tuned_for("f1", 0.7, 0.8), saved=["inference.yml"]))
    assert [each for each in caplog.records if each.levelno == logging.WARNING] == []


def test_unknown_labels_are_counted_and_classes_without_an_answer_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    targets = np.array([[1, -1, 0, 1], [0, -1, 0, -1]], np.int8)
    names = ["cat", "yak", "cow", "dog"]
    summary = summarise(np.full((2, 4), 0.4, np.float32), targets, names, np.full(4, 0.5))
    log.log_classes(summary)
    assert "3 of the 8 labels of val.txt are unknown: no measure counts them" in caplog.text
    assert "yak    undefined (nobody has looked for it)" in caplog.text
    assert "cow    undefined (no positive image)" in caplog.text
    assert "no image is known to be without dog: an average precision of 1 says" in caplog.text
    caplog.clear()
    known = summarise(np.full((2, 1), 0.4, np.float32), targets[:, :1], ["cat"], np.full(1, 0.5))
    log.log_classes(known)
    assert "unknown" not in caplog.text
    assert "known to be without" not in caplog.text


def test_of_very_many_classes_both_ends_are_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    names = [f"class {i:04d}" for i in range(1000)]
    targets = (rng.random((50, 1000)) < 0.2).astype(np.int8)
    targets[:, 7] = 0
    summary = summarise(rng.random(targets.shape, np.float32), targets, names, np.full(1000, 0.5))
    caplog.set_level(logging.INFO)
    log.log_classes(summary, rounds=200)
    lines = [line for line in caplog.messages if line.startswith("  ")]
    assert len(lines) == 52
    assert lines[26] == "  ... 950 other classes: per_class.csv has all"
    assert lines[-1].startswith("  class 0007  undefined")
    assert "infinitesimal jackknife" not in caplog.text
    monkeypatch.setattr(bootstrap, "MOST", 1000)
    log.log_classes(summary, rounds=200)
    assert "200 rounds of the bootstrap would take long" in caplog.text


def test_the_rows_of_the_classes_have_a_header(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    targets = np.array([[1, 0], [0, 1]], np.int8)
    scores = np.array([[0.9, 0.4], [0.1, 0.8]], np.float32)
    log.log_classes(summarise(scores, targets, ["leafy tree", "sun"], np.full(2, 0.5)))
    assert [each.getMessage() for each in caplog.records][:3] == [
        "  class       AP      F1 at the thresholds in use",
        "  leafy tree  1.0000  1.0000",
        "  sun         1.0000  1.0000",
    ]


@pytest.mark.parametrize(
    ("missing", "wrong", "text"),
    [
        (0, 0, "none found (0 perhaps missing, 0 perhaps wrong; 240 images searched)"),
        (2, 1, "3 (2 perhaps missing, 1 perhaps wrong; 240 images searched): about 80% of them"),
    ],
)
def test_labels_to_check_are_counted_and_none_is_said(
    caplog: pytest.LogCaptureFixture, missing: int, wrong: int, text: str
) -> None:
    caplog.set_level(logging.INFO)
    suspected = missing + wrong
    counts = LabelErrorCounts(
        images=240, suspected=suspected, missing=missing, wrong=wrong, scores="held out",
        likely_true=0.8 if suspected else None,
    )  # fmt: skip
    log.log_label_errors(LabelErrorResult(lists={"val": counts}, csv="label_errors.csv"))
    assert f"labels to check in val: {text}" in caplog.text
