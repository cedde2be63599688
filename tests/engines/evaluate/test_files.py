# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paddlex_ml.data import annotation

Run = Callable[..., tuple[int, str]]


def read(output: Path) -> Any:
    return json.loads((output / "evaluate_result.json").read_text(encoding="utf-8"))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def find(value: Any, key: str) -> Any:
    for part in key.split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


@pytest.fixture
def without_green(draw_set: Callable[..., Path], tmp_path: Path) -> Path:
    """A data set in whose val.txt no image has the second class."""
    data = draw_set(tmp_path / "set")
    val = annotation.read(data).val
    targets = val.targets.copy()
    targets[:, 1] = 0
    annotation.write_list(data / "val.txt", val.paths, targets)
    return data


def test_every_figure_of_the_page_is_that_of_the_result_file(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    best = json.loads((copy_of_run / "train_result.json").read_text(encoding="utf-8"))
    other = "raw" if best["models"]["best"]["weights"] == "ema" else "ema"
    keys = (f"Evaluate.compare_with={other}", "Evaluate.label_errors=all")
    code, err = run("evaluate", toy, copy_of_run, *keys, "Evaluate.tune_min_positives=1")
    assert code == 0, err
    result = read(copy_of_run)
    page = (copy_of_run / result["report"]).read_text(encoding="utf-8")
    shown = re.findall(r'data-key="([^"]+)" data-value="([^"]+)"', page)
    assert len({key for key, _ in shown}) > 100
    for key, value in shown:
        assert float(value) == pytest.approx(float(find(result, key)), rel=1e-12), key
    sections = {key.split(".")[0] for key, _ in shown}
    assert {"metrics", "per_class", "thresholds", "label_errors", "comparison"} <= sections


def test_the_table_of_classes_says_what_the_result_says(
    run: Run, toy_run: Path, without_green: Path, tmp_path: Path
) -> None:
    best = f"Evaluate.weight_path={toy_run / 'best_model' / 'best_model.pdparams'}"
    assert run("evaluate", without_green, tmp_path / "out", best, "Evaluate.report=false")[0] == 0
    result = read(tmp_path / "out")
    table = rows(tmp_path / "out" / "evaluate" / "per_class.csv")
    assert [row["name"] for row in table] == ["red", "green", "blue"]
    for row, told in zip(table, result["per_class"], strict=True):
        low, high = told["average_precision_ci95"] or (None, None)
        expected = {
            **{key: told[key] for key in row if key in told},
            "average_precision_low": low,
            "average_precision_high": high,
            **{f"tuned_{key}": value for key, value in told["tuned"].items()},
        }
        assert row.keys() == expected.keys()
        for key, value in expected.items():
            assert row[key] == ("" if value is None else str(value)), key
    assert table[1]["average_precision"] == ""
    assert table[1]["recall"] == ""


def test_only_what_is_asked_for_is_written(run: Run, toy: Path, copy_of_run: Path) -> None:
    assert run("evaluate", toy, copy_of_run)[0] == 0
    folder = copy_of_run / "evaluate"
    (folder / "notes.txt").write_text("mine")
    assert len(os.listdir(folder)) == 5
    keys = ("Evaluate.report=false", "Evaluate.label_errors=null", "Evaluate.bootstrap=0")
    assert run("evaluate", toy, copy_of_run, *keys)[0] == 0
    assert sorted(os.listdir(folder)) == ["notes.txt", "per_class.csv", "val_scores.npz"]
    result = read(copy_of_run)
    assert "report" not in result
    assert result["metrics"]["MultiLabelMAP_ci95"] is None


def test_a_file_in_place_of_the_folder_is_told_before_images_are_scored(
    run: Run, toy: Path, copy_of_run: Path
) -> None:
    (copy_of_run / "evaluate").write_text("a file where the folder belongs", encoding="utf-8")
    code, err = run("evaluate", toy, copy_of_run)
    assert code == 2
    assert "a file is where a folder is needed" in err
    assert "[Eval]" not in err


def test_a_list_without_labels_is_one_warning(
    run: Run, toy_run: Path, draw_set: Callable[..., Path], tmp_path: Path
) -> None:
    data = draw_set(tmp_path / "set")
    val = annotation.read(data).val
    annotation.write_list(data / "val.txt", val.paths, 0 * val.targets)
    best = f"Evaluate.weight_path={toy_run / 'best_model' / 'best_model.pdparams'}"
    code, err = run("evaluate", data, tmp_path / "out", best)
    assert code == 0, err
    assert "no image of val.txt has a label" in err
    assert "is undefined:" not in err


def test_a_page_can_be_made_of_a_set_without_some_classes(
    run: Run, toy_run: Path, without_green: Path, tmp_path: Path
) -> None:
    best = f"Evaluate.weight_path={toy_run / 'best_model' / 'best_model.pdparams'}"
    code, err = run("evaluate", without_green, tmp_path / "out", best)
    assert code == 0, err
    assert "green" in (tmp_path / "out" / "evaluate" / "report.html").read_text(encoding="utf-8")
