# SPDX-License-Identifier: Apache-2.0
"""Section `Export` of the configuration; `schema.py` has the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from paddlex_ml.config.value_types import Count, PathOrUrl, Share
from paddlex_ml.config.values import Range

OPSET = 17
"""The first version with an operator for layer norm, which takes ten operators before."""

FORMATS_WITH_PRECISION = ("onnx", "openvino")
"""Formats that have other precisions than fp32, and whose batches may have a fixed size."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Section `Export`."""

    weight_path: PathOrUrl | None = None
    """Weights to export: a weight file or its URL. null:
    <output>/best_model/best_model.pdparams. Mode benchmark measures the exports beside them."""
    format: Literal["paddle", "safetensors", "onnx", "pdmodel", "openvino"] = "paddle"
    """Format of the exported model: paddle (inference.json + inference.pdiparams), safetensors
    (only the weights), onnx (inference.onnx), pdmodel (inference.pdmodel, for Paddle 2) or openvino
    (inference.xml + inference.bin, its IR)."""
    opset: Annotated[int, Range(low=11, high=21)] = OPSET  # paddle2onnx converts every model to it
    """Version of ONNX's operators, 11 to 21, only for the format onnx. Lower it only for a runtime
    that needs it: before 17 there is no operator for layer norm, which then takes many."""
    batch_size: Count | None = None
    """Images in each batch that the file will take, at least 1, for a runtime that needs a fixed
    number. Only for the formats onnx and openvino. null: any number."""
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    """Numbers of the formats onnx and openvino: fp32, fp16 (half the size) or int8 (a quarter of
    it, and faster where the processor multiplies such numbers). The last two are measured on
    val.txt of Global.dataset_dir, and need it."""
    calibration_images: Annotated[int, Range(low=10)] = 300
    """int8: images of train.txt that show the ranges of the layers, at least 10; all of a shorter
    list."""
    max_changed_decisions: Share = 0.01
    """fp16, int8: largest share of decisions (images x classes of val.txt) that may be other ones
    than in fp32: 0 to 1. Layers that change too many are not put into 8 bits."""
    max_map_loss: Share = 0.005
    """fp16, int8: how much lower the mAP on val.txt may be than in fp32: 0 to 1."""
