# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from paddlex_ml import openvino_runtime
from paddlex_ml.errors import PaddlexMLError


def test_it_leaves_nothing_in_the_home_folder_and_the_package_of_its_maker_unharmed(
    tmp_path: Path,
) -> None:
    pytest.importorskip("openvino")
    script = """
import sys
from paddlex_ml import openvino_runtime
openvino = openvino_runtime.load()
print(openvino.__version__, "openvino_telemetry" in sys.modules)
print(openvino_runtime.load("passes").__name__, openvino_runtime.load() is openvino)
"""
    environment = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True
    )
    assert list(tmp_path.rglob("*")) == []
    lines = done.stdout.splitlines()
    assert lines[0].endswith(" False")
    assert lines[1] == "openvino.passes True"


def test_without_openvino_the_error_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(part: str = "") -> None:
        raise ModuleNotFoundError("No module named 'openvino'", name="openvino")

    monkeypatch.setattr(openvino_runtime, "load", missing)
    with pytest.raises(PaddlexMLError) as error:
        openvino_runtime.require("Export.format=openvino")
    assert error.value.what == "OpenVINO is not installed"
    assert "pip install 'paddlex-ml[openvino]'" in error.value.fix
    assert error.value.where.startswith("Export.format=openvino")


def test_an_openvino_that_does_not_work_is_no_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(part: str = "") -> None:
        raise ImportError("libtbb.so.12: cannot open shared object file")

    monkeypatch.setattr(openvino_runtime, "load", broken)
    with pytest.raises(ImportError, match="libtbb"):
        openvino_runtime.require("run mode openvino")


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_threads_and_precision_are_those_asked_for(precision: str) -> None:
    pytest.importorskip("openvino")
    operators = openvino_runtime.load("opset13")
    images = operators.parameter([-1, 3], np.float32)
    model = openvino_runtime.load().Model([operators.sigmoid(images)], [images])
    compiled = openvino_runtime.compile_model(model, 1, precision)
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    assert used in ({"f32"} if precision == "f32" else {"f32", "bf16"})  # where the CPU has it
