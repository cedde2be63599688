# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import pytest

from paddlex_ml.artifacts.checkpoint import ModelInfo
from paddlex_ml.export import half, onnx
from paddlex_ml.inference.static_model import StaticModel
from tests.export.conftest import draw


def test_half_precision_is_half_the_size_and_nearly_exact(
    model: paddle.nn.Layer, info: ModelInfo, tmp_path: Path
) -> None:
    pytest.importorskip("paddle2onnx")
    pytest.importorskip("onnxruntime")
    onnx.save_onnx(model, info, tmp_path / "usual", 17)
    usual = tmp_path / "usual" / "inference.onnx"
    images = draw(6, 64)
    expected = onnx.open_graph(usual)(images)
    path = tmp_path / "inference.onnx"
    onnx.write(path, onnx.sort_nodes(half.convert(usual)), info)
    assert path.stat().st_size < 0.51 * usual.stat().st_size
    found = StaticModel(path, "cpu").run(images)
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).max() < 0.01
