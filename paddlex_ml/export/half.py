# SPDX-License-Identifier: Apache-2.0
"""An ONNX graph in half precision, by onnxruntime's converter: half the size.

Input and output stay float32. Weights beyond the largest number of float16, 65504, are cut to it.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from paddlex_ml import onnx_runtime


def convert(path: Path) -> Any:
    """The model of an ONNX file with weights and computations in float16."""
    onnx_runtime.load()  # before a part of it is imported
    onnx: Any = importlib.import_module("onnx")
    float16: Any = importlib.import_module("onnxruntime.transformers.float16")
    return float16.convert_float_to_float16(onnx.load(path), keep_io_types=True)
