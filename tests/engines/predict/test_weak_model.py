# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.artifacts.run_record import RunIdentity
from paddlex_ml.engines.predict import weak_model
from tests.results import EVALUATED, TRAINED

RUN = RunIdentity("0123456789abcdef", {"label.txt": "aa"})


def write(files: RunFolder, mode: str, content: Any, **metrics: Any) -> None:
    content = msgspec.to_builtins(content) | {"run": msgspec.to_builtins(RUN)}
    content |= {"better_than_guessing": metrics.get("better_than_guessing")}
    content["metrics"] |= metrics
    files.best_model.inference.folder.mkdir(parents=True, exist_ok=True)
    files.result(mode).write_text(json.dumps(content), encoding="utf-8")


def row(name: str, precision: float) -> dict[str, Any]:
    measures = dict.fromkeys(("precision", "recall", "f1", "expected_calibration_error"), 0.5)
    return {
        "name": name, "positives": 50, "negatives": 50, "average_precision": precision,
        "average_precision_ci95": [precision - 0.05, precision + 0.05],
        "average_precision_11point": None, "threshold": 0.5, "predicted": 50, **measures,
    }  # fmt: skip


def tell(files: RunFolder, run: RunIdentity | None = RUN) -> str | None:
    return weak_model.describe(files.best_model.inference.folder, run)


def test_a_training_that_ended_at_guessing_is_told(tmp_path: Path) -> None:
    files = RunFolder(tmp_path)
    write(files, "train", TRAINED, better_than_guessing=False)
    assert "not better than guessing, by its own training (mAP 0.5" in (tell(files) or "")
    assert tell(files, None) is None
    assert tell(files, RunIdentity("of another run 01", {})) is None
    write(files, "train", TRAINED, better_than_guessing=True)
    assert tell(files) is None


@pytest.mark.parametrize(
    ("metrics", "precision", "expected"),
    [
        ({"better_than_guessing": False}, 0.9, "not better than guessing, by its own evaluation"),
        ({"better_than_guessing": True}, 0.52, "has not learnt 1 of 2 classes"),
        ({"better_than_guessing": True}, 0.9, None),
    ],
)
def test_the_evaluation_is_believed_before_the_training(
    tmp_path: Path, metrics: dict[str, Any], precision: float, expected: str | None
) -> None:
    files = RunFolder(tmp_path)
    write(files, "train", TRAINED, better_than_guessing=False)
    rows = [row("cat", 0.9), row("dog", precision)]
    best = {"weight_path": str(files.best_model.weights), "per_class": rows}
    write(files, "evaluate", msgspec.to_builtins(EVALUATED) | best, **metrics)
    told = tell(files)
    assert (told is None) if expected is None else (expected in (told or ""))
    assert expected is None or "has not" not in expected or ": dog. " in (told or "")
