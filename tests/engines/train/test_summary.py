# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.artifacts.saved_states import Progress
from paddlex_ml.artifacts.train_result import Best, EpochRow, TrainResult, WeightsKind
from paddlex_ml.engines.train.result import build_result
from paddlex_ml.engines.train.summary import summarise

OUTPUT = Path("output")


def row(
    epoch: int, raw: float | None, ema: float | None, speed: float = 0.0, memory: float = 1.0
) -> EpochRow:
    return EpochRow(
        epoch=epoch, step=epoch, lr=1e-3, loss=1.0, raw_map=raw, ema_map=ema,
        images_per_second=speed, data_wait=0.0, memory_mib=memory, seconds=1.0,
    )  # fmt: skip


def trained(
    history: list[EpochRow], weights: WeightsKind = "ema", epoch: int = 2, **other: float
) -> TrainResult:
    return build_result(
        ModelInfo("PP-LCNet_x1_0_ML", ["cat", "dog"], 448),
        Progress(
            epoch=len(history),
            best=Best(0.8123, weights, epoch),
            history=history,
            **other,  # type: ignore[arg-type]
        ),
        OUTPUT,
        difference=None,
        constant=0.2412,
    )


def test_the_summary_tells_score_cost_and_files_in_ten_lines() -> None:
    history = [
        row(1, None, None, speed=30.0, memory=1024.0),
        row(2, 0.8033, 0.8123, speed=60.0, memory=1945.6),
        row(3, 0.8, 0.81, speed=0.0, memory=1945.6),  # resumed at its very end
    ]
    assert summarise(trained(history, seconds=4000.4, waited=120.0), OUTPUT).splitlines() == [
        "Training done",
        "  best:      epoch 2 of 3, mAP raw 0.8033, EMA 0.8123; kept: averaged (EMA) weights "
        "(constant predictor 0.2412)",
        "  cost:      1:06:40, 40.0 images/s, 3% of the time lost waiting for data, "
        "at most 1.9 GiB of memory",
        "  result:    output/train_result.json",
        "  weights:   output/best_model/best_model.pdparams",
        "  inference: output/best_model/inference",
        "  log:       output/train.log",
        "  scores:    output/metrics.csv",
        "  curves:    output/curves.png",
    ]


def test_runs_without_averages_can_be_summarised() -> None:
    result = trained([row(1, 0.5, None), row(2, 0.8123, None)], "raw")
    lines = summarise(result, OUTPUT).splitlines()
    assert lines[1].startswith("  best:      epoch 2 of 2, mAP raw 0.8123; kept: raw weights (")
    assert lines[2] == (
        "  cost:      0:00:00, 0.0 images/s, 0% of the time lost waiting for data, "
        "at most 0.0 GiB of memory"
    )


def test_a_model_that_guesses_is_called_so() -> None:
    history = [row(1, 0.25, None), row(2, 0.2412, None)]
    guess = trained(history, "raw")
    assert guess.metrics.better_than_guessing is True  # 0.8123 without an interval
    metrics = msgspec.structs.replace(guess.metrics, better_than_guessing=False)
    line = summarise(msgspec.structs.replace(guess, metrics=metrics), OUTPUT).splitlines()[1]
    assert line.endswith("(constant predictor 0.2412): not better than guessing")


def test_every_file_of_the_summary_is_there(toy_run: Path) -> None:
    result = json.loads((toy_run / "train_result.json").read_text(encoding="utf-8"))
    best = result["models"]["best"]
    history = [EpochRow(**row) for row in result["metrics"]["history"]]
    lines = summarise(trained(history, best["weights"], best["epoch"]), toy_run).splitlines()
    assert [Path(line.split()[-1]).exists() for line in lines[3:]] == [True] * 6
    metrics = result["metrics"]
    assert metrics["seconds"] == metrics["history"][-1]["seconds"] > 0
    assert metrics["memory_mib"] == max(row["memory_mib"] for row in metrics["history"])
    assert 0 < metrics["data_wait"] < 1
    # 12 images; a class is on a share of them, and their mean is what a constant reaches.
    assert metrics["constant_map"] == pytest.approx(0.5, abs=0.25)


def test_tuned_thresholds_of_an_earlier_export_are_named() -> None:
    result = trained([row(1, 0.8, None), row(2, 0.9, None)], "raw")
    assert "threshold" not in summarise(result, OUTPUT)
    kept = ["best_model/inference/inference.yml.bak"]
    text = summarise(msgspec.structs.replace(result, earlier_thresholds=kept), OUTPUT)
    (line,) = [line for line in text.splitlines() if line.startswith("  threshold: ")]
    kept_in = "output/best_model/inference/inference.yml.bak"
    told = f"0.5; tuned ones of an earlier export are in {kept_in}"
    again = "-o Global.mode=evaluate -o Evaluate.save_threshold=true"
    assert line == f"  threshold: {told}; to tune them again: {again}"
