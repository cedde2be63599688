# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from pathlib import Path

import pytest

from paddlex_ml import gpus
from paddlex_ml.gpus import are_missing  # not the one that conftest.py puts in its place


def test_a_gpu_is_missing_only_where_no_driver_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = tmp_path / "nvidiactl"
    monkeypatch.setattr(gpus, "_DRIVERS", (str(tmp_path / "kfd"), str(driver)))
    monkeypatch.setattr(sys, "platform", "linux")
    assert are_missing()
    driver.touch()
    assert not are_missing()


def test_elsewhere_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "_DRIVERS", ())
    monkeypatch.setattr(sys, "platform", "win32")
    assert not are_missing()
