# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from paddlex_ml.artifacts import export_report
from paddlex_ml.artifacts.export_report import (
    AloneReport,
    ClassChange,
    ExportReport,
    LayerReport,
    TrialReport,
)
from paddlex_ml.errors import PaddlexMLError

REPORT = ExportReport(
    precision="int8",
    images=40,
    batch_size=8,
    alone=AloneReport(images=40, largest_difference=0.01, changed_decisions=0.0),
    val_digest="abc",
    calibration_images=30,
    bytes=8,
    bytes_fp32=32,
    map=0.7,
    map_fp32=0.71,
    map_difference_ci95=(-0.02, 0.01),
    mean_movement=0.01,
    largest_movement=0.2,
    changed_decisions=0.005,
    max_changed_decisions=0.01,
    max_map_loss=0.005,
    layers=3,
    left=[LayerReport(name="a", kind="Conv", shape=[2, 3], level="float", effect=0.1)],
    per_class=[ClassChange(name="猫", changed=1, threshold=0.5, tuned_threshold=0.4)],
    trials=[TrialReport(int8=2, weights=0, fp32=1, changed_decisions=0.1, map_loss=0.0, bytes=8)],
)


def test_a_report_comes_back_as_it_was_written(tmp_path: Path) -> None:
    export_report.write(tmp_path, REPORT)
    assert export_report.read(tmp_path) == REPORT
    content = json.loads((tmp_path / "export_report.json").read_text("utf-8"))
    assert content["format_version"] == 1
    assert content["per_class"][0]["name"] == "猫"


def test_a_folder_without_a_report_has_none(tmp_path: Path) -> None:
    assert export_report.read(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "truncated"),
        ("[]", "Expected `object`"),
        ('{"format_version": 1}', "missing required field"),
        ("\x00\x01", "malformed"),
    ],
)
def test_a_file_that_is_no_report_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "export_report.json").write_text(text)
    with pytest.raises(PaddlexMLError) as error:
        export_report.read(tmp_path)
    assert reason in str(error.value)
    assert "export_report.json" in str(error.value)


def test_a_report_of_another_version_is_refused_by_its_number(tmp_path: Path) -> None:
    export_report.write(tmp_path, REPORT)
    path = tmp_path / "export_report.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 7'))
    with pytest.raises(PaddlexMLError, match="its format_version is 7, 1 is what is read"):
        export_report.read(tmp_path)
