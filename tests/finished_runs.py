# SPDX-License-Identifier: Apache-2.0
"""Run folders of trainings that never ran, with scores of any quality."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
from msgspec.structs import replace

from paddlex_ml.artifacts import run_record, saved_scores
from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.config import load, run_config, shipped, validation
from paddlex_ml.metrics import bootstrap
from paddlex_ml.metrics.average_precision import average_precision
from paddlex_ml.metrics.ties import NOISE
from paddlex_ml.storage import files
from tests.results import ROW, TRAINED

NAMES = ["desert", "mountains", "sea", "一只猫"]


def draw_targets(images: int = 200, classes: int = 4, seed: int = 0) -> np.ndarray:
    """int8 [N, C] with about a third of positives."""
    return (np.random.default_rng(seed).random((images, classes)) < 0.3).astype(np.int8)


def draw_scores(targets: np.ndarray, distance: float, seed: int) -> np.ndarray:
    """Scores of a model whose positives lie `distance` standard deviations higher."""
    logits = np.random.default_rng(seed).normal(size=targets.shape) + distance * targets
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


@cache
def _config_text(words: tuple[str, ...]) -> str:
    path, _ = shipped.find("PP-LCNet_x1_0_ML")
    return run_config.write(load.load(path, words).config)


def write_run(
    folder: Path,
    scores: np.ndarray,
    targets: np.ndarray,
    options: Mapping[str, object] | None = None,
    *,
    seconds: float = 60.0,
    keeps_scores: bool = True,
) -> float:
    """Write what a training of `options` (key -> value) leaves; returns its mAP."""
    run, names = RunFolder(folder), NAMES[: targets.shape[1]]
    names += [f"class {number}" for number in range(len(names), targets.shape[1])]
    digests = {
        "label.txt": run_record.digest("\0".join(names)),
        "train.txt": "1" * 64,
        "val.txt": hashlib.sha256(targets.tobytes()).hexdigest(),
        "config.yaml": "2" * 64,
    }
    run_record.write(run.run_json, run_record.begin(digests))
    chosen: dict[str, object] = {
        "Global.mode": "train",
        "Global.dataset_dir": "/data/set",
        "Global.output": "/x",
    }
    chosen |= options or {}
    words = tuple(validation.assignment(key, value) for key, value in chosen.items())
    files.write_text(run.config_yaml, _config_text(words))
    per_class = average_precision(scores, targets, noise=NOISE)
    score = float(np.nanmean(per_class))
    interval = bootstrap.intervals(scores, targets, rounds=20, seed=0, noise=NOISE).map
    rows = [replace(ROW, epoch=n, raw_map=score * n / 4, ema_map=None) for n in (1, 2, 3, 4)]
    metrics = replace(
        TRAINED.metrics, best_map=score, epochs=4, history=rows, seconds=seconds,
        MultiLabelMAP_ci95=interval,
    )  # fmt: skip
    best = replace(TRAINED.models.best, score=score, epoch=4)
    result = replace(TRAINED, metrics=metrics, models=replace(TRAINED.models, best=best))
    files.write_json(run.result("train"), msgspec.to_builtins(result))
    files.write_bytes(run.best_model.weights, b"0" * 2**20)
    if keeps_scores:
        saved_scores.write(
            run.val_scores, scores, targets, val_digest=digests["val.txt"], label_names=names,
            weights="raw", epoch=4,
        )  # fmt: skip
    return score
