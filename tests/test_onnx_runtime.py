# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from paddlex_ml import onnx_runtime

pytest.importorskip("onnxruntime")


def test_it_leaves_nothing_in_the_home_or_the_temporary_folder(tmp_path: Path) -> None:
    places = {"HOME": tmp_path / "home", "TMPDIR": tmp_path / "temporary"}
    for place in places.values():
        place.mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    environment |= {name: str(place) for name, place in places.items()}
    script = "from paddlex_ml import onnx_runtime; print(onnx_runtime.load().__version__)"
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    assert [list(place.rglob("*")) for place in places.values()] == [[], []]


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    onnx_runtime.load()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"


def test_libraries_of_cuda_that_are_missing_print_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    called = []

    def preload() -> None:
        called.append(True)
        print("Failed to load libcublas.so")
        raise OSError("a broken library")

    onnx_runtime.load_cuda(SimpleNamespace(preload_dlls=preload))
    onnx_runtime.load_cuda(SimpleNamespace())  # before onnxruntime 1.21
    assert called == [True]
    assert capsys.readouterr().out == ""
