# SPDX-License-Identifier: Apache-2.0
"""How a static model can run: the values of `Predict.kernel_option.run_mode`, and their needs."""

from __future__ import annotations

OPENVINO_MODES = ("openvino", "openvino_bf16")
"""OpenVINO in float32 and bfloat16, which need no Paddle: for its IR and for ONNX."""
_PADDLE = ("paddle", "mkldnn", "mkldnn_bf16", "trt_fp32", "trt_fp16")
RUN_MODES = (*_PADDLE, "onnxruntime", *OPENVINO_MODES)
"""Plain Paddle, oneDNN in float32 and bfloat16, TensorRT in float32 and float16, onnxruntime,
OpenVINO in float32 and bfloat16."""

MODES_OF = {
    "paddle": _PADDLE,
    "pdmodel": _PADDLE,
    "onnx": ("onnxruntime", *OPENVINO_MODES),
    "openvino": OPENVINO_MODES,
}
"""Format of an export -> the run modes that read it, whatever its precision."""
DEVICE_OF = {
    **dict.fromkeys(("mkldnn", "mkldnn_bf16", *OPENVINO_MODES), "cpu"),
    **dict.fromkeys(("trt_fp32", "trt_fp16"), "gpu"),
}
"""Run mode -> the kind of device that it is made for; the others run on both."""
PACKAGE_OF = {"onnxruntime": "onnxruntime", **dict.fromkeys(OPENVINO_MODES, "openvino")}
"""Run mode -> the package that it needs, as pip and as Python call it; the others need Paddle."""
