# SPDX-License-Identifier: Apache-2.0
"""export_result.json: the fields are the keys of the file, in their order."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from paddlex_ml.artifacts.run_record import RunIdentity


class ExportResult(msgspec.Struct, frozen=True, kw_only=True):
    """What an export wrote. A format leaves out the keys that it does not have."""

    done_flag: bool = True
    format: str
    """A value of Export.format."""
    model_name: str
    weight_path: str
    inference_dir: str | UnsetType = UNSET
    """Folder of the exported model; unset for safetensors."""
    files: list[str]
    static_difference: float | UnsetType = UNSET
    """Largest difference between scores of the exported model and of the weights; of fp16 and int8
    that of the fp32 graph which they were made from."""
    precision: str | UnsetType = UNSET
    """A value of Export.precision; only for onnx and openvino."""
    report: str | UnsetType = UNSET
    """What the precision costs: export_report.json; only for fp16 and int8."""
    opset: int | UnsetType = UNSET
    """Version of ONNX's operators; only for onnx."""
    run: RunIdentity | UnsetType = UNSET
    """The training that made the model; unset: not known."""
    batch_size: int | UnsetType | None = UNSET
    """Images in each batch that the model takes; null: any number. Only for onnx and
    openvino."""
