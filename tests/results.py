# SPDX-License-Identifier: Apache-2.0
"""A result of each mode, for tests that run no engine."""

from __future__ import annotations

from typing import Any

import msgspec

from paddlex_ml import cli
from paddlex_ml.artifacts.benchmark_result import (
    BatchSpeed,
    BenchmarkResult,
    BenchmarkRow,
    Unmeasured,
)
from paddlex_ml.artifacts.check_result import (
    CheckAnalysis,
    CheckAttributes,
    CheckResult,
    CoOccurrence,
    DatasetCounts,
)
from paddlex_ml.artifacts.evaluate_result import EvaluationResult
from paddlex_ml.artifacts.export_result import ExportResult
from paddlex_ml.artifacts.plan_result import Cost, PlanResult, TriedSize
from paddlex_ml.artifacts.predict_result import PredictResult
from paddlex_ml.artifacts.run_folder import EXPORTS
from paddlex_ml.artifacts.train_result import (
    BestModel,
    EpochRow,
    TrainedModels,
    TrainMetrics,
    TrainResult,
)
from paddlex_ml.metrics.measures import Metrics

ROW = EpochRow(
    epoch=1, step=3, lr=1e-3, loss=2.5, raw_map=0.5, ema_map=None,
    images_per_second=32.0, data_wait=0.5, memory_mib=2048.0, seconds=60.0,
)  # fmt: skip
COST = Cost(seconds=2.0, processor=3.0)
PLANNED = PlanResult(
    model_name="PP-LCNet_x1_0_ML", started_from="random weights", device="cpu", processor="a CPU",
    changed={"Train.epochs_iters": "3"}, train_images=1600, val_images=400, classes=5,
    batch_size=8, processes=1, epochs=3, steps=200, validations=3, timed_steps=3, step=COST,
    epoch=COST, validation=COST, checkpoint=COST, export=COST, start=COST, run=COST,
    memory_mib=1024.0, resident_mib=1000.0, gpu_mib=None, free_mib=2048.0,
    checkpoint_bytes=10**6, disk_bytes=4 * 10**6, free_bytes=10**9, largest_batch_size=96,
    largest_is_limited_by="memory", tried=[TriedSize(batch_size=8, memory_mib=1024.0)], notes=[],
)  # fmt: skip
TRAINED = TrainResult(
    model_name="PP-LCNet_x1_0_ML",
    label_dict="label_dict.txt",
    train_log="train.log",
    config="config.yaml",
    models=TrainedModels(
        best=BestModel(
            score=0.5,
            weights="raw",
            epoch=1,
            pdparams="best_model/best_model.pdparams",
            pdopt="best_model/best_model.pdopt",
            pdstates="best_model/best_model.pdstates",
            pdema="best_model/best_model.pdema",
            inference_config="best_model/inference/inference.yml",
            pdmodel="best_model/inference/inference.json",
            pdiparams="best_model/inference/inference.pdiparams",
        )
    ),
    metrics=TrainMetrics(
        best_map=0.5,
        epochs=1,
        static_difference=0.0,
        constant_map=0.25,
        seconds=60.0,
        images_per_second=32.0,
        data_wait=0.5,
        memory_mib=2048.0,
        history=[ROW],
    ),
)

CHECKED = CheckResult(
    attributes=CheckAttributes(
        label_file="../data/label.txt",
        num_classes=2,
        train_samples=1,
        train_sample_paths=[],
        val_samples=1,
        val_sample_paths=[],
    ),
    analysis=CheckAnalysis("check_dataset/histogram.png", "check_dataset/report.html"),
    dataset_path="data",
    warnings=[],
    report=DatasetCounts({}, {}, {}, {}, CoOccurrence(), []),
)
UNDEFINED = dict.fromkeys(Metrics.__struct_encode_fields__)
DEFINED = {"images": 1, "undefined": {}, "undefined_classes": []}
METRICS = msgspec.convert(UNDEFINED | DEFINED, Metrics)
EVALUATED = EvaluationResult(
    format_version=1,
    done_flag=True,
    weight_path="output/best_model/best_model.pdparams",
    val_digest="0",
    metrics=METRICS,
    per_class=[],
    thresholds=None,
    label_errors=None,
    comparison=None,
    per_class_csv="evaluate/per_class.csv",
    report="evaluate/report.html",
)
EXPORTED = ExportResult(
    format="paddle",
    model_name="PP-LCNet_x1_0_ML",
    weight_path="output/best_model/best_model.pdparams",
    inference_dir="out/inference",
    files=["out/inference/inference.yml"],
)


def benchmark_row(format: str, run_mode: str, ms: float, map: float, **more: Any) -> BenchmarkRow:
    """A row of a benchmark with round numbers."""
    usual: dict[str, Any] = {
        "folder": f"output/best_model/{EXPORTS[format]}",
        "bytes": 32_000_000,
        "load_seconds": 1.5,
        "first_answer_seconds": 2.5,
        "latency_p95": 1.5e-3 * ms,
        "speeds": [
            BatchSpeed(batch_size=size, images_per_second=(1 + size / 100) * 1e3 / ms, peak_bytes=9)
            for size in (1, 8)
        ],
        "peak_bytes": 250_000_000,
        "changed_decisions": 0.0,
        "largest_movement": 1e-6,
        "keeps_to_budgets": True,
        "is_on_front": False,
        "is_recommended": False,
    }
    return BenchmarkRow(
        format=format, run_mode=run_mode, latency_p50=ms / 1e3, map=map, **(usual | more)
    )


BENCHMARKED = BenchmarkResult(
    model_name="PP-LCNet_x1_0_ML",
    weights="output/best_model/best_model.pdparams",
    device="cpu",
    processor="a processor",
    threads=2,
    val_digest="0",
    val_images=500,
    images=400,
    classes=5,
    reference="paddle by paddle",
    max_changed_decisions=0.01,
    max_map_loss=0.005,
    seconds=150.0,
    rows=[
        benchmark_row(
            *("onnx int8", "onnxruntime", 8.0, 0.61),
            bytes=8_500_000, changed_decisions=0.02, keeps_to_budgets=False, is_on_front=True,
        ),
        benchmark_row("onnx", "onnxruntime", 15.0, 0.63, is_on_front=True, is_recommended=True),
        benchmark_row("paddle", "mkldnn", 16.0, 0.63),
        benchmark_row("paddle", "paddle", 48.0, 0.63, folder=None),
    ],
    unmeasured=[
        Unmeasured(format="onnx fp16", run_mode=None, reason="not exported", fix="make it"),
        Unmeasured(format="paddle", run_mode="trt_fp32", reason="made for a GPU", fix=""),
    ],
    notes=["400 images in place of 500"],
    benchmark_csv="benchmark/benchmark.csv",
    report="benchmark/report.html",
)  # fmt: skip
PREDICTED = PredictResult(
    done_flag=True,
    model_dir="best_model/inference",
    num_images=1,
    num_failed=0,
    failed=[],
    save_path="predict",
    json="predict/predictions.json",
    csv="predict/predictions.csv",
)
RESULTS: dict[str, cli.Result] = {
    "plan": PLANNED,
    "check_dataset": CHECKED,
    "train": TRAINED,
    "evaluate": EVALUATED,
    "export": EXPORTED,
    "benchmark": BENCHMARKED,
    "predict": PREDICTED,
}
