# SPDX-License-Identifier: Apache-2.0
"""Every class name that label.txt takes comes back from every file that holds it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors import numpy as safetensors_numpy

from paddlex_ml.artifacts import checkpoint, inference_yml, safetensors_file
from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.data import annotation, label_file
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import csv_text, files

LIKE_VALUES = [
    "null",
    "~",
    "7",
    "007",
    "1e3",
    "0x1f",
    "2024-01-01",
    "1:30",
    "yes",
    ".inf",
    "=",
    "<<",
]
MARKS = ["a\x85b", "a\u2028b", "a\u2029b", "\ufeffa", "a\ufeff", "\u202ea", "\u2066a", "a\x9bb"]
# All that UTF-8 has. Without naming them Hypothesis tries each of a million: two seconds.
CHARACTERS = st.characters(exclude_categories=["Cs"])
LONG = ["猫" * 85, "a" * 255, "- a: b # c", "'a", '"a"', "=1+1", "{}", "[a", "*a", "&a", "!a"]


@given(st.lists(st.text(CHARACTERS, min_size=1, max_size=12), min_size=1, max_size=8, unique=True))
@example(LIKE_VALUES)
@example(MARKS)
@example(LONG)
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_name_is_refused_at_label_txt_or_comes_back_from_every_file(names: list[str]) -> None:
    taken = []
    for name in names:
        try:
            label_file.labels_text([name])
        except PaddlexMLError:
            continue
        taken.append(name)
    if not taken:
        return
    info = ModelInfo("PP-LCNet_x1_0_ML", taken, 64)
    with TemporaryDirectory() as text:
        folder = Path(text)
        annotation.write_labels(folder / "label.txt", taken)
        assert annotation.read_labels(folder / "label.txt") == taken
        inference_yml.write(folder, info)
        assert list(inference_yml.read(folder / "inference.yml").label_names) == taken
        weights = folder / "w.safetensors"
        weights.write_bytes(safetensors_numpy.save({"a": np.zeros(1)}, checkpoint.describe(info)))
        assert safetensors_file.is_safetensors(weights)
        embedded = checkpoint.read_embedded_model_info(weights)
        assert embedded is not None
        assert embedded.label_names == taken
        assert json.loads(inference_yml.describe(info)["label_names"]) == taken
        files.write_json(folder / "result.json", taken)
        assert json.loads((folder / "result.json").read_text("utf-8")) == taken
        (folder / "t.csv").write_bytes(csv_text.encode(csv_text.write([["x", *taken]])))
        with (folder / "t.csv").open(encoding="utf-8-sig", newline="") as table:
            cells = next(csv.reader(table))
        assert [csv_text.plain(cell) for cell in cells[1:]] == taken


@pytest.mark.parametrize("code", ["\0", "\x1b", "\x07", "\x7f", "\x0b", "\r", "\x1c"])
def test_a_control_code_in_a_name_is_refused_where_it_is_read(tmp_path: Path, code: str) -> None:
    (tmp_path / "label.txt").write_bytes(f"0 ok\n1 a{code}b\n".encode())
    with pytest.raises(PaddlexMLError, match="has the control code") as caught:
        annotation.read_labels(tmp_path / "label.txt")
    assert "label.txt:2" in str(caught.value)


@pytest.mark.parametrize("name", ["a\0b", "a\ud800", "a\x1b[0m", "a\rb"])
def test_a_name_that_no_file_holds_is_not_written(name: str) -> None:
    with pytest.raises(PaddlexMLError, match="cannot be written to label"):
        label_file.labels_text([name])
