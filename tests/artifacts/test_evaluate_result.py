# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from paddlex_ml.artifacts import evaluate_result
from paddlex_ml.artifacts.evaluate_result import (
    Comparison,
    Difference,
    EvaluationResult,
    LabelErrorCounts,
    LabelErrorResult,
    ThresholdQuality,
    TunedResult,
)
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.metrics.measures import TunedMeasures, summarise
from paddlex_ml.storage import files

KEYS = [
    "format_version", "done_flag", "weight_path", "val_digest", "metrics", "per_class",
    "thresholds", "label_errors", "comparison", "per_class_csv", "report",
]  # fmt: skip


def complete() -> EvaluationResult:
    """A result with all of its sections, and with undefined numbers in it."""
    rng = np.random.default_rng(0)
    targets = (rng.random((20, 2)) < 0.4).astype(np.uint8)
    targets[:, 1] = 0
    scores = rng.random((20, 2)).astype(np.float32)
    summary = summarise(scores, targets, ["cat", "\udcff"], np.full(2, 0.5), rounds=5)
    tuned = TunedMeasures(threshold=0.25, precision=None, recall=0.5, f1=1.0)
    quality = ThresholdQuality(macro_f1=0.5, CP=None, CR=0.25)
    difference = Difference(name="CP", this=0.5, other=None, difference=None)
    return EvaluationResult(
        format_version=evaluate_result.FORMAT_VERSION,
        done_flag=True,
        weight_path="best_model.pdparams",
        val_digest="abc",
        metrics=summary.metrics,
        per_class=[msgspec.structs.replace(row, tuned=tuned) for row in summary.per_class],
        thresholds=TunedResult(
            method="precision", target=0.9, min_positives=10, shared=0.5, shared_classes=["cat"],
            unreached=["cat"], before=quality, tuned=quality, held_out=quality, saved=[],
        ),
        label_errors=LabelErrorResult(
            lists={"val": LabelErrorCounts(
                images=20, suspected=3, missing=1, wrong=2, scores="held out"
            )},
            csv="evaluate/label_errors.csv",
        ),
        comparison=Comparison(
            other="ema", same_images=True, MultiLabelMAP_difference_ci95=(-0.5, 0.5),
            metrics=[difference], per_class=[difference], this="raw",
        ),
        per_class_csv="evaluate/per_class.csv",
        report="evaluate/report.html",
    )  # fmt: skip


def write(path: Path, result: Any) -> Path:
    files.write_json(path, msgspec.to_builtins(result))
    return path


def test_what_is_written_is_read_again(tmp_path):
    result = complete()
    path = write(tmp_path / "evaluate_result.json", result)
    assert evaluate_result.read(path) == result
    content = json.loads(path.read_text("utf-8"))
    assert list(content) == KEYS
    assert content["comparison"]["with"] == "ema"
    assert content["per_class"][1]["average_precision"] is None


def test_a_page_or_thresholds_that_were_not_made_have_no_key():
    result = msgspec.structs.replace(complete(), report=None)
    row = msgspec.structs.replace(result.per_class[0], tuned=None)
    result = msgspec.structs.replace(result, per_class=[row], label_errors=None)
    content = msgspec.to_builtins(result)
    assert list(content) == KEYS[:-1]
    assert content["label_errors"] is None
    assert "tuned" not in content["per_class"][0]


def test_a_file_of_the_first_release_is_version_0(tmp_path):
    content = msgspec.to_builtins(complete())
    del content["format_version"]
    result = evaluate_result.read(write(tmp_path / "old.json", content))
    assert result == msgspec.structs.replace(complete(), format_version=0)


def test_keys_that_this_version_does_not_know_are_ignored(tmp_path):
    content = msgspec.to_builtins(complete())
    content["later"] = content["metrics"]["later"] = 0.5
    assert evaluate_result.read(write(tmp_path / "some.json", content)) == complete()


def test_whole_numbers_are_read_as_fractions(tmp_path):
    content = msgspec.to_builtins(complete())
    content["metrics"]["CP"] = 1
    path = write(tmp_path / "some.json", content)
    assert repr(evaluate_result.read(path).metrics.CP) == "1.0"


def test_a_newer_version_is_refused_by_name(tmp_path):
    path = write(tmp_path / "new.json", {"format_version": 2, "other": "keys"})
    with pytest.raises(PaddlexMLError) as caught:
        evaluate_result.read(path)
    assert str(caught.value).splitlines() == [
        "this result was written by a newer version of paddlex_ml: its format_version is 2, "
        "this version reads up to 1",
        f"  where: {path}",
        "  fix:   upgrade paddlex_ml, or evaluate again with this version",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "the result of the evaluation cannot be read: Expecting property name"),
        ('{"metrics": NaN}', "cannot be read: NaN is not a finite number"),
        ('{"metrics": -Infinity}', "cannot be read: -Infinity is not a finite number"),
        ('{"metrics": 1e999}', "cannot be read: 1e999 is not a finite number"),
        ("[" * 100_000, "cannot be read"),
        ("[]", "this is not the result of an evaluation"),
        ("null", "this is not the result of an evaluation"),
        ('{"done_flag": false, "err_msg": "disk full"}', "this evaluation failed: disk full"),
        ('{"format_version": true}', "this is not the result of an evaluation"),
        ('{"format_version": "2"}', "this is not the result of an evaluation"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path, text, message):
    path = tmp_path / "some.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PaddlexMLError, match=message) as caught:
        evaluate_result.read(path)
    assert "name the evaluate_result.json of an evaluation" in caught.value.fix


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(PaddlexMLError, match=r"there is no such file(.|\n)*none\.json"):
        evaluate_result.read(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("method", "before", "held_out", "gain", "is_worth_saving"),
    [
        ("f1", 0.5, 0.75, 0.25, True),
        ("f1", 0.5, 0.503, 0.003, False),
        ("f1", 0.5, None, None, False),
        ("f1", None, 0.5, None, False),
        ("recall", 0.5, 0.25, None, True),
    ],
)
def test_tuned_thresholds_are_worth_saving_for_a_gain_on_held_out_images(
    method, before, held_out, gain, is_worth_saving
):
    result = complete().thresholds
    assert result is not None
    tuned = msgspec.structs.replace(
        result,
        method=method,
        before=ThresholdQuality(macro_f1=before, CP=None, CR=None),
        held_out=ThresholdQuality(macro_f1=held_out, CP=None, CR=None),
    )
    assert tuned.gain == pytest.approx(gain)
    assert tuned.is_worth_saving is is_worth_saving
