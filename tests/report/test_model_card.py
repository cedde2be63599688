# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.artifacts.run_folder import RunFolder
from paddlex_ml.report import model_card
from tests.results import TRAINED

import msgspec  # isort: skip

RUN_ID = "0123456789abcdef"


def change(path: Path, change_it: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change_it(content)
    path.write_text(json.dumps(content))


def row(name: str, positives: int, interval: list[float] | None, **more: Any) -> dict[str, Any]:
    measures = dict.fromkeys(("precision", "recall", "f1", "expected_calibration_error"), 0.5)
    return {
        "name": name, "positives": positives, "negatives": 100 - positives,
        "average_precision": 0.8 if positives else None, "average_precision_ci95": interval,
        "average_precision_11point": None, "threshold": 0.5, "predicted": positives,
        **measures, **more,
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A training that is complete, and an evaluation of its best model."""
    files = RunFolder(tmp_path / "out")
    files.best_model.folder.mkdir(parents=True)
    digests = {"label.txt": "aa", "train.txt": "bb", "val.txt": "cc"}
    start = {
        "start": "2026-01-02T03:04:05+00:00", "command": ["python"], "host": "secret-host",
        "versions": {"python": "3.11.7"}, "resumed_from": None,
    }  # fmt: skip
    record = {"id": RUN_ID, "digests": digests, **start, "replaces": None, "earlier_starts": []}
    files.run_json.write_text(json.dumps(record))
    files.result("train").write_bytes(msgspec.json.encode(TRAINED))
    metrics = dict.fromkeys(
        (
            "CP", "CR", "CF1", "OP", "OR", "OF1", "CP_top3", "CR_top3", "CF1_top3", "OP_top3",
            "OR_top3", "OF1_top3", "HammingDistance", "subset_accuracy", "coverage_error",
            "ranking_loss", "label_ranking_average_precision", "expected_calibration_error",
            "MultiLabelMAP_11point",
        )
    )  # fmt: skip
    evaluated = {
        "format_version": 1, "done_flag": True, "val_digest": "cc",
        "weight_path": str(files.best_model.weights),
        "metrics": {
            **metrics, "MultiLabelMAP": 0.75, "MultiLabelMAP_ci95": [0.7, 0.8], "images": 100,
            "constant_predictor": 0.3, "macro_f1": 0.625, "undefined_classes": [], "undefined": {},
        },
        "per_class": [row("cat", 50, [0.7, 0.9]), row("dog", 30, [0.6, 0.9])],
        "thresholds": None, "label_errors": None, "comparison": None,
        "per_class_csv": "evaluate/per_class.csv", "run": {"id": RUN_ID, "digests": digests},
    }  # fmt: skip
    files.result("evaluate").write_text(json.dumps(evaluated))
    return files


def card(files: RunFolder) -> str:
    assert model_card.write(files.output) == files.model_card
    return files.model_card.read_text()


def test_the_card_has_data_scores_with_intervals_and_classes(folder: RunFolder) -> None:
    text = card(folder)
    assert "# Model card: PP-LCNet\\_x1\\_0\\_ML" in text
    assert "- train.txt: SHA-256 `bb`" in text
    assert "- mAP of the evaluation: 0.7500 (95 % interval 0.7000 to 0.8000)" in text
    assert "- Macro F1 at the thresholds below: 0.6250" in text
    line = "| cat | 50 | 0.8000 | 0.7000 to 0.9000 | 0.5000 | - | 0.5000 | 0.5000 | 0.5000 |"
    assert line in text
    assert text.endswith(
        "- None by these rules. Other images than those of the list may show others.\n"
    )
    assert "secret-host" not in text


def test_the_limits_are_those_that_the_evaluation_found(folder: RunFolder) -> None:
    def weaken(content: dict[str, Any]) -> None:
        content["per_class"] += [
            row("none", 0, None), row("few", 3, [0.5, 0.9]), row("chance", 40, [0.3, 0.9])
        ]  # fmt: skip
        content["unknown_labels"] = 1234
        content["better_than_guessing"] = False
        content["val_digest"] = "dd"
        counts = {
            "images": 100, "suspected": 7, "missing": 3, "wrong": 4, "scores": "held out",
        }  # fmt: skip
        content["label_errors"] = {"lists": {"val": counts}, "csv": "evaluate/label_errors.csv"}

    change(folder.result("evaluate"), weaken)
    limits = card(folder).partition("## Limits found by the evaluation\n\n")[2].splitlines()
    assert limits == [
        "- No image shows these classes, so nothing is known about them: none",
        "- Fewer than 20 images show these classes, so their numbers are unsteady: few",
        "- Not better than chance: the interval of the AP reaches the share of images: chance",
        "- As a whole not better than a predictor with constant scores (0.2500)",
        "- 1,234 unknown labels in the list, which no measure counts",
        "- 7 labels of val may be wrong or missing",
        "- The evaluation had another val.txt than the training",
    ]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content["run"].update(id="another"),
        lambda content: content.pop("run"),
        lambda content: content.update(weight_path="out/latest/latest.pdparams"),
        lambda content: content.update(done_flag=False),
    ],
)
def test_an_evaluation_of_another_model_is_left_out(
    folder: RunFolder, spoil: Callable[[dict[str, Any]], object]
) -> None:
    change(folder.result("evaluate"), spoil)
    text = card(folder)
    assert "is of no evaluation of this model, or not there" in text
    assert "0.7500" not in text


def test_names_of_classes_stay_within_their_cells(folder: RunFolder) -> None:
    name = "a|b\n## c <script> [x](y) \x1b"
    change(folder.result("evaluate"), lambda content: content["per_class"][0].update(name=name))
    text = card(folder)
    assert "| a\\|b\\\\n\\#\\# c \\<script\\> \\[x\\](y) \\\\u001b | 50 |" in text


def test_of_many_classes_the_worst_are_shown(folder: RunFolder) -> None:
    def add(content: dict[str, Any]) -> None:
        content["per_class"] = [
            row(f"class {i}", 50, [0.6, 0.9], average_precision=i / 1000)
            for i in range(999, -1, -1)
        ]

    change(folder.result("evaluate"), add)
    text = card(folder)
    assert "the 100 worst of 1,000 classes" in text
    assert text.count("| class ") == 101
    assert "| class 99 |" in text


def test_a_folder_without_a_complete_training_gets_no_card(folder: RunFolder) -> None:
    folder.result("train").write_text('{"done_flag": false}')
    assert model_card.write(folder.output) is None
    assert not folder.model_card.exists()


def test_a_training_and_its_evaluation_write_the_card(
    run: Callable[..., tuple[int, str]], toy: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    assert run("train", toy, output, "Train.epochs_iters=1")[0] == 0
    files = RunFolder(output)
    assert "is of no evaluation of this model" in files.model_card.read_text()
    assert run("evaluate", toy, output)[0] == 0
    text = files.model_card.read_text()
    result = json.loads(files.result("evaluate").read_text())
    for measured in result["per_class"]:
        assert f"| {measured['name']} | {measured['positives']} |" in text
    assert f"- mAP of the evaluation: {result['metrics']['MultiLabelMAP']:.4f}" in text
    assert "Fewer than 20 images show these classes" in text


def test_the_card_says_which_thresholds_predictions_use(
    run: Callable[..., tuple[int, str]], toy: Path, tmp_path: Path
) -> None:
    files = RunFolder(tmp_path / "out")
    assert run("train", toy, files.output, "Train.epochs_iters=1")[0] == 0
    keys = ("Evaluate.report=false", "Evaluate.label_errors=null", "Evaluate.bootstrap=0")
    better = ("Evaluate.threshold=0.99", "Evaluate.save_threshold=true")

    def after(mode: str, *more: str) -> tuple[str, str, str]:
        """The thresholds of predictions, and whether they are those in use and the tuned ones."""
        data = toy if mode == "evaluate" else None
        code, err = run(mode, data, files.output, *more)
        assert code == 0, err
        lines = files.model_card.read_text().splitlines()
        starts = ("- Thresholds of predictions", "- Macro F1 at", "- Tuned thresholds (f1)")
        predicting, used, tuned = (
            line.rpartition("; ")[2] for start in starts for line in lines if line.startswith(start)
        )
        return predicting, used, tuned

    default, *rest = after("evaluate", *better[:1], *keys)
    assert default.endswith("`inference/inference.yml`: 0.5 for every class")
    assert rest == ["predictions do not use them", "predictions do not use them"]
    saved, *rest = after("evaluate", *better, *keys)
    assert saved != default
    assert rest == ["predictions do not use them", "predictions use them"]
    assert after("evaluate", *keys) == (saved, "predictions use them", "predictions use them")
    of_same_weights = after("export")
    assert of_same_weights == (saved, "predictions use them", "predictions use them")
