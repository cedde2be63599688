# SPDX-License-Identifier: Apache-2.0
"""How a static model can run: the values of `Predict.kernel_option.run_mode`, and their needs."""

from __future__ import annotations

RUN_MODES = ("paddle", "mkldnn", "mkldnn_bf16", "trt_fp32", "trt_fp16", "onnxruntime")
"""Plain Paddle, oneDNN in float32 and bfloat16, TensorRT in float32 and float16, onnxruntime."""

_PADDLE = ("paddle", "mkldnn", "mkldnn_bf16", "trt_fp32", "trt_fp16")
MODES_OF = {"paddle": _PADDLE, "pdmodel": _PADDLE, "onnx": ("onnxruntime",)}
"""Format of an export -> the run modes that read it, whatever its precision."""
DEVICE_OF = {"mkldnn": "cpu", "mkldnn_bf16": "cpu", "trt_fp32": "gpu", "trt_fp16": "gpu"}
"""Run mode -> the kind of device that it is made for; the others run on both."""
PACKAGE_OF = {"onnxruntime": "onnxruntime"}
"""Run mode -> the package that it needs, as pip and as Python call it; the others need Paddle."""
