# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from paddlex_ml.artifacts import inference_yml
from paddlex_ml.artifacts.checkpoint import ModelInfo


@pytest.fixture
def written(tmp_path: Path) -> Path:
    info = ModelInfo("PP-LCNet_x1_0_ML", ["red square", "green", "蓝"], 64)
    inference_yml.write(tmp_path, info)
    return tmp_path / "inference.yml"


def test_tuned_thresholds_are_read_back_class_by_class(written: Path) -> None:
    before = inference_yml.read(written)
    assert before.threshold == 0.5
    assert inference_yml.set_thresholds(written, [0.31, 0.5, 0.725], 0.4) == Path(f"{written}.bak")
    found = inference_yml.read(written)
    assert found.threshold == [0.31, 0.5, 0.725]
    assert (found.label_names, found.preprocess) == (before.label_names, before.preprocess)


def test_everything_else_stays_and_paddlex_finds_one_number_where_it_looks(written: Path) -> None:
    before = yaml.safe_load(written.read_text(encoding="utf-8"))
    inference_yml.set_thresholds(written, [0.31, 0.5, 0.725], 0.4)
    after = yaml.safe_load(written.read_text(encoding="utf-8"))
    assert after["PostProcess"]["MultiLabelThreshOutput"].pop("threshold") == 0.4
    before["PostProcess"]["MultiLabelThreshOutput"].pop("threshold")
    assert after["Global"].pop("thresholds") == [0.31, 0.5, 0.725]
    assert after == before


@pytest.mark.parametrize("about", [{}, {"Global": None}])
def test_a_description_that_says_nothing_of_itself_takes_thresholds(
    written: Path, about: dict[str, None]
) -> None:
    content = yaml.safe_load(written.read_text(encoding="utf-8"))
    del content["Global"]
    written.write_text(yaml.safe_dump(content | about), encoding="utf-8")
    inference_yml.set_thresholds(written, [0.31, 0.5, 0.725], 0.4)
    assert inference_yml.read(written).threshold == [0.31, 0.5, 0.725]


def test_the_original_stays_as_a_backup_and_the_same_again_changes_nothing(written: Path) -> None:
    original = written.read_bytes()
    inference_yml.set_thresholds(written, [0.3, 0.5, 0.7], 0.4)
    assert inference_yml.set_thresholds(written, [0.3, 0.5, 0.7], 0.4) is None
    inference_yml.set_thresholds(written, [0.3, 0.5, 0.8], 0.4)
    assert sorted(os.listdir(written.parent)) == [
        "inference.yml", "inference.yml.bak", "inference.yml.bak.1"
    ]  # fmt: skip
    assert Path(f"{written}.bak").read_bytes() == original
    assert inference_yml.read(Path(f"{written}.bak.1")).threshold == [0.3, 0.5, 0.7]
