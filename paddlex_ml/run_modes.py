# SPDX-License-Identifier: Apache-2.0
"""How a static model can run: the values of `Predict.kernel_option.run_mode`."""

from __future__ import annotations

RUN_MODES = (
    *("paddle", "mkldnn", "mkldnn_bf16", "trt_fp32", "trt_fp16", "onnxruntime"),
    *("openvino", "openvino_bf16"),
)
"""Plain Paddle, oneDNN in float32 and bfloat16, TensorRT in float32 and float16, onnxruntime,
OpenVINO in float32 and bfloat16."""
OPENVINO_MODES = ("openvino", "openvino_bf16")
"""Those of them that need no Paddle, for OpenVINO IR and ONNX."""
